// SPDX-License-Identifier: MIT
#pragma once

// A matrix that somebody else owns: pointer, shape and two strides. Row-major, column-major and
// blocks of either are all views, so no caller's matrix is ever copied to change its layout.

#include <gptq/config.hpp>
#include <gptq/core/error.hpp>

#include <cstddef>  // std::ptrdiff_t
#include <limits>
#include <type_traits>  // std::is_const_v

namespace gptq {

/// Sizes and positions, everywhere, kernels included: int overflows at 46341² elements.
using Index = std::ptrdiff_t;

/// Somebody else's matrix: a pointer, a shape and strides, counted in elements. Copies are cheap.
template <class T>
class MatrixView {
 public:
  constexpr MatrixView() = default;

  /// Row-major and dense.
  GPTQ_HD constexpr MatrixView(T* data, Index rows, Index cols)
      : MatrixView(data, rows, cols, cols, 1) {}

  /// Element (r, c) is data[r · row_stride + c · col_stride].
  GPTQ_HD constexpr MatrixView(T* data, Index rows, Index cols, Index row_stride, Index col_stride)
      : data_(data), rows_(rows), cols_(cols), row_stride_(row_stride), col_stride_(col_stride) {}

  /// A view that may write is also a view that may only read.
  template <class U>
    requires(!std::is_const_v<U> && std::is_same_v<const U, T>)
  GPTQ_HD constexpr MatrixView(const MatrixView<U>& from)
      : MatrixView(from.data(), from.rows(), from.cols(), from.row_stride(), from.col_stride()) {}

  GPTQ_HD constexpr T& operator()(Index row, Index col) const {
    return data_[row * row_stride_ + col * col_stride_];
  }

  GPTQ_HD constexpr T* data() const { return data_; }
  GPTQ_HD constexpr Index rows() const { return rows_; }
  GPTQ_HD constexpr Index cols() const { return cols_; }
  GPTQ_HD constexpr Index row_stride() const { return row_stride_; }
  GPTQ_HD constexpr Index col_stride() const { return col_stride_; }
  GPTQ_HD constexpr Index size() const { return rows_ * cols_; }
  GPTQ_HD constexpr bool empty() const { return rows_ == 0 || cols_ == 0; }

  GPTQ_HD constexpr MatrixView transposed() const {
    return {data_, cols_, rows_, col_stride_, row_stride_};
  }

  GPTQ_HD constexpr MatrixView block(Index row, Index col, Index rows, Index cols) const {
    return {data_ + row * row_stride_ + col * col_stride_, rows, cols, row_stride_, col_stride_};
  }

  GPTQ_HD constexpr MatrixView middle_rows(Index first, Index count) const {
    return block(first, 0, count, cols_);
  }

  GPTQ_HD constexpr MatrixView middle_cols(Index first, Index count) const {
    return block(0, first, rows_, count);
  }

 private:
  T* data_ = nullptr;
  Index rows_ = 0, cols_ = 0;
  Index row_stride_ = 0, col_stride_ = 1;
};

/// Matrices of other libraries whose numbers lie in memory, such as Eigen's matrices, maps and
/// blocks. (An expression of Eigen's has no numbers yet.)
template <class M>
concept StridedMatrix = requires(const M& matrix) {
  *matrix.data();
  matrix.rows();
  matrix.cols();
  matrix.rowStride();
  matrix.colStride();
};

namespace detail {

/// \param matrix  must live as long as the view
template <StridedMatrix M>
auto view_of(const M& matrix) {
  using Scalar = std::remove_cvref_t<decltype(*matrix.data())>;
  return MatrixView<const Scalar>(matrix.data(), matrix.rows(), matrix.cols(), matrix.rowStride(),
                                  matrix.colStride());
}

/// rows · cols, or an error where the product does not fit.
inline Index checked_size(Index rows, Index cols) {
  require(rows >= 0 && cols >= 0, "a matrix of ", rows, " x ", cols, " has a negative size");
  require(cols == 0 || rows <= std::numeric_limits<Index>::max() / 16 / cols, "a matrix of ", rows,
          " x ", cols, " is too large for the address space");
  return rows * cols;
}

}  // namespace detail
}  // namespace gptq
