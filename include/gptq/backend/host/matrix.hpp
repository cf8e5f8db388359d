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

  /// Not initialised.
  HostMatrix(Index rows, Index cols)
      : data_(static_cast<T*>(
            ::operator new(sizeof(T) * std::size_t(detail::checked_size(rows, cols)), alignment))),
        rows_(rows),
        cols_(cols) {}

  static HostMatrix zeros(Index rows, Index cols) {
    HostMatrix matrix(rows, cols);
    std::fill_n(matrix.data(), rows * cols, T(0));
    return matrix;
  }

  Index rows() const { return rows_; }
  Index cols() const { return cols_; }
  T* data() { return data_.get(); }
  const T* data() const { return data_.get(); }
  T* row(Index r) { return data() + r * cols_; }
  const T* row(Index r) const { return data() + r * cols_; }
  T& operator()(Index r, Index c) { return row(r)[c]; }
  const T& operator()(Index r, Index c) const { return row(r)[c]; }
  MatrixView<T> view() { return {data(), rows_, cols_}; }
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
