// SPDX-License-Identifier: MIT
#pragma once

// Damping: make the Hessian safely factorable, factor it, and say what was done.

#include <gptq/calibration/hessian.hpp>
#include <gptq/calibration/order.hpp>
#include <gptq/core/report.hpp>
#include <gptq/core/stopwatch.hpp>

#include <utility>  // std::move
#include <vector>

namespace gptq {

/// H + diag(λ) = R·Rᵀ in solving order. Made once per input, it serves every weight that reads it.
template <Backend B>
struct DampedFactor {
  B backend;                    ///< where `r` lives
  typename B::Matrix r;         ///< R, upper triangular
  ColumnLayout layout;          ///< the order, the groups, dead columns and the pivots d_j = R_jj²
  std::vector<double> added;    ///< λ by position
  Damping damping;              ///< for the report
  double tokens = 0;            ///< behind the Hessian
  double seconds = 0;           ///< it took
};

/// Orders the columns, damps and factors once (GPTQ paper, §3.3, with H = R·Rᵀ in place of the Cholesky factor of H⁻¹).
///
/// λ = damping · mean(diag H) over the inputs that were ever used; a dead input gets that mean as its diagonal. Where
/// the factorization fails, λ grows fourfold up to ten times the mean, as Params::on_failure allows.
/// \throws NumericalError  H cannot be factored; the message names the pivot and the last λ
template <Backend B>
DampedFactor<B> damped_factor(const Hessian<B>& hessian, const Params& params) {
  Stopwatch watch;
  const B& backend = hessian.backend();
  detail::require(hessian.tokens() > 0, "the Hessian has seen no tokens: add calibration activations first");
  const double scale = 1.0 / hessian.tokens();
  std::vector<double> diagonal = backend.diagonal(hessian.sum());

  double mean = 0;
  Index live = 0;
  for (double& d : diagonal) {
    d *= scale;
    if (d > 0) mean += d, ++live;
  }
  const Index n = hessian.in_features();
  mean = live > 0 ? mean / static_cast<double>(live) : 1.0;

  DampedFactor<B> result{.backend = backend, .r = {}, .layout = {}, .added = {}, .damping = {}, .tokens = hessian.tokens()};
  result.layout = ColumnLayout(column_order(params.order, diagonal), effective_group_size(params, n));
  result.damping.dead_columns = n - live;
  std::vector<bool> dead(std::size_t(n), false);
  for (Index p = 0; p < n; ++p) dead[std::size_t(p)] = !(diagonal[std::size_t(result.layout.column(p))] > 0);

  Index failed = -1;
  for (double fraction = params.damping;; fraction *= 4) {
    result.damping.fraction = fraction;
    result.damping.lambda = fraction * mean;
    result.added.assign(std::size_t(n), result.damping.lambda);
    std::vector<double> added = result.added;
    for (Index p = 0; p < n; ++p)
      if (dead[std::size_t(p)]) added[std::size_t(p)] += mean;
    result.r = backend.arrange(hessian.sum(), result.layout.order(), scale, added);
    failed = backend.factorize(result.r);
    if (failed < 0 || params.on_failure == OnFailure::error || fraction * 4 > 10) break;
    ++result.damping.retries;
  }
  if (failed >= 0) {
    if (params.on_failure != OnFailure::round_to_nearest)
      throw NumericalError(detail::message("the Hessian cannot be factored: the pivot of input ", result.layout.column(failed),
                                           " is not positive with damping ", result.damping.fraction, " (lambda = ",
                                           result.damping.lambda, ", ", result.damping.retries, " retries)"));
    // R = √mean·I: no column can make up for another, which is rounding to nearest.
    result.damping.round_to_nearest = true;
    const auto empty = backend.zeros(n, n);
    result.added.assign(std::size_t(n), mean);
    result.r = backend.arrange(empty, result.layout.order(), scale, result.added);
    backend.factorize(result.r);
  }

  std::vector<double> pivots = backend.diagonal(result.r);
  for (double& p : pivots) p *= p;
  result.layout.set_pivots(std::move(pivots));
  if (result.damping.dead_columns > 0) result.layout.set_dead(std::move(dead));
  result.seconds = watch.lap();
  return result;
}

}  // namespace gptq
