// SPDX-License-Identifier: MIT
#pragma once

// Checks that a weight, its Hessian or factor, and the parameters fit together.

#include <gptq/factor/factors.hpp>
#include <gptq/quantized_matrix.hpp>
#include <gptq/solver/memory_plan.hpp>
#include <gptq/solver/schedule.hpp>

#include <span>
#include <string>
#include <string_view>
#include <type_traits>  // std::remove_const_t
#include <vector>

namespace gptq::solver {

/// Checks a weight against the Hessian of its input.
/// \return  its largest magnitude
/// \throws InvalidArgument  shapes do not fit
/// \throws NumericalError   a weight is not finite
template <class W, backend::Backend B>
double require_weight(MatrixView<W> weight, Index in_features, const Params& params,
                      const B& backend, std::string_view name) {
  detail::require(weight.rows() > 0, "the weight ", name, " has no rows");
  detail::require(weight.cols() == in_features, "the weight ", name, " has ", weight.cols(),
                  " inputs, the Hessian ", in_features);
  require_divisible(params, in_features, name);
  return require_finite(backend, MatrixView<const std::remove_const_t<W>>(weight),
                        name.empty() ? "weight" : name);
}

/// Checks a weight against a factor and the settings that it was made with.
/// \return  its largest magnitude
/// \throws InvalidArgument  shapes or settings do not fit
/// \throws NumericalError   a weight is not finite
template <class W, backend::Backend B>
double require_weight(MatrixView<W> weight, const DampedFactor<B>& factor, const Params& params,
                      std::string_view name) {
  const double largest =
      require_weight(weight, factor.layout.columns(), params, factor.backend, name);
  detail::require(factor.layout.group_size() == effective_group_size(params, weight.cols()),
                  "the factor was made for groups of ", factor.layout.group_size(),
                  ", group_size is ", params.group_size);
  const Params& made = factor.params;
  const auto same = [&](bool is, std::string_view what) {
    detail::require(is, "the factor was made with another ", what,
                    ": call factorize of a quantizer with the same settings");
  };
  same(made.order == params.order || factor.given_order, "order");
  same(made.groups == params.groups || factor.layout.groups() == 1, "kind of groups");
  same(made.damping == params.damping, "damping");
  same(made.damping_rule == params.damping_rule, "damping_rule");
  same(made.on_failure == params.on_failure || factor.damping.retries == 0, "on_failure");
  same(made.factor_in_double == params.factor_in_double, "factor_in_double");
  same(made.estimate_condition || !params.estimate_condition, "estimate_condition");
  same(made.measure == params.measure || params.measure != Measure::sampled, "measure");
  same(made.parity.samples == params.parity.samples, "parity.samples");
  same(made.parity.dead_inputs == params.parity.dead_inputs, "parity.dead_inputs");
  return largest;
}

/// \throws InvalidArgument  the solver needs R⁻¹, and there is none
template <class Matrix>
void require_inverse(const Matrix& inverse, const Params& params) {
  detail::require(params.solver != Solver::lazy_batch || inverse.rows() > 0,
                  "the factor was made for Solver::left_looking and has no R⁻¹: call factorize "
                  "of a quantizer with Solver::lazy_batch");
}

/// Checks the parameters against the scheme and the backend.
/// \throws InvalidArgument  a parameter is out of range, or asks for something that the scheme or
///                          the backend lacks
template <backend::Backend B, class S>
void require_params(const Params& params, const S& scheme) {
  params.validate();
  if (params.solver == Solver::lazy_batch)
    detail::require(backend::LazyBatchWorker<typename B::Worker>,
                    "Solver::lazy_batch needs a backend whose worker has solve, targets and "
                    "find_errors for kernel::LazyBatch");
  if (params.sparsity.dense()) return;
  const auto grid = scheme.fit(-1.0f, 1.0f, {});
  const float zero = scheme.decode(scheme.encode(0.0f, grid), grid);
  detail::require(zero == 0,
                  "sparsity needs a scheme whose grids have a zero; the number nearest "
                  "to zero on this scheme's grid for [-1, 1] is ",
                  zero);
}

/// A weight to round, checked against its Hessian (see require_weight).
template <class T, backend::Backend B>
Task<std::remove_const_t<T>> task(MatrixView<T> weight, const Hessian<B>& hessian,
                                  const Params& params, std::string_view name) {
  return {weight, std::string(name),
          require_weight(weight, hessian.in_features(), params, hessian.backend(), name)};
}
/// The same with a factor.
template <class T, backend::Backend B>
Task<std::remove_const_t<T>> task(MatrixView<T> weight, const DampedFactor<B>& factor,
                                  const Params& params, std::string_view name) {
  require_inverse(factor.inverse, params);
  return {weight, std::string(name), require_weight(weight, factor, params, name)};
}
/// Weight i, with a factor of its own.
template <class T, backend::Backend B>
Task<std::remove_const_t<T>> task(MatrixView<T> weight, const Factors<B>& factors, std::size_t i,
                                  const Params& params, std::string_view name) {
  require_inverse(factors.inverse(), params);
  return {weight, std::string(name), require_weight(weight, factors.of(i), params, name)};
}

/// Several weights to round.
/// \param names  of the weights; if empty, they are numbered
/// \param make   make(i, name): the task of weight i
template <class T, class Make>
std::vector<Task<std::remove_const_t<T>>> tasks(std::span<const MatrixView<T>> weights,
                                                std::span<const std::string> names,
                                                const Make& make) {
  detail::require(names.empty() || names.size() == weights.size(), weights.size(), " weights and ",
                  names.size(), " names");
  std::vector<Task<std::remove_const_t<T>>> tasks;
  for (std::size_t i = 0; i < weights.size(); ++i)
    tasks.push_back(make(i, names.empty() ? "weight " + std::to_string(i) : names[i]));
  return tasks;
}

/// \throws InvalidArgument  not as many of something as weights
inline void require_one_each(std::size_t weights, std::size_t others, std::string_view what) {
  detail::require(weights == others, weights, " weights and ", others, " ", what);
}

/// Calls f(); if the backend runs out of memory, the message says what the memory plan proposes.
template <backend::Backend B, class F>
auto advised(Index rows, Index cols, const Params& params, const B& backend, const F& f) {
  return detail::advised(f, [&] { return memory_advice(rows, cols, params, backend); });
}

/// The factors of several Hessians of one size; if the backend runs out of memory, the message says
/// what the memory plan proposes.
template <backend::Backend B>
Factors<B> advised_factors(std::span<const Hessian<B>* const> hessians, const Params& params) {
  return detail::advised([&] { return Factors<B>(hessians, params); },
                         [&] {
                           const Hessian<B>& first = *hessians.front();
                           return factor_advice(first.in_features(), params, first.backend());
                         });
}

/// Calls gptq::factorize; if the backend runs out of memory, the message says what the memory plan
/// proposes.
template <backend::Backend B>
DampedFactor<B> advised_factor(const Hessian<B>& hessian, const Params& params,
                               std::span<const Index> order = {}) {
  return detail::advised(
      [&] { return gptq::factorize(hessian, params, order); },
      [&] { return factor_advice(hessian.in_features(), params, hessian.backend()); });
}

}  // namespace gptq::solver
