// SPDX-License-Identifier: MIT
#pragma once

// A Hessian of few tokens, helped by one of many: what an expert saw, and what all experts saw.

#include <gptq/backend/concept.hpp>
#include <gptq/calibration/hessian.hpp>
#include <gptq/core/error.hpp>
#include <gptq/core/matrix_view.hpp>

#include <algorithm>  // std::min
#include <cstddef>
#include <vector>

namespace gptq {

/// A Hessian that was helped by a pooled one.
template <backend::Backend B>
struct ShrunkHessian {
  Hessian<B> hessian;
  double share;  ///< of the pool in it, per token: 0 .. 1; 1: it has no tokens of its own
};

/// (1 − ρ)·S + ρ·T, S the mean over a Hessian's tokens, T that over the pool's. √ρ is the estimate
/// of Ledoit and Wolf ("A well-conditioned estimator for large-dimensional covariance matrices",
/// 2004) for Gaussian inputs: the variance of S, (tr² S + ‖S‖²) / tokens, as part of its distance
/// from T, ‖S − T‖². So ρ is large for few tokens, and small where what an expert sees is
/// different. It is squared because the estimate minimizes a distance of matrices, to which the
/// small directions that matter to rounding add little: in experiments, that loses to neither
/// Hessian alone.
///
/// The result counts the tokens of its own and is scaled so that a cross moment over these fits;
/// without any, it is the pool.
///
/// \param own   of one expert
/// \param pool  of all experts, over at least one token
/// \throws InvalidArgument  the inputs differ, or the pool has no tokens
template <backend::Backend B>
ShrunkHessian<B> shrunk(const Hessian<B>& own, const Hessian<B>& pool) {
  constexpr double largest_share = 0.95;
  const Index n = own.in_features();
  detail::require(pool.in_features() == n, "a Hessian of ", n,
                  " inputs cannot be helped by one of ", pool.in_features());
  detail::require(pool.tokens() > 0, "the pooled Hessian has seen no tokens");
  using Scalar = typename B::Scalar;
  const auto size = static_cast<std::size_t>(n) * static_cast<std::size_t>(n);
  std::vector<Scalar> sum(size), added(size);
  own.backend().download(own.sum(), MatrixView<Scalar>(sum.data(), n, n));
  pool.backend().download(pool.sum(), MatrixView<Scalar>(added.data(), n, n));
  const bool alone = own.tokens() == 0;
  double share = 1, factor = 1;
  if (!alone) {
    double trace = 0, square = 0, distance = 0;
    for (Index r = 0; r < n; ++r)
      for (Index c = r; c < n; ++c) {  // the upper triangle, which is all there is
        const auto at = static_cast<std::size_t>(r * n + c);
        const double x = static_cast<double>(sum[at]) / own.tokens(),
                     d = x - static_cast<double>(added[at]) / pool.tokens();
        const double times = c == r ? 1 : 2;
        if (c == r) trace += x;
        square += times * x * x;
        distance += times * d * d;
      }
    const double variance = (trace * trace + square) / own.tokens();
    const double doubt = distance > 0 ? (std::min)(variance / distance, 1.0) : 1.0;
    share = (std::min)(doubt * doubt, largest_share);
    factor = share / (1 - share) * own.tokens() / pool.tokens();
  }
  for (Index r = 0; r < n; ++r)
    for (Index c = 0; c < n; ++c) {
      const auto at = static_cast<std::size_t>(r * n + c);
      sum[at] = c < r ? Scalar(0) : sum[at] + static_cast<Scalar>(factor) * added[at];
    }
  const Hessian<B>& counted = alone ? pool : own;
  return {Hessian<B>::from_sum(MatrixView<const Scalar>(sum.data(), n, n), counted.tokens(),
                               counted.sequences(), own.backend(), counted.largest(),
                               "the pooled Hessian"),
          share};
}

}  // namespace gptq
