// SPDX-License-Identifier: MIT
#pragma once

// The version of gptq, in one place: CMake reads these three lines.

#define GPTQ_VERSION_MAJOR 0
#define GPTQ_VERSION_MINOR 1
#define GPTQ_VERSION_PATCH 0

namespace gptq {

/// Major, minor and patch, as numbers.
struct Version {
  int major, minor, patch;
};

inline constexpr Version version{GPTQ_VERSION_MAJOR, GPTQ_VERSION_MINOR, GPTQ_VERSION_PATCH};

}  // namespace gptq
