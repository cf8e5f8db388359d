// SPDX-License-Identifier: MIT
#pragma once

// Turns the status of calls to the CUDA runtime, cuBLAS and cuSOLVER into errors with the name and
// the text that it has there.

#include <gptq/core/error.hpp>

#include <cublas_v2.h>
#include <cuda_runtime_api.h>
#include <cusolverDn.h>

#include <cstddef>
#include <string>

namespace gptq {

/// The device, its driver or one of its libraries reported an error.
class CudaError : public Error {
  using Error::Error;
};

namespace backend::cuda {

/// How much memory the calling thread's device has left, for messages.
inline std::string memory_left() {
  std::size_t available = 0, total = 0;
  if (cudaMemGetInfo(&available, &total) == cudaSuccess)
    return detail::message(available >> 20, " of ", total >> 20, " MiB are free");
  cudaGetLastError();
  return "the amount of free memory is unknown";
}

/// \throws CudaError  the call failed or, as calls are asynchronous, an earlier one
inline void check(cudaError_t status, const char* call) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // forget it, or the next call reports it again
  throw CudaError(detail::message(cudaGetErrorName(status), " (", cudaGetErrorString(status),
                                  "), reported at ", call));
}

/// Throws the error that a library reported.
/// \throws OutOfMemory  if `memory`: the library found too little for its workspace
/// \throws CudaError    otherwise
[[noreturn]] inline void refuse(const std::string& text, bool memory) {
  if (memory) throw OutOfMemory(detail::message(text, ": ", memory_left()));
  throw CudaError(text);
}

/// The same for cuBLAS.
/// \throws OutOfMemory  it found too little memory for its workspace
inline void check(cublasStatus_t status, const char* call) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  refuse(detail::message(cublasGetStatusName(status), " (", cublasGetStatusString(status),
                         "), reported at ", call),
         status == CUBLAS_STATUS_ALLOC_FAILED);
}

/// A status of cuSOLVER, which has no function for this.
struct SolverStatus {
  /// For messages.
  const char *name, *text;
};
/// The name and the meaning of a status.
inline SolverStatus describe(cusolverStatus_t status) {
  switch (status) {
    case CUSOLVER_STATUS_SUCCESS: return {"CUSOLVER_STATUS_SUCCESS", "done"};
    case CUSOLVER_STATUS_NOT_INITIALIZED:
      return {"CUSOLVER_STATUS_NOT_INITIALIZED", "there is no handle: the driver or the runtime"};
    case CUSOLVER_STATUS_ALLOC_FAILED:
      return {"CUSOLVER_STATUS_ALLOC_FAILED", "no memory for the library's own work"};
    case CUSOLVER_STATUS_INVALID_VALUE:
      return {"CUSOLVER_STATUS_INVALID_VALUE", "an argument is out of range"};
    case CUSOLVER_STATUS_ARCH_MISMATCH:
      return {"CUSOLVER_STATUS_ARCH_MISMATCH", "not on this kind of device"};
    case CUSOLVER_STATUS_MAPPING_ERROR:
      return {"CUSOLVER_STATUS_MAPPING_ERROR", "memory cannot be mapped"};
    case CUSOLVER_STATUS_EXECUTION_FAILED:
      return {"CUSOLVER_STATUS_EXECUTION_FAILED", "a kernel could not be run"};
    case CUSOLVER_STATUS_INTERNAL_ERROR:
      return {"CUSOLVER_STATUS_INTERNAL_ERROR", "inside the library"};
    case CUSOLVER_STATUS_MATRIX_TYPE_NOT_SUPPORTED:
      return {"CUSOLVER_STATUS_MATRIX_TYPE_NOT_SUPPORTED", "not for this kind of matrix"};
    case CUSOLVER_STATUS_NOT_SUPPORTED:
      return {"CUSOLVER_STATUS_NOT_SUPPORTED", "not with these arguments"};
    case CUSOLVER_STATUS_ZERO_PIVOT: return {"CUSOLVER_STATUS_ZERO_PIVOT", "a pivot is zero"};
    case CUSOLVER_STATUS_INVALID_LICENSE:
      return {"CUSOLVER_STATUS_INVALID_LICENSE", "the library is not licensed"};
    case CUSOLVER_STATUS_INVALID_WORKSPACE:
      return {"CUSOLVER_STATUS_INVALID_WORKSPACE", "the workspace is too small or misplaced"};
    default: return {"a status of iterative refinement", "which is not used here"};
  }
}

/// The same for cuSOLVER.
/// \throws OutOfMemory  it found too little memory for its workspace
inline void check(cusolverStatus_t status, const char* call) {
  if (status == CUSOLVER_STATUS_SUCCESS) return;
  const auto [name, meaning] = describe(status);
  refuse(
      detail::message(name, " (", static_cast<int>(status), ", ", meaning, "), reported at ", call),
      status == CUSOLVER_STATUS_ALLOC_FAILED);
}

}  // namespace backend::cuda
}  // namespace gptq
