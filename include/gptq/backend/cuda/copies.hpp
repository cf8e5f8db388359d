// SPDX-License-Identifier: MIT
#pragma once

// Copies between host and device, and access to matrices of another backend.

#include <gptq/backend/cuda/device_matrix.hpp>

#include <algorithm>  // std::max, std::min
#include <cstddef>
#include <cstring>  // std::memcpy
#include <memory>
#include <optional>
#include <span>
#include <type_traits>
#include <vector>

namespace gptq::backend::cuda {

/// Lets a backend read a matrix of another one: the reader's stream waits for the writes of the
/// owner's and, when this is destroyed, the owner's stream waits for the reads before it can free
/// the matrix.
class Reading {
 public:
  /// \throws InvalidArgument  the matrix is on another device
  template <class T>
  Reading(const std::shared_ptr<Runtime>& reader, const DeviceMatrix<T>& matrix)
      : reader_(reader), owner_(matrix.runtime()) {
    if (!apart()) return;
    detail::require(reader_->device() == owner_->device(), "a matrix of device ", owner_->device(),
                    " cannot be read on device ", reader_->device());
    reader_->follow(*owner_);
  }
  ~Reading() {
    if (!apart()) return;
    try {
      owner_->follow(*reader_);
    } catch (const CudaError&) {  // the device is lost: reading results will report it
    }
  }
  Reading(const Reading&) = delete;
  Reading& operator=(const Reading&) = delete;

 private:
  bool apart() const { return owner_ && owner_ != reader_; }

  std::shared_ptr<Runtime> reader_, owner_;
};

/// A copy of host numbers on the device, [rows, numbers / rows].
template <class T>
DeviceMatrix<T> to_device_vector(const std::shared_ptr<Runtime>& runtime, std::span<const T> from,
                                 Index rows = 1) {
  DeviceMatrix<T> to(runtime, rows, static_cast<Index>(from.size()) / rows);
  runtime->copy_to_device(to.data(), from.size_bytes(), sizeof(T),
                          [&](std::byte* host, std::size_t at, std::size_t bytes) {
                            std::memcpy(host, reinterpret_cast<const std::byte*>(from.data()) + at,
                                        bytes);
                          });
  return to;
}

/// A copy of a device matrix on the host.
template <class T>
std::vector<T> to_vector(const Runtime& runtime, const DeviceMatrix<T>& from) {
  std::vector<T> to(static_cast<std::size_t>(from.size()));
  runtime.copy_to_host(to.data(), from.bytes(), from.data(), from.bytes(), from.bytes(), 1);
  return to;
}

/// Copies the leading part of `from` that has the shape of `to`, which may be of another type. Rows
/// of `from` are contiguous.
template <class From, class To>
void download(const Runtime& runtime, MatrixView<const From> from, MatrixView<To> to) {
  const auto width = sizeof(From) * std::size_t(to.cols()),
             pitch = sizeof(From) * std::size_t(from.row_stride()),
             rows = static_cast<std::size_t>(to.rows());
  if constexpr (std::is_same_v<From, To>)
    if (to.col_stride() == 1) {
      // The stride of a single row is arbitrary.
      const auto to_pitch = rows == 1 ? width : sizeof(To) * std::size_t(to.row_stride());
      runtime.copy_to_host(to.data(), to_pitch, from.data(), pitch, width, rows);
      return;
    }
  std::vector<From> values(static_cast<std::size_t>(to.size()));
  runtime.copy_to_host(values.data(), width, from.data(), pitch, width, rows);
  for (Index r = 0; r < to.rows(); ++r)
    for (Index c = 0; c < to.cols(); ++c)
      to(r, c) = static_cast<To>(values[std::size_t(r * to.cols() + c)]);
}

/// The same for a whole matrix.
template <class From, class To>
void download(const Runtime& runtime, const DeviceMatrix<From>& from, MatrixView<To> to) {
  download(runtime, from.view(), to);
}

/// Device memory for staging, in bytes.
constexpr Index staging_bytes = Index{64} << 20;

/// How many rows of so many bytes each fit half of it: all, or a multiple of `unit`.
inline Index staged_rows(Index rows, Index bytes, Index unit) {
  const Index fit = staging_bytes / 2 / bytes / unit * unit;
  return (std::min)((std::max)(fit, unit), rows);
}

/// Whether the device can read the rows of a host matrix in place: from pinned memory, to which it
/// may still have writes queued. If the host must read them instead, waits for these.
template <class T>
bool reads_directly(const Runtime& runtime, MatrixView<const T> matrix) {
  if (!Runtime::is_pinned(matrix.data())) return false;
  if (matrix.col_stride() == 1 && (matrix.rows() == 1 || matrix.row_stride() >= matrix.cols()))
    return true;
  runtime.synchronize();
  return false;
}

/// Queues a copy of rows of host memory to dense memory of the device.
/// \param direct  straight from pinned memory; else through the pinned buffer
template <class T>
void copy_rows(Runtime& runtime, MatrixView<const T> from, bool direct, T* to,
               cudaStream_t stream) {
  const auto bytes = sizeof(T) * std::size_t(from.cols());
  if (direct) {
    const auto pitch = from.rows() > 1 ? sizeof(T) * std::size_t(from.row_stride()) : bytes;
    check(cudaMemcpy2DAsync(to, bytes, from.data(), pitch, bytes, std::size_t(from.rows()),
                            cudaMemcpyHostToDevice, stream),
          "cudaMemcpy2DAsync");
    return;
  }
  const auto fill = [&](std::byte* host, std::size_t at, std::size_t size) {
    const auto begin = static_cast<Index>(at / bytes);
    for (Index r = 0; r < static_cast<Index>(size / bytes); ++r, host += bytes) {
      const T* const row = &from(begin + r, 0);
      if (from.col_stride() == 1) {
        std::memcpy(host, row, bytes);
        continue;
      }
      for (Index c = 0; c < from.cols(); ++c)
        std::memcpy(host + c * Index(sizeof(T)), row + c * from.col_stride(), sizeof(T));
    }
  };
  runtime.copy_to_device(to, bytes * std::size_t(from.rows()), bytes, fill, stream);
}

/// Copies to the device that overlap with the work of a runtime. The memory that they read and
/// write must not be reused until they are done, or until the runtime's stream waits for them.
class Arrivals {
 public:
  /// \param direct  see copy_rows
  Arrivals(const std::shared_ptr<Runtime>& runtime, bool direct)
      : runtime_(runtime), direct_(direct) {
    if (!direct) return;
    written_.record(runtime->stream());  // earlier work may write the pinned memory
    written_.hold(runtime->copies());
  }
  /// Waits for the copies before their memory can be reused, unless the runtime's stream, in whose
  /// order it is freed, waits for all of them.
  ~Arrivals() {
    if (!held_ || direct_) cudaStreamSynchronize(runtime_->copies());
  }
  Arrivals(const Arrivals&) = delete;
  Arrivals& operator=(const Arrivals&) = delete;

  /// Queues a copy of rows; work queued in the runtime's stream afterwards sees it.
  template <class T>
  void copy(MatrixView<const T> from, T* to) {
    held_ = false;
    copy_rows(*runtime_, from, direct_, to, runtime_->copies());
    arrived_.record(runtime_->copies());
    arrived_.hold(runtime_->stream());
    held_ = true;
  }

 private:
  std::shared_ptr<Runtime> runtime_;
  bool direct_, held_ = true;
  Event written_, arrived_;
};

/// A copy of a host matrix, transferred while the device still does earlier work.
template <class T>
DeviceMatrix<T> arriving_copy(const std::shared_ptr<Runtime>& runtime, MatrixView<const T> from) {
  DeviceMatrix<T> copy(runtime, from.rows(), from.cols(), true);
  Arrivals arrivals(runtime, reads_directly(*runtime, from));
  arrivals.copy(from, copy.data());
  return copy;
}

/// f(part, first row) for parts of a matrix, on the device: all of it if it is there already, else
/// as many rows at a time as fit the staging memory, a multiple of `unit` except for the last part.
/// While the device works on one part, the next one is transferred.
template <class T, class F>
void for_parts_on_device(const std::shared_ptr<Runtime>& runtime, MatrixView<const T> matrix,
                         const F& f, Index unit = 1) {
  if (matrix.empty()) return;
  if (runtime->is_on_device(matrix.data())) {
    f(matrix, Index{0});
    return;
  }
  const Index cols = matrix.cols(), all = matrix.rows(),
              at_once = staged_rows(all, cols * Index(sizeof(T)), unit);
  struct Half {
    DeviceMatrix<T> numbers;
    Event free{};
    Half(const std::shared_ptr<Runtime>& owner, Index rows, Index width)
        : numbers(owner, rows, width, true) {}
  };
  std::optional<Half> halves[2];
  halves[0].emplace(runtime, at_once, cols);
  if (at_once < all) halves[1].emplace(runtime, at_once, cols);
  Arrivals arrivals(runtime, reads_directly(*runtime, matrix));
  for (Index first = 0, next = 0; first < all; first += at_once, next = 1 - next) {
    Half& half = *halves[next];
    const Index rows = (std::min)(at_once, all - first);
    half.free.hold(runtime->copies());
    arrivals.copy(matrix.middle_rows(first, rows), half.numbers.data());
    f(MatrixView<const T>(half.numbers.data(), rows, cols), first);
    half.free.record(runtime->stream());
  }
}

}  // namespace gptq::backend::cuda
