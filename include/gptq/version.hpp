// SPDX-License-Identifier: MIT
#pragma once

// The version of gptq, in one place: CMake reads these three lines.

#define GPTQ_VERSION_MAJOR 0
#define GPTQ_VERSION_MINOR 1
#define GPTQ_VERSION_PATCH 0

namespace gptq {

/// A version as numbers.
struct Version {
  /// As in semantic versioning.
  int major, minor, patch;
};

/// The version of these headers.
inline constexpr Version version{GPTQ_VERSION_MAJOR, GPTQ_VERSION_MINOR, GPTQ_VERSION_PATCH};

}  // namespace gptq
