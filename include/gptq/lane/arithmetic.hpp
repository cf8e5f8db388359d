// SPDX-License-Identifier: MIT
#pragma once

// The arithmetic that schemes and kernels are written in - comparison, select, min, max, floor,
// round to even - for one number on the host or on a GPU. lane.hpp defines the same names for a
// pack of rows.

#include <gptq/config.hpp>
#include <gptq/core/half.hpp>
#include <gptq/core/matrix_view.hpp>

#include <bit>    // std::bit_cast
#include <cmath>  // std::nearbyint
#include <cstdint>
#include <type_traits>

namespace gptq::lane {

template <class T>
requires std::is_floating_point_v<T> GPTQ_HD constexpr T select(bool condition, T yes, T no) {
  return condition ? yes : no;
}

/// Whether a comparison holds in any row of a lane; here there is one.
GPTQ_HD constexpr bool any(bool condition) { return condition; }

/// Returns b if a is NaN.
template <class T>
requires std::is_floating_point_v<T> GPTQ_HD constexpr T min(T a, T b) { return a < b ? a : b; }

template <class T>
requires std::is_floating_point_v<T> GPTQ_HD constexpr T max(T a, T b) { return a > b ? a : b; }

template <class T>
requires std::is_floating_point_v<T> GPTQ_HD constexpr T abs(T x) { return x < 0 ? -x : x; }

/// x^exponent for x ≥ 0.
template <class T>
requires std::is_floating_point_v<T> GPTQ_HD inline T power(T x, float exponent) {
  return std::pow(x, static_cast<T>(exponent));
}

/// Applies a function of float to each row of a lane.
template <class T, class F>
requires std::is_floating_point_v<T> GPTQ_HD inline T map(T x, const F& f) {
  return static_cast<T>(f(static_cast<float>(x)));
}

/// Rounds to the nearest integer, ties to even, as torch.round and numpy do.
template <class T>
requires std::is_floating_point_v<T> GPTQ_HD inline T round_even(T x) { return std::nearbyint(x); }

/// The same for |x| below 2²².
template <class T>
requires std::is_floating_point_v<T> GPTQ_HD inline T round_small(T x) { return std::nearbyint(x); }

/// x clamped to [low, high]; `low` if x is NaN, so the result can always be stored.
template <class T>
GPTQ_HD constexpr T clamp(const T& x, const T& low, const T& high) {
  return min(max(x, low), high);
}

/// Load and store of one number; a lane loads and stores one per row.
template <class T>
requires std::is_floating_point_v<T> GPTQ_HD constexpr T load(const T* from, T /*kind*/ = {}) {
  return *from;
}

template <class T>
requires std::is_floating_point_v<T> GPTQ_HD constexpr void store(T* to, T value) { *to = value; }

/// Codes are small integers held in the arithmetic type until they are stored.
template <class T>
requires std::is_floating_point_v<T> GPTQ_HD constexpr void store_codes(std::uint8_t* to, T value) {
  *to = static_cast<std::uint8_t>(value);
}

/// Sum over the rows of a lane, and how many rows a comparison selects; here there is one row.
template <class T>
requires std::is_floating_point_v<T> GPTQ_HD constexpr double sum(T x, Index /*rows*/) { return x; }

template <class T>
requires std::is_floating_point_v<T> GPTQ_HD constexpr Index count(T /*kind*/, bool mask,
                                                                   Index /*rows*/) {
  return mask ? 1 : 0;
}

}  // namespace gptq::lane
