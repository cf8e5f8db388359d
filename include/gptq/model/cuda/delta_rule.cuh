// SPDX-License-Identifier: MIT
#pragma once

// The gated delta rule on the device.

#include <gptq/backend/cuda/device.cuh>
#include <gptq/model/cuda/launch.hpp>
#include <gptq/model/delta_gates.hpp>

#include <cmath>  // std::sqrt

namespace gptq::model::cuda::kernels {

using backend::cuda::Block;

/// Coordinates of a value never meet, so a block has some of them, a row of the state per thread,
/// of one head of one sequence.
struct DeltaRule {
  static constexpr int threads = 32;
  DeltaRuleOperands o;

  GPTQ_HD Index slices() const { return (o.how.value_dim + threads - 1) / threads; }
  Index blocks() const { return o.y.rows() / o.length * o.how.value_heads * slices(); }
  Index shared() const {
    return Index(sizeof(float)) * (threads * (o.how.key_dim + 1) + 2 * o.how.key_dim + 2 * threads);
  }

  GPTQ_HD void operator()(const Block& block) const {
    const Index dk = o.how.key_dim, dv = o.how.value_dim, row = dk + 1;
    const Index slice = block.index % slices(), rest = block.index / slices();
    const Index head = rest % o.how.value_heads, start = rest / o.how.value_heads * o.length;
    const Index key_head = head / (o.how.value_heads / o.how.key_heads);
    float* const state = block.shared;  // [threads][key_dim], a step ahead of the banks
    float* const q = state + threads * row;
    float* const k = q + dk;
    float* const squares = k + dk;  // of q, then of k
    block.for_threads([&](int t) {
      for (Index i = 0; i < dk; ++i) state[t * row + i] = 0;
    });
    for (Index r = start; r < start + o.length; ++r) {
      block.for_threads([&](int t) {
        float of_q = 0, of_k = 0;
        for (Index i = t; i < dk; i += threads) {
          q[i] = o.q(r, key_head * dk + i);
          k[i] = o.k(r, key_head * dk + i);
          of_q += q[i] * q[i];
          of_k += k[i] * k[i];
        }
        squares[t] = of_q;
        squares[threads + t] = of_k;
      });
      block.for_threads([&](int t) {
        float of_q = 0, of_k = 0;
        for (int i = 0; i < threads; ++i) of_q += squares[i], of_k += squares[threads + i];
        const float q_scale = 1.0f / (std::sqrt(of_q + 1e-6f) * std::sqrt(static_cast<float>(dk)));
        const float k_scale = 1.0f / std::sqrt(of_k + 1e-6f);
        for (Index i = t; i < dk; i += threads) q[i] *= q_scale, k[i] *= k_scale;
      });
      const DeltaGates gates(o.a(r, head), o.b(r, head), o.a_log[head], o.dt_bias[head]);
      block.for_threads([&](int t) {
        const Index at = slice * threads + t;
        if (at >= dv) return;
        float* const mine = state + t * row;
        float known = 0, result = 0;
        for (Index i = 0; i < dk; ++i) {
          mine[i] *= gates.decay;
          known += mine[i] * k[i];
        }
        const float change = gates.beta * (o.v(r, head * dv + at) - known);
        for (Index i = 0; i < dk; ++i) {
          mine[i] += change * k[i];
          result += mine[i] * q[i];
        }
        o.y(r, head * dv + at) = result;
      });
    }
  }
};

}  // namespace gptq::model::cuda::kernels
