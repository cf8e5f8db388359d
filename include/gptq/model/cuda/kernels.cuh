// SPDX-License-Identifier: MIT
#pragma once

// The decoder's kernels, one function object each.

#include <gptq/backend/cuda/device.cuh>
#include <gptq/model/cuda/launch.hpp>
#include <gptq/scheme/affine.hpp>

#include <cmath>  // std::exp, std::sqrt

namespace gptq::model::cuda::kernels {

using backend::cuda::Block, backend::cuda::reduce;

/// One block per part of a row.
struct RmsNorm {
  static constexpr int threads = 128;
  MatrixView<const float> x;
  const float* weight;
  Index size;
  float epsilon;
  MatrixView<float> y;
  GPTQ_HD void operator()(const Block& block) const {
    const Index parts = x.cols() / size, r = block.index / parts, c = block.index % parts * size;
    float* const partial = block.shared;
    block.for_threads([&](int t) {
      float sum = 0;
      for (Index i = t; i < size; i += threads) sum += x(r, c + i) * x(r, c + i);
      partial[t] = sum;
    });
    reduce(block, partial, [](float a, float b) { return a + b; });
    block.for_threads([&](int t) {
      const float scale = 1.0f / std::sqrt(partial[0] / static_cast<float>(size) + epsilon);
      for (Index i = t; i < size; i += threads) y(r, c + i) = x(r, c + i) * scale * weight[i];
    });
  }
};

struct Turn {
  MatrixView<float> x;
  const float *cosine, *sine;
  Index half, length;
  GPTQ_HD void operator()(Index r, Index pair) const {
    const auto small = [](Index n) { return static_cast<std::uint32_t>(n); };  // divides faster
    const Index head = small(pair) / small(half), i = small(pair) % small(half);
    const Index place = small(r) % small(length) * half + i;
    float& a = x(r, head * 2 * half + i);
    float& b = x(r, head * 2 * half + half + i);
    const float first = a, second = b;
    a = first * cosine[place] - second * sine[place];
    b = second * cosine[place] + first * sine[place];
  }
};

/// A tile of queries of one head against all keys they see, one tile of keys at a time. Only the
/// scores of one pair of tiles exist at once; the softmax is corrected when a later tile has a
/// larger score (Milakov, Gimelshein, "Online normalizer calculation for softmax", 2018).
/// \tparam Tile    queries per tile, and keys
/// \tparam Across  coordinates of a head that a thread accumulates at once
template <int Tile, int Across>
struct Attend {
  static constexpr int threads = 256, half = Tile / 2, quarter = Tile / 4;
  AttentionOperands o;
  float scale;

  /// Rows of shared memory start on successive banks.
  GPTQ_HD constexpr Index stride() const { return o.head_dim + 1; }
  GPTQ_HD constexpr Index shared() const {
    return Index(sizeof(float)) * (4 * Tile * stride() + Tile * (Tile + 1) + 3 * Tile);
  }
  Index tiles() const { return (o.length + Tile - 1) / Tile; }
  Index blocks() const { return o.q.rows() / o.length * o.heads * tiles(); }

  GPTQ_HD void operator()(const Block& block) const {
    const Index tile = block.index % ((o.length + Tile - 1) / Tile),
                rest = block.index / ((o.length + Tile - 1) / Tile);
    const Index head = rest % o.heads, start = rest / o.heads * o.length, begin = tile * Tile;
    const Index d = o.head_dim, row = stride();
    const Index col = head * d, kv_col = head / (o.heads / o.kv_heads) * d;
    float* const q = block.shared;
    float* const k = q + Tile * row;
    float* const v = k + Tile * row;
    float* const sum = v + Tile * row;
    float* const score = sum + Tile * row;  // [Tile][Tile + 1]
    float* const top = score + Tile * (Tile + 1);
    float* const total = top + Tile;
    float* const shrink = total + Tile;

    block.for_threads([&](int t) {
      for (Index i = t; i < Tile * d; i += threads) {
        const Index r = i / d, c = i % d;
        q[r * row + c] = begin + r < o.length ? o.q(start + begin + r, col + c) * scale : 0.0f;
        sum[r * row + c] = 0;
      }
      if (t < Tile) top[t] = -HUGE_VALF, total[t] = 0;
    });
    const Index last = begin + Tile < o.length ? begin + Tile : o.length;
    const Index reach = o.window > 0 && begin + 1 > o.window ? begin + 1 - o.window : 0;
    for (Index from = reach / Tile * Tile; from < last; from += Tile) {
      block.for_threads([&](int t) {
        for (Index i = t; i < Tile * d; i += threads) {
          const Index r = i / d, c = i % d;
          const bool there = from + r < o.length;
          k[r * row + c] = there ? o.k(start + from + r, kv_col + c) : 0.0f;
          v[r * row + c] = there ? o.v(start + from + r, kv_col + c) : 0.0f;
        }
      });
      block.for_threads([&](int t) {
        for (int u = t; u < half * half; u += threads) {
          const Index i = u / half, j = u % half;  // and those half a tile further
          float s[2][2] = {};
          for (Index c = 0; c < d; ++c)
            for (int a = 0; a < 2; ++a)
              for (int b = 0; b < 2; ++b)
                s[a][b] += q[(i + a * half) * row + c] * k[(j + b * half) * row + c];
          for (int a = 0; a < 2; ++a)
            for (int b = 0; b < 2; ++b) {
              const Index query = begin + i + a * half, key = from + j + b * half;
              const bool seen = key <= query && (o.window == 0 || key + o.window > query);
              score[(i + a * half) * (Tile + 1) + j + b * half] = seen ? s[a][b] : -HUGE_VALF;
            }
        }
      });
      block.for_threads([&](int t) {
        if (t >= Tile) return;
        float* const mine = score + t * (Tile + 1);
        float most = top[t];
        for (int j = 0; j < Tile; ++j) most = lane::max(most, mine[j]);
        float added = 0;
        for (int j = 0; j < Tile; ++j) {
          mine[j] = mine[j] > -HUGE_VALF ? std::exp(mine[j] - most) : 0.0f;
          added += mine[j];
        }
        shrink[t] = top[t] > -HUGE_VALF ? std::exp(top[t] - most) : 0.0f;
        total[t] = total[t] * shrink[t] + added;
        top[t] = most;
      });
      block.for_threads([&](int t) {
        const Index groups = d / Across;
        for (Index u = t; u < groups * quarter; u += threads) {
          const Index r = u / groups, c = u % groups;  // and those a quarter, a group further
          float x[4][Across] = {};
          for (int j = 0; j < Tile; ++j)
            for (int a = 0; a < 4; ++a)
              for (int b = 0; b < Across; ++b)
                x[a][b] += score[(r + a * quarter) * (Tile + 1) + j] * v[j * row + c + b * groups];
          for (int a = 0; a < 4; ++a)
            for (int b = 0; b < Across; ++b) {
              float& to = sum[(r + a * quarter) * row + c + b * groups];
              to = to * shrink[r + a * quarter] + x[a][b];
            }
        }
      });
    }
    block.for_threads([&](int t) {
      for (Index i = t; i < Tile * d; i += threads) {
        const Index r = i / d, c = i % d;
        if (begin + r < o.length) o.out(start + begin + r, col + c) = sum[r * row + c] / total[r];
      }
    });
  }
};

struct SiluMul {
  const float* up;
  float* gate;
  GPTQ_HD void operator()(Index i) const {
    gate[i] = gate[i] / (1.0f + std::exp(-gate[i])) * up[i];
  }
};

struct AddBias {
  const float* bias;
  MatrixView<float> y;
  GPTQ_HD void operator()(Index r, Index c) const { y(r, c) += bias[c]; }
};

struct Add {
  MatrixView<const float> x;
  MatrixView<float> y;
  GPTQ_HD void operator()(Index r, Index c) const { y(r, c) += x(r, c); }
};

struct Subtract {
  MatrixView<const float> a, b;
  MatrixView<float> to;
  GPTQ_HD void operator()(Index r, Index c) const { to(r, c) = a(r, c) - b(r, c); }
};

struct RoundToInt8 {
  MatrixView<const float> x;
  scheme::Grid<float> grid;
  float* y;
  GPTQ_HD void operator()(Index r, Index c) const {
    const scheme::Int8 scheme;
    y[r * x.cols() + c] = scheme.decode(scheme.encode(x(r, c), grid), grid);
  }
};

/// One block per row.
struct AddLogits {
  static constexpr int threads = 128;
  MatrixView<const float> logits;
  const std::int32_t* targets;
  Index first;
  SoftmaxState state;
  GPTQ_HD void operator()(const Block& block) const {
    const Index r = block.index;
    double* const partial = reinterpret_cast<double*>(block.shared);
    block.for_threads([&](int t) {
      double most = state.top[r];
      for (Index c = t; c < logits.cols(); c += threads)
        most = lane::max(most, static_cast<double>(logits(r, c)));
      partial[t] = most;
    });
    reduce(block, partial, [](double a, double b) { return lane::max(a, b); });
    double* const top = partial + threads;
    block.for_threads([&](int t) {
      if (t == 0) *top = partial[0];
    });
    block.for_threads([&](int t) {
      double sum = 0;
      for (Index c = t; c < logits.cols(); c += threads)
        sum += static_cast<double>(std::exp(logits(r, c) - static_cast<float>(*top)));
      partial[t] = sum;
    });
    reduce(block, partial, [](double a, double b) { return a + b; });
    block.for_threads([&](int t) {
      if (t != 0) return;
      const double before = static_cast<double>(state.top[r]);
      state.sum[r] = (before > -HUGE_VAL ? state.sum[r] * std::exp(before - *top) : 0) + partial[0];
      state.top[r] = static_cast<float>(*top);
      const Index target = targets[r] - first;
      if (target >= 0 && target < logits.cols())
        state.target[r] = static_cast<double>(logits(r, target));
    });
  }
};

}  // namespace gptq::model::cuda::kernels
