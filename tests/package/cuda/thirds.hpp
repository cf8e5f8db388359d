// SPDX-License-Identifier: MIT
#pragma once

// A scheme defined by the consumer: -1, 0 and 1 times a scale.

#include <gptq/scheme/codebook.hpp>

struct ThirdsLevels {
  static constexpr std::array<float, 3> values{-1, 0, 1};
};
using Thirds = gptq::scheme::Codebook<ThirdsLevels>;
