// SPDX-License-Identifier: MIT

#include <gptq/version.hpp>

#include "../support/catch.hpp"

TEST_CASE("CMake and the header agree on the version", "[house]") {
  const auto v = gptq::version;
  CHECK(std::to_string(v.major) + "." + std::to_string(v.minor) + "." + std::to_string(v.patch) ==
        GPTQ_CMAKE_VERSION);
}
