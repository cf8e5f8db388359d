// SPDX-License-Identifier: MIT
#pragma once

// The gated delta rule for one head of one sequence, token by token.

#include <gptq/config.hpp>
#include <gptq/core/matrix_view.hpp>
#include <gptq/model/delta_gates.hpp>
#include <gptq/model/step.hpp>

#include <Eigen/Core>

#include <array>
#include <cmath>  // std::sqrt

namespace gptq::model {
inline namespace GPTQ_SIMD {
namespace cpu {

/// \param y     the sequence's rows of the result
/// \param in    q, k, v, a, b of all sequences
/// \param head  of values; groups of them share a head of keys
/// \param first the sequence's first row in `in`
inline void delta_rule(MatrixView<float> y, const std::array<MatrixView<const float>, 5>& in,
                       const step::DeltaRule& how, Index head, Index first, float a_log,
                       float dt_bias) {
  const Index dk = how.key_dim, dv = how.value_dim;
  const Index key_head = head / (how.value_heads / how.key_heads);
  Eigen::MatrixXf state = Eigen::MatrixXf::Zero(dv, dk);
  Eigen::VectorXf q(dk), k(dk), d(dv);
  const auto unit = [&](MatrixView<const float> m, Index r, Eigen::VectorXf& to) {
    to = Eigen::Map<const Eigen::VectorXf>(&m(r, key_head * dk), dk);
    to *= 1.0f / std::sqrt(to.squaredNorm() + 1e-6f);
  };
  for (Index t = 0; t < y.rows(); ++t) {
    const Index r = first + t;
    unit(in[0], r, q);
    unit(in[1], r, k);
    q *= 1.0f / std::sqrt(static_cast<float>(dk));
    const Eigen::Map<const Eigen::VectorXf> v(&in[2](r, head * dv), dv);
    const DeltaGates gates(in[3](r, head), in[4](r, head), a_log, dt_bias);
    state *= gates.decay;
    d.noalias() = gates.beta * (v - state * k);
    state.noalias() += d * k.transpose();
    Eigen::Map<Eigen::VectorXf>(&y(t, head * dv), dv).noalias() = state * q;
  }
}

}  // namespace cpu
}  // namespace GPTQ_SIMD
}  // namespace gptq::model
