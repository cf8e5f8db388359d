// SPDX-License-Identifier: MIT
#pragma once

// Counts all heap memory that a program takes, by replacing the C library's functions with counting
// ones (allocations.cpp).

#include <cstddef>

namespace test {

/// Bytes since the last `reset`: the peak, and the largest single block.
struct Allocations {
  std::ptrdiff_t peak = 0;     ///< above what was in use at `reset`
  std::ptrdiff_t largest = 0;  ///< single block

  /// Whether counting works: not under sanitizers, which have a heap of their own, and not with
  /// another C library.
  static bool counted();
  static void reset();
  static Allocations now();
};

}  // namespace test
