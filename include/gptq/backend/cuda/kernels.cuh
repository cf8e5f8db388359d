// SPDX-License-Identifier: MIT
#pragma once

// The kernels of backend::Cuda, one function object each, and the launchers of launch.hpp. The
// arithmetic of schemes, range searches and the row solver comes from the same templates that the
// CPU runs.

#include <gptq/backend/cuda/device.cuh>
#include <gptq/backend/cuda/launch.hpp>
#include <gptq/kernel/arithmetic.hpp>
#include <gptq/kernel/column_block.hpp>

#include <cfloat>  // FLT_MAX
#include <cmath>   // HUGE_VALF, std::sqrt

namespace gptq::backend::cuda {

namespace kernels {

template <class From, class To>
struct Convert {
  MatrixView<const From> from;
  const float* scale;
  To* to;
  GPTQ_HD void operator()(Index i) const {
    const Index r = i / from.cols();
    const auto x = to_float(from(r, i - r * from.cols()));
    to[i] = static_cast<To>(scale ? x * static_cast<decltype(x)>(scale[r]) : x);
  }
};

template <class T>
struct Arrange {
  const float* from;
  Index n;
  const Index* order;
  T factor;
  const double* added;
  T* to;
  GPTQ_HD void operator()(Index i) const {
    const Index r = i / n, c = i - r * n;
    if (c < r) {
      to[i] = 0;
      return;
    }
    const Index a = order[r], b = order[c];
    T x = factor * static_cast<T>(a < b ? from[a * n + b] : from[b * n + a]);
    if (r == c) x += static_cast<T>(added[r]);
    to[i] = x;
  }
};

template <class T>
struct Reverse {
  T* data;
  Index count;
  GPTQ_HD void operator()(Index i) const {
    const T front = data[i];
    data[i] = data[count - 1 - i];
    data[count - 1 - i] = front;
  }
};

struct Sum {
  const float *a, *b;
  float* to;
  GPTQ_HD void operator()(Index i) const { to[i] = a[i] + b[i]; }
};

struct Multiply {
  float factor;
  float* data;
  GPTQ_HD void operator()(Index i) const { data[i] *= factor; }
};

struct Fill {
  float value;
  Index step;
  float* data;
  GPTQ_HD void operator()(Index i) const { data[i * step] = value; }
};

struct Split {
  const float* x;
  bfloat16 *high, *low;
  GPTQ_HD void operator()(Index i) const {
    high[i] = to_bfloat16(x[i]);
    low[i] = to_bfloat16(x[i] - to_float(high[i]));
  }
};

/// One block per row: each thread takes every so many-th element, then the second half of the
/// threads is added to the first until one is left.
template <class T, class Value, class Combine>
struct ReduceRows {
  MatrixView<const T> matrix;
  Combine combine;
  Value* of_row;
  GPTQ_HD void operator()(const Block& block) const {
    Value* const partial = reinterpret_cast<Value*>(block.shared);
    block.for_threads([&](int t) {
      Value value(0);
      for (Index c = t; c < matrix.cols(); c += block.threads)
        value = combine.element(value, matrix(block.index, c));
      partial[t] = value;
    });
    for (int count = block.threads / 2; count > 0; count /= 2)
      block.for_threads([&](int t) {
        if (t < count) partial[t] = combine.both(partial[t], partial[t + count]);
      });
    block.for_threads([&](int t) {
      if (t == 0) of_row[block.index] = partial[0];
    });
  }
};

struct Largest {
  template <class T>
  GPTQ_HD float element(float largest, const T& x) const {
    const float size = kernel::abs(static_cast<float>(to_float(x)));
    return both(largest, size <= FLT_MAX ? size : HUGE_VALF);  // not a number: infinite
  }
  GPTQ_HD float both(float a, float b) const { return kernel::max(a, b); }
};

struct Squares {
  GPTQ_HD double element(double sum, float x) const {
    return sum + static_cast<double>(x) * static_cast<double>(x);
  }
  GPTQ_HD double both(double a, double b) const { return a + b; }
};

struct PivotRow {
  const float* h;
  Index n, done, best;
  double pivot;
  double *factor, *pivots;
  GPTQ_HD void operator()(Index j) const {
    const bool gone = pivots[j] == HUGE_VAL;
    double x = best < j ? h[best * n + j] : h[j * n + best];
    for (Index i = 0; i < done; ++i) x -= factor[i * n + best] * factor[i * n + j];
    // A pivot that rounding has eaten carries nothing on.
    x = gone || !(pivot > 0) ? 0 : x / std::sqrt(pivot);
    factor[done * n + j] = x;
    pivots[j] = gone || j == best ? HUGE_VAL : pivots[j] - x * x;
  }
};

struct GatherRows {
  MatrixView<const float> from;
  const Index* order;
  float* to;
  GPTQ_HD void operator()(Index i) const {
    const Index r = i / from.cols();
    to[i] = from(order[r], i - r * from.cols());
  }
};

/// Tiles of 32 x 32 through shared memory, so that reading and writing both go along rows.
template <class T>
struct LoadPanel {
  static constexpr int side = 32, threads = 256;
  MatrixView<const T> weight;
  float factor;
  const Index* position;  ///< of a column
  const std::uint8_t* dead;
  Index width, stride, across;  ///< across: tiles in a row of the weight
  float* to;
  GPTQ_HD void operator()(const Block& block) const {
    const Index row = block.index / across * side, col = block.index % across * side;
    float* const tile = block.shared;  // [side][side + 1]: a column falls on all banks
    block.for_threads([&](int t) {
      for (int i = t; i < side * side; i += threads) {
        const Index r = row + i / side, c = col + i % side;
        tile[i / side * (side + 1) + i % side] =
            r < weight.rows() && c < weight.cols()
                ? static_cast<float>(to_float(weight(r, c))) * factor
                : 0.0f;
      }
    });
    block.for_threads([&](int t) {
      for (int i = t; i < side * side; i += threads) {
        const Index c = col + i / side, r = row + i % side;
        if (c >= weight.cols() || r >= width) continue;
        const Index p = position[c];
        to[p * stride + r] = dead[p] ? 0.0f : tile[i % side * (side + 1) + i / side];
      }
    });
  }
};

struct ScatterCodes {
  const std::uint8_t* from;
  Index width, rows;
  const Index* order;
  std::uint8_t* to;
  GPTQ_HD void operator()(Index i) const {
    const Index p = i / rows, r = i - p * rows;
    to[order[p] * rows + r] = from[p * width + r];
  }
};

struct AddLosses {
  const double* partial;
  Index warps, n;
  double* of_column;
  GPTQ_HD void operator()(Index p) const {
    double total = 0;
    for (Index w = 0; w < warps; ++w) total += partial[w * n + p];
    of_column[p] = total;
  }
};

/// One row of one group.
template <class S>
struct Fit {
  S scheme;
  scheme::RangeSearch search;
  GroupMembers groups;
  const float* source;
  Index base, first, width;
  float *scales, *zeros;
  GPTQ_HD void operator()(Index i) const {
    const Index g = first + i / width, row = i % width, begin = g * groups.group_size;
    const Index rest = groups.columns - begin;
    const Index count = groups.group_size < rest ? groups.group_size : rest;
    const auto column = [&](Index j) {
      return source[(groups.members[begin + j] - base) * width + row];
    };
    const auto importance = [&](Index j) { return groups.pivots[begin + j]; };
    const auto grid = scheme::fit_grid<float>(scheme, column, importance, count, search);
    scales[g * width + row] = grid.scale;
    zeros[g * width + row] = grid.zero;
  }
};

/// A block's pointers at one of its rows.
GPTQ_HD inline kernel::ColumnBlock<float> at_row(kernel::ColumnBlock<float> block, Index row) {
  block.weight += row;
  block.residual += row;
  block.codes += row;
  block.scales += row;
  block.zeros += row;
  return block;
}

/// Adds over the rows of a warp.
struct WarpSums {
  double* loss;  ///< of this warp
  bool real;     ///< whether this row is no padding
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

/// One thread per row; the diagonal block of the factor in shared memory where it fits.
template <class Form, class S>
struct Solve {
  static constexpr int threads = 64;
  S scheme;
  kernel::ColumnBlock<float> block;
  Index width;
  SolveSums sums;
  bool share;
  GPTQ_HD void operator()(const Block& b) const {
    if (share)
      b.for_threads([&](int t) {
        for (Index i = t; i < block.width * block.width; i += b.threads) {
          const Index r = i / block.width, c = i - r * block.width;
          if (c >= r) b.shared[i] = block.factor[r * block.factor_stride + c];
        }
      });
    b.for_threads([&](int t) {
      const Index row = b.index * b.threads + t;
      if (row >= width) return;  // a whole warp
      kernel::ColumnBlock<float> mine = at_row(block, row);
      if (share) {
        mine.factor = b.shared;
        mine.factor_stride = block.width;
      }
      WarpSums of_warp{sums.loss + row / warp * sums.stride, row < sums.rows};
      kernel::solve_block<float, Form>(scheme, mine, of_warp);
      sums.clipped[row] += of_warp.clipped;
    });
  }
};

template <class S>
struct Round {
  S scheme;
  kernel::ColumnBlock<float> block;
  Index width, of;
  GPTQ_HD void operator()(Index i) const {
    const Index pattern = i / width, row = i - pattern * width;
    kernel::round_pattern<float>(scheme, at_row(block, row), pattern * of);
  }
};

template <class S>
struct MeasureResidual {
  S scheme;
  kernel::ColumnBlock<float> block;
  Index width;
  GPTQ_HD void operator()(Index i) const {
    const Index p = i / width, row = i - p * width, group = block.group[p] * width + row;
    const scheme::Grid<float> grid{block.scales[group], block.zeros[group]};
    block.residual[i] = block.weight[i] - scheme.decode(static_cast<float>(block.codes[i]), grid);
  }
};

}  // namespace kernels

template <class From, class To>
void convert(cudaStream_t stream, MatrixView<const From> from, const float* scale, To* to) {
  launch(stream, from.size(), kernels::Convert<From, To>{from, scale, to});
}

template <class T>
void arrange(cudaStream_t stream, const float* from, Index n, const Index* order, double factor,
             const double* added, T* to) {
  launch(stream, n * n, kernels::Arrange<T>{from, n, order, static_cast<T>(factor), added, to});
}

template <class T>
void reverse(cudaStream_t stream, T* data, Index count) {
  launch(stream, count / 2, kernels::Reverse<T>{data, count});
}

template <class T>
void largest_of_rows(cudaStream_t stream, MatrixView<const T> matrix, float* of_row) {
  constexpr int threads = 128;
  launch_blocks(stream, matrix.rows(), threads, threads * Index(sizeof(float)),
                kernels::ReduceRows<T, float, kernels::Largest>{matrix, {}, of_row});
}

template <class T>
void load_panel(cudaStream_t stream, MatrixView<const T> weight, float factor,
                const Index* position, const std::uint8_t* dead, Index width, Index stride,
                float* to) {
  using Kernel = kernels::LoadPanel<T>;
  const auto tiles = [](Index size) { return (size + Kernel::side - 1) / Kernel::side; };
  launch_blocks(stream, tiles(width) * tiles(weight.cols()), Kernel::threads,
                Kernel::side * (Kernel::side + 1) * Index(sizeof(float)),
                Kernel{weight, factor, position, dead, width, stride, tiles(weight.cols()), to});
}

template <class S>
void fit(cudaStream_t stream, const S& scheme, const scheme::RangeSearch& search,
         const GroupMembers& groups, const float* source, Index base, Index first, Index count,
         Index width, float* scales, float* zeros) {
  launch(stream, count * width,
         kernels::Fit<S>{scheme, search, groups, source, base, first, width, scales, zeros});
}

template <class Form, class S>
void solve(cudaStream_t stream, const S& scheme, const kernel::ColumnBlock<float>& block,
           Index width, const SolveSums& sums) {
  using Kernel = kernels::Solve<Form, S>;
  constexpr Index most = 64 << 10;  // bytes of shared memory that every device can give
  const Index tile = block.width * block.width * Index(sizeof(float));
  const bool share = tile <= most;
  launch_blocks(stream, (width + Kernel::threads - 1) / Kernel::threads, Kernel::threads,
                share ? tile : 0, Kernel{scheme, block, width, sums, share});
}

template <class S>
void round(cudaStream_t stream, const S& scheme, const kernel::ColumnBlock<float>& block,
           Index width) {
  const Index of = block.sparsity.dense() ? 1 : block.sparsity.of;
  launch(stream, block.width / of * width, kernels::Round<S>{scheme, block, width, of});
}

template <class S>
void measure_residual(cudaStream_t stream, const S& scheme, const kernel::ColumnBlock<float>& block,
                      Index width) {
  launch(stream, block.width * width, kernels::MeasureResidual<S>{scheme, block, width});
}

}  // namespace gptq::backend::cuda

/// Everything that Quantizer<Scheme, backend::Cuda> needs of a scheme, in one source that nvcc
/// compiles.
#define GPTQ_CUDA_SCHEME(...)                                                                  \
  template void gptq::backend::cuda::fit<__VA_ARGS__>(                                         \
      cudaStream_t, const __VA_ARGS__&, const gptq::scheme::RangeSearch&,                      \
      const gptq::backend::cuda::GroupMembers&, const float*, gptq::Index, gptq::Index,        \
      gptq::Index, gptq::Index, float*, float*);                                               \
  template void gptq::backend::cuda::solve<gptq::kernel::LeftLooking, __VA_ARGS__>(            \
      cudaStream_t, const __VA_ARGS__&, const gptq::kernel::ColumnBlock<float>&, gptq::Index,  \
      const gptq::backend::cuda::SolveSums&);                                                  \
  template void gptq::backend::cuda::solve<gptq::kernel::LazyBatch, __VA_ARGS__>(              \
      cudaStream_t, const __VA_ARGS__&, const gptq::kernel::ColumnBlock<float>&, gptq::Index,  \
      const gptq::backend::cuda::SolveSums&);                                                  \
  template void gptq::backend::cuda::round<__VA_ARGS__>(                                       \
      cudaStream_t, const __VA_ARGS__&, const gptq::kernel::ColumnBlock<float>&, gptq::Index); \
  template void gptq::backend::cuda::measure_residual<__VA_ARGS__>(                            \
      cudaStream_t, const __VA_ARGS__&, const gptq::kernel::ColumnBlock<float>&, gptq::Index)
