// SPDX-License-Identifier: MIT
#pragma once

// Kernels that compute each element on its own.

#include <gptq/backend/cuda/device.cuh>
#include <gptq/lane/arithmetic.hpp>
#include <gptq/model/cuda/launch.hpp>
#include <gptq/scheme/affine.hpp>

#include <cmath>  // std::erf, std::exp, std::tanh

namespace gptq::model::cuda::kernels {

GPTQ_HD inline float activation(Activation kind, float x) {
  switch (kind) {
    case Activation::silu: return x / (1.0f + std::exp(-x));
    case Activation::sigmoid: return 1.0f / (1.0f + std::exp(-x));
    case Activation::relu: return lane::max(x, 0.0f);
    case Activation::relu_squared: return lane::max(x, 0.0f) * lane::max(x, 0.0f);
    case Activation::gelu: return 0.5f * x * (1.0f + std::erf(x * 0.70710678f));
    case Activation::gelu_tanh:
      return 0.5f * x * (1.0f + std::tanh(0.79788456f * (x + 0.044715f * x * x * x)));
  }
  return x;
}

struct Activate {
  MatrixView<const float> x;
  Activation kind;
  MatrixView<float> y;
  GPTQ_HD void operator()(Index r, Index c) const { y(r, c) = activation(kind, x(r, c)); }
};

struct Gated {
  MatrixView<const float> gate, up;
  step::Gated how;
  MatrixView<float> y;
  GPTQ_HD void operator()(Index r, Index c) const {
    float g = gate(r, gate.cols() == 1 ? 0 : c), u = up(r, c);
    if (how.limit > 0) {
      const auto limit = static_cast<float>(how.limit), alpha = static_cast<float>(how.alpha);
      g = lane::min(g, limit);
      u = lane::max(lane::min(u, limit), -limit);
      y(r, c) = (u + 1.0f) * (g / (1.0f + std::exp(-alpha * g)));
    } else {
      y(r, c) = activation(how.kind, g) * u;
    }
  }
};

struct Fill {
  float value;
  MatrixView<float> y;
  GPTQ_HD void operator()(Index r, Index c) const { y(r, c) = value; }
};

struct Scale {
  MatrixView<const float> x;
  float factor;
  MatrixView<float> y;
  GPTQ_HD void operator()(Index r, Index c) const { y(r, c) = x(r, c) * factor; }
};

struct Clamp {
  MatrixView<const float> x;
  float limit;
  MatrixView<float> y;
  GPTQ_HD void operator()(Index r, Index c) const {
    y(r, c) = lane::min(lane::max(x(r, c), -limit), limit);
  }
};

struct AddPositions {
  MatrixView<const float> x;
  const float* table;
  Index offset, length;
  MatrixView<float> y;
  GPTQ_HD void operator()(Index r, Index c) const {
    y(r, c) = x(r, c) + table[(r % length + offset) * x.cols() + c];
  }
};

struct Sharpen {
  MatrixView<const float> x;
  step::Sharpen how;
  Index length;
  MatrixView<float> y;
  GPTQ_HD void operator()(Index r, Index c) const { y(r, c) = x(r, c) * how.factor(r % length); }
};

struct Columns {
  MatrixView<const float> x;
  step::Columns how;
  MatrixView<float> y;
  GPTQ_HD void operator()(Index r, Index c) const {
    y(r, c) = x(r, c / how.count * how.period + how.first + c % how.count);
  }
};

struct Join {
  MatrixView<const float> a, b;
  step::Join how;
  MatrixView<float> y;
  GPTQ_HD void operator()(Index r, Index c) const {
    const Index width = how.a + how.b, head = c / width, i = c % width;
    const bool shared = b.cols() == how.b;
    y(r, c) = i < how.a ? a(r, head * how.a + i) : b(r, (shared ? 0 : head * how.b) + i - how.a);
  }
};

/// A thread per pair of coordinates.
struct Turn {
  MatrixView<float> x;
  const float *cosine, *sine;
  step::Rope how;
  Index half, length;
  GPTQ_HD void operator()(Index r, Index pair) const {
    const auto small = [](Index n) { return static_cast<std::uint32_t>(n); };  // divides faster
    const Index head = small(pair) / small(half), i = small(pair) % small(half);
    const Index place = small(r) % small(length) * half + i;
    const Index at = head * how.head_dim + how.first + (how.interleaved ? 2 * i : i);
    float& a = x(r, at);
    float& b = x(r, at + (how.interleaved ? 1 : half));
    const float first = a, second = b;
    a = first * cosine[place] - second * sine[place];
    b = second * cosine[place] + first * sine[place];
  }
};

struct Convolution {
  MatrixView<const float> x;
  const float* weight;
  Index taps, length;
  MatrixView<float> y;
  GPTQ_HD void operator()(Index r, Index c) const {
    float sum = 0;
    for (Index j = 0; j < taps; ++j) {
      const Index back = taps - 1 - j;
      if (back <= r % length) sum += weight[c * taps + j] * x(r - back, c);
    }
    y(r, c) = sum;
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

}  // namespace gptq::model::cuda::kernels
