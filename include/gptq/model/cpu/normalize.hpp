// SPDX-License-Identifier: MIT
#pragma once

// RMSNorm and LayerNorm of one row, or of a part of it.

#include <gptq/config.hpp>
#include <gptq/core/matrix_view.hpp>
#include <gptq/model/step.hpp>

#include <Eigen/Core>

#include <cmath>  // std::sqrt
#include <span>

namespace gptq::model {
inline namespace GPTQ_SIMD {
namespace cpu {

/// \param y             receives the result; may be x
/// \param weight, bias  of `how.size` numbers, or empty
inline void normalize(const float* x, float* y, const step::Norm& how,
                      std::span<const float> weight, std::span<const float> bias) {
  const Index n = how.size;
  const Eigen::Map<const Eigen::ArrayXf> in(x, n), w(weight.data(), n), b(bias.data(), n);
  Eigen::Map<Eigen::ArrayXf> out(y, n);
  const auto factor = [&](const auto& numbers) {
    return 1.0f / std::sqrt(numbers.square().mean() + static_cast<float>(how.epsilon));
  };
  float scale = 0;
  if (how.kind == step::Norm::Kind::layer) {
    out = in - in.mean();
    scale = factor(out);
    if (weight.empty()) out *= scale;
    else out *= scale * w;
  } else {
    scale = factor(in);
    if (weight.empty()) out = in * scale;
    else out = in * scale * w;
  }
  if (!bias.empty()) out += b;
}

}  // namespace cpu
}  // namespace GPTQ_SIMD
}  // namespace gptq::model
