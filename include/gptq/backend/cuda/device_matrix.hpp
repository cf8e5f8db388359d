// SPDX-License-Identifier: MIT
#pragma once

// cuda::DeviceMatrix: a matrix in device memory, or in host memory that the device reads over the
// bus.

#include <gptq/backend/cuda/runtime.hpp>

#include <algorithm>  // std::max
#include <cstddef>
#include <memory>
#include <utility>  // std::exchange

namespace gptq::backend::cuda {

/// A dense row-major matrix in device memory, or in pinned host memory. Can be moved, not copied;
/// freed in the order of its stream.
template <class T>
class DeviceMatrix {
 public:
  DeviceMatrix() = default;

  /// Uninitialized.
  /// \param arriving  to be written in the stream Runtime::copies(), for which the runtime's own
  ///                  stream must wait before it is freed
  DeviceMatrix(std::shared_ptr<Runtime> runtime, Index rows, Index cols, bool arriving = false)
      : data_(static_cast<T*>(runtime->allocate(
                  sizeof(T) *
                      (std::max)(std::size_t{1}, std::size_t(detail::checked_size(rows, cols))),
                  arriving)),
              Free{runtime, false}),
        rows_(rows),
        cols_(cols) {}

  /// In pinned host memory; uninitialized.
  static DeviceMatrix pinned(std::shared_ptr<Runtime> runtime, Index rows, Index cols) {
    DeviceMatrix matrix;
    const auto bytes = sizeof(T) * std::size_t(detail::checked_size(rows, cols));
    matrix.data_ = {static_cast<T*>(runtime->allocate_pinned((std::max)(sizeof(T), bytes))),
                    Free{runtime, true}};
    matrix.rows_ = rows;
    matrix.cols_ = cols;
    return matrix;
  }

  /// All zeros, once the stream gets there.
  static DeviceMatrix zeros(std::shared_ptr<Runtime> runtime, Index rows, Index cols) {
    DeviceMatrix matrix(runtime, rows, cols);
    check(cudaMemsetAsync(matrix.data(), 0, matrix.bytes(), runtime->stream()), "cudaMemsetAsync");
    return matrix;
  }

  /// Leaves the other one empty.
  DeviceMatrix(DeviceMatrix&& other) noexcept
      : data_(std::move(other.data_)),
        rows_(std::exchange(other.rows_, 0)),
        cols_(std::exchange(other.cols_, 0)) {}
  /// Leaves the other one empty.
  DeviceMatrix& operator=(DeviceMatrix&& other) noexcept {
    data_ = std::move(other.data_);
    rows_ = std::exchange(other.rows_, 0);
    cols_ = std::exchange(other.cols_, 0);
    return *this;
  }

  /// Number of rows.
  Index rows() const { return rows_; }
  /// Number of columns.
  Index cols() const { return cols_; }
  /// Number of elements.
  Index size() const { return rows_ * cols_; }
  /// Size in bytes.
  std::size_t bytes() const { return sizeof(T) * std::size_t(size()); }
  /// Element (0, 0).
  T* data() { return data_.get(); }
  /// Element (0, 0).
  const T* data() const { return data_.get(); }
  /// Element (r, 0).
  T* row(Index r) { return data() + r * cols_; }
  /// Element (r, 0).
  const T* row(Index r) const { return data() + r * cols_; }
  /// The whole matrix.
  MatrixView<T> view() { return {data(), rows_, cols_}; }
  /// The whole matrix.
  MatrixView<const T> view() const { return {data(), rows_, cols_}; }
  /// Whether it is in pinned host memory.
  bool is_pinned() const { return data_.get_deleter().pinned; }
  /// The owner of its memory; null if it has none.
  const std::shared_ptr<Runtime>& runtime() const { return data_.get_deleter().runtime; }

 private:
  struct Free {
    std::shared_ptr<Runtime> runtime;
    bool pinned = false;
    void operator()(T* data) const noexcept {
      if (pinned) runtime->free_pinned(data);
      else runtime->free(data);
    }
  };
  std::unique_ptr<T[], Free> data_;
  Index rows_ = 0, cols_ = 0;
};

}  // namespace gptq::backend::cuda
