// SPDX-License-Identifier: MIT
#pragma once

// Reversed Cholesky factorization, H = R·Rᵀ with R upper triangular, recursive on top of Eigen's
// matrix product. The one factorization that GPTQ needs: R⁻¹ is exactly the factor of the inverse
// that the paper uses.

#include <gptq/backend/cpu/maps.hpp>
#include <gptq/backend/cpu/tiles.hpp>
#include <gptq/backend/host_matrix.hpp>

#include <Eigen/Core>

#include <cmath>  // std::sqrt
#include <limits>
#include <vector>

namespace gptq::backend::cpu {

template <class Scalar, class Executor>
class ReversedCholesky {
 public:
  /// Factors the upper triangle of `h` in place; what is below the diagonal is neither read nor
  /// kept.
  ReversedCholesky(const Executor& executor, HostMatrix<Scalar>& h) : executor_(executor), h_(h) {}

  /// The position of the pivot that was not positive, or -1.
  Index run() {
    const Index n = h_.rows();
    diagonal_.resize(static_cast<std::size_t>(n));
    for (Index i = 0; i < n; ++i) diagonal_[std::size_t(i)] = h_(i, i);
    return factor(0, n);
  }

 private:
  static constexpr Index leaf = 64;    // columns factored without a matrix product
  static constexpr Index strip = 128;  // rows of a triangular solve done as one task

  /// Factors the diagonal block [begin, end): the trailing half first, then what it leaves of the
  /// leading half.
  Index factor(Index begin, Index end) {
    if (end - begin <= leaf) return factor_leaf(begin, end);
    const Index middle = begin + ((end - begin) / 2 + leaf - 1) / leaf * leaf;
    if (const Index failed = factor(middle, end); failed >= 0) return failed;
    const Index rows = middle - begin, cols = end - middle;

    // R₁₂ = H₁₂·R₂₂⁻ᵀ: rows are independent.
    executor_.parallel_for((rows + strip - 1) / strip, [&](Index i) {
      solve(begin + i * strip, (std::min)(strip, rows - i * strip), middle, end);
    });
    // H₁₁ −= R₁₂·R₁₂ᵀ, upper triangle.
    const auto tiles = upper_tiles(rows, tile_size(rows));
    executor_.parallel_for(static_cast<Index>(tiles.size()), [&](Index i) {
      const Tile& t = tiles[std::size_t(i)];
      block(h_, begin + t.row, begin + t.col, t.rows, t.cols).noalias() -=
          block(h_, begin + t.row, middle, t.rows, cols) *
          block(h_, begin + t.col, middle, t.cols, cols).transpose();
    });
    return factor(begin, middle);
  }

  /// X·R₂₂ᵀ = X in place for `rows` rows of columns [begin, end), R₂₂ the factor of that diagonal
  /// block.
  void solve(Index row, Index rows, Index begin, Index end) {
    if (end - begin <= leaf) {
      auto x = block(h_, row, begin, rows, end - begin);
      block(h_, begin, begin, end - begin, end - begin)
          .template triangularView<Eigen::Upper>()
          .transpose()
          .template solveInPlace<Eigen::OnTheRight>(x);
      return;
    }
    const Index middle = begin + ((end - begin) / 2 + leaf - 1) / leaf * leaf;
    solve(row, rows, middle, end);
    block(h_, row, begin, rows, middle - begin).noalias() -=
        block(h_, row, middle, rows, end - middle) *
        block(h_, begin, middle, middle - begin, end - middle).transpose();
    solve(row, rows, begin, middle);
  }

  Index factor_leaf(Index begin, Index end) {
    Scalar column[leaf];
    for (Index k = end - 1; k >= begin; --k) {
      const Scalar pivot = h_(k, k);
      if (!(pivot > std::numeric_limits<Scalar>::epsilon() * diagonal_[std::size_t(k)]) ||
          !std::isfinite(pivot))
        return k;
      const Scalar root = std::sqrt(pivot);
      h_(k, k) = root;
      for (Index i = begin; i < k; ++i) column[i - begin] = h_(i, k) /= root;
      for (Index i = begin; i < k; ++i)
        for (Index j = i; j < k; ++j) h_(i, j) -= column[i - begin] * column[j - begin];
    }
    return -1;
  }

  const Executor& executor_;
  HostMatrix<Scalar>& h_;
  std::vector<Scalar> diagonal_;  // of H, before
};

}  // namespace gptq::backend::cpu
