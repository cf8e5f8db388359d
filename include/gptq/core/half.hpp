// SPDX-License-Identifier: MIT
#pragma once

// The two 16-bit floating-point formats of model files, for storage: convert to float to compute.
// Both conversions to 16 bits round to nearest even, as IEEE 754 and PyTorch do.

#include <gptq/config.hpp>

#include <bit>  // std::bit_cast
#include <concepts>
#include <cstdint>

namespace gptq {

/// IEEE 754 binary16: 1 sign, 5 exponent, 10 mantissa bits.
struct float16 {
  std::uint16_t bits = 0;
  friend bool operator==(float16, float16) = default;
};

/// The upper half of a float: 1 sign, 8 exponent, 7 mantissa bits.
struct bfloat16 {
  std::uint16_t bits = 0;
  friend bool operator==(bfloat16, bfloat16) = default;
};

/// The number types that weights and activations may have.
template <class T>
concept Number = std::same_as<T, float> || std::same_as<T, double> || std::same_as<T, bfloat16> ||
    std::same_as<T, float16>;

GPTQ_HD constexpr float to_float(float x) { return x; }
GPTQ_HD constexpr double to_float(double x) { return x; }

GPTQ_HD constexpr float to_float(bfloat16 x) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(x.bits) << 16);
}

/// Branch-free, so that a loop over an array can be vectorized.
GPTQ_HD constexpr float to_float(float16 x) {
  const std::uint32_t sign = static_cast<std::uint32_t>(x.bits & 0x8000u) << 16;
  const std::uint32_t magnitude = static_cast<std::uint32_t>(x.bits & 0x7fffu) << 13;
  const std::uint32_t exponent = x.bits & 0x7c00u;
  const std::uint32_t infinite_or_nan = magnitude | 0x7f800000u;
  const std::uint32_t normal = magnitude + 0x38000000u;  // the exponent field is 112 too small
  // A subnormal half counts units of 2⁻²⁴, the last place of floats in [½, 1). No subnormal floats
  // are involved: the processor may be set to treat those as zero.
  const float counted = std::bit_cast<float>(0x3f000000u | (x.bits & 0x3ffu)) - 0.5f;
  const std::uint32_t finite = exponent == 0 ? std::bit_cast<std::uint32_t>(counted) : normal;
  return std::bit_cast<float>(sign | (exponent == 0x7c00u ? infinite_or_nan : finite));
}

GPTQ_HD constexpr bfloat16 to_bfloat16(float x) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(x);
  const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
  const std::uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  return {static_cast<std::uint16_t>(nan ? (bits >> 16) | 0x40u : rounded)};
}

GPTQ_HD constexpr float16 to_float16(float x) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(x);
  const std::uint32_t sign = (bits >> 16) & 0x8000u;
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  std::uint32_t half = 0;
  if (magnitude > 0x7f800000u) {
    half = 0x7e00u;
  } else if (magnitude >= 0x477ff000u) {  // 65520 and above round past the largest half, 65504
    half = 0x7c00u;
  } else if (magnitude >= 0x38800000u) {  // 2⁻¹⁴ and above: a normal half
    half = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  } else {  // subnormal: one unit is 2⁻²⁴, which is also the last place of floats in [½, 1)
    half = std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u;
  }
  return {static_cast<std::uint16_t>(sign | half)};
}

/// to_float(to_float16(x)), branch-free, so that a loop over an array can be vectorized.
GPTQ_HD constexpr float round_to_float16(float x) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(x);
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  const std::uint32_t normal = (magnitude + 0xfffu + ((magnitude >> 13) & 1u)) & ~0x1fffu;
  // As in to_float16: the last place of floats in [½, 1) is the unit of subnormal halves.
  const std::uint32_t units =
      std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u;
  const float subnormal = static_cast<float>(static_cast<std::int32_t>(units)) * 0x1p-24f;
  std::uint32_t rounded =
      magnitude < 0x38800000u ? std::bit_cast<std::uint32_t>(subnormal) : normal;
  rounded = magnitude < 0x477ff000u ? rounded : 0x7f800000u;
  rounded = magnitude > 0x7f800000u ? 0x7fc00000u : rounded;
  return std::bit_cast<float>((bits & 0x80000000u) | rounded);
}

}  // namespace gptq
