// SPDX-License-Identifier: MIT
#pragma once

// Floating-point formats of 4 and 8 bits, as integers that number the magnitudes from zero up.

#include <gptq/config.hpp>

#include <bit>  // std::bit_cast
#include <cstdint>

namespace gptq {

/// A format from the OCP family: one sign bit, then exponent and mantissa; no infinities.
///
/// \tparam MaxOrdinal  the bits of the largest magnitude; patterns above it are NaN
template <int ExponentBits, int MantissaBits, int MaxOrdinal>
struct Minifloat {
  static constexpr int bits = 1 + ExponentBits + MantissaBits;
  static constexpr int max_ordinal = MaxOrdinal;
  static constexpr int bias = (1 << (ExponentBits - 1)) - 1;

  /// The magnitude with these bits.
  static GPTQ_HD constexpr float value(int ordinal) {
    const int exponent = ordinal >> MantissaBits, mantissa = ordinal & ((1 << MantissaBits) - 1);
    const int significand = exponent == 0 ? mantissa : mantissa + (1 << MantissaBits);
    return static_cast<float>(significand) *
           power_of_two((exponent == 0 ? 1 : exponent) - bias - MantissaBits);
  }

  static constexpr float max() { return value(MaxOrdinal); }

  /// The bits of the magnitude nearest to x ≥ 0, ties to even; larger values saturate.
  static GPTQ_HD constexpr int ordinal(float x) {
    constexpr int dropped = 23 - MantissaBits;
    if (!(x < max())) return MaxOrdinal;
    if (x < power_of_two(1 - bias)) {
      // Below the normal numbers all steps are equal: an addition rounds to one of them.
      const float shift = power_of_two(1 - bias + dropped);
      return static_cast<int>(std::bit_cast<std::uint32_t>(x + shift) -
                              std::bit_cast<std::uint32_t>(shift));
    }
    const std::uint32_t pattern = std::bit_cast<std::uint32_t>(x);
    const std::uint32_t half = (1u << (dropped - 1)) - 1 + ((pattern >> dropped) & 1u);
    const int rounded = static_cast<int>((pattern + half) >> dropped);
    const int result = rounded - ((127 - bias) << MantissaBits);
    return result < MaxOrdinal ? result : MaxOrdinal;
  }

  static GPTQ_HD constexpr float power_of_two(int exponent) {
    return std::bit_cast<float>(static_cast<std::uint32_t>(exponent + 127) << 23);
  }
};

using Float4E2M1 = Minifloat<2, 1, 7>;     ///< to ±6
using Float8E4M3 = Minifloat<4, 3, 0x7e>;  ///< to ±448; 0x7f is NaN

}  // namespace gptq
