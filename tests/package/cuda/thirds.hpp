// SPDX-License-Identifier: MIT
#pragma once

// A scheme of the consumer's own: -1, 0 and 1 times a scale.

#include <gptq/scheme/grid.hpp>

struct Thirds {
  static constexpr int bits = 2, max_code = 2, variants = 1;
  static constexpr bool signed_variants = false;

  template <class T>
  GPTQ_HD T encode(const T& x, const gptq::scheme::Grid<T>& grid) const {
    using gptq::scheme::clamp, gptq::scheme::round_even;
    return clamp<T>(round_even(x / grid.scale), T(-1), T(1)) + T(1);
  }
  template <class T>
  GPTQ_HD T decode(const T& code, const gptq::scheme::Grid<T>& grid) const {
    return grid.scale * (code - T(1));
  }
  template <class T>
  GPTQ_HD gptq::scheme::Grid<T> fit(const T& low, const T& high,
                                    const gptq::scheme::ScaleRounding& rounding) const {
    using gptq::scheme::max;
    return {gptq::scheme::round_scale(max(-low, high), rounding), T(0)};
  }
  template <class T>
  GPTQ_HD gptq::scheme::Grid<T> variant(const gptq::scheme::Grid<T>& grid, int) const {
    return grid;
  }
};
