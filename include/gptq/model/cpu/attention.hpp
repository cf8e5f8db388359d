// SPDX-License-Identifier: MIT
#pragma once

// Attention of one head over one sequence.

#include <gptq/backend/cpu/tiled_products.hpp>
#include <gptq/backend/host/matrix.hpp>
#include <gptq/config.hpp>
#include <gptq/exec/serial.hpp>
#include <gptq/model/position_bias.hpp>
#include <gptq/model/step.hpp>

#include <Eigen/Core>

#include <algorithm>  // std::fill, std::max, std::min
#include <cmath>      // std::exp
#include <optional>
#include <span>

namespace gptq::model {
inline namespace GPTQ_SIMD {
namespace cpu {

/// What turns the scores of a head into weights.
struct AttentionHead {
  Index window;
  float scale, softcap;
  PositionBias bias;
  std::optional<float> sink;

  AttentionHead(const step::Attention& how, Index head, std::span<const float> sinks)
      : window(how.window),
        scale(score_scale(how)),
        softcap(static_cast<float>(how.softcap)),
        bias{how.slopes.empty() ? 0.0f : how.slopes[static_cast<std::size_t>(head)], scale,
             how.scaled_slopes} {
    if (!sinks.empty()) sink = sinks[static_cast<std::size_t>(head)];
  }

  /// Turns the scores of one query into weights; keys after it and outside the window get 0.
  /// \param last  the query's own key
  /// \param from  position of the first key
  void softmax(float* scores, Index last, Index keys, Index from) const {
    const Index first = window > 0 ? (std::max)(Index(0), last - window + 1) : 0;
    Eigen::Map<Eigen::ArrayXf> live(scores + first, last + 1 - first);
    if (softcap == 0 && bias.slope == 0 && !sink) {
      live = ((live - live.maxCoeff()) * scale).exp();
      live *= 1.0f / live.sum();
    } else {
      live *= scale;
      if (softcap > 0) live = softcap * (live / softcap).tanh();
      for (Index i = 0; bias.slope != 0 && i < live.size(); ++i) live[i] += bias(from + first + i);
      const float top = sink ? (std::max)(*sink, live.maxCoeff()) : live.maxCoeff();
      live = (live - top).exp();
      live *= 1.0f / (live.sum() + (sink ? std::exp(*sink - top) : 0.0f));
    }
    std::fill(scores, scores + first, 0.0f);
    std::fill(scores + last + 1, scores + keys, 0.0f);
  }
};

/// Queries in blocks, scores of one block at a time.
inline void attend(MatrixView<float> out, MatrixView<const float> q, MatrixView<const float> k,
                   MatrixView<const float> v, const AttentionHead& head, Precision precision) {
  constexpr Index block = 128, granule = 32;
  const Index length = q.rows();
  const backend::cpu::RightSide keys(exec::Serial{}, k, precision),
      values(exec::Serial{}, v.transposed(), precision);
  // Aligned memory, because Eigen's summation order depends on alignment.
  backend::HostMatrix<float> scores(block, length + granule);
  for (Index begin = 0; begin < length; begin += block) {
    const Index rows = (std::min)(block, length - begin);
    const Index reach = head.window > 0 ? (std::max)(Index(0), begin - head.window + 1) : 0;
    const Index from = reach / granule * granule, count = begin + rows - from;
    const MatrixView<float> s(scores.data(), rows, count);
    keys.multiply(s, q.middle_rows(begin, rows), false, from);
    for (Index r = 0; r < rows; ++r) head.softmax(&s(r, 0), begin + r - from, count, from);
    values.multiply(out.middle_rows(begin, rows), MatrixView<const float>(s), false, 0, from);
  }
}

}  // namespace cpu
}  // namespace GPTQ_SIMD
}  // namespace gptq::model
