// SPDX-License-Identifier: MIT
#pragma once

// HostMatrix: a dense row-major matrix in host memory, aligned for vector loads.

#include <gptq/core/matrix_view.hpp>

#include <algorithm>  // std::fill_n
#include <memory>
#include <new>
#include <utility>  // std::exchange

namespace gptq::backend {

/// A dense row-major matrix in host memory, aligned for vector units.
template <class T>
class HostMatrix {
 public:
  HostMatrix() = default;

  /// Uninitialized.
  HostMatrix(Index rows, Index cols)
      : data_(static_cast<T*>(
            ::operator new(sizeof(T) * std::size_t(detail::checked_size(rows, cols)), alignment))),
        rows_(rows),
        cols_(cols) {}

  /// All zeros.
  static HostMatrix zeros(Index rows, Index cols) {
    HostMatrix matrix(rows, cols);
    std::fill_n(matrix.data(), rows * cols, T(0));
    return matrix;
  }

  /// Number of rows.
  Index rows() const { return rows_; }
  /// Number of columns.
  Index cols() const { return cols_; }
  /// Element (0, 0).
  T* data() { return data_.get(); }
  /// Element (0, 0).
  const T* data() const { return data_.get(); }
  /// Element (r, 0).
  T* row(Index r) { return data() + r * cols_; }
  /// Element (r, 0).
  const T* row(Index r) const { return data() + r * cols_; }
  /// Element (r, c), unchecked.
  T& operator()(Index r, Index c) { return row(r)[c]; }
  /// Element (r, c), unchecked.
  const T& operator()(Index r, Index c) const { return row(r)[c]; }
  /// The whole matrix.
  MatrixView<T> view() { return {data(), rows_, cols_}; }
  /// The whole matrix.
  MatrixView<const T> view() const { return {data(), rows_, cols_}; }

 private:
  static constexpr std::align_val_t alignment{64};
  struct Free {
    void operator()(T* data) const { ::operator delete(data, alignment); }
  };
  std::unique_ptr<T[], Free> data_;
  Index rows_ = 0, cols_ = 0;
};

}  // namespace gptq::backend
