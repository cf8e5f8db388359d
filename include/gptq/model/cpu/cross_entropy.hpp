// SPDX-License-Identifier: MIT
#pragma once

// The loss of a head, without ever holding all logits.

#include <gptq/backend/cpu/tiled_products.hpp>
#include <gptq/backend/host/matrix.hpp>
#include <gptq/config.hpp>
#include <gptq/core/precision.hpp>
#include <gptq/model/description.hpp>
#include <gptq/model/layer_weights.hpp>

#include <Eigen/Core>

#include <algorithm>  // std::max, std::min
#include <cmath>      // std::exp, std::log
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

namespace gptq::model {
inline namespace GPTQ_SIMD {
namespace cpu {

/// −log softmax(cap(scale·(x·Wᵀ + b)))[target] of each row with a target that is not negative; a
/// strip of the vocabulary at a time.
template <class Executor>
std::vector<double> cross_entropy(const Executor& executor, Precision precision,
                                  MatrixView<const float> x, const Linear& linear,
                                  const HeadSpec& how, std::span<const std::int32_t> targets) {
  constexpr Index wide = 1024, tall = 256;
  struct Row {
    float top = -std::numeric_limits<float>::infinity();
    double sum = 0;     ///< Σ exp(logit − top) over the strips so far
    double target = 0;  ///< logit of the target
  };
  const MatrixView<const float> weight = linear.weight.view();
  const auto factor = static_cast<float>(how.scale), cap = static_cast<float>(how.softcap);
  std::vector<Row> rows(static_cast<std::size_t>(x.rows()));
  for (Index col = 0; col < weight.rows(); col += wide) {
    const auto part = weight.middle_rows(col, (std::min)(wide, weight.rows() - col));
    const backend::cpu::RightSide right(executor, part, precision);
    executor.parallel_for((x.rows() + tall - 1) / tall, [&](Index i) {
      const Index first = i * tall, count = (std::min)(tall, x.rows() - first);
      backend::HostMatrix<float> logits(count, part.rows());
      right.multiply(logits.view(), x.middle_rows(first, count), false);
      for (Index r = 0; r < count; ++r) {
        Eigen::Map<Eigen::ArrayXf> row(logits.row(r), logits.cols());
        if (!linear.bias.empty())
          row += Eigen::Map<const Eigen::ArrayXf>(linear.bias.data() + col, row.size());
        if (factor != 1) row *= factor;
        if (cap > 0) row = cap * (row / cap).tanh();
        Row& state = rows[std::size_t(first + r)];
        const float top = (std::max)(state.top, row.maxCoeff());
        state.sum = state.sum * std::exp(static_cast<double>(state.top - top)) +
                    static_cast<double>((row - top).exp().sum());
        state.top = top;
        const Index target = targets[std::size_t(first + r)] - col;
        if (target >= 0 && target < part.rows()) state.target = static_cast<double>(row[target]);
      }
    });
  }
  std::vector<double> losses;
  for (std::size_t r = 0; r < rows.size(); ++r)
    if (targets[r] >= 0)
      losses.push_back(std::log(rows[r].sum) + static_cast<double>(rows[r].top) - rows[r].target);
  return losses;
}

}  // namespace cpu
}  // namespace GPTQ_SIMD
}  // namespace gptq::model
