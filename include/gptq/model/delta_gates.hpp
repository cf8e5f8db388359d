// SPDX-License-Identifier: MIT
#pragma once

// What the gated delta rule does with its state at a token, on any device.

#include <gptq/config.hpp>

#include <cmath>  // std::exp, std::log1p

namespace gptq::model {

/// See step::DeltaRule, for one head at one token.
struct DeltaGates {
  float decay;  ///< e^g
  float beta;

  GPTQ_HD DeltaGates(float a, float b, float a_log, float dt_bias) {
    const float x = a + dt_bias;
    const float softplus = x > 20.0f ? x : std::log1p(std::exp(x));
    decay = std::exp(-std::exp(a_log) * softplus);
    beta = 1.0f / (1.0f + std::exp(-b));
  }
};

}  // namespace gptq::model
