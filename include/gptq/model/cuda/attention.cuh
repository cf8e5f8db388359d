// SPDX-License-Identifier: MIT
#pragma once

// Attention on the device.

#include <gptq/backend/cuda/device.cuh>
#include <gptq/lane/arithmetic.hpp>
#include <gptq/model/cuda/launch.hpp>
#include <gptq/model/position_bias.hpp>

#include <cmath>  // std::exp, std::tanh

namespace gptq::model::cuda::kernels {

using backend::cuda::Block;

/// A tile of queries of one head against all keys they see, one tile of keys at a time. Only the
/// scores of one pair of tiles exist at once; the softmax is corrected when a later tile has a
/// larger score (Milakov, Gimelshein, "Online normalizer calculation for softmax", 2018).
/// \tparam Tile    queries per tile, and keys
/// \tparam Across  coordinates of a value that a thread accumulates at once
template <int Tile, int Across>
struct Attend {
  static constexpr int threads = 256, half = Tile / 2, quarter = Tile / 4;
  AttentionOperands o;

  /// Rows of shared memory start on successive banks.
  GPTQ_HD constexpr Index shared() const {
    return Index(sizeof(float)) *
           (2 * Tile * (o.head_dim + 1 + o.value_dim + 1) + Tile * (Tile + 1) + 3 * Tile);
  }
  Index tiles() const { return (o.length + Tile - 1) / Tile; }
  Index blocks() const { return o.q.rows() / o.length * o.heads * tiles(); }

  GPTQ_HD void operator()(const Block& block) const {
    const Index tile = block.index % ((o.length + Tile - 1) / Tile),
                rest = block.index / ((o.length + Tile - 1) / Tile);
    const Index head = rest % o.heads, start = rest / o.heads * o.length, begin = tile * Tile;
    // Places within a tile are small numbers, which divide faster and take one register.
    const int d = static_cast<int>(o.head_dim), row = d + 1;
    const int dv = static_cast<int>(o.value_dim), value_row = dv + 1;
    const Index kv_head = head / (o.heads / o.kv_heads);
    float* const q = block.shared;
    float* const k = q + Tile * row;
    float* const v = k + Tile * row;
    float* const sum = v + Tile * value_row;
    float* const score = sum + Tile * value_row;  // [Tile][Tile + 1]
    float* const top = score + Tile * (Tile + 1);
    float* const total = top + Tile;
    float* const shrink = total + Tile;

    block.for_threads([&](int t) {
      for (int i = t; i < Tile * d; i += threads) {
        const int r = i / d, c = i % d;
        q[r * row + c] =
            begin + r < o.length ? o.q(start + begin + r, head * d + c) * o.scale : 0.0f;
      }
      for (int i = t; i < Tile * value_row; i += threads) sum[i] = 0;
      // A sink is a key whose value is zero.
      if (t < Tile) top[t] = o.sinks ? o.sinks[head] : -HUGE_VALF, total[t] = o.sinks ? 1.0f : 0.0f;
    });
    const Index last = begin + Tile < o.length ? begin + Tile : o.length;
    const Index reach = o.window > 0 && begin + 1 > o.window ? begin + 1 - o.window : 0;
    for (Index from = reach / Tile * Tile; from < last; from += Tile) {
      block.for_threads([&](int t) {
        for (int i = t; i < Tile * d; i += threads) {
          const int r = i / d, c = i % d;
          k[r * row + c] = from + r < o.length ? o.k(start + from + r, kv_head * d + c) : 0.0f;
        }
        for (int i = t; i < Tile * dv; i += threads) {
          const int r = i / dv, c = i % dv;
          v[r * value_row + c] =
              from + r < o.length ? o.v(start + from + r, kv_head * dv + c) : 0.0f;
        }
      });
      block.for_threads([&](int t) {
        for (int u = t; u < half * half; u += threads) {
          const Index i = u / half, j = u % half;  // and those half a tile further
          float s[2][2] = {};
          for (int c = 0; c < d; ++c)
            for (int a = 0; a < 2; ++a)
              for (int b = 0; b < 2; ++b)
                s[a][b] += q[(i + a * half) * row + c] * k[(j + b * half) * row + c];
          for (int a = 0; a < 2; ++a)
            for (int b = 0; b < 2; ++b) {
              const Index query = begin + i + a * half, key = from + j + b * half;
              const bool seen = key <= query && (o.window == 0 || key + o.window > query);
              score[(i + a * half) * (Tile + 1) + j + b * half] =
                  seen ? adjusted(s[a][b], head, key) : -HUGE_VALF;
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
        const int groups = dv / Across;
        for (int u = t; u < groups * quarter; u += threads) {
          const int r = u / groups, c = u % groups;  // and those a quarter, a group further
          float x[4][Across] = {};
          for (int j = 0; j < Tile; ++j)
            for (int a = 0; a < 4; ++a)
              for (int b = 0; b < Across; ++b)
                x[a][b] +=
                    score[(r + a * quarter) * (Tile + 1) + j] * v[j * value_row + c + b * groups];
          for (int a = 0; a < 4; ++a)
            for (int b = 0; b < Across; ++b) {
              float& to = sum[(r + a * quarter) * value_row + c + b * groups];
              to = to * shrink[r + a * quarter] + x[a][b];
            }
        }
      });
    }
    block.for_threads([&](int t) {
      for (int i = t; i < Tile * dv; i += threads) {
        const int r = i / dv, c = i % dv;
        if (begin + r < o.length)
          o.out(start + begin + r, head * dv + c) = sum[r * value_row + c] / total[r];
      }
    });
  }

 private:
  GPTQ_HD float adjusted(float score, Index head, Index key) const {
    if (o.softcap > 0) score = o.softcap * std::tanh(score / o.softcap);
    if (o.slopes) score += PositionBias{o.slopes[head], o.scale, o.rounded_slopes}(key);
    return score;
  }
};

}  // namespace gptq::model::cuda::kernels
