// SPDX-License-Identifier: MIT
#pragma once

// Where to compute: the backend that --backend names, and the decoder's operations on it. The CPU
// program does not link CUDA, which would cost a third of a second and 200 MB: --backend cuda
// starts `gptq-cuda`, built from the same sources with GPTQ_PROGRAM_CUDA.

#include "command.hpp"

#ifdef GPTQ_PROGRAM_CUDA
#include <gptq/model/cuda_operations.hpp>
#else
#include <gptq/backend/cpu.hpp>
#include <gptq/model/cpu_operations.hpp>
#endif

#include <string>

namespace gptq::program {

/// Calls f(operations, backend, name of the place)
/// \throws InvalidArgument  there is no program for the backend
/// \throws CudaError        no usable device
template <class F>
void with_backend(const ComputeOptions& o, const F& f) {
  const bool cuda = o.backend == "cuda";
  detail::require(cuda || o.device == 0, "--device ", o.device, ": requires --backend cuda");
  const exec::Threads threads(o.threads);
  if (threads.start() < threads.asked())
    say("note: {} of {} threads could be started; the system refused the others\n",
        threads.concurrency(), threads.asked());
  const Precision precision = o.products(), exact = o.hessian_products();
#ifdef GPTQ_PROGRAM_CUDA
  if (!cuda) run_beside("gptq", "--backend cpu needs it");
  const backend::Cuda backend(o.device, nullptr, exact);
  f(model::CudaOperations(backend, threads, precision), backend, backend.name());
#else
  if (cuda)
    run_beside("gptq-cuda",
               "--backend cuda needs it; it is built with the program if nvcc is found");
  f(model::CpuOperations<>(threads, precision), backend::Cpu(threads, exact),
    std::to_string(threads.concurrency()) + " threads");
#endif
}

}  // namespace gptq::program
