// SPDX-License-Identifier: MIT
#pragma once

// The factor of a damped Hessian: ordered, made safely factorable, factored, and what was done.

#include <gptq/calibration/hessian.hpp>
#include <gptq/core/report.hpp>
#include <gptq/core/stopwatch.hpp>
#include <gptq/factor/damping.hpp>
#include <gptq/factor/order.hpp>

#include <cmath>  // std::sqrt
#include <span>
#include <utility>  // std::move
#include <vector>

namespace gptq {

/// H + diag(λ) = R·Rᵀ in solving order. Made once per input, it serves every weight that reads it.
template <backend::Backend B>
struct DampedFactor {
  B backend;                     ///< where the matrices live
  double unit = 1;               ///< in which R·Rᵀ, pivots and λ count H: a power of four
  typename B::Matrix r{};        ///< R, upper triangular
  typename B::Matrix inverse{};  ///< R⁻¹, for Solver::lazy_batch only
  ColumnLayout layout{};         ///< the order, the groups, dead columns and the pivots R_jj²
  Params params{};               ///< it was made with
  std::vector<double> added{};   ///< to the diagonal of H, by position: λ, and a dead input's own
  Damping damping{};             ///< for the report
  double tokens = 0;             ///< behind the Hessian
  double paper_error_per_loss = 0;  ///< the paper's "error" in units of the damped loss
  double seconds = 0;               ///< it took
};

namespace detail {

/// values[order[p]] at p
template <class T>
std::vector<T> by_position(const std::vector<T>& values, std::span<const Index> order) {
  std::vector<T> result(values.size());
  for (std::size_t p = 0; p < result.size(); ++p) result[p] = values[std::size_t(order[p])];
  return result;
}

template <backend::Backend B>
std::vector<Index> solving_order(const Hessian<B>& hessian, const DiagonalPlan& plan,
                                 const Params& params) {
  const Index group_size = effective_group_size(params, hessian.in_features());
  if (params.order != Order::min_pivot)
    return column_order(params.order, plan.diagonal, group_size);
  const auto natural = column_order(Order::natural, plan.diagonal, group_size);
  return hessian.backend().pivot_order(
      hessian.backend().arrange(hessian.sum(), natural, plan.scale_in_unit(),
                                plan.missing(plan.damping(params, params.damping))));
}

/// λmax/λmin of R·Rᵀ from a few steps of the power method with R and with R⁻¹: seldom more than a
/// few per cent too small.
template <backend::Backend B>
double condition_estimate(const B& backend, const typename B::Matrix& r) {
  constexpr int steps = 12;
  double largest = 0, smallest = 0;
  backend.for_panels(1, [&](const auto& worker, Index, Index) {
    const std::vector<double> one(static_cast<std::size_t>(r.rows()), 1.0);
    const auto grow = [&](const auto& apply) {
      auto x = worker.zeros(r.rows(), 1);
      worker.fill_start(x);
      double norm = 0;
      for (int i = 0; i < steps; ++i) {
        worker.scale(x, 1 / std::sqrt(worker.weighted_squares(x, 1, one)));
        apply(x);
        norm = std::sqrt(worker.weighted_squares(x, 1, one));
      }
      return norm;
    };
    largest = grow([&](auto& x) { worker.multiply_factor(r, x); });
    smallest = 1 / grow([&](auto& x) { worker.solve_factor(r, x); });
  });
  return largest / smallest;
}

/// A factor that lacks its matrices and pivots: the order, and what is to be damped how.
template <backend::Backend B>
struct Unfactored {
  DiagonalPlan plan;
  DampedFactor<B> factor;

  /// \param sums  the diagonal of Σ xxᵀ
  Unfactored(const Hessian<B>& hessian, std::vector<double> sums, const Params& params)
      : plan(std::move(sums), hessian.tokens(), hessian.sequences(), params.parity),
        factor{.backend = hessian.backend(), .tokens = hessian.tokens()} {
    const Index n = hessian.in_features();
    factor.unit = plan.unit;
    factor.paper_error_per_loss = 1 / (plan.scale * hessian.sequences());
    factor.layout =
        ColumnLayout(solving_order(hessian, plan, params), effective_group_size(params, n),
                     needs_group_index(params) ? Grouping::positions : Grouping::columns);
    factor.params = params;
    factor.damping.dead_columns = plan.dead_count;
    if (plan.dead_count == n && hessian.largest() > 0)
      throw NumericalError(
          message("activations of up to ", hessian.largest(),
                  ": their squares vanish in the backend's "
                  "numbers; scale the activations, or use a backend in double precision"));
  }

  /// Damps by a fraction.
  /// \return  what the arranged diagonal lacks, by position
  const std::vector<double>& damp(const Params& params, double fraction) {
    factor.damping.fraction = fraction;
    factor.damping.lambda = fraction * plan.mean;
    factor.added = by_position(plan.missing(plan.damping(params, fraction)), factor.layout.order());
    return factor.added;
  }

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
/// λ = damping · mean(diag H) over the inputs that were ever used; a dead input gets that mean as
/// its diagonal. Where the factorization fails, λ grows fourfold up to ten times the mean, as
/// Params::on_failure allows.
/// \throws NumericalError  H cannot be factored; the message names the pivot and the last λ
template <backend::Backend B>
DampedFactor<B> damped_factor(const Hessian<B>& hessian, const Params& params) {
  Stopwatch watch;
  const B& backend = hessian.backend();
  detail::require_tokens(hessian);
  detail::Unfactored<B> made(hessian, backend.diagonal(hessian.sum()), params);
  DampedFactor<B>& result = made.factor;
  const std::span<const Index> order = result.layout.order();

  Index failed = -1;
  for (double fraction = params.damping;; fraction *= 4) {
    const auto& missing = made.damp(params, fraction);
    if (params.factor_in_double) {
      failed = backend.factorize_in_double(hessian.sum(), order, made.plan.scale_in_unit(), missing,
                                           result.r);
    } else {
      result.r = {};  // before the next one is there
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
    // R = √mean·I: no column can make up for another, which is rounding to nearest.
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
  if (params.solver == Solver::lazy_batch) result.inverse = backend.invert_triangular(result.r);

  made.finish(backend.diagonal(result.r));
  result.seconds = watch.lap();
  return std::move(result);
}

}  // namespace gptq
