// SPDX-License-Identifier: MIT
#pragma once

// Stopwatch: wall time, for reports.

#include <chrono>

namespace gptq {

/// Measures seconds since construction, or since the last lap.
class Stopwatch {
 public:
  /// Seconds since construction or the last call.
  double lap() {
    const auto now = std::chrono::steady_clock::now();
    const double seconds = std::chrono::duration<double>(now - start_).count();
    start_ = now;
    return seconds;
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace gptq
