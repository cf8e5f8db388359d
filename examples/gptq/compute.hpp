// SPDX-License-Identifier: MIT
#pragma once

// Where the work is done: the backend that --backend names, and the decoder's operations on it.

#include "command.hpp"

#include <gptq/backend/cpu.hpp>
#include <gptq/model/cpu_operations.hpp>
#ifdef GPTQ_PROGRAM_CUDA
#include <gptq/model/cuda_operations.hpp>
#endif

#include <string>

namespace gptq::program {

/// f(operations, backend, name of the place)
/// \throws InvalidArgument  this program was built without the backend
/// \throws CudaError        no device can be used
template <class F>
void with_backend(const ComputeOptions& o, const F& f) {
  const exec::Threads threads(o.threads);
  const Precision precision = o.products(), exact = o.hessian_products();
  if (o.backend != "cuda") {
    detail::require(o.device == 0, "--device ", o.device, ": goes with --backend cuda");
    f(model::CpuOperations<>(threads, precision), backend::Cpu(threads, exact),
      std::to_string(threads.concurrency()) + " threads");
    return;
  }
#ifdef GPTQ_PROGRAM_CUDA
  const backend::Cuda cuda(o.device, nullptr, exact);
  f(model::CudaOperations(cuda, threads, precision), cuda, cuda.name());
#else
  throw InvalidArgument(
      "--backend cuda: this program was built without CUDA (nvcc was not found when it was built)");
#endif
}

}  // namespace gptq::program
