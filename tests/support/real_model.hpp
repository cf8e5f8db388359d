// SPDX-License-Identifier: MIT
#pragma once

// What the tests of real models have in common.

#include "catch.hpp"

#include <cstdlib>
#include <filesystem>
#include <regex>
#include <string>

namespace test {

/// A variable of the environment, or nothing.
inline std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

/// The file of a model that a variable names, or nothing with a word why.
inline std::string real_model_file(const char* variable) {
  const std::string path = environment(variable);
  if (!path.empty() && std::filesystem::exists(path)) return path;
  skip("the model is not here: " + std::string(variable) +
       " does not name its file (tests/run.sh fetches it with pip)");
  return {};
}

/// calibration.txt and heldout.txt that the figures belong to, or nothing.
inline std::filesystem::path real_text_folder() {
  const std::filesystem::path folder = environment("GPTQ_TEST_DATA");
  return !folder.empty() && std::filesystem::exists(folder / "calibration.txt") &&
                 std::filesystem::exists(folder / "heldout.txt")
             ? folder
             : std::filesystem::path{};
}

/// The number that the pattern's group finds in what the program printed.
inline double printed(const std::string& output, const std::string& pattern) {
  std::smatch match;
  INFO(output);
  REQUIRE(std::regex_search(output, match, std::regex(pattern)));
  return std::stod(match[1]);
}

/// In bytes, as the program printed it.
inline double printed_memory(const std::string& output) {
  const double number = printed(output, "peak memory ([0-9.]+) (?:MB|GB)");
  return number * (std::regex_search(output, std::regex("peak memory [0-9.]+ GB")) ? 1e9 : 1e6);
}

}  // namespace test
