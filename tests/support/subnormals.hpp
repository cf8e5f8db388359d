// SPDX-License-Identifier: MIT
#pragma once

// The effect of linking code compiled with -ffast-math on a whole process: subnormal numbers are
// read and written as zero.

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace test {

/// In effect during its lifetime, in this thread and in those that it starts.
class SubnormalsAsZero {
 public:
#if defined(__SSE2__)
  static constexpr bool possible = true;
  SubnormalsAsZero() { _mm_setcsr(before_ | 0x8040u); }  // FTZ and DAZ
  ~SubnormalsAsZero() { _mm_setcsr(before_); }

 private:
  unsigned before_ = _mm_getcsr();
#else
  static constexpr bool possible = false;
#endif
};

}  // namespace test
