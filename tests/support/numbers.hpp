// SPDX-License-Identifier: MIT
#pragma once

// Normally distributed numbers from a seed, for tests that need no layer.

#include <gptq/core/matrix_view.hpp>

#include <cstdint>
#include <random>
#include <vector>

namespace test {

inline std::vector<float> random_numbers(gptq::Index count, std::uint32_t seed = 1) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> numbers(static_cast<std::size_t>(count));
  for (float& x : numbers) x = normal(random);
  return numbers;
}

}  // namespace test
