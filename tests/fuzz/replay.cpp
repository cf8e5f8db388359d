// SPDX-License-Identifier: MIT

// The fuzz targets without libFuzzer: every seed and every input that once failed, with any
// compiler and any sanitizer.

#include "harness.hpp"

#include "../support/catch.hpp"

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

/// Seconds that the target takes for the file.
double replay(void (*target)(fuzz::Input), const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(in)), {});
  // A copy of exactly their size.
  const std::vector<std::uint8_t> input(bytes.begin(), bytes.end());
  const auto start = std::chrono::steady_clock::now();
  target(input);
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

TEST_CASE("inputs that once crashed, hung or took all memory are read or refused at once",
          "[fuzz]") {
  const struct {
    const char* name;
    void (*run)(fuzz::Input);
  } targets[] = {{"calibration", fuzz::calibration},       {"config", fuzz::config},
                 {"expressions", fuzz::expressions},       {"gguf", fuzz::gguf},
                 {"gguf_tokenizer", fuzz::gguf_tokenizer}, {"hessian", fuzz::hessian},
                 {"quantized", fuzz::quantized},           {"rules", fuzz::rules},
                 {"safetensors", fuzz::safetensors},       {"tokenizer", fuzz::tokenizer}};
  const std::filesystem::path source = GPTQ_SOURCE_DIR, made = GPTQ_FUZZ_INPUTS;
  for (const auto& target : targets) {
    std::size_t count = 0;
    for (const auto& folder :
         {source / "tests/fuzz/regressions", made / "regressions", made / "seeds"})
      for (const auto& file : inputs(folder, target.name)) {
        INFO(file.string());
        double seconds = 0;
        CHECK_NOTHROW(seconds = replay(target.run, file));
        CHECK(seconds < 10);
        ++count;
      }
    INFO(target.name);
    CHECK(count > 0);
  }
}
