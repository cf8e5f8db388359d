// SPDX-License-Identifier: MIT
#pragma once

// Runs the program on the demo model, from outside.

#include "catch.hpp"
#include "command.hpp"
#include "files.hpp"

#include <nlohmann/json.hpp>

#include <string>

namespace test {

inline const std::filesystem::path demo = demo_folder();

inline Outcome program(const std::string& arguments) {
  return run(std::string(GPTQ_PROGRAM) + " " + arguments);
}

inline std::string calibration() {
  return " --calibration " + (demo / "calibration.txt").string() +
         " --samples 4 --sequence-length 128";
}

/// A copy of the demo model that a test may damage.
struct DemoCopy {
  TemporaryFolder folder;
  DemoCopy() {
    for (const char* name : {"config.json", "tokenizer.json", "model.safetensors"})
      std::filesystem::copy_file(demo / name, folder / name);
  }
  std::string path() const { return folder.path().string(); }
  void edit_config(const std::string& patch) const {
    auto json = nlohmann::json::parse(gptq::io::read_file(folder / "config.json"));
    json.merge_patch(nlohmann::json::parse(patch));
    gptq::io::write_file(folder / "config.json", json.dump());
  }
};

/// Runs a quantization that must fail with code 2 and this message, and leave no output.
template <class Matcher>
void check_refused(const std::string& arguments, const Matcher& says) {
  const TemporaryFolder out;
  const auto outcome = program("quantize " + arguments + " --out " + (out / "model").string());
  INFO(outcome.output);
  CHECK(outcome.code == 2);
  CHECK_THAT(outcome.output, says);
  CHECK(out.names().empty());
}

}  // namespace test
