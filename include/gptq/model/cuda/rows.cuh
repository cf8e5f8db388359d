// SPDX-License-Identifier: MIT
#pragma once

// Kernels that reduce a row to a number.

#include <gptq/backend/cuda/device.cuh>
#include <gptq/lane/arithmetic.hpp>
#include <gptq/model/cuda/launch.hpp>

#include <cmath>  // std::exp, std::sqrt, std::tanh

namespace gptq::model::cuda::kernels {

using backend::cuda::Block, backend::cuda::reduce;

/// One block per part of a row.
struct Norm {
  static constexpr int threads = 128;
  MatrixView<const float> x;
  step::Norm how;
  const float *weight, *bias;
  MatrixView<float> y;
  Index parts() const { return x.rows() * (x.cols() / how.size); }
  GPTQ_HD void operator()(const Block& block) const {
    const Index across = x.cols() / how.size, size = how.size;
    const Index r = block.index / across, c = block.index % across * size;
    const Index own = how.weights == step::Norm::Weights::shared ? 0 : c;
    const float count = static_cast<float>(size);
    float* const partial = block.shared;
    float* const mean = partial + threads;
    block.for_threads([&](int t) {
      if (t == 0) *mean = 0;
    });
    if (how.kind == step::Norm::Kind::layer) {
      block.for_threads([&](int t) {
        float sum = 0;
        for (Index i = t; i < size; i += threads) sum += x(r, c + i);
        partial[t] = sum;
      });
      reduce(block, partial, [](float a, float b) { return a + b; });
      block.for_threads([&](int t) {
        if (t == 0) *mean = partial[0] / count;
      });
    }
    block.for_threads([&](int t) {
      float sum = 0;
      for (Index i = t; i < size; i += threads) {
        const float distance = x(r, c + i) - *mean;
        sum += distance * distance;
      }
      partial[t] = sum;
    });
    reduce(block, partial, [](float a, float b) { return a + b; });
    block.for_threads([&](int t) {
      const float scale = 1.0f / std::sqrt(partial[0] / count + static_cast<float>(how.epsilon));
      for (Index i = t; i < size; i += threads)
        y(r, c + i) = (x(r, c + i) - *mean) * scale * (weight ? weight[own + i] : 1.0f) +
                      (bias ? bias[own + i] : 0.0f);
    });
  }
};

/// One block per row.
struct AddLogits {
  static constexpr int threads = 128;
  MatrixView<const float> logits;
  const std::int32_t* targets;
  Index first;
  HeadOperands head;
  SoftmaxState state;
  GPTQ_HD void operator()(const Block& block) const {
    const Index r = block.index;
    double* const partial = reinterpret_cast<double*>(block.shared);
    block.for_threads([&](int t) {
      double most = state.top[r];
      for (Index c = t; c < logits.cols(); c += threads)
        most = lane::max(most, static_cast<double>(logit(r, c)));
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
        sum += static_cast<double>(std::exp(logit(r, c) - static_cast<float>(*top)));
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
        state.target[r] = static_cast<double>(logit(r, target));
    });
  }

 private:
  GPTQ_HD float logit(Index r, Index c) const {
    const float z = (logits(r, c) + (head.bias ? head.bias[first + c] : 0.0f)) * head.scale;
    return head.softcap > 0 ? head.softcap * std::tanh(z / head.softcap) : z;
  }
};

}  // namespace gptq::model::cuda::kernels
