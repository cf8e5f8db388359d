// SPDX-License-Identifier: MIT
#pragma once

// Grid: the scale and zero point shared by one row's weights in one group, and the rounding of scales
// to the type they are stored in.

#include <gptq/core/params.hpp>
#include <gptq/kernel/arithmetic.hpp>

#include <cfloat>  // FLT_MIN

namespace gptq::scheme {

// Unqualified, these names find both the scalar versions and, by argument, those for lanes.
using kernel::abs, kernel::clamp, kernel::max, kernel::min, kernel::round_even, kernel::select;
using kernel::round_to_bfloat16, kernel::round_to_float16;

/// What a scheme needs to turn a code into a weight. T is a number, or a lane of them.
template <class T>
struct Grid {
  T scale;
  T zero;
};

/// A non-zero scale, rounded to the type it is stored in. One that would vanish becomes the smallest
/// number of the type instead, so that a grid never divides by zero.
template <class T>
GPTQ_HD T round_scale(const T& scale, ScaleType type) {
  T rounded = scale;
  float smallest = FLT_MIN;
  if (type == ScaleType::fp16) {
    rounded = round_to_float16(scale);
    smallest = 0x1p-24f;
  } else if (type == ScaleType::bf16) {
    rounded = round_to_bfloat16(scale);
  }
  const T floor(smallest);
  return select(abs(rounded) < floor, select(scale < T(0), -floor, floor), rounded);
}

}  // namespace gptq::scheme
