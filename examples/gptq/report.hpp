// SPDX-License-Identifier: MIT
#pragma once

// What `gptq quantize` reports at the end: a table, a summary, a JSON file.

#include <gptq/model/pipeline.hpp>

#include <nlohmann/json.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace gptq::program {

struct RunReport {
  nlohmann::ordered_json options;  ///< that were given, as a recipe
  std::string input, output;
  std::string stored_as;     ///< types of the input's tensors
  bool dequantized = false;  ///< the input was a GGUF file
  bool calibrated = true;
  std::string text;            ///< the calibration text's file; empty: ids were given
  bool matches_model = false;  ///< the target was the full-precision model's outputs
  Index samples = 0, sequence_length = 0;
  std::string backend, place;  ///< cpu or cuda; the device in words
  int threads = 1;
  std::uint64_t bytes_before = 0, bytes_after = 0, peak_memory = 0;
  double seconds = 0;
  model::PipelineTimings timings;
  std::uint64_t parameters = 0;  ///< numbers in the input's tensors
  std::size_t skipped = 0;       ///< modules not quantized
  std::vector<std::string> notes;
  std::vector<model::ModuleReport> modules;
};

/// A line per module: what GPTQ-for-LLaMa prints, plus the relative output error next to that of
/// round to nearest.
void print_table(const RunReport& run);
void print_summary(const RunReport& run);

/// How every report begins, so that a later run knows what it may replace.
inline constexpr std::string_view report_start = "{\n  \"generator\": \"gptq ";
nlohmann::ordered_json to_json(const RunReport& run);

/// All figures of one matrix.
nlohmann::ordered_json report_json(const Report& report);

}  // namespace gptq::program
