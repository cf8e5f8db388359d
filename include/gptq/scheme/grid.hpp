// SPDX-License-Identifier: MIT
#pragma once

// Grid: the scale and zero point shared by one row's weights in one group, and the rounding of
// scales to the type they are stored in.

#include <gptq/core/half.hpp>
#include <gptq/core/minifloat.hpp>
#include <gptq/core/params.hpp>
#include <gptq/lane/arithmetic.hpp>
#include <gptq/lane/row.hpp>

#include <bit>       // std::bit_cast
#include <cfloat>    // FLT_MIN
#include <concepts>  // std::same_as
#include <cstdint>

namespace gptq::scheme {

// Unqualified, these names find both the scalar versions and, by argument, those for lanes.
using lane::abs, lane::any, lane::clamp, lane::map, lane::max, lane::min, lane::power,
    lane::round_even, lane::round_small, lane::select;

/// What a scheme needs to turn a code into a weight. T is a number, or a lane of them.
template <class T>
struct Grid {
  T scale;  ///< step between levels; the sign mirrors the grid
  T zero;   ///< zero point, a code; 0 for schemes without one
};

/// How scales are rounded to the type they are stored in.
struct ScaleRounding {
  /// \param t, u, w  the members in order
  GPTQ_HD constexpr ScaleRounding(ScaleType t = ScaleType::fp16, float u = 1, float w = 1)
      : type(t), scale_unit(u), weight_unit(w) {}

  ScaleType type;     ///< that scales are stored in
  float scale_unit;   ///< for ScaleType::fp8_e4m3: the number per weight that scales multiply
  float weight_unit;  ///< unit of weights and scales: a power of two
};

namespace detail {

/// A positive scale in the type it is stored in, at least the smallest one of that type.
GPTQ_HD inline float storable(float scale, const ScaleRounding& rounding) {
  const auto at_least = [](float x, float least) { return x < least ? least : x; };
  switch (rounding.type) {
    case ScaleType::fp16: return at_least(round_to_float16(scale), 0x1p-24f);
    case ScaleType::bf16: return at_least(to_float(to_bfloat16(scale)), FLT_MIN);
    case ScaleType::fp8_e4m3: {
      const int ordinal = Float8E4M3::ordinal(scale / rounding.scale_unit);
      return Float8E4M3::value(ordinal < 1 ? 1 : ordinal) * rounding.scale_unit;
    }
    case ScaleType::power_of_two: {
      // To the nearer exponent: 1.5 times a power of two is halfway.
      const std::uint32_t bits = std::bit_cast<std::uint32_t>(at_least(scale, FLT_MIN));
      return std::bit_cast<float>((bits + 0x400000u) & 0x7f800000u);
    }
    case ScaleType::fp32: break;
  }
  return at_least(scale, FLT_MIN);
}

}  // namespace detail

/// A non-zero scale, rounded to the type it is stored in. One that would vanish becomes the
/// smallest number of the type instead, so that a grid never divides by zero.
template <class T>
GPTQ_HD T round_scale(const T& scale, const ScaleRounding& rounding) {
  const auto rounded_by = [&](const auto& storable) {
    return map(scale, [&](float x) {
      const float rounded =
          storable((x < 0 ? -x : x) * rounding.weight_unit) / rounding.weight_unit;
      return x < 0 ? -rounded : rounded;
    });
  };
  // The usual type separately: range searches round millions of scales, and this vectorizes.
  if (rounding.type == ScaleType::fp16)
    return rounded_by([](float x) { return detail::storable(x, ScaleRounding(ScaleType::fp16)); });
  return rounded_by([&](float x) { return detail::storable(x, rounding); });
}

/// The scheme with the quirks that concern grids.
/// \throws InvalidArgument  a quirk is set and the scheme has none
template <class S>
S with_parity(const S& scheme, const Parity& parity) {
  if constexpr (requires {
                  { scheme.with(parity) } -> std::same_as<S>;
                }) {
    return scheme.with(parity);
  } else {
    gptq::detail::require(
        !parity.one_sided_range && !parity.round_with_zero && !parity.narrow_range,
        "parity.one_sided_range, round_with_zero and narrow_range are quirks of affine schemes, "
        "not of this one");
    return scheme;
  }
}

}  // namespace gptq::scheme
