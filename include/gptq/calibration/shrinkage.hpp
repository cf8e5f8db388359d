// SPDX-License-Identifier: MIT
#pragma once

// A Hessian of few tokens, helped by one of many: what an expert saw, and what all experts saw.

#include <gptq/backend/concept.hpp>
#include <gptq/calibration/hessian.hpp>
#include <gptq/core/error.hpp>
#include <gptq/core/matrix_view.hpp>

#include <algorithm>  // std::min
#include <vector>

namespace gptq {

/// A Hessian that was helped by a pooled one.
template <backend::Backend B>
struct ShrunkHessian {
  Hessian<B> hessian;
  double share;  ///< of the pool in it, per token: 0 .. 1; 1: it has no tokens of its own
};

/// The Hessian of all experts, on the host, to help those of them that saw few tokens, or none.
template <backend::Backend B>
class PooledHessian {
 public:
  /// \param all  over at least one token
  /// \throws InvalidArgument  it has no tokens
  explicit PooledHessian(const Hessian<B>& all)
      : tokens_(all.tokens()),
        sequences_(all.sequences()),
        largest_(all.largest()),
        inputs_(all.in_features()),
        sum_(on_host(all)) {
    detail::require(tokens_ > 0, "the pooled Hessian has seen no tokens");
  }

  /// (1 − ρ)·S + ρ·T, S the mean over a Hessian's tokens, T that over the pool's. √ρ is the
  /// estimate of Ledoit and Wolf ("A well-conditioned estimator for large-dimensional covariance
  /// matrices", 2004) for Gaussian inputs: the variance of S, (tr² S + ‖S‖²) / tokens, as part of
  /// its distance from T, ‖S − T‖². So ρ is large for few tokens, and small where what an expert
  /// sees is different. It is squared because the estimate minimizes a distance of matrices, to
  /// which the small directions that matter to rounding add little: in experiments, that loses to
  /// neither Hessian alone.
  ///
  /// The result counts the tokens of its own and is scaled so that a cross moment over these fits;
  /// without any, it is the pool. May be called by several threads at a time where the backend
  /// allows that.
  ///
  /// \param own  of one expert
  /// \throws InvalidArgument  the inputs differ
  ShrunkHessian<B> shrunk(const Hessian<B>& own) const {
    const Index n = own.in_features();
    detail::require(inputs_ == n, "a Hessian of ", n, " inputs cannot be helped by one of ",
                    inputs_);
    std::vector<Scalar> sum = on_host(own);
    const bool alone = own.tokens() == 0;
    const double share = alone ? 1 : share_for(sum, own.tokens());
    const auto factor =
        static_cast<Scalar>(alone ? 1 : share / (1 - share) * own.tokens() / tokens_);
    for (Index r = 0; r < n; ++r)
      for (Index c = 0; c < n; ++c) {
        const auto at = static_cast<std::size_t>(r * n + c);
        sum[at] = c < r ? Scalar(0) : sum[at] + factor * sum_[at];
      }
    return {
        Hessian<B>::from_sum(MatrixView<const Scalar>(sum.data(), n, n),
                             alone ? tokens_ : own.tokens(), alone ? sequences_ : own.sequences(),
                             own.backend(), alone ? largest_ : own.largest(), "the pooled Hessian"),
        share};
  }

 private:
  using Scalar = typename B::Scalar;

  static std::vector<Scalar> on_host(const Hessian<B>& hessian) {
    const Index n = hessian.in_features();
    std::vector<Scalar> sum(static_cast<std::size_t>(n) * static_cast<std::size_t>(n));
    hessian.backend().download(hessian.sum(), MatrixView<Scalar>(sum.data(), n, n));
    return sum;
  }

  /// ρ
  double share_for(const std::vector<Scalar>& sum, double tokens) const {
    constexpr double largest_share = 0.95;
    double trace = 0, square = 0, distance = 0;
    for (Index r = 0; r < inputs_; ++r)
      for (Index c = r; c < inputs_; ++c) {  // the upper triangle, which is all there is
        const auto at = static_cast<std::size_t>(r * inputs_ + c);
        const double x = static_cast<double>(sum[at]) / tokens,
                     d = x - static_cast<double>(sum_[at]) / tokens_;
        const double times = c == r ? 1 : 2;
        if (c == r) trace += x;
        square += times * x * x;
        distance += times * d * d;
      }
    const double variance = (trace * trace + square) / tokens;
    const double doubt = distance > 0 ? (std::min)(variance / distance, 1.0) : 1.0;
    return (std::min)(doubt * doubt, largest_share);
  }

  double tokens_, sequences_, largest_;
  Index inputs_;
  std::vector<Scalar> sum_;
};

}  // namespace gptq
