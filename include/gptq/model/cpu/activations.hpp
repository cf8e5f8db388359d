// SPDX-License-Identifier: MIT
#pragma once

// Element-wise functions on rows of numbers.

#include <gptq/config.hpp>
#include <gptq/core/error.hpp>
#include <gptq/model/step.hpp>

#include <Eigen/Core>

#include <cmath>  // std::erf

namespace gptq::model {
inline namespace GPTQ_SIMD {
namespace cpu {

/// Calls with(f), f an expression of an Eigen array.
template <class With>
void with_activation(Activation kind, const With& with) {
  switch (kind) {
    case Activation::silu: return with([](const auto& x) { return x / (1.0f + (-x).exp()); });
    case Activation::sigmoid: return with([](const auto& x) { return 1.0f / (1.0f + (-x).exp()); });
    case Activation::relu: return with([](const auto& x) { return x.max(0.0f); });
    case Activation::relu_squared: return with([](const auto& x) { return x.max(0.0f).square(); });
    case Activation::gelu:
      return with([](const auto& x) {
        return 0.5f * x * (1.0f + (x * 0.70710678f).unaryExpr([](float t) { return std::erf(t); }));
      });
    case Activation::gelu_tanh:
      return with([](const auto& x) {
        return 0.5f * x * (1.0f + (0.79788456f * (x + 0.044715f * x.cube())).tanh());
      });
  }
  throw InvalidArgument("an unknown activation");
}

}  // namespace cpu
}  // namespace GPTQ_SIMD
}  // namespace gptq::model
