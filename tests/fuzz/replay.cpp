// SPDX-License-Identifier: MIT

// The fuzz targets without libFuzzer: runs every seed and every input that once failed, with any
// compiler and sanitizer.

#include "harness.hpp"

#include "../support/catch.hpp"
#include "../support/sanitized.hpp"

#include <algorithm>
#include <chrono>

namespace {

/// All files of a target below a folder, sorted.
std::vector<std::filesystem::path> inputs(const std::filesystem::path& folder,
                                          const std::string& target) {
  std::vector<std::filesystem::path> found;
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator(folder / target, none))
    found.push_back(entry.path());
  std::sort(found.begin(), found.end());
  return found;
}

/// Seconds the target takes for the file.
double replay(void (*target)(fuzz::Input), const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(in)), {});
  // A copy of exactly the right size.
  const std::vector<std::uint8_t> input(bytes.begin(), bytes.end());
  const auto start = std::chrono::steady_clock::now();
  target(input);
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Each input is read, or refused with one of the library's errors, and quickly.
void check_inputs(const std::string& name, void (*target)(fuzz::Input)) {
  const std::filesystem::path source = GPTQ_SOURCE_DIR, made = GPTQ_FUZZ_INPUTS;
  std::size_t count = 0;
  for (const auto& folder :
       {source / "tests/fuzz/regressions", made / "regressions", made / "seeds"})
    for (const auto& file : inputs(folder, name)) {
      INFO(file.string());
      double seconds = 0;
      CHECK_NOTHROW(seconds = replay(target, file));
      CHECK(seconds < (test::sanitized ? 60 : 10));
      ++count;
    }
  CHECK(count > 0);
}

}  // namespace

// Inputs that once crashed, hung or took all memory.
TEST_CASE("calibration files that were trouble", "[fuzz]") {
  check_inputs("calibration", fuzz::calibration);
}
TEST_CASE("config.json that was trouble", "[fuzz][fault19]") {
  check_inputs("config", fuzz::config);
}
TEST_CASE("regular expressions that were trouble", "[fuzz][fault2][fault10][fault11]") {
  check_inputs("expressions", fuzz::expressions);
}
TEST_CASE("GGUF files that were trouble", "[fuzz][fault19][fault27]") {
  check_inputs("gguf", fuzz::gguf);
}
TEST_CASE("GGUF vocabularies that were trouble", "[fuzz][fault16][fault19]") {
  check_inputs("gguf_tokenizer", fuzz::gguf_tokenizer);
}
TEST_CASE("Hessian files that were trouble", "[fuzz]") { check_inputs("hessian", fuzz::hessian); }
TEST_CASE("quantized folders that were trouble", "[fuzz]") {
  check_inputs("quantized", fuzz::quantized);
}
TEST_CASE("rules that were trouble", "[fuzz]") { check_inputs("rules", fuzz::rules); }
TEST_CASE("safetensors files that were trouble", "[fuzz][fault9]") {
  check_inputs("safetensors", fuzz::safetensors);
}
TEST_CASE("tokenizer.json that was trouble", "[fuzz][fault2][fault10][fault11][fault21][fault25]") {
  check_inputs("tokenizer", fuzz::tokenizer);
}
