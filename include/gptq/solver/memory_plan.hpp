// SPDX-License-Identifier: MIT
#pragma once

// MemoryPlan: how much memory quantizing a weight takes, before it is taken.

#include <gptq/core/concepts.hpp>
#include <gptq/core/params.hpp>

namespace gptq {

/// Bytes beyond the inputs: the weight and the Hessian.
struct MemoryPlan {
  Index factor = 0;       ///< R, in_features x in_features; and R⁻¹ for Solver::lazy_batch
  Index factorizing = 0;  ///< for Params::factor_in_double and Order::min_pivot, while factoring
  Index panel = 0;        ///< one panel of rows on its way through the solver
  Index panels = 0;       ///< that are on their way at once
  Index result = 0;       ///< the QuantizedMatrix

  Index peak() const { return factor + (std::max)(factorizing, panel * panels + result); }
};

/// The plan for a weight [rows, cols].
template <Backend B>
MemoryPlan memory_plan(Index rows, Index cols, const Params& params, const B& backend) {
  constexpr Index scalar = sizeof(typename B::Scalar);
  const Index group_size = effective_group_size(params, cols);
  const Index groups = (cols + group_size - 1) / group_size, width = backend.panel_rows(rows);
  MemoryPlan plan;
  const Index one = cols * cols * scalar;
  plan.factor = one * (params.solver == Solver::lazy_batch ? 2 : 1);
  if (params.factor_in_double || params.order == Order::min_pivot)
    plan.factorizing = cols * cols * Index(sizeof(double));
  // weight and residual, codes, scales and zeros, losses; and a strip for measuring
  plan.panel = width * (2 * cols * scalar + cols + 2 * groups * scalar) +
               cols * Index(sizeof(double)) + (params.measure_baseline ? 256 * width * scalar : 0);
  plan.panels = (std::min)((rows + width - 1) / width, Index(backend.concurrency()));
  plan.result = rows * cols + 2 * rows * groups * Index(sizeof(float)) +
                cols * Index(sizeof(std::int32_t) + sizeof(double));
  return plan;
}

}  // namespace gptq
