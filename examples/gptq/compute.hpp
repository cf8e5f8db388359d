// SPDX-License-Identifier: MIT
#pragma once

// Where the work is done: the backend that --backend names, and the decoder's operations on it. The
// program for the CPU links no CUDA library, which would cost it a third of a second and 200 MB:
// --backend cuda starts `gptq-cuda`, the same sources with GPTQ_PROGRAM_CUDA.

#include "command.hpp"

#ifdef GPTQ_PROGRAM_CUDA
#include <gptq/model/cuda_operations.hpp>
#else
#include <gptq/backend/cpu.hpp>
#include <gptq/model/cpu_operations.hpp>
#endif

#include <string>

namespace gptq::program {

/// f(operations, backend, name of the place)
/// \throws InvalidArgument  there is no program for the backend
/// \throws CudaError        no device can be used
template <class F>
void with_backend(const ComputeOptions& o, const F& f) {
  const bool cuda = o.backend == "cuda";
  detail::require(cuda || o.device == 0, "--device ", o.device, ": goes with --backend cuda");
  const exec::Threads threads(o.threads);
  if (threads.start() < threads.asked())
    say("note: {} of {} threads could be started; the others are refused by the system\n",
        threads.concurrency(), threads.asked());
  const Precision precision = o.products(), exact = o.hessian_products();
#ifdef GPTQ_PROGRAM_CUDA
  if (!cuda) run_beside("gptq", "--backend cpu is its work");
  const backend::Cuda backend(o.device, nullptr, exact);
  f(model::CudaOperations(backend, threads, precision), backend, backend.name());
#else
  if (cuda)
    run_beside("gptq-cuda",
               "it is built with the program where nvcc is found, and --backend cuda needs it");
  f(model::CpuOperations<>(threads, precision), backend::Cpu(threads, exact),
    std::to_string(threads.concurrency()) + " threads");
#endif
}

}  // namespace gptq::program
