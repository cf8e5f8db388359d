// SPDX-License-Identifier: MIT
#pragma once

// Reversed Cholesky factorization, H = R·Rᵀ with R upper triangular, recursive on top of our own
// matrix product. The only factorization that GPTQ needs: R⁻¹ is exactly the factor of the inverse
// that the paper uses.

#include <gptq/backend/cpu/packed_product.hpp>
#include <gptq/backend/cpu/tiles.hpp>
#include <gptq/backend/host/matrix.hpp>
#include <gptq/config.hpp>

#include <algorithm>  // std::clamp, std::fill_n, std::min
#include <cmath>      // std::sqrt
#include <limits>
#include <utility>  // std::as_const
#include <vector>

namespace gptq::backend {
inline namespace GPTQ_SIMD {
namespace cpu {

/// One factorization H = R·Rᵀ, in place.
template <class Scalar, class Executor>
class ReversedCholesky {
 public:
  /// Of the upper triangle of `h`, in place; what is below the diagonal is not read and becomes
  /// zero.
  ReversedCholesky(const Executor& executor, HostMatrix<Scalar>& h)
      : executor_(executor), h_(h), inverse_((h.rows() + leaf - 1) / leaf * leaf, leaf) {}

  /// Factors. Returns the position of the pivot that was not positive, or -1.
  Index run() {
    const Index n = h_.rows();
    diagonal_.resize(static_cast<std::size_t>(n));
    for (Index i = 0; i < n; ++i) diagonal_[std::size_t(i)] = h_(i, i);
    const Index failed = factor(0, n);
    constexpr Index strip = 4 * leaf;
    executor_.parallel_for((n + strip - 1) / strip, [&](Index i) {
      for (Index r = i * strip; r < (std::min)(n, (i + 1) * strip); ++r)
        std::fill_n(h_.row(r), r, Scalar(0));
    });
    return failed;
  }

 private:
  static constexpr Index leaf = 64;  // columns factored without a matrix product

  MatrixView<Scalar> part(Index row, Index col, Index rows, Index cols) {
    return h_.view().block(row, col, rows, cols);
  }

  /// h[row.., col..] -= h[row.., from..]·h[col.., from..]ᵀ over `depth` columns.
  void subtract(Index row, Index col, Index rows, Index cols, Index from, Index depth) {
    const auto left = part(row, from, rows, depth), right = part(col, from, cols, depth);
    add_product<Sign::minus, Scalar>(part(row, col, rows, cols), left.transposed(),
                                     right.transposed());
  }

  /// Factors the diagonal block [begin, end): the trailing half first, then the leading half as
  /// updated by it.
  Index factor(Index begin, Index end) {
    if (end - begin <= leaf) return factor_leaf(begin, end);
    const Index middle = half(begin, end);
    if (const Index failed = factor(middle, end); failed >= 0) return failed;
    const Index rows = middle - begin, cols = end - middle;

    // R₁₂ = H₁₂·R₂₂⁻ᵀ: rows are independent. Work too short to wake other threads for is done by
    // this one.
    const bool alone = rows <= 2 * leaf;
    const Index strip = alone ? rows : std::clamp<Index>(rows / 8 / leaf * leaf, leaf, 4 * leaf);
    executor_.parallel_for((rows + strip - 1) / strip, [&](Index i) {
      solve(begin + i * strip, (std::min)(strip, rows - i * strip), middle, end);
    });
    // H₁₁ −= R₁₂·R₁₂ᵀ, upper triangle.
    const auto tiles = upper_tiles(rows, alone ? rows : tile_size(rows));
    executor_.parallel_for(static_cast<Index>(tiles.size()), [&](Index i) {
      const Tile& t = tiles[std::size_t(i)];
      subtract(begin + t.row, begin + t.col, t.rows, t.cols, middle, cols);
    });
    return factor(begin, middle);
  }

  /// X·R₂₂ᵀ = X in place for `rows` rows of columns [begin, end), R₂₂ the factor of that diagonal
  /// block.
  void solve(Index row, Index rows, Index begin, Index end) {
    if (end - begin <= leaf) return solve_leaf(row, rows, begin, end);
    const Index middle = half(begin, end);
    solve(row, rows, middle, end);
    subtract(row, begin, rows, middle - begin, middle, end - middle);
    solve(row, rows, begin, middle);
  }

  static Index half(Index begin, Index end) {
    return begin + ((end - begin) / 2 + leaf - 1) / leaf * leaf;
  }

  /// X ← X·R⁻ᵀ with the inverse of a block on the diagonal.
  void solve_leaf(Index row, Index rows, Index begin, Index end) {
    const Index size = end - begin;
    HostMatrix<Scalar> copy(rows, size);
    for (Index r = 0; r < rows; ++r) {
      Scalar* const x = h_.row(row + r) + begin;
      std::copy_n(x, size, copy.row(r));
      std::fill_n(x, size, Scalar(0));
    }
    add_product(part(row, begin, rows, size), std::as_const(copy).view().transposed(),
                std::as_const(inverse_).view().block(begin, 0, size, size).transposed());
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
    invert_leaf(begin, end - begin);
    return -1;
  }

  /// The inverse of an upper triangular block, row by row from the last to the first.
  void invert_leaf(Index begin, Index size) {
    for (Index i = size - 1; i >= 0; --i) {
      Scalar* const x = inverse_.row(begin + i);
      std::fill_n(x, size, Scalar(0));
      x[i] = 1;
      for (Index k = i + 1; k < size; ++k) {
        const Scalar factor = h_(begin + i, begin + k);
        const Scalar* const solved = inverse_.row(begin + k);
        for (Index j = k; j < size; ++j) x[j] -= factor * solved[j];
      }
      const Scalar inverse = 1 / h_(begin + i, begin + i);
      for (Index j = i; j < size; ++j) x[j] *= inverse;
    }
  }

  const Executor& executor_;
  HostMatrix<Scalar>& h_;
  HostMatrix<Scalar> inverse_;    // of the factors of the diagonal blocks, stacked
  std::vector<Scalar> diagonal_;  // of H, before factoring
};

}  // namespace cpu
}  // namespace GPTQ_SIMD
}  // namespace gptq::backend
