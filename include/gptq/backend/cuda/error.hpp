// SPDX-License-Identifier: MIT
#pragma once

// What calls of the CUDA runtime, cuBLAS and cuSOLVER return, as errors with the name and the text
// that they have there.

#include <gptq/core/error.hpp>

#include <cublas_v2.h>
#include <cuda_runtime_api.h>
#include <cusolverDn.h>

namespace gptq {

/// The device, its driver or one of its libraries refused.
class CudaError : public Error {
  using Error::Error;
};

namespace backend::cuda {

/// \throws CudaError  calls are asynchronous: what failed may be an earlier one
inline void check(cudaError_t status, const char* call) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // forget it, or the next call reports it again
  throw CudaError(detail::message(cudaGetErrorName(status), " (", cudaGetErrorString(status),
                                  "), reported at ", call));
}

inline void check(cublasStatus_t status, const char* call) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  const auto text = detail::message(cublasGetStatusName(status), " (",
                                    cublasGetStatusString(status), "), reported at ", call);
  if (status == CUBLAS_STATUS_ALLOC_FAILED) throw OutOfMemory(text);
  throw CudaError(text);
}

inline void check(cusolverStatus_t status, const char* call) {
  if (status == CUSOLVER_STATUS_SUCCESS) return;
  const char* const name = status == CUSOLVER_STATUS_NOT_INITIALIZED    ? "NOT_INITIALIZED"
                           : status == CUSOLVER_STATUS_ALLOC_FAILED     ? "ALLOC_FAILED"
                           : status == CUSOLVER_STATUS_INVALID_VALUE    ? "INVALID_VALUE"
                           : status == CUSOLVER_STATUS_ARCH_MISMATCH    ? "ARCH_MISMATCH"
                           : status == CUSOLVER_STATUS_EXECUTION_FAILED ? "EXECUTION_FAILED"
                           : status == CUSOLVER_STATUS_INTERNAL_ERROR   ? "INTERNAL_ERROR"
                                                                        : "";
  const auto text = detail::message("CUSOLVER_STATUS_", name, " (", static_cast<int>(status),
                                    "), reported at ", call);
  if (status == CUSOLVER_STATUS_ALLOC_FAILED) throw OutOfMemory(text);
  throw CudaError(text);
}

}  // namespace backend::cuda
}  // namespace gptq
