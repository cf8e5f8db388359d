// SPDX-License-Identifier: MIT
#pragma once

// What a CUDA backend owns on one device: a stream, library handles, a memory pool and pinned
// buffers for copies. Every object frees what it created; nothing is global.

#include <gptq/backend/cuda/error.hpp>
#include <gptq/core/matrix_view.hpp>  // Index

#include <cublas_v2.h>
#include <cuda_runtime_api.h>
#include <cusolverDn.h>

#include <algorithm>  // std::min
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

namespace gptq {

namespace backend::cuda {

/// Number of usable devices; 0 without a driver.
inline int device_count() {
  int count = 0;
  if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
  cudaGetLastError();
  return 0;
}

/// Makes a device the current one of the calling thread during its lifetime.
class DeviceScope {
 public:
  /// \param device  its number
  explicit DeviceScope(int device) : device_(device) {
    check(cudaGetDevice(&before_), "cudaGetDevice");
    if (device != before_) check(cudaSetDevice(device), "cudaSetDevice");
  }
  ~DeviceScope() {
    if (device_ != before_) cudaSetDevice(before_);
  }
  DeviceScope(const DeviceScope&) = delete;
  DeviceScope& operator=(const DeviceScope&) = delete;

 private:
  int device_, before_ = 0;
};

/// A point in the order of a stream of the calling thread's device.
class Event {
 public:
  Event() { check(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "cudaEventCreate"); }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  /// Sets the point after everything queued in the stream so far.
  void record(cudaStream_t stream) { check(cudaEventRecord(event_, stream), "cudaEventRecord"); }
  /// Makes everything queued in the stream from now on wait for the point.
  void hold(cudaStream_t stream) const {
    check(cudaStreamWaitEvent(stream, event_, 0), "cudaStreamWaitEvent");
  }
  /// Waits for the point on the host.
  void synchronize() const { check(cudaEventSynchronize(event_), "cudaEventSynchronize"); }

 private:
  cudaEvent_t event_ = nullptr;
};

/// The copies of a backend share one, and with it the order of its stream; used by one thread at a
/// time.
class Runtime {
 public:
  /// \param stream  null: creates its own
  /// \throws CudaError        no device can be used, or not for stream-ordered allocation
  /// \throws InvalidArgument  there is no such device
  Runtime(int device, cudaStream_t stream) : device_(device), stream_(stream) {
    int count = 0;
    const cudaError_t found = cudaGetDeviceCount(&count);
    if (found != cudaSuccess) {
      cudaGetLastError();
      throw CudaError(detail::message("no CUDA device can be used: ", cudaGetErrorName(found), " (",
                                      cudaGetErrorString(found), ")"));
    }
    detail::require<InvalidArgument>(device >= 0 && device < count, "device ", device,
                                     " is out of range, the number of devices is ", count);
    const DeviceScope scope(device_);
    try {
      create();
    } catch (...) {
      destroy();
      throw;
    }
  }
  ~Runtime() { destroy(); }
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  int device() const { return device_; }           ///< its number
  cudaStream_t stream() const { return stream_; }  ///< in which work is queued
  /// For copies that overlap with computation.
  cudaStream_t copies() const { return copies_; }
  cublasHandle_t blas() const { return blas_; }                          ///< of cuBLAS
  cusolverDnHandle_t solver() const { return solver_; }                  ///< of cuSOLVER
  cusolverDnParams_t solver_options() const { return solver_options_; }  ///< of cuSOLVER

  /// Device memory, allocated in the order of a stream.
  /// \param arriving  to be written by copies, in the order of their stream
  /// \throws OutOfMemory  says how much was requested and how much is free
  void* allocate(std::size_t bytes, bool arriving = false) {
    const DeviceScope scope(device_);
    const cudaStream_t stream = arriving ? copies_ : stream_;
    void* data = nullptr;
    cudaError_t status = cudaMallocFromPoolAsync(&data, bytes, pool_, stream);
    if (status == cudaErrorMemoryAllocation) {  // freed memory may still wait for the stream
      cudaGetLastError();
      synchronize();
      check(cudaMemPoolTrimTo(pool_, 0), "cudaMemPoolTrimTo");
      status = cudaMallocFromPoolAsync(&data, bytes, pool_, stream);
    }
    if (status == cudaSuccess) return data;
    if (status != cudaErrorMemoryAllocation) check(status, "cudaMallocFromPoolAsync");
    cudaGetLastError();
    throw OutOfMemory(detail::message("device ", device_, " has no memory for ", bytes >> 20,
                                      " MiB more: ", memory_left(), " (", cudaGetErrorName(status),
                                      ")"));
  }

  /// Frees device memory in the order of the stream.
  void free(void* data) noexcept { cudaFreeAsync(data, stream_); }

  /// Makes work queued from now on wait for all work queued in the other one's stream.
  void follow(const Runtime& other) const {
    const DeviceScope scope(other.device_);
    Event event;
    event.record(other.stream_);
    event.hold(stream_);
  }

  /// Pinned host memory, which the device reads and writes.
  /// \throws OutOfMemory  the system cannot pin more
  void* allocate_pinned(std::size_t bytes) {
    const DeviceScope scope(device_);
    void* data = nullptr;
    const cudaError_t status = cudaMallocHost(&data, bytes);
    if (status != cudaErrorMemoryAllocation) check(status, "cudaMallocHost");
    if (data) return data;
    cudaGetLastError();
    throw OutOfMemory(detail::message("the host has no memory to pin for ", bytes >> 20,
                                      " MiB more (", cudaGetErrorName(status), ")"));
  }
  /// Waits for the stream, then frees.
  void free_pinned(void* data) noexcept {
    cudaStreamSynchronize(stream_);  // queued work may still use it
    cudaFreeHost(data);
  }

  /// Bytes that can be allocated on the device: free ones, and unused ones that the pool keeps.
  std::uint64_t available() const {
    const DeviceScope scope(device_);
    std::size_t available = 0, total = 0;
    check(cudaMemGetInfo(&available, &total), "cudaMemGetInfo");
    std::uint64_t held = 0, used = 0;
    check(cudaMemPoolGetAttribute(pool_, cudaMemPoolAttrReservedMemCurrent, &held),
          "cudaMemPoolGetAttribute");
    check(cudaMemPoolGetAttribute(pool_, cudaMemPoolAttrUsedMemCurrent, &used),
          "cudaMemPoolGetAttribute");
    return available + held - used;
  }

  /// The model name of the device.
  std::string name() const {
    cudaDeviceProp properties{};
    check(cudaGetDeviceProperties(&properties, device_), "cudaGetDeviceProperties");
    return properties.name;
  }

  /// The most memory in use at once since the last call, in bytes.
  std::uint64_t take_peak() {
    std::uint64_t peak = 0, none = 0;
    check(cudaMemPoolGetAttribute(pool_, cudaMemPoolAttrUsedMemHigh, &peak),
          "cudaMemPoolGetAttribute");
    check(cudaMemPoolSetAttribute(pool_, cudaMemPoolAttrUsedMemHigh, &none),
          "cudaMemPoolSetAttribute");
    return peak;
  }

  /// Whether the device can multiply bfloat16 (from compute capability 8.0).
  bool has_bfloat16() const {
    int major = 0;
    check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device_),
          "cudaDeviceGetAttribute");
    return major >= 8;
  }

  /// Bytes of shared memory that a thread block can use.
  Index shared_memory() const {
    int bytes = 0;
    check(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device_),
          "cudaDeviceGetAttribute");
    return bytes;
  }

  /// Waits for the stream; errors of earlier work surface here.
  void synchronize() const { check(cudaStreamSynchronize(stream_), "cudaStreamSynchronize"); }

  /// Copies to the device through pinned memory: while one half of it is transferred, fill(host,
  /// first byte, bytes) fills the other, in order.
  /// \param unit    bytes that `fill` cannot write in part
  /// \param stream  of the copy
  template <class Fill>
  void copy_to_device(void* to, std::size_t bytes, std::size_t unit, const Fill& fill,
                      cudaStream_t stream) {
    const std::size_t piece = (std::max)(unit, half / unit * unit);
    if (piece > half) {  // rows larger than the buffer: one by one
      std::unique_ptr<std::byte[]> row(new std::byte[unit]);
      for (std::size_t at = 0; at < bytes; at += unit) {
        fill(row.get(), at, unit);
        check(cudaMemcpyAsync(static_cast<std::byte*>(to) + at, row.get(), unit,
                              cudaMemcpyHostToDevice, stream),
              "cudaMemcpyAsync");
        check(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
      }
      return;
    }
    for (std::size_t at = 0; at < bytes; at += piece) {
      const std::size_t count = (std::min)(piece, bytes - at);
      copied_[next_]->synchronize();
      std::byte* const host = static_cast<std::byte*>(pinned_) + next_ * half;
      fill(host, at, count);
      check(cudaMemcpyAsync(static_cast<std::byte*>(to) + at, host, count, cudaMemcpyHostToDevice,
                            stream),
            "cudaMemcpyAsync");
      copied_[next_]->record(stream);
      next_ = 1 - next_;
    }
  }
  /// The same in the runtime's own stream.
  template <class Fill>
  void copy_to_device(void* to, std::size_t bytes, std::size_t unit, const Fill& fill) {
    copy_to_device(to, bytes, unit, fill, stream_);
  }

  /// Copies rows of `width` bytes from the device and waits for them.
  void copy_to_host(void* to, std::size_t to_pitch, const void* from, std::size_t from_pitch,
                    std::size_t width, std::size_t rows) const {
    if (width == 0 || rows == 0) return;
    check(cudaMemcpy2DAsync(to, to_pitch, from, from_pitch, width, rows, cudaMemcpyDeviceToHost,
                            stream_),
          "cudaMemcpy2DAsync");
    synchronize();
  }

  /// Whether a pointer is to memory of this device.
  /// \throws InvalidArgument  it is to another device's
  bool is_on_device(const void* data) const {
    const auto [type, device] = kind_of(data);
    detail::require(type != cudaMemoryTypeDevice || device == device_, "a matrix is on device ",
                    device, ", but the backend works on device ", device_);
    return type == cudaMemoryTypeDevice || type == cudaMemoryTypeManaged;
  }

  /// Whether a pointer is to pinned host memory, which the device may still be writing.
  static bool is_pinned(const void* data) { return kind_of(data).type == cudaMemoryTypeHost; }

 private:
  struct Kind {
    cudaMemoryType type;
    int device;
  };
  static Kind kind_of(const void* data) {
    cudaPointerAttributes attributes{};
    if (cudaPointerGetAttributes(&attributes, data) != cudaSuccess) {
      cudaGetLastError();
      return {cudaMemoryTypeUnregistered, 0};
    }
    return {attributes.type, attributes.device};
  }

  static constexpr std::size_t half = std::size_t{8} << 20;  // of the pinned buffer

  void create() {
    int pools = 0;
    check(cudaDeviceGetAttribute(&pools, cudaDevAttrMemoryPoolsSupported, device_),
          "cudaDeviceGetAttribute");
    detail::require<CudaError>(pools != 0, "device ", device_,
                               " does not support stream-ordered allocation");
    if (!stream_) {
      check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreate");
      owns_stream_ = true;
    }
    check(cudaStreamCreateWithFlags(&copies_, cudaStreamNonBlocking), "cudaStreamCreate");
    cudaMemPoolProps properties{};
    properties.allocType = cudaMemAllocationTypePinned;
    properties.location.type = cudaMemLocationTypeDevice;
    properties.location.id = device_;
    check(cudaMemPoolCreate(&pool_, &properties), "cudaMemPoolCreate");
    std::uint64_t keep = UINT64_MAX;  // keep freed memory for the next matrix of that size
    check(cudaMemPoolSetAttribute(pool_, cudaMemPoolAttrReleaseThreshold, &keep),
          "cudaMemPoolSetAttribute");
    // Copies must not be made to wait for work whose memory they could reuse.
    int off = 0;
    check(cudaMemPoolSetAttribute(pool_, cudaMemPoolReuseAllowInternalDependencies, &off),
          "cudaMemPoolSetAttribute");
    pinned_ = allocate_pinned(2 * half);
    for (auto& event : copied_) event.emplace();
    check(cublasCreate(&blas_), "cublasCreate");
    check(cublasSetStream(blas_, stream_), "cublasSetStream");
    check(cusolverDnCreate(&solver_), "cusolverDnCreate");
    check(cusolverDnSetStream(solver_, stream_), "cusolverDnSetStream");
    check(cusolverDnCreateParams(&solver_options_), "cusolverDnCreateParams");
  }

  void destroy() noexcept {
    int before = 0;
    if (cudaGetDevice(&before) == cudaSuccess) cudaSetDevice(device_);
    if (copies_) cudaStreamSynchronize(copies_);
    if (stream_) cudaStreamSynchronize(stream_);
    if (solver_options_) cusolverDnDestroyParams(solver_options_);
    if (solver_) cusolverDnDestroy(solver_);
    if (blas_) cublasDestroy(blas_);
    for (auto& event : copied_) event.reset();
    if (pinned_) cudaFreeHost(pinned_);
    if (pool_) cudaMemPoolDestroy(pool_);
    if (copies_) cudaStreamDestroy(copies_);
    if (owns_stream_) cudaStreamDestroy(stream_);
    cudaSetDevice(before);
  }

  int device_ = 0;
  cudaStream_t stream_ = nullptr, copies_ = nullptr;
  bool owns_stream_ = false;
  cudaMemPool_t pool_ = nullptr;
  void* pinned_ = nullptr;
  std::optional<Event> copied_[2];  // one per half; created while the device is current
  std::size_t next_ = 0;
  cublasHandle_t blas_ = nullptr;
  cusolverDnHandle_t solver_ = nullptr;
  cusolverDnParams_t solver_options_ = nullptr;
};

}  // namespace backend::cuda
}  // namespace gptq
