// SPDX-License-Identifier: MIT
#pragma once

// How work is launched on the device: a function object per index, or per block of threads that
// share memory. Compilers other than nvcc run them one after the other on the host, so that tests
// cover every line of them without a GPU.

#include <gptq/backend/cuda/runtime.hpp>
#include <gptq/config.hpp>

#include <vector>

namespace gptq::backend::cuda {

/// Threads that share memory.
struct Block {
  Index index = 0;  ///< among the blocks of the launch
  int threads = 0;
  float* shared = nullptr;

  /// f(t) for each thread t; what they write to shared memory is visible to all that follows.
  template <class F>
  GPTQ_HD void for_threads(const F& f) const {
#if GPTQ_ON_DEVICE
    f(static_cast<int>(threadIdx.x));
    __syncthreads();
#else
    for (int t = 0; t < threads; ++t) f(t);
#endif
  }
};

/// The threads of a block combine their values in `partial` until the result is in partial[0]: the
/// second half is added to the first. A power of two threads.
template <class Value, class Combine>
GPTQ_HD void reduce(const Block& block, Value* partial, const Combine& combine) {
  for (int count = block.threads / 2; count > 0; count /= 2)
    block.for_threads([&](int t) {
      if (t < count) partial[t] = combine(partial[t], partial[t + count]);
    });
}

#if GPTQ_CUDA_COMPILER

template <class F>
static __global__ void run(F f, Index count) {
  const Index i = static_cast<Index>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < count) f(i);
}

/// A thread per column; rows beyond the size of a grid are taken in turn.
template <class F>
static __global__ void run_grid(F f, Index rows, Index cols) {
  const Index col = static_cast<Index>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (col >= cols) return;
  for (Index row = blockIdx.y; row < rows; row += gridDim.y) f(row, col);
}

template <class F>
static __global__ void run_blocks(F f) {
  extern __shared__ float4 shared[];
  f(Block{static_cast<Index>(blockIdx.x), static_cast<int>(blockDim.x),
          reinterpret_cast<float*>(shared)});
}

#endif

/// f(i) for i < count. (Not inlined: GCC 12 warns of infinite loops to n².)
template <class F>
[[gnu::noinline, gnu::visibility("hidden")]] void launch(cudaStream_t stream, Index count,
                                                         const F& f) {
  if (count == 0) return;
#if GPTQ_CUDA_COMPILER
  constexpr int threads = 256;
  run<<<static_cast<unsigned>((count + threads - 1) / threads), threads, 0, stream>>>(f, count);
  check(cudaGetLastError(), "a kernel's launch");
#else
  static_cast<void>(stream);
  for (Index i = 0; i < count; ++i) f(i);
#endif
}

/// f(row, col) for row < rows, col < cols, so that kernels need no division to get both.
template <class F>
[[gnu::noinline, gnu::visibility("hidden")]] void launch_grid(cudaStream_t stream, Index rows,
                                                              Index cols, const F& f) {
  if (rows == 0 || cols == 0) return;
#if GPTQ_CUDA_COMPILER
  constexpr Index threads = 256, most_rows = 65535;
  const dim3 grid(static_cast<unsigned>((cols + threads - 1) / threads),
                  static_cast<unsigned>(rows < most_rows ? rows : most_rows));
  run_grid<<<grid, static_cast<unsigned>(threads), 0, stream>>>(f, rows, cols);
  check(cudaGetLastError(), "a kernel's launch");
#else
  static_cast<void>(stream);
  for (Index r = 0; r < rows; ++r)
    for (Index c = 0; c < cols; ++c) f(r, c);
#endif
}

/// f(block) for so many blocks with `shared` bytes of shared memory each.
template <class F>
[[gnu::visibility("hidden")]] void launch_blocks(cudaStream_t stream, Index blocks, int threads,
                                                 Index shared, const F& f) {
  if (blocks == 0) return;
#if GPTQ_CUDA_COMPILER
  constexpr Index without_asking = 48 << 10;
  if (shared > without_asking)
    check(cudaFuncSetAttribute(run_blocks<F>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(shared)),
          "cudaFuncSetAttribute");
  run_blocks<<<static_cast<unsigned>(blocks), static_cast<unsigned>(threads),
               static_cast<std::size_t>(shared), stream>>>(f);
  check(cudaGetLastError(), "a kernel's launch");
#else
  static_cast<void>(stream);
  std::vector<double> memory(static_cast<std::size_t>(shared) / sizeof(double) + 1);
  for (Index b = 0; b < blocks; ++b) f(Block{b, threads, reinterpret_cast<float*>(memory.data())});
#endif
}

}  // namespace gptq::backend::cuda
