// SPDX-License-Identifier: MIT
#pragma once

// Small floating-point numbers with a shared scale: FP8 weights, and FP4 in blocks as in NVFP4 and
// MXFP4.

#include <gptq/core/minifloat.hpp>
#include <gptq/scheme/grid.hpp>

#include <cstdint>

namespace gptq::scheme {

/// Codes number the values in ascending order, from the most negative one (0) through zero
/// (max_ordinal) to the largest; `pattern` gives the bits that files store.
///
///   NVFP4  Float4 in groups of 16, ScaleType::fp8_e4m3 (and one fp32 scale per weight)
///   MXFP4  Float4 in groups of 32, ScaleType::power_of_two
///   FP8    Float8, one scale per row or group
template <class Format>
struct SmallFloat {
  static constexpr int bits = Format::bits;                 ///< per number
  static constexpr int max_code = 2 * Format::max_ordinal;  ///< largest code

  /// The nearest code.
  template <class T>
  GPTQ_HD T encode(const T& x, const Grid<T>& grid) const {
    return map(x / grid.scale, [](float y) {
      const int magnitude = Format::ordinal(y < 0 ? -y : y);
      return static_cast<float>(Format::max_ordinal + (y < 0 ? -magnitude : magnitude));
    });
  }

  /// The number that a code stands for.
  template <class T>
  GPTQ_HD T decode(const T& code, const Grid<T>& grid) const {
    return grid.scale * map(code, [](float c) {
             const int ordinal = static_cast<int>(c) - Format::max_ordinal;
             const float magnitude = Format::value(ordinal < 0 ? -ordinal : ordinal);
             return ordinal < 0 ? -magnitude : magnitude;
           });
  }

  /// The grid on which the largest weight is the largest number.
  template <class T>
  GPTQ_HD Grid<T> fit(const T& low, const T& high, const ScaleRounding& rounding) const {
    return {round_scale(max(-low, high) / T(Format::max()), rounding), T(0)};
  }

  /// Sign, exponent and mantissa of a code, as files store it.
  static constexpr std::uint8_t pattern(std::uint8_t code) {
    const int ordinal = int(code) - Format::max_ordinal;
    return static_cast<std::uint8_t>(ordinal < 0 ? -ordinal | (1 << (bits - 1)) : ordinal);
  }
};

using Float4 = SmallFloat<Float4E2M1>;  ///< FP4, E2M1
using Float8 = SmallFloat<Float8E4M3>;  ///< FP8, E4M3

}  // namespace gptq::scheme
