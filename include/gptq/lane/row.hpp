// SPDX-License-Identifier: MIT
#pragma once

// Row: a number with exactly the arithmetic that schemes may use. What compiles for it also
// compiles for one number and for a lane of rows, on the host and on a GPU.

#include <gptq/lane/arithmetic.hpp>

namespace gptq::lane {

/// A float that cannot be branched on, because comparing lanes has no single answer. Only for
/// checking contracts; nothing computes with it.
struct Row {
  float value = 0;

  Row() = default;
  Row(float x) : value(x) {}

  /// The result of a comparison: for `select`, not convertible to bool.
  struct Mask {
    bool value = false;
    friend Mask operator&(Mask a, Mask b) { return {a.value && b.value}; }
    friend Mask operator|(Mask a, Mask b) { return {a.value || b.value}; }
    friend bool any(Mask a) { return a.value; }
  };

  friend Row operator+(Row a, Row b) { return a.value + b.value; }
  friend Row operator-(Row a, Row b) { return a.value - b.value; }
  friend Row operator*(Row a, Row b) { return a.value * b.value; }
  friend Row operator/(Row a, Row b) { return a.value / b.value; }
  friend Row operator-(Row a) { return -a.value; }
  Row& operator+=(Row b) { return *this = *this + b; }
  friend Mask operator<(Row a, Row b) { return {a.value < b.value}; }
  friend Mask operator>(Row a, Row b) { return {a.value > b.value}; }
  friend Mask operator==(Row a, Row b) { return {a.value == b.value}; }
};

inline Row select(Row::Mask mask, Row yes, Row no) { return mask.value ? yes : no; }
inline Row min(Row a, Row b) { return min(a.value, b.value); }
inline Row max(Row a, Row b) { return max(a.value, b.value); }
inline Row abs(Row a) { return abs(a.value); }
inline Row power(Row a, float exponent) { return power(a.value, exponent); }
inline Row round_even(Row a) { return round_even(a.value); }
inline Row round_small(Row a) { return round_small(a.value); }
template <class F>
Row map(Row a, const F& f) {
  return map(a.value, f);
}

}  // namespace gptq::lane
