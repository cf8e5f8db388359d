// SPDX-License-Identifier: MIT
#pragma once

// The kernels of backend::Cuda that do not depend on a scheme, one function object each, and those
// of their launchers that are templates; the others are in instantiations.cu.

#include <gptq/backend/cuda/device.cuh>
#include <gptq/backend/cuda/launch.hpp>
#include <gptq/lane/arithmetic.hpp>

#include <cfloat>  // FLT_MAX
#include <cmath>   // HUGE_VALF, std::sqrt
#include <type_traits>

namespace gptq::backend::cuda {

namespace kernels {

template <class T>
struct Convert {
  MatrixView<const T> from;
  const float* scale;
  float* to;
  GPTQ_HD void operator()(Index r, Index c) const {
    const auto x = to_float(from(r, c));
    to[r * from.cols() + c] =
        static_cast<float>(scale ? x * static_cast<decltype(x)>(scale[r]) : x);
  }
};

template <class T>
struct Narrow {
  MatrixView<const float> from;
  T* to;
  GPTQ_HD void operator()(Index r, Index c) const {
    const float x = from(r, c);
    const Index i = r * from.cols() + c;
    if constexpr (std::is_same_v<T, bfloat16>) to[i] = to_bfloat16(x);
    else to[i] = to_float16(x);
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
  GPTQ_HD void operator()(Index r, Index c) const {
    const Index i = r * n + c;
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

/// Row r of matrix r / n; n is below 2³¹.
struct ArrangeAll {
  const float* const* from;
  Index n;
  const Index* order;
  const double *factor, *added;
  float* to;
  GPTQ_HD void operator()(Index row, Index c) const {
    const Index matrix = static_cast<std::uint32_t>(row) / static_cast<std::uint32_t>(n);
    Arrange<float>{from[matrix],       n,
                   order + matrix * n, static_cast<float>(factor[matrix]),
                   added + matrix * n, to + matrix * n * n}(row - matrix * n, c);
  }
};

template <class T>
struct ClearLower {
  T* data;
  Index n;
  GPTQ_HD void operator()(Index row, Index c) const {  // of all matrices
    if (c < static_cast<std::uint32_t>(row) % static_cast<std::uint32_t>(n)) data[row * n + c] = 0;
  }
};

struct Diagonals {
  const float* const* matrices;
  Index n;
  float* to;
  GPTQ_HD void operator()(Index matrix, Index k) const {
    to[matrix * n + k] = matrices[matrix][k * (n + 1)];
  }
};

template <class T>
struct Reverse {
  T* data;
  Index count;
  GPTQ_HD void operator()(Index run, Index place) const {
    T* const mine = data + run * count;
    const T front = mine[place];
    mine[place] = mine[count - 1 - place];
    mine[count - 1 - place] = front;
  }
};

struct Sum {
  const float *a, *b;
  float* to;
  GPTQ_HD void operator()(Index i) const { to[i] = a[i] + b[i]; }
};

struct FillDiagonals {
  float value;
  Index n;
  float* data;
  GPTQ_HD void operator()(Index matrix, Index k) const {
    data[matrix * n * n + k * (n + 1)] = value;
  }
};

struct Split {
  const float* x;
  bfloat16 *high, *low;
  GPTQ_HD void operator()(Index i) const {
    high[i] = to_bfloat16(x[i]);
    low[i] = to_bfloat16(x[i] - to_float(high[i]));
  }
};

/// One block per section and row: thread t takes elements t, t + threads, and so on.
template <class T, class Value, class Combine>
struct ReduceRows {
  MatrixView<const T> matrix;
  Sections sections;
  Combine combine;
  Value* of_row;
  GPTQ_HD void operator()(const Block& block) const {
    const Index i = block.index / matrix.rows(), row = block.index - i * matrix.rows();
    const Index first = sections.first(i), end = first + sections.count(i);
    Value* const partial = reinterpret_cast<Value*>(block.shared);
    block.for_threads([&](int t) {
      Value value(0);
      for (Index c = first + t; c < end; c += block.threads)
        value = combine.element(value, matrix(row, c));
      partial[t] = value;
    });
    reduce(block, partial, [&](const Value& a, const Value& b) { return combine.both(a, b); });
    block.for_threads([&](int t) {
      if (t == 0) of_row[block.index] = partial[0];
    });
  }
};

struct Largest {
  template <class T>
  GPTQ_HD float element(float largest, const T& x) const {
    const float size = lane::abs(static_cast<float>(to_float(x)));
    return both(largest, size <= FLT_MAX ? size : HUGE_VALF);  // not a number: infinite
  }
  GPTQ_HD float both(float a, float b) const { return lane::max(a, b); }
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
    // A pivot lost to rounding carries nothing on.
    x = gone || !(pivot > 0) ? 0 : x / std::sqrt(pivot);
    factor[done * n + j] = x;
    pivots[j] = gone || j == best ? HUGE_VAL : pivots[j] - x * x;
  }
};

struct GatherRows {
  MatrixView<const float> from;
  const Index* order;
  float* to;
  GPTQ_HD void operator()(Index r, Index c) const { to[r * from.cols() + c] = from(order[r], c); }
};

/// Tiles of 32 x 32 through shared memory, so that both reads and writes go along rows.
template <class T>
struct LoadPanel {
  static constexpr int side = 32, threads = 256;
  static constexpr Index shared_bytes = side * (side + 1) * Index(sizeof(float));
  static Index tiles(Index size) { return (size + side - 1) / side; }
  MatrixView<const T> weight;
  float factor;
  const Index* position;  ///< of a column
  const std::uint8_t* dead;
  Index width, stride, across;  ///< across: tiles in a row of the weight
  float* to;
  GPTQ_HD void operator()(const Block& block) const {
    const Index row = block.index / across * side, col = block.index % across * side;
    float* const tile = block.shared;  // [side][side + 1]: a column spreads over all banks
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

/// The tiles of several weights, as many for each as for the largest one.
template <class T>
struct LoadPanels {
  LoadPanel<T> one;  ///< without a weight
  const MatrixView<const T>* weights;
  Sections sections;
  Index tiles, layouts;  ///< of a weight; from one layout to the next
  GPTQ_HD void operator()(const Block& block) const {
    const Index i = block.index / tiles;
    LoadPanel<T> mine = one;
    mine.weight = weights[i];
    mine.position += i * layouts;
    mine.dead += i * layouts;
    mine.width = sections.end(i) - sections.first(i);
    mine.to += sections.first(i);
    mine({block.index - i * tiles, block.threads, block.shared});
  }
};

struct ScatterCodes {
  const std::uint8_t* from;
  Index n, stride;
  Sections sections;
  const Index* order;
  Index orders;
  std::uint8_t* to;
  GPTQ_HD void operator()(Index p, Index column) const {
    const Index i = sections.of(column);
    const Index first = sections.first(i), count = sections.count(i), r = column - first;
    if (r < count) to[n * first + order[i * orders + p] * count + r] = from[p * stride + column];
  }
};

struct AddLosses {
  const double* partial;
  Sections sections;
  Index n;
  double* of_column;
  GPTQ_HD void operator()(Index i, Index p) const {
    double total = 0;
    for (Index w = sections.first(i) / warp; w < sections.end(i) / warp; ++w)
      total += partial[w * n + p];
    of_column[i * n + p] = total;
  }
};

}  // namespace kernels

template <class T>
void convert(cudaStream_t stream, MatrixView<const T> from, const float* scale, float* to) {
  launch_grid(stream, from.rows(), from.cols(), kernels::Convert<T>{from, scale, to});
}

template <class T>
void narrow(cudaStream_t stream, MatrixView<const float> from, T* to) {
  launch_grid(stream, from.rows(), from.cols(), kernels::Narrow<T>{from, to});
}

template <class T>
void arrange(cudaStream_t stream, const float* from, Index n, const Index* order, double factor,
             const double* added, T* to) {
  launch_grid(stream, n, n, kernels::Arrange<T>{from, n, order, static_cast<T>(factor), added, to});
}

template <class T>
void reverse(cudaStream_t stream, T* data, Index count, Index runs) {
  launch_grid(stream, runs, count / 2, kernels::Reverse<T>{data, count});
}

template <class T>
void largest_of_rows(cudaStream_t stream, MatrixView<const T> matrix, float* of_row) {
  constexpr int threads = 128;
  launch_blocks(stream, matrix.rows(), threads, threads * Index(sizeof(float)),
                kernels::ReduceRows<T, float, kernels::Largest>{
                    matrix, {.columns = matrix.cols()}, {}, of_row});
}

template <class T>
void load_panel(cudaStream_t stream, MatrixView<const T> weight, float factor,
                const Index* position, const std::uint8_t* dead, Index width, Index stride,
                float* to) {
  using Kernel = kernels::LoadPanel<T>;
  const Index across = Kernel::tiles(weight.cols());
  launch_blocks(stream, Kernel::tiles(width) * across, Kernel::threads, Kernel::shared_bytes,
                Kernel{weight, factor, position, dead, width, stride, across, to});
}

template <class T>
void load_panels(cudaStream_t stream, const MatrixView<const T>* weights, Index widest, Index n,
                 float factor, const Index* position, const std::uint8_t* dead, Index layouts,
                 const Sections& sections, Index stride, float* to) {
  using Kernel = kernels::LoadPanel<T>;
  const Index across = Kernel::tiles(n), tiles = Kernel::tiles(widest) * across;
  launch_blocks(
      stream, sections.number * tiles, Kernel::threads, Kernel::shared_bytes,
      kernels::LoadPanels<T>{
          {{}, factor, position, dead, 0, stride, across, to}, weights, sections, tiles, layouts});
}

}  // namespace gptq::backend::cuda
