// SPDX-License-Identifier: MIT
#pragma once

// The contract of a scheme: prose first, then the requirements that the compiler checks.

#include <gptq/lane/row.hpp>
#include <gptq/scheme/range.hpp>

#include <concepts>

namespace gptq::scheme {

namespace detail {

/// Instantiates a scheme for lane::Row. A scheme that does not compile here branches on a weight,
/// or uses other arithmetic than that of lane/arithmetic.hpp.
template <class S>
void use_on_rows(const S& scheme) {
  const Grid<lane::Row> grid = scheme.fit(lane::Row(), lane::Row(), ScaleRounding());
  scheme.decode(scheme.encode(lane::Row(), grid), grid);
  if constexpr (HasVariants<S>) scheme.variant(grid, 1);
}

/// Always true: using it compiles the above.
template <class S>
inline constexpr bool runs_on_rows = &use_on_rows<S> != nullptr;

}  // namespace detail

// One requirement, one line:
// clang-format off

/// A scheme is a family of grids: it turns a range into a grid, a number into a code and a code into
/// a number.
///
/// Codes are 0..max_code in the order of the numbers they stand for, in the arithmetic type T (a
/// number, or a lane of rows). `encode` is total: it clamps and never traps.
/// `decode(encode(decode(c, g), g), g) == decode(c, g)` for any grid whose scale is not zero. All
/// functions run on the host and on a GPU: mark them GPTQ_HD and use nothing but arithmetic and the
/// names of lane/arithmetic.hpp.
template <class S>
concept Scheme = std::copyable<S> && requires(const S s, const lane::Row x, const Grid<lane::Row> grid) {
  // Stored bits per code, at most 8, and the largest code.
  { S::bits } -> std::convertible_to<int>;
  { S::max_code } -> std::convertible_to<int>;
  // The nearest code, an integer in a T; and the number that a code stands for.
  { s.encode(x, grid) } -> std::same_as<lane::Row>;
  { s.decode(x, grid) } -> std::same_as<lane::Row>;
  // The grid that covers [low, high], low ≤ 0 ≤ high, low < high, with a storable scale.
  { s.fit(x, x, ScaleRounding{}) } -> std::same_as<Grid<lane::Row>>;
} && (!HasVariants<S> || requires(const S s, const Grid<lane::Row> grid, const int which) {
  // Optional: neighbours of a fitted grid that the range search also tries. Variant 0 is the grid itself.
  { S::variants } -> std::convertible_to<int>;
  { s.variant(grid, which) } -> std::same_as<Grid<lane::Row>>;
  // Whether variants other than 0 have negative scales, which Params::signed_scales can forbid.
  { S::signed_variants } -> std::convertible_to<bool>;
}) && detail::runs_on_rows<S>;

// clang-format on

}  // namespace gptq::scheme
