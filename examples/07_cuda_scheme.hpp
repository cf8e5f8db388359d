// SPDX-License-Identifier: MIT
#pragma once

// Weights as powers of two, which a shift multiplies by: a codebook is a table of levels.

#include <gptq/scheme/codebook.hpp>

struct PowersOfTwoLevels {
  static constexpr std::array<float, 15> values{
      -1,        -1 / 2.0f, -1 / 4.0f, -1 / 8.0f, -1 / 16.0f, -1 / 32.0f, -1 / 64.0f, 0,
      1 / 64.0f, 1 / 32.0f, 1 / 16.0f, 1 / 8.0f,  1 / 4.0f,   1 / 2.0f,   1};
};
using PowersOfTwo = gptq::scheme::Codebook<PowersOfTwoLevels>;
