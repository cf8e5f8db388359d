// SPDX-License-Identifier: MIT
#pragma once

// The kernels of backend::Cuda that depend on a scheme, one function object each, and their
// launchers. The arithmetic of schemes, range searches and the row solver comes from the same
// templates that the CPU runs.

#include <gptq/backend/cuda/device.cuh>
#include <gptq/backend/cuda/launch.hpp>
#include <gptq/kernel/column_block.hpp>

namespace gptq::backend::cuda {

namespace kernels {

/// One row of one group.
template <class S>
struct Fit {
  S scheme;
  scheme::RangeSearch search;
  GroupMembers groups;
  Stack stack;
  const float* source;
  Index base, first, width;
  float *scales, *zeros;
  GPTQ_HD void operator()(Index i, Index row) const {
    const Index g = first + i;
    const Index rest = groups.columns - g * groups.group_size;
    const Index begin = g * groups.group_size + stack.of(row) * stack.columns;
    const Index count = groups.group_size < rest ? groups.group_size : rest;
    const auto column = [&](Index j) {
      return source[(groups.members[begin + j] - base) * width + row];
    };
    const auto importance = [&](Index j) { return groups.pivots[begin + j]; };
    scheme::RangeSearch mine = search;
    if (groups.units) mine.rounding.scale_unit = groups.units[row];
    const auto grid = scheme::fit_grid<float>(scheme, column, importance, count, mine);
    scales[g * width + row] = grid.scale;
    zeros[g * width + row] = grid.zero;
  }
};

/// A block's pointers at one of its rows.
GPTQ_HD inline kernel::ColumnBlock<float> at_row(kernel::ColumnBlock<float> block,
                                                 const Stack& stack, Index row) {
  const Index matrix = stack.of(row);
  block.group += matrix * stack.columns;
  block.factor += matrix * stack.factor;
  block.weight += row;
  block.carry += row;
  if (block.targets) block.targets += row;
  block.codes += row;
  block.scales += row;
  block.zeros += row;
  return block;
}

/// Adds over the rows of a warp.
struct WarpSums {
  double* loss;  ///< of this warp
  bool real;     ///< whether this row is not padding
  int clipped = 0;
  GPTQ_HD void add(Index column, double cost, float square, bool beyond) {
    float total = real ? square : 0.0f;
#if GPTQ_ON_DEVICE
    for (int lanes = 16; lanes > 0; lanes /= 2) total += __shfl_down_sync(~0u, total, lanes);
    if (threadIdx.x % 32 == 0) loss[column] += cost * static_cast<double>(total);
#else
    loss[column] += cost * static_cast<double>(total);
#endif
    clipped += real && beyond;
  }
};

/// One thread per row; the diagonal block of the factor in shared memory if it fits.
template <class Form, kernel::Blocks Kind, bool Share, class S>
struct Solve {
  static constexpr int threads = solve_threads;
  static constexpr Index shared_bytes(Index columns) {
    return Share ? columns * columns * Index(sizeof(float)) : 0;
  }
  S scheme;
  kernel::ColumnBlock<float> block;
  Stack stack;
  Index width;
  SolveSums sums;
  GPTQ_HD void operator()(const Block& b) const {
    if constexpr (Share) {
      const float* const factor =
          block.factor + stack.of(b.index * b.threads) * stack.factor;  // the same for all its rows
      const int size = static_cast<int>(block.width);
      b.for_threads([&](int t) {  // a row of the tile per warp, from the diagonal on
        for (int r = t / 32; r < size; r += threads / 32)
          for (int c = r / 32 * 32 + t % 32; c < size; c += 32)
            b.shared[r * size + c] = factor[r * block.factor_stride + c];
      });
    }
    b.for_threads([&](int t) {
      const Index row = b.index * b.threads + t;
      if (row >= width) return;  // a whole warp
      kernel::ColumnBlock<float> mine = at_row(block, stack, row);
      if constexpr (Share) {
        mine.factor = b.shared;
        mine.factor_stride = block.width;
      }
      const bool real = sums.real[row] != 0;
      WarpSums of_warp{sums.loss + row / warp * sums.stride, real};
      kernel::solve_block<Kind, float, Form>(scheme, mine, of_warp);
      sums.clipped[row] += of_warp.clipped;
    });
  }
};

template <class S>
struct Round {
  S scheme;
  kernel::ColumnBlock<float> block;
  Stack stack;
  Index of;
  GPTQ_HD void operator()(Index pattern, Index row) const {
    kernel::round_pattern<float>(scheme, at_row(block, stack, row), pattern * of);
  }
};

template <class S>
struct FindErrors {
  S scheme;
  kernel::ColumnBlock<float> block;
  Stack stack;
  Index width;
  GPTQ_HD void operator()(Index p, Index row) const {
    const Index i = p * width + row;
    const Index group = block.group[stack.of(row) * stack.columns + p] * width + row;
    const scheme::Grid<float> grid{block.scales[group], block.zeros[group]};
    block.carry[i] = block.weight[i] - scheme.decode(static_cast<float>(block.codes[i]), grid);
  }
};

}  // namespace kernels

template <class S>
void fit(cudaStream_t stream, const S& scheme, const scheme::RangeSearch& search,
         const GroupMembers& groups, const Stack& stack, const float* source, Index base,
         Index first, Index count, Index width, float* scales, float* zeros) {
  launch_grid(
      stream, count, width,
      kernels::Fit<S>{scheme, search, groups, stack, source, base, first, width, scales, zeros});
}

template <class Form, class S>
void solve(cudaStream_t stream, const S& scheme, const kernel::ColumnBlock<float>& block,
           const Stack& stack, Index width, const SolveSums& sums) {
  constexpr Index most = 128;  // columns: 64 KiB of shared memory: compute capability 7.0
  using kernel::Blocks;
  const auto run = [&]<Blocks Kind, bool Share>() {
    using Kernel = kernels::Solve<Form, Kind, Share, S>;
    launch_blocks(stream, (width + Kernel::threads - 1) / Kernel::threads, Kernel::threads,
                  Kernel::shared_bytes(block.width), Kernel{scheme, block, stack, width, sums});
  };
  const bool share = block.width <= most;
  if (!block.sparsity.dense())
    share ? run.template operator()<Blocks::sparse, true>()
          : run.template operator()<Blocks::sparse, false>();
  else
    share ? run.template operator()<Blocks::dense, true>()
          : run.template operator()<Blocks::dense, false>();
}

template <class S>
void round(cudaStream_t stream, const S& scheme, const kernel::ColumnBlock<float>& block,
           const Stack& stack, Index width) {
  const Index of = block.sparsity.dense() ? 1 : block.sparsity.of;
  launch_grid(stream, block.width / of, width, kernels::Round<S>{scheme, block, stack, of});
}

template <class S>
void find_errors(cudaStream_t stream, const S& scheme, const kernel::ColumnBlock<float>& block,
                 const Stack& stack, Index width) {
  launch_grid(stream, block.width, width, kernels::FindErrors<S>{scheme, block, stack, width});
}

}  // namespace gptq::backend::cuda

/// Instantiates everything that Quantizer<Scheme, backend::Cuda> needs of a scheme; for one source
/// that nvcc compiles.
#define GPTQ_CUDA_SCHEME(...)                                                                    \
  template void gptq::backend::cuda::fit<__VA_ARGS__>(                                           \
      cudaStream_t, const __VA_ARGS__&, const gptq::scheme::RangeSearch&,                        \
      const gptq::backend::cuda::GroupMembers&, const gptq::backend::cuda::Stack&, const float*, \
      gptq::Index, gptq::Index, gptq::Index, gptq::Index, float*, float*);                       \
  template void gptq::backend::cuda::solve<gptq::kernel::LeftLooking, __VA_ARGS__>(              \
      cudaStream_t, const __VA_ARGS__&, const gptq::kernel::ColumnBlock<float>&,                 \
      const gptq::backend::cuda::Stack&, gptq::Index, const gptq::backend::cuda::SolveSums&);    \
  template void gptq::backend::cuda::solve<gptq::kernel::LazyBatch, __VA_ARGS__>(                \
      cudaStream_t, const __VA_ARGS__&, const gptq::kernel::ColumnBlock<float>&,                 \
      const gptq::backend::cuda::Stack&, gptq::Index, const gptq::backend::cuda::SolveSums&);    \
  template void gptq::backend::cuda::round<__VA_ARGS__>(                                         \
      cudaStream_t, const __VA_ARGS__&, const gptq::kernel::ColumnBlock<float>&,                 \
      const gptq::backend::cuda::Stack&, gptq::Index);                                           \
  template void gptq::backend::cuda::find_errors<__VA_ARGS__>(                                   \
      cudaStream_t, const __VA_ARGS__&, const gptq::kernel::ColumnBlock<float>&,                 \
      const gptq::backend::cuda::Stack&, gptq::Index)
