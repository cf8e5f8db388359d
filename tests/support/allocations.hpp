// SPDX-License-Identifier: MIT
#pragma once

// Counts what a program takes from the heap, whoever takes it: the C library's functions are
// replaced by ones that count (allocations.cpp).

#include <cstddef>

namespace test {

/// Bytes since the last `reset`, at most and largest single block.
struct Allocations {
  std::ptrdiff_t peak = 0;     ///< above what was held at `reset`
  std::ptrdiff_t largest = 0;  ///< single block

  /// Whether counting works: not under sanitizers, which bring a heap of their own, and not with
  /// another C library.
  static bool counted();
  static void reset();
  static Allocations now();
};

}  // namespace test
