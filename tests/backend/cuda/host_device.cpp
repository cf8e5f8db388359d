// SPDX-License-Identifier: MIT

#include "host_device.hpp"

#include <gptq/core/half.hpp>

#include <cublas_v2.h>
#include <cuda_runtime_api.h>
#include <cusolverDn.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <limits>
#include <map>
#include <set>
#include <utility>
#include <vector>

namespace {

struct Memory {
  std::size_t bytes = 0;
  int device = 0;
};
using Blocks = std::map<const void*, Memory>;

Blocks& blocks() {  // of the device
  static Blocks all;
  return all;
}
int& current_device() {
  static int device = 0;
  return device;
}
Blocks& pinned() {
  static Blocks all;
  return all;
}

const Blocks::value_type* within(const Blocks& all, const void* data) {
  auto after = all.upper_bound(data);
  if (after == all.begin()) return nullptr;
  --after;
  const auto* end = static_cast<const char*>(after->first) + after->second.bytes;
  return static_cast<const char*>(data) < end ? &*after : nullptr;
}
const Blocks::value_type* block_of(const void* data) { return within(blocks(), data); }

/// Work is done at once if queued in a stream that computes, and as late as allowed in any other: a
/// reader that does not wait for a copy reads the old contents.
struct Stream {
  bool at_once = false;
  std::size_t done = 0;
  std::deque<std::function<void()>> rest;

  std::size_t queued() const { return done + rest.size(); }
  void run_to(std::size_t place) {
    while (done < place && !rest.empty()) {
      const auto work = std::move(rest.front());
      rest.pop_front();
      ++done;
      work();
    }
  }
  void run_all() { run_to(queued()); }
};
std::set<Stream*>& streams() {
  static std::set<Stream*> all;
  return all;
}
/// Null for a stream that was not created here.
Stream* of(cudaStream_t stream) {
  auto* const known = reinterpret_cast<Stream*>(stream);
  return streams().count(known) ? known : nullptr;
}
void queue(cudaStream_t stream, std::function<void()> work) {
  Stream* const to = of(stream);
  if (!to) return work();
  to->rest.push_back(std::move(work));
  if (to->at_once) to->run_all();
}

struct Event {
  Stream* stream = nullptr;
  std::size_t place = 0;
  void reach() const {
    if (stream && streams().count(stream)) stream->run_to(place);
  }
};

double number(const void* data, cudaDataType type, std::size_t i) {
  switch (type) {
    case CUDA_R_32F: return static_cast<double>(static_cast<const float*>(data)[i]);
    case CUDA_R_16BF:
      return static_cast<double>(gptq::to_float(static_cast<const gptq::bfloat16*>(data)[i]));
    case CUDA_R_16F:
      return static_cast<double>(gptq::to_float(static_cast<const gptq::float16*>(data)[i]));
    default: std::abort();
  }
}

/// The offset of an element of a column-major matrix.
std::size_t place(int row, int col, int ld) {
  return static_cast<std::size_t>(row) +
         static_cast<std::size_t>(col) * static_cast<std::size_t>(ld);
}

/// A triangular matrix, column-major as in cuBLAS: op(A)(i, j).
struct Triangle {
  const float* data;
  int ld;
  bool lower, transposed;
  double operator()(int i, int j) const {
    if (transposed) std::swap(i, j);
    if (lower ? i < j : i > j) return 0;
    return static_cast<double>(data[place(i, j, ld)]);
  }
};

/// A = Uᵀ·U, column-major, upper; the other triangle is overwritten, as some routines document.
template <class T>
int factor(std::int64_t n, T* a, std::int64_t lda) {
  for (std::int64_t j = 0; j < n; ++j)
    for (std::int64_t i = j + 1; i < n; ++i) a[i + j * lda] = std::numeric_limits<T>::quiet_NaN();
  for (std::int64_t j = 0; j < n; ++j) {
    for (std::int64_t i = 0; i <= j; ++i) {
      double x = static_cast<double>(a[i + j * lda]);
      for (std::int64_t k = 0; k < i; ++k)
        x -= static_cast<double>(a[k + i * lda]) * static_cast<double>(a[k + j * lda]);
      if (i < j) {
        a[i + j * lda] = static_cast<T>(x / static_cast<double>(a[i + i * lda]));
      } else {
        if (!(x > 0)) return static_cast<int>(j) + 1;
        a[j + j * lda] = static_cast<T>(std::sqrt(x));
      }
    }
  }
  return 0;
}

}  // namespace

test::HostDevice& test::host_device() {
  static HostDevice device;
  return device;
}

extern "C" {

const char* cudaGetErrorName(cudaError_t error) {
  return error == cudaErrorMemoryAllocation ? "cudaErrorMemoryAllocation"
         : error == cudaErrorNoDevice       ? "cudaErrorNoDevice"
                                            : "cudaError";
}
const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorMemoryAllocation ? "out of memory"
         : error == cudaErrorNoDevice       ? "no CUDA-capable device is detected"
                                            : "an error";
}
cudaError_t cudaGetLastError() { return cudaSuccess; }
cudaError_t cudaGetDeviceCount(int* count) {
  *count = test::host_device().devices;
  return *count ? cudaSuccess : cudaErrorNoDevice;
}
cudaError_t cudaGetDevice(int* device) {
  *device = current_device();
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  current_device() = device;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  *value = attribute == cudaDevAttrMaxSharedMemoryPerBlockOptin ? 99 << 10
           : attribute == cudaDevAttrComputeCapabilityMajor     ? test::host_device().capability
                                                                : 1;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  std::strcpy(properties->name, "host memory");
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(std::size_t* available, std::size_t* total) {
  const test::HostDevice& device = test::host_device();
  *available = device.memory - device.used;
  *total = device.memory;
  return cudaSuccess;
}
cudaError_t cudaMallocFromPoolAsync(void** data, std::size_t bytes, cudaMemPool_t, cudaStream_t) {
  test::HostDevice& device = test::host_device();
  if (device.used + bytes > device.memory) return cudaErrorMemoryAllocation;
  *data = std::malloc(bytes);
  std::memset(*data, 0xff, bytes);
  blocks()[*data] = {bytes, current_device()};
  device.used += bytes;
  device.peak = std::max(device.peak, device.used);
  return cudaSuccess;
}
cudaError_t cudaFreeAsync(void* data, cudaStream_t) {
  const auto block = blocks().find(data);
  if (block == blocks().end()) std::abort();
  std::memset(data, 0xff, block->second.bytes);
  test::host_device().used -= block->second.bytes;
  blocks().erase(block);
  std::free(data);
  return cudaSuccess;
}
cudaError_t cudaMallocHost(void** data, std::size_t bytes) {
  if (bytes > test::host_device().pinnable) return cudaErrorMemoryAllocation;
  *data = std::malloc(bytes);
  std::memset(*data, 0xff, bytes);
  pinned()[*data] = {bytes, 0};
  return cudaSuccess;
}
cudaError_t cudaFreeHost(void* data) {
  for (Stream* stream : streams()) stream->run_all();  // because the call waits for the device
  pinned().erase(data);
  std::free(data);
  return cudaSuccess;
}
cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t, cudaMemPoolAttr attribute, void* value) {
  const test::HostDevice& device = test::host_device();  // its pool keeps nothing
  *static_cast<std::uint64_t*>(value) =
      attribute == cudaMemPoolAttrUsedMemHigh ? device.peak : device.used;
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* data, int value, std::size_t bytes, cudaStream_t) {
  std::memset(data, value, bytes);
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  if (kind == cudaMemcpyHostToDevice && !block_of(to)) std::abort();
  if (kind == cudaMemcpyHostToDevice && block_of(from)) std::abort();
  queue(stream, [=] { std::memcpy(to, from, bytes); });
  return cudaSuccess;
}
cudaError_t cudaMemcpy2DAsync(void* to, std::size_t to_pitch, const void* from,
                              std::size_t from_pitch, std::size_t width, std::size_t height,
                              cudaMemcpyKind kind, cudaStream_t stream) {
  if (kind == cudaMemcpyDeviceToHost && (!block_of(from) || block_of(to))) std::abort();
  if (width > to_pitch || width > from_pitch) return cudaErrorInvalidValue;
  queue(stream, [=] {
    for (std::size_t r = 0; r < height; ++r)
      std::memcpy(static_cast<char*>(to) + r * to_pitch,
                  static_cast<const char*>(from) + r * from_pitch, width);
  });
  return cudaSuccess;
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* data) {
  attributes->type = block_of(data)           ? cudaMemoryTypeDevice
                     : within(pinned(), data) ? cudaMemoryTypeHost
                                              : cudaMemoryTypeUnregistered;
  const auto* const block = block_of(data);
  attributes->device = block ? block->second.device : 0;
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  auto* const made = new Stream;
  streams().insert(made);
  *stream = reinterpret_cast<cudaStream_t>(made);
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  Stream* const gone = of(stream);
  gone->run_all();
  streams().erase(gone);
  delete gone;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (Stream* const waits = of(stream)) waits->run_all();
  return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = reinterpret_cast<cudaEvent_t>(new Event);
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete reinterpret_cast<Event*>(event);
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  auto* const here = reinterpret_cast<Event*>(event);
  here->stream = of(stream);
  if (here->stream) here->place = here->stream->queued();
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  reinterpret_cast<Event*>(event)->reach();
  return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  const Event earlier = *reinterpret_cast<Event*>(event);
  queue(stream, [=]() mutable { earlier.reach(); });
  ++test::host_device().waits;
  return cudaSuccess;
}
cudaError_t cudaMemPoolCreate(cudaMemPool_t* pool, const cudaMemPoolProps*) {
  *pool = reinterpret_cast<cudaMemPool_t>(1);
  return cudaSuccess;
}
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr attribute, void*) {
  test::HostDevice& device = test::host_device();
  if (attribute == cudaMemPoolAttrUsedMemHigh) device.peak = device.used;
  return cudaSuccess;
}
cudaError_t cudaMemPoolTrimTo(cudaMemPool_t, std::size_t) { return cudaSuccess; }
cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }
cudaError_t cudaMemPoolDestroy(cudaMemPool_t) { return cudaSuccess; }

const char* cublasGetStatusName(cublasStatus_t) { return "CUBLAS_STATUS"; }
const char* cublasGetStatusString(cublasStatus_t) { return "a status"; }
cublasStatus_t cublasCreate_v2(cublasHandle_t* handle) {
  *handle = reinterpret_cast<cublasHandle_t>(1);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasDestroy_v2(cublasHandle_t) { return CUBLAS_STATUS_SUCCESS; }
cublasStatus_t cublasSetStream_v2(cublasHandle_t, cudaStream_t stream) {
  if (Stream* const computes = of(stream)) computes->at_once = true;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGemmEx(cublasHandle_t, cublasOperation_t op_a, cublasOperation_t op_b, int m,
                            int n, int k, const void* alpha, const void* a, cudaDataType type_a,
                            int lda, const void* b, cudaDataType type_b, int ldb, const void* beta,
                            void* c, cudaDataType type_c, int ldc, cublasComputeType_t compute,
                            cublasGemmAlgo_t) {
  if (lda < (op_a == CUBLAS_OP_N ? m : k) || ldb < (op_b == CUBLAS_OP_N ? k : n) || ldc < m ||
      type_c != CUDA_R_32F || compute != CUBLAS_COMPUTE_32F)
    return CUBLAS_STATUS_INVALID_VALUE;
  if (test::host_device().capability < 8 && (type_a == CUDA_R_16BF || type_b == CUDA_R_16BF))
    return CUBLAS_STATUS_NOT_SUPPORTED;
  ++test::host_device().products;
  const double scale = static_cast<double>(*static_cast<const float*>(alpha));
  const double keep = static_cast<double>(*static_cast<const float*>(beta));
  std::vector<double> left(std::size_t(m) * std::size_t(k)), right(std::size_t(k) * std::size_t(n));
  for (int i = 0; i < m; ++i)
    for (int l = 0; l < k; ++l)
      left[place(l, i, k)] =
          number(a, type_a, op_a == CUBLAS_OP_N ? place(i, l, lda) : place(l, i, lda));
  for (int l = 0; l < k; ++l)
    for (int j = 0; j < n; ++j)
      right[place(l, j, k)] =
          number(b, type_b, op_b == CUBLAS_OP_N ? place(l, j, ldb) : place(j, l, ldb));
  auto* const out = static_cast<float*>(c);
  for (int j = 0; j < n; ++j)
    for (int i = 0; i < m; ++i) {
      double sum = 0;
      for (int l = 0; l < k; ++l) sum += left[place(l, i, k)] * right[place(l, j, k)];
      float& x = out[place(i, j, ldc)];
      x = static_cast<float>(scale * sum + (keep == 0 ? 0 : keep * static_cast<double>(x)));
    }
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGemmStridedBatchedEx(cublasHandle_t handle, cublasOperation_t op_a,
                                          cublasOperation_t op_b, int m, int n, int k,
                                          const void* alpha, const void* a, cudaDataType type_a,
                                          int lda, long long stride_a, const void* b,
                                          cudaDataType type_b, int ldb, long long stride_b,
                                          const void* beta, void* c, cudaDataType type_c, int ldc,
                                          long long stride_c, int count,
                                          cublasComputeType_t compute, cublasGemmAlgo_t algorithm) {
  const auto bytes = [](cudaDataType type) { return type == CUDA_R_32F ? 4 : 2; };
  for (int i = 0; i < count; ++i) {
    const auto status =
        cublasGemmEx(handle, op_a, op_b, m, n, k, alpha,
                     static_cast<const char*>(a) + i * stride_a * bytes(type_a), type_a, lda,
                     static_cast<const char*>(b) + i * stride_b * bytes(type_b), type_b, ldb, beta,
                     static_cast<float*>(c) + i * stride_c, type_c, ldc, compute, algorithm);
    if (status != CUBLAS_STATUS_SUCCESS) return status;
  }
  test::host_device().products -= count - 1;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasStrsm_v2(cublasHandle_t, cublasSideMode_t side, cublasFillMode_t uplo,
                              cublasOperation_t op, cublasDiagType_t diag, int m, int n,
                              const float* alpha, const float* a, int lda, float* b, int ldb) {
  if (side != CUBLAS_SIDE_RIGHT || diag != CUBLAS_DIAG_NON_UNIT || lda < n || ldb < m ||
      *alpha != 1)
    return CUBLAS_STATUS_INVALID_VALUE;
  const Triangle t{a, lda, uplo == CUBLAS_FILL_MODE_LOWER, op != CUBLAS_OP_N};
  const bool lower = t.lower != t.transposed;  // op(A)
  for (int i = 0; i < m; ++i) {
    // x·op(A) = b for a row: from the last column to the first if op(A) is lower.
    std::vector<double> x(static_cast<std::size_t>(n));
    for (int step = 0; step < n; ++step) {
      const int j = lower ? n - 1 - step : step;
      double sum = static_cast<double>(b[place(i, j, ldb)]);
      for (int k = 0; k < n; ++k)
        if (lower ? k > j : k < j) sum -= x[std::size_t(k)] * t(k, j);
      x[std::size_t(j)] = sum / t(j, j);
    }
    for (int j = 0; j < n; ++j) b[place(i, j, ldb)] = static_cast<float>(x[std::size_t(j)]);
  }
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasStrsmBatched(cublasHandle_t handle, cublasSideMode_t side,
                                  cublasFillMode_t uplo, cublasOperation_t trans,
                                  cublasDiagType_t diag, int m, int n, const float* alpha,
                                  const float* const a[], int lda, float* const b[], int ldb,
                                  int count) {
  if (!block_of(a) || !block_of(b)) std::abort();
  for (int i = 0; i < count; ++i)
    cublasStrsm_v2(handle, side, uplo, trans, diag, m, n, alpha, a[i], lda, b[i], ldb);
  return CUBLAS_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnCreate(cusolverDnHandle_t* handle) {
  *handle = reinterpret_cast<cusolverDnHandle_t>(1);
  return CUSOLVER_STATUS_SUCCESS;
}
cusolverStatus_t cusolverDnDestroy(cusolverDnHandle_t) { return CUSOLVER_STATUS_SUCCESS; }
cusolverStatus_t cusolverDnSetStream(cusolverDnHandle_t, cudaStream_t) {
  return CUSOLVER_STATUS_SUCCESS;
}
cusolverStatus_t cusolverDnCreateParams(cusolverDnParams_t* params) {
  *params = reinterpret_cast<cusolverDnParams_t>(1);
  return CUSOLVER_STATUS_SUCCESS;
}
cusolverStatus_t cusolverDnDestroyParams(cusolverDnParams_t) { return CUSOLVER_STATUS_SUCCESS; }
cusolverStatus_t cusolverDnXpotrf_bufferSize(cusolverDnHandle_t, cusolverDnParams_t,
                                             cublasFillMode_t, std::int64_t, cudaDataType,
                                             const void*, std::int64_t, cudaDataType,
                                             std::size_t* on_device, std::size_t* on_host) {
  *on_device = 64;
  *on_host = 64;
  return CUSOLVER_STATUS_SUCCESS;
}
cusolverStatus_t cusolverDnXpotrf(cusolverDnHandle_t, cusolverDnParams_t, cublasFillMode_t uplo,
                                  std::int64_t n, cudaDataType type, void* a, std::int64_t lda,
                                  cudaDataType, void*, std::size_t, void*, std::size_t, int* info) {
  if (uplo != CUBLAS_FILL_MODE_UPPER || lda < n) return CUSOLVER_STATUS_INVALID_VALUE;
  *info = type == CUDA_R_64F ? factor(n, static_cast<double*>(a), lda)
                             : factor(n, static_cast<float*>(a), lda);
  return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnSpotrfBatched(cusolverDnHandle_t, cublasFillMode_t uplo, int n,
                                         float* matrices[], int lda, int* info, int count) {
  if (uplo != CUBLAS_FILL_MODE_UPPER || lda < n || !block_of(matrices) || !block_of(info))
    return CUSOLVER_STATUS_INVALID_VALUE;
  for (int i = 0; i < count; ++i) info[i] = factor<float>(n, matrices[i], lda);
  return CUSOLVER_STATUS_SUCCESS;
}

}  // extern "C"
