// SPDX-License-Identifier: MIT
#pragma once

// Copies between host and device, and matrices that another backend holds.

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

/// For as long as it lives, the reader's stream and that of a matrix of another backend wait for
/// each other: for what writes the matrix, and for what reads it before it may be freed.
class Reading {
 public:
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
    } catch (const CudaError&) {  // the device is lost: whoever reads results learns of it
    }
  }
  Reading(const Reading&) = delete;
  Reading& operator=(const Reading&) = delete;

 private:
  bool apart() const { return owner_ && owner_ != reader_; }

  std::shared_ptr<Runtime> reader_, owner_;
};

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

template <class T>
std::vector<T> to_vector(const Runtime& runtime, const DeviceMatrix<T>& from) {
  std::vector<T> to(static_cast<std::size_t>(from.size()));
  runtime.copy_to_host(to.data(), from.bytes(), from.data(), from.bytes(), from.bytes(), 1);
  return to;
}

/// Copies the leading part of `from`, whose rows are contiguous, that has the shape of `to`; to's
/// type may be another one.
template <class From, class To>
void download(const Runtime& runtime, MatrixView<const From> from, MatrixView<To> to) {
  const auto width = sizeof(From) * std::size_t(to.cols()),
             pitch = sizeof(From) * std::size_t(from.row_stride()),
             rows = static_cast<std::size_t>(to.rows());
  if constexpr (std::is_same_v<From, To>)
    if (to.col_stride() == 1) {
      // The stride of a single row may be anything.
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

template <class From, class To>
void download(const Runtime& runtime, const DeviceMatrix<From>& from, MatrixView<To> to) {
  download(runtime, from.view(), to);
}

/// Device memory for what passes through, in bytes.
constexpr Index staging_bytes = Index{64} << 20;

/// How many rows of so many bytes go through a half of it at a time: all, or a multiple of `unit`.
inline Index staged_rows(Index rows, Index bytes, Index unit) {
  const Index fit = staging_bytes / 2 / bytes / unit * unit;
  return (std::min)((std::max)(fit, unit), rows);
}

/// Whether the device can read the rows of a host matrix as they lie there: in pinned memory, which
/// it may be about to write. Where the host is to read that, it waits.
template <class T>
bool reads_directly(const Runtime& runtime, MatrixView<const T> matrix) {
  if (!Runtime::is_pinned(matrix.data())) return false;
  if (matrix.col_stride() == 1 && (matrix.rows() == 1 || matrix.row_stride() >= matrix.cols()))
    return true;
  runtime.synchronize();
  return false;
}

/// Queues a copy of rows of host memory to dense memory of the device.
/// \param direct  as they are, from pinned memory; else through the pinned buffer
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

/// Copies that go on beside the work of a runtime. What they read and write stays theirs until they
/// are settled, or until the runtime's stream waits for them.
class Arrivals {
 public:
  Arrivals(const std::shared_ptr<Runtime>& runtime, bool direct)
      : runtime_(runtime), direct_(direct) {
    if (!direct) return;
    written_.record(runtime->stream());  // pinned memory, by what came before
    written_.hold(runtime->copies());
  }
  /// Copies end before the memory they read and write is somebody else's, unless the runtime's
  /// stream, in whose order that is freed, waits for all of them.
  ~Arrivals() {
    if (!held_ || direct_) cudaStreamSynchronize(runtime_->copies());
  }
  Arrivals(const Arrivals&) = delete;
  Arrivals& operator=(const Arrivals&) = delete;

  /// Queues a copy of rows; what is queued in the runtime's stream from then on finds it there.
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

/// A copy of a host matrix, on its way while the device is at what was queued before.
template <class T>
DeviceMatrix<T> arriving_copy(const std::shared_ptr<Runtime>& runtime, MatrixView<const T> from) {
  DeviceMatrix<T> copy(runtime, from.rows(), from.cols(), true);
  Arrivals arrivals(runtime, reads_directly(*runtime, from));
  arrivals.copy(from, copy.data());
  return copy;
}

/// f(part, first row) for parts of a matrix, on the device: all of it where it lies there, else as
/// many rows at a time as fit the memory set aside, a multiple of `unit` but for the last. While
/// the device works at one part, the next one is on its way.
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
