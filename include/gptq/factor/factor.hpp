// SPDX-License-Identifier: MIT
#pragma once

// The factor of a damped Hessian: its columns ordered, its diagonal damped, factored, and a record
// of what was done.

#include <gptq/calibration/hessian.hpp>
#include <gptq/core/report.hpp>
#include <gptq/core/stopwatch.hpp>
#include <gptq/factor/damping.hpp>
#include <gptq/factor/order.hpp>
#include <gptq/factor/sketch.hpp>

#include <cmath>  // std::sqrt
#include <cstdint>
#include <numeric>  // std::inner_product
#include <span>
#include <utility>  // std::move
#include <vector>

namespace gptq {

/// H + diag(λ) = R·Rᵀ in solving order. Made once per input, it serves every weight that reads it.
template <backend::Backend B>
struct DampedFactor {
  B backend;                     ///< where the matrices live
  double hessian_unit = 1;       ///< of R·Rᵀ, the pivots and `added`: a power of four
  typename B::Matrix r{};        ///< R, upper triangular
  typename B::Matrix inverse{};  ///< R⁻¹, for Solver::lazy_batch only
  typename B::Matrix sketch{};   ///< of R, for Measure::sampled; empty if R is small
  ColumnLayout layout{};         ///< the order, the groups, dead columns and the pivots R_jj²
  Params params{};               ///< that it was made with
  bool given_order = false;      ///< whether the order is the caller's own, not Params::order
  std::vector<double> added{};   ///< to the diagonal, by position: λ, and a dead input's stand-in
  Damping damping{};             ///< for the report
  double tokens = 0;             ///< calibration tokens behind the Hessian
  double paper_error_per_loss = 0;  ///< the paper's "error" in units of the damped loss
  double seconds = 0;               ///< that making it took

  /// The same without its matrices.
  DampedFactor record() const {
    return {.backend = backend,
            .hessian_unit = hessian_unit,
            .layout = layout,
            .params = params,
            .given_order = given_order,
            .added = added,
            .damping = damping,
            .tokens = tokens,
            .paper_error_per_loss = paper_error_per_loss,
            .seconds = seconds};
  }
};

namespace detail {

/// values[order[p]] at p
template <class T>
std::vector<T> by_position(const std::vector<T>& values, std::span<const Index> order) {
  std::vector<T> result(values.size());
  for (std::size_t p = 0; p < result.size(); ++p) result[p] = values[std::size_t(order[p])];
  return result;
}

/// \throws InvalidArgument  order is not a permutation of the inputs
inline void require_permutation(std::span<const Index> order, Index inputs) {
  require(static_cast<Index>(order.size()) == inputs, "the order has ", order.size(),
          " columns, the Hessian ", inputs, " inputs");
  std::vector<bool> seen(order.size(), false);
  for (std::size_t p = 0; p < order.size(); ++p) {
    const Index column = order[p];
    require(column >= 0 && column < inputs, "order[", p, "] = ", column, " is not one of the ",
            inputs, " inputs");
    require(!seen[std::size_t(column)], "order[", p, "] = ", column, " is a repeat");
    seen[std::size_t(column)] = true;
  }
}

/// The column solved at each position.
/// \param given  the caller's own order; empty: as Params::order says
template <backend::Backend B>
std::vector<Index> solving_order(const Hessian<B>& hessian, const DiagonalPlan& plan,
                                 const Params& params, std::span<const Index> given) {
  if (!given.empty()) {
    require_permutation(given, hessian.in_features());
    return {given.begin(), given.end()};
  }
  const Index group_size = effective_group_size(params, hessian.in_features());
  if (params.order != Order::min_pivot)
    return column_order(params.order, plan.diagonal, group_size);
  if constexpr (requires { hessian.backend().pivot_order(hessian.sum()); }) {
    const auto natural = column_order(Order::natural, plan.diagonal, group_size);
    return hessian.backend().pivot_order(
        hessian.backend().arrange(hessian.sum(), natural, plan.scale_in_unit(),
                                  plan.missing(plan.damping(params, params.damping))));
  } else {
    throw InvalidArgument("Order::min_pivot needs a backend with pivot_order(matrix)");
  }
}

/// R⁻¹.
/// \throws InvalidArgument  the backend cannot invert
template <backend::Backend B>
typename B::Matrix inverse_of(const B& backend, const typename B::Matrix& r) {
  if constexpr (requires { backend.invert_triangular(r); }) return backend.invert_triangular(r);
  else throw InvalidArgument("Solver::lazy_batch needs a backend with invert_triangular(r)");
}

/// λmax/λmin of R·Rᵀ from a few steps of the power method with R and with R⁻¹: seldom more than a
/// few per cent too small.
template <backend::Backend B>
double condition_estimate(const B& backend, const typename B::Matrix& factor) {
  using Scalar = typename B::Scalar;
  constexpr int steps = 12;
  const Index n = factor.rows();
  std::vector<Scalar> numbers(static_cast<std::size_t>(n * n));
  const MatrixView<Scalar> r(numbers.data(), n, n);
  backend.download(factor, r);
  using Vector = std::vector<double>;
  const auto grow = [&](const auto& apply) {
    Vector x(static_cast<std::size_t>(n));
    std::uint32_t state = 1;
    for (double& value : x) {  // the same noise each time
      state = state * 1664525u + 1013904223u;
      value = static_cast<double>(state) / 0x1p31 - 1;
    }
    double norm = 0;
    for (int i = 0; i <= steps; ++i) {
      norm = std::sqrt(std::inner_product(x.begin(), x.end(), x.begin(), 0.0));
      if (i == steps) break;
      for (double& value : x) value /= norm;
      apply(x);
    }
    return norm;
  };
  const double largest = grow([&](Vector& x) {  // R·Rᵀ·x, both in place
    for (Index k = n - 1; k >= 0; --k) {
      const double own = x[std::size_t(k)];
      x[std::size_t(k)] = static_cast<double>(r(k, k)) * own;
      for (Index j = k + 1; j < n; ++j) x[std::size_t(j)] += static_cast<double>(r(k, j)) * own;
    }
    for (Index j = 0; j < n; ++j) {
      double sum = 0;
      for (Index k = j; k < n; ++k) sum += static_cast<double>(r(j, k)) * x[std::size_t(k)];
      x[std::size_t(j)] = sum;
    }
  });
  const double smallest = 1 / grow([&](Vector& x) {  // (R·Rᵀ)⁻¹·x
                            for (Index j = n - 1; j >= 0; --j) {
                              double left = x[std::size_t(j)];
                              for (Index k = j + 1; k < n; ++k)
                                left -= static_cast<double>(r(j, k)) * x[std::size_t(k)];
                              x[std::size_t(j)] = left / static_cast<double>(r(j, j));
                            }
                            for (Index k = 0; k < n; ++k) {
                              const double own = x[std::size_t(k)] /= static_cast<double>(r(k, k));
                              for (Index j = k + 1; j < n; ++j)
                                x[std::size_t(j)] -= static_cast<double>(r(k, j)) * own;
                            }
                          });
  return largest / smallest;
}

/// A factor that still lacks its matrices and pivots: the order, and how to damp.
template <backend::Backend B>
struct FactorPlan {
  DiagonalPlan plan;
  DampedFactor<B> factor;

  /// \param sums   the diagonal of Σ xxᵀ
  /// \param order  the caller's own; empty: as Params::order says
  FactorPlan(const Hessian<B>& hessian, std::vector<double> sums, const Params& params,
             std::span<const Index> order = {})
      : plan(std::move(sums), hessian.tokens(), hessian.sequences(), params.parity),
        factor{.backend = hessian.backend(), .tokens = hessian.tokens()} {
    const Index n = hessian.in_features();
    factor.hessian_unit = plan.unit;
    factor.given_order = !order.empty();
    factor.paper_error_per_loss = 1 / (plan.scale * hessian.sequences());
    factor.layout = ColumnLayout(
        solving_order(hessian, plan, params, order), effective_group_size(params, n),
        needs_group_index(params, factor.given_order) ? Grouping::positions : Grouping::columns);
    factor.params = params;
    factor.damping.dead_columns = plan.dead_count;
    if (plan.dead_count == n && hessian.largest() > 0)
      throw NumericalError(
          message("activations of up to ", hessian.largest(),
                  ": their squares vanish in the backend's "
                  "precision; scale the activations, or use a backend in double precision"));
  }

  /// Sets the damping to a fraction of the diagonal.
  /// \return  what to add to the arranged diagonal, by position
  const std::vector<double>& damp(const Params& params, double fraction) {
    factor.damping.fraction = fraction;
    factor.damping.lambda = fraction * plan.mean;
    factor.added = by_position(plan.missing(plan.damping(params, fraction)), factor.layout.order());
    return factor.added;
  }

  /// Sets the pivots and the dead columns.
  /// \param roots  the diagonal of R
  void finish(std::vector<double> roots) {
    for (double& p : roots) p *= p;
    factor.layout.set_pivots(std::move(roots));
    if (plan.dead_count > 0) factor.layout.set_dead(by_position(plan.dead, factor.layout.order()));
  }
};

template <backend::Backend B>
void require_tokens(const Hessian<B>& hessian) {
  require(hessian.tokens() > 0,
          "the Hessian has seen no tokens: add calibration activations first");
}

}  // namespace detail

/// Orders the columns, damps and factors once (GPTQ paper, §3.3, with H = R·Rᵀ in place of the
/// Cholesky factor of H⁻¹).
///
/// λ = damping · mean(diag H) over the inputs that were ever non-zero; a dead input gets that mean
/// as its diagonal. If the factorization fails, λ is quadrupled, up to ten times the mean, as
/// Params::on_failure allows.
/// \param columns  the order to solve the columns in, a permutation of the inputs: columns[p] is
///                 solved at position p; empty: as Params::order says
/// \throws NumericalError   H cannot be factored; the message names the pivot and the last λ
/// \throws InvalidArgument  columns is not a permutation; or the backend lacks an operation, which
///                          the message names
template <backend::Backend B>
DampedFactor<B> factorize(const Hessian<B>& hessian, const Params& params,
                          std::span<const Index> columns = {}) {
  Stopwatch watch;
  const B& backend = hessian.backend();
  detail::require_tokens(hessian);
  detail::FactorPlan<B> made(hessian, backend.diagonal(hessian.sum()), params, columns);
  DampedFactor<B>& result = made.factor;
  const std::span<const Index> order = result.layout.order();

  Index failed = -1;
  for (double fraction = params.damping;; fraction *= 4) {
    const auto& missing = made.damp(params, fraction);
    if (params.factor_in_double) {
      if constexpr (requires {
                      backend.factorize_in_double(hessian.sum(), order, 1.0, missing, result.r);
                    })
        failed = backend.factorize_in_double(hessian.sum(), order, made.plan.scale_in_unit(),
                                             missing, result.r);
      else throw InvalidArgument("factor_in_double needs a backend with factorize_in_double");
    } else {
      result.r = {};  // freed before the next one is made
      result.r = backend.arrange(hessian.sum(), order, made.plan.scale_in_unit(), missing);
      failed = backend.factorize(result.r);
    }
    if (failed < 0 || params.on_failure == OnFailure::error || fraction * 4 > 10) break;
    ++result.damping.retries;
  }
  if (failed >= 0) {
    if (params.on_failure != OnFailure::round_to_nearest)
      throw NumericalError(detail::message(
          "the Hessian cannot be factored: the pivot of input ", result.layout.column(failed),
          " is not positive with damping ", result.damping.fraction,
          " (lambda = ", result.damping.lambda, ", ", result.damping.retries, " retries)"));
    // R = √mean·I: no column can compensate for another, so this is rounding to nearest.
    result.damping.round_to_nearest = true;
    result.damping.fraction = result.damping.lambda = 0;
    result.added.assign(order.size(), made.plan.mean / made.plan.unit);
    result.r = {};
    result.r = backend.arrange(hessian.sum(), order, 0, result.added);
    detail::require<NumericalError>(backend.factorize(result.r) < 0,
                                    "the Hessian has an element that is not finite");
  }
  if (params.estimate_condition && !result.damping.round_to_nearest)
    result.damping.condition = detail::condition_estimate(backend, result.r);
  if (params.solver == Solver::lazy_batch) result.inverse = detail::inverse_of(backend, result.r);

  if (uses_sketch(params, hessian.in_features())) result.sketch = sketch(backend, result.r);

  made.finish(backend.diagonal(result.r));
  result.seconds = watch.lap();
  return std::move(result);
}

}  // namespace gptq
