// SPDX-License-Identifier: MIT
#pragma once

// Converts numbers from files to the type a program needs: exactly, or not at all. A cast would
// drop fractions and is undefined where a number does not fit.

#include <cmath>  // std::floor, std::ldexp
#include <cstdint>
#include <limits>
#include <optional>
#include <type_traits>
#include <utility>  // std::in_range

namespace gptq::io {

/// `x` as a T, or nothing if T cannot hold it: an integer type holds whole numbers within its
/// range, a floating-point type anything within its range, rounded.
template <class T, class Number>
std::optional<T> number_as(Number x) {
  static_assert(std::is_arithmetic_v<T> && !std::is_same_v<T, bool>);
  static_assert(std::is_arithmetic_v<Number> && !std::is_same_v<Number, bool>);
  if constexpr (std::is_floating_point_v<T>) {
    if constexpr (std::is_floating_point_v<Number>)
      if (std::isfinite(x) && std::abs(x) > std::numeric_limits<T>::max()) return std::nullopt;
    return static_cast<T>(x);
  } else if constexpr (std::is_floating_point_v<Number>) {
    // 2^digits, one more than the largest T, is a floating-point number; the largest T need not be.
    const bool fits = x >= static_cast<Number>(std::numeric_limits<T>::min()) &&
                      x < std::ldexp(Number(1), std::numeric_limits<T>::digits);
    if (!fits || x != std::floor(x)) return std::nullopt;
    return static_cast<T>(x);
  } else {
    if (!std::in_range<T>(x)) return std::nullopt;
    return static_cast<T>(x);
  }
}

/// The same for a JSON value; true and false are not numbers.
template <class T, class Json>
std::optional<T> json_number_as(const Json& json) {
  if (json.is_number_unsigned()) return number_as<T>(json.template get<std::uint64_t>());
  if (json.is_number_integer()) return number_as<T>(json.template get<std::int64_t>());
  if (json.is_number_float()) return number_as<T>(json.template get<double>());
  return std::nullopt;
}

}  // namespace gptq::io
