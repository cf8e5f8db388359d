// SPDX-License-Identifier: MIT
#pragma once

// A non-owning matrix: pointer, shape and two strides. It covers row-major and column-major
// matrices and blocks of either, so a caller's matrix is never copied to change its layout.

#include <gptq/config.hpp>
#include <gptq/core/error.hpp>

#include <cstddef>  // std::ptrdiff_t
#include <limits>
#include <type_traits>  // std::is_const_v

namespace gptq {

/// Sizes and positions everywhere, including kernels: int overflows at 46341² elements.
using Index = std::ptrdiff_t;

/// A matrix owned by somebody else: a pointer, a shape, and strides in elements. Cheap to copy.
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

  /// A mutable view converts to a read-only one.
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

/// Matrices of other libraries that are stored in memory, such as Eigen's matrices, maps and
/// blocks. (An Eigen expression is not evaluated yet.)
template <class M>
concept StridedMatrix = requires(const M& matrix) {
  *matrix.data();
  matrix.rows();
  matrix.cols();
  matrix.rowStride();
  matrix.colStride();
};

namespace detail {

/// \param matrix  must outlive the view
template <StridedMatrix M>
auto view_of(const M& matrix) {
  using Scalar = std::remove_cvref_t<decltype(*matrix.data())>;
  return MatrixView<const Scalar>(matrix.data(), matrix.rows(), matrix.cols(), matrix.rowStride(),
                                  matrix.colStride());
}

/// rows · cols, or an error if the product overflows.
inline Index checked_size(Index rows, Index cols) {
  require(rows >= 0 && cols >= 0, "a matrix of ", rows, " x ", cols, " has a negative size");
  require(cols == 0 || rows <= std::numeric_limits<Index>::max() / 16 / cols, "a matrix of ", rows,
          " x ", cols, " is too large for the address space");
  return rows * cols;
}

}  // namespace detail
}  // namespace gptq
