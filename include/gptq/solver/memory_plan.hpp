// SPDX-License-Identifier: MIT
#pragma once

// MemoryPlan: how much memory quantizing a weight will take.

#include <gptq/backend/concept.hpp>
#include <gptq/core/params.hpp>
#include <gptq/solver/schedule.hpp>

#include <algorithm>  // std::max, std::min
#include <cstdint>
#include <string>

namespace gptq {

/// Bytes needed beyond what the caller holds: activations, the weight, and the Hessian, which is
/// listed here but is part of no peak.
struct MemoryPlan {
  Index hessian = 0;      ///< Σ xxᵀ, in_features x in_features
  Index calibrate = 0;    ///< at most, on top of it, while activations are added: converted slices
  Index factor = 0;       ///< R; and R⁻¹ for Solver::lazy_batch
  Index factorizing = 0;  ///< temporaries while R is made, sketched and estimated
  Index panel = 0;        ///< one panel of rows on its way through the solver
  Index panels = 0;       ///< number of panels in progress at once
  Index sums = 0;         ///< the losses of each panel, kept until all are done
  Index workspace = 0;    ///< for matrix products, on all threads together
  Index result = 0;       ///< the QuantizedMatrix

  /// The most that Quantizer::factorize needs.
  Index factorize_peak() const { return factor + factorizing + workspace; }
  /// The most that rounding all rows needs, including the factor and the result.
  Index solve_peak() const { return factor + panel * panels + sums + workspace + result; }
  /// The larger of the two.
  Index peak() const { return (std::max)(factorize_peak(), solve_peak()); }
};

/// The plan for a weight [rows, cols] with elements of at most 4 bytes, or for several weights that
/// read the same input and have `rows` rows together.
template <backend::Backend B>
MemoryPlan memory_plan(Index rows, Index cols, const Params& params, const B& backend) {
  constexpr Index scalar = sizeof(typename B::Scalar);
  const backend::Footprint footprint = backend.footprint(rows, cols, params);
  const Index group_size = effective_group_size(params, cols), width = footprint.panel_rows;
  const Index groups = (cols + group_size - 1) / group_size, panels = (rows + width - 1) / width;
  const Index square = cols * cols * scalar;
  const bool lazy = params.solver == Solver::lazy_batch;
  MemoryPlan plan;
  plan.hessian = square;
  plan.calibrate = footprint.accumulate_bytes;
  const Index sketch = uses_sketch(params, cols) ? cols * sketch_directions : 0;
  plan.factor = square * (lazy ? 2 : 1) + sketch * scalar;
  if (params.factor_in_double || params.order == Order::min_pivot)  // freed before R⁻¹ is made
    plan.factorizing =
        (std::max)(Index{0}, cols * cols * Index(sizeof(double)) - (lazy ? square : 0));
  // The sketch's directions on the host, before and after multiplication, and uploaded; their
  // products are narrow and leave half of the workspace unused.
  const Index directions = sketch * (3 * Index(sizeof(double)) + scalar);
  plan.factorizing = (std::max)(plan.factorizing,
                                directions - footprint.product_bytes * footprint.concurrency / 2);
  if (params.estimate_condition) plan.factorizing = (std::max)(plan.factorizing, square);
  // weight and carry, codes, scales and zeros
  plan.panel = width * (2 * cols * scalar + cols + 2 * groups * scalar) + footprint.scratch_bytes;
  plan.panels = (std::min)(panels, footprint.concurrency);
  plan.workspace = footprint.product_bytes * footprint.concurrency;
  plan.sums = panels * cols * Index(sizeof(double));
  // codes, scales and zeros, g_idx, losses
  plan.result = rows * cols + 2 * rows * groups * Index(sizeof(float)) +
                cols * Index(sizeof(std::int32_t) + sizeof(double));
  return plan;
}

/// The plan for `count` weights [rows, cols] with a Hessian each (experts) in one call of
/// Quantizer::quantize: the factors and panels in progress at once, and all results.
template <backend::Backend B>
MemoryPlan memory_plan(Index count, Index rows, Index cols, const Params& params,
                       const B& backend) {
  MemoryPlan plan = memory_plan(rows, cols, params, backend);
  const Index threads = backend.footprint(rows, cols, params).concurrency;
  Index at_once = threads;
  if constexpr (backend::BatchBackend<B>)
    if (solver::factored_together(params))
      at_once = (std::min)(count, backend.batches().batch_size(rows, cols, params.solver));
  at_once = (std::min)(at_once, count);
  plan.factor *= at_once;
  plan.sums *= at_once;
  plan.factorizing = plan.factorizing * at_once + plan.result * (count - at_once);
  plan.panels =
      backend::BatchBackend<B> ? plan.panels * at_once : (std::min)(plan.panels * count, threads);
  plan.result *= count;
  return plan;
}

namespace detail {

/// Other settings that take less memory, with the amounts, for messages.
/// \param peak  peak(params): bytes that these settings need
template <class Peak>
std::string cheaper_settings(const Params& params, const Peak& peak) {
  std::string text;
  const auto propose = [&](const char* change, const Params& other) {
    const Index less = peak(other);
    if (less < peak(params)) text += message("; ", change, ": ", mib(less), " MiB");
  };
  Params other = params;
  other.solver = Solver::left_looking;
  propose("with Solver::left_looking", other);
  other = params;
  other.factor_in_double = false;
  propose("with a factorization in single precision", other);
  other = params;
  if (other.order == Order::min_pivot) other.order = Order::act;
  propose("with Order::act", other);
  return text;
}

}  // namespace detail

/// How much memory a weight takes and which settings would take less, for messages.
template <backend::Backend B>
std::string memory_advice(Index rows, Index cols, const Params& params, const B& backend) {
  using detail::mib;
  const MemoryPlan plan = memory_plan(rows, cols, params, backend);
  std::string text =
      detail::message("a weight of ", rows, " x ", cols, " takes ", mib(plan.peak()),
                      " MiB in addition to its Hessian: ", mib(plan.factor), " for the factor, ",
                      mib(plan.factorizing), " to make it, ", plan.panels, " x ", mib(plan.panel),
                      " for panels of ", backend.footprint(rows, cols, params).panel_rows,
                      " rows, ", mib(plan.workspace), " for products");
  text += detail::cheaper_settings(
      params, [&](const Params& other) { return memory_plan(rows, cols, other, backend).peak(); });
  if (const Index half = (rows + 1) / 2; half < rows)
    text += detail::message("; in two halves of its rows that share a factor: ",
                            mib(memory_plan(half, cols, params, backend).peak()), " MiB");
  return text;
}

/// The same for a factor alone.
template <backend::Backend B>
std::string factor_advice(Index cols, const Params& params, const B& backend) {
  using detail::mib;
  const MemoryPlan plan = memory_plan(1, cols, params, backend);
  return detail::message("factoring a Hessian of ", cols, " inputs takes ",
                         mib(plan.factorize_peak()), " MiB in addition to it: ", mib(plan.factor),
                         " for the factor, ", mib(plan.factorizing), " to make it, ",
                         mib(plan.workspace), " for products") +
         detail::cheaper_settings(params, [&](const Params& other) {
           return memory_plan(1, cols, other, backend).factorize_peak();
         });
}

}  // namespace gptq
