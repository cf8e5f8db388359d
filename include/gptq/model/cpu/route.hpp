// SPDX-License-Identifier: MIT
#pragma once

// The choice of experts for one token.

#include <gptq/core/matrix_view.hpp>
#include <gptq/model/step.hpp>

#include <algorithm>  // std::fill, std::max, std::partial_sort
#include <cmath>      // std::exp
#include <limits>
#include <numeric>  // std::iota
#include <span>
#include <vector>

namespace gptq::model::cpu {

/// The first `count` places of the largest numbers; of equal ones, the earlier first.
inline std::vector<std::size_t> largest(std::span<const float> numbers, Index count) {
  std::vector<std::size_t> order(numbers.size());
  std::iota(order.begin(), order.end(), std::size_t(0));
  const auto end = order.begin() + static_cast<std::ptrdiff_t>(count);
  std::partial_sort(order.begin(), end, order.end(), [&](std::size_t a, std::size_t b) {
    return numbers[a] > numbers[b] || (numbers[a] == numbers[b] && a < b);
  });
  order.erase(end, order.end());
  return order;
}

/// \param weights  receives the weight of each chosen expert, and −1 for the others
inline void route(const step::Route& how, std::span<const float> logits,
                  std::span<const float> bias, std::span<float> weights) {
  const std::size_t experts = logits.size();
  std::vector<float> score(experts), choice(experts);
  float top = -std::numeric_limits<float>::infinity(), sum = 0;
  for (const float z : logits) top = (std::max)(top, z);
  for (std::size_t e = 0; e < experts; ++e) {
    score[e] = how.score == step::Route::Score::sigmoid ? 1.0f / (1.0f + std::exp(-logits[e]))
                                                        : std::exp(logits[e] - top);
    sum += score[e];
  }
  for (std::size_t e = 0; e < experts; ++e) {
    if (how.score == step::Route::Score::softmax) score[e] /= sum;
    choice[e] = score[e] + (bias.empty() ? 0.0f : bias[e]);
  }
  if (how.groups > 1) {
    const std::size_t size = experts / static_cast<std::size_t>(how.groups);
    std::vector<float> worth;
    for (std::size_t first = 0; first < experts; first += size) {
      const std::span<const float> group(&choice[first], size);
      const bool two = how.group_score == step::Route::GroupScore::two_best && size > 1;
      float total = 0;
      for (const std::size_t e : largest(group, two ? 2 : 1)) total += group[e];
      worth.push_back(total);
    }
    std::vector<char> open(worth.size());
    for (const std::size_t g : largest(worth, how.chosen_groups)) open[g] = true;
    for (std::size_t e = 0; e < experts; ++e)
      if (!open[e / size]) choice[e] = -std::numeric_limits<float>::infinity();
  }
  std::fill(weights.begin(), weights.end(), -1.0f);
  const auto chosen = largest(choice, how.chosen);
  float total = static_cast<float>(how.least_sum);
  for (const std::size_t e : chosen) total += score[e];
  const float factor = static_cast<float>(how.scale) / (how.normalized ? total : 1.0f);
  for (const std::size_t e : chosen) weights[e] = score[e] * factor;
}

}  // namespace gptq::model::cpu
