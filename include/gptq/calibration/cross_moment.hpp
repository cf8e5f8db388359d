// SPDX-License-Identifier: MIT
#pragma once

// CrossMoment: how two inputs of the same tokens are correlated, Σ a·bᵀ.

#include <gptq/backend/concept.hpp>

#include <algorithm>  // std::min
#include <limits>
#include <utility>  // std::move

namespace gptq {

/// Σ a·bᵀ over tokens, for two inputs a and b of the same tokens.
template <backend::Backend B>
class CrossMoment {
 public:
  /// \param rows  features of a
  /// \param cols  features of b
  CrossMoment(Index rows, Index cols, B backend = default_backend<B>())
      : backend_(std::move(backend)), sum_(backend_.zeros(rows, cols)) {}

  /// Adds some tokens.
  /// \param a  [tokens, rows], of float, double, bfloat16 or float16, any strides; likewise b
  /// \param b  [tokens, cols]
  /// \throws InvalidArgument  the shapes do not fit
  /// \throws NumericalError   a number is not finite, or the sum could leave the range of the
  ///                          backend's numbers; nothing was added
  template <class T>
  void add(MatrixView<const T> a, MatrixView<const T> b) {
    detail::require(a.rows() == b.rows() && a.cols() == sum_.rows() && b.cols() == sum_.cols(),
                    "a cross moment of ", sum_.rows(), " x ", sum_.cols(), " cannot add ", a.rows(),
                    " x ", a.cols(), " and ", b.rows(), " x ", b.cols());
    const auto tokens = static_cast<double>(a.rows());
    const double largest_a = require_finite(backend_, a, "a"),
                 largest_b = require_finite(backend_, b, "b");
    const double bound = bound_ + tokens * largest_a * largest_b;
    if (!(bound < static_cast<double>(std::numeric_limits<typename B::Scalar>::max())))
      throw NumericalError(detail::message(
          "numbers of up to ", largest_a, " and ", largest_b, ": the products of ", tokens,
          " tokens may not fit the backend's numbers; scale them, or use a backend in double "
          "precision"));
    using Scalars = MatrixView<const typename B::Scalar>;
    static_assert(
        requires(Scalars x) { backend_.accumulate_cross(sum_, x, x); },
        "gptq: CrossMoment needs accumulate_cross(sum, a, b) of the backend");
    if constexpr (requires { backend_.accumulate_cross(sum_, a, b); }) {
      backend_.accumulate_cross(sum_, a, b);
    } else {
      for (Index t = 0; t < a.rows(); t += converted) {
        const Index some = (std::min)(converted, a.rows() - t);
        const auto left = backend_.upload(a.middle_rows(t, some)),
                   right = backend_.upload(b.middle_rows(t, some));
        backend_.accumulate_cross(sum_, left.view(), right.view());
      }
    }
    bound_ = bound;
    tokens_ += tokens;
  }

  /// Features of a.
  Index rows() const { return sum_.rows(); }
  /// Features of b.
  Index cols() const { return sum_.cols(); }
  /// Tokens added.
  double tokens() const { return tokens_; }
  /// Σ a·bᵀ, [rows, cols], not divided.
  const typename B::Matrix& sum() const { return sum_; }

 private:
  static constexpr Index converted = 512;  // tokens converted at once

  B backend_;
  typename B::Matrix sum_;
  double tokens_ = 0;
  double bound_ = 0;  // on the elements of the sum
};

}  // namespace gptq
