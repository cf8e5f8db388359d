// SPDX-License-Identifier: MIT
#pragma once

// The choice of experts for one token, on any device.

#include <gptq/config.hpp>
#include <gptq/core/matrix_view.hpp>
#include <gptq/model/step.hpp>

#include <cmath>  // std::exp, HUGE_VALF

namespace gptq::model {

/// Chooses by the largest numbers; of equal ones, by the earlier.
struct ExpertChoice {
  /// What a place holds that cannot be chosen, or has been.
  static constexpr float closed = -HUGE_VALF, taken = HUGE_VALF;

  /// The place of the largest of `count` numbers that can be chosen; −1: there is none
  static GPTQ_HD Index best(const float* numbers, Index count) {
    Index at = -1;
    for (Index i = 0; i < count; ++i)
      if (numbers[i] > closed && numbers[i] < taken && (at < 0 || numbers[i] > numbers[at])) at = i;
    return at;
  }

  /// What a group of experts is worth.
  static GPTQ_HD float worth(const float* group, Index size, step::Route::GroupScore score) {
    float first = closed, second = closed;
    for (Index i = 0; i < size; ++i) {
      if (group[i] > first) second = first, first = group[i];
      else if (group[i] > second) second = group[i];
    }
    return score == step::Route::GroupScore::two_best && size > 1 ? first + second : first;
  }

  /// Closes all groups of experts but the best ones.
  /// \param worths  room for a number per group
  static GPTQ_HD void close_groups(const step::Route& how, float* choice, Index experts,
                                   float* worths) {
    const Index size = experts / how.groups;
    for (Index g = 0; g < how.groups; ++g)
      worths[g] = worth(choice + g * size, size, how.group_score);
    for (Index i = 0; i < how.chosen_groups; ++i)
      if (const Index g = best(worths, how.groups); g >= 0) worths[g] = taken;
    for (Index e = 0; e < experts; ++e)
      if (worths[e / size] != taken) choice[e] = closed;
  }
};

/// How many numbers `route` needs room for.
GPTQ_HD inline Index route_scratch(const step::Route& how, Index experts) {
  return experts + how.groups;
}

/// \param logits   of each expert
/// \param bias     joins the choice, not the weights; or null
/// \param weights  receives the weight of each chosen expert, and −1 for the others
/// \param scratch  route_scratch numbers
GPTQ_HD inline void route(const step::Route& how, const float* logits, Index experts,
                          const float* bias, float* weights, float* scratch) {
  float top = ExpertChoice::closed, sum = 0;
  for (Index e = 0; e < experts; ++e)
    if (logits[e] > top) top = logits[e];
  for (Index e = 0; e < experts; ++e) {
    weights[e] = how.score == step::Route::Score::sigmoid ? 1.0f / (1.0f + std::exp(-logits[e]))
                                                          : std::exp(logits[e] - top);
    sum += weights[e];
  }
  float* const choice = scratch;
  for (Index e = 0; e < experts; ++e) {
    if (how.score == step::Route::Score::softmax) weights[e] /= sum;
    choice[e] = weights[e] + (bias ? bias[e] : 0.0f);
  }
  if (how.groups > 1) ExpertChoice::close_groups(how, choice, experts, scratch + experts);
  float total = static_cast<float>(how.least_sum);
  for (Index i = 0; i < how.chosen; ++i)
    if (const Index e = ExpertChoice::best(choice, experts); e >= 0) {
      total += weights[e];
      choice[e] = ExpertChoice::taken;
    }
  const float factor = static_cast<float>(how.scale) / (how.normalized ? total : 1.0f);
  for (Index e = 0; e < experts; ++e)
    weights[e] = choice[e] == ExpertChoice::taken ? weights[e] * factor : -1.0f;
}

}  // namespace gptq::model
