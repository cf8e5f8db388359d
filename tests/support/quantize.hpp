// SPDX-License-Identifier: MIT
#pragma once

// Quantizing a model into a folder, for tests.

#include <gptq/model/pipeline.hpp>
#include <gptq/model/quantized_folder.hpp>

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace test {

/// How the folder is written.
struct Writing {
  std::uint64_t max_shard_size = 1u << 30;
  bool overwrite = false;
};

/// Quantizes a model, calibrated on the tokens unless options.method is round to nearest.
template <class Operations, class B>
std::vector<gptq::model::ModuleReport> quantize_into(
    const std::filesystem::path& out, const gptq::model::ModelFiles& model,
    const gptq::model::PipelineOptions& options, const Operations& operations, const B& backend,
    std::span<const gptq::model::TokenId> tokens = {}, gptq::Index window = 0,
    const Writing& writing = {}) {
  gptq::model::QuantizedFolder folder(model, options, out, writing.max_shard_size,
                                      writing.overwrite);
  gptq::model::Pipeline pipeline(model, options, operations, backend);
  const auto sink = [&](const std::string& name, const gptq::model::QuantizedModule& module) {
    folder.write(name, module);
  };
  auto reports = options.method == gptq::model::Method::gptq
                     ? pipeline.run(tokens, window, sink)
                     : pipeline.run_without_calibration(sink);
  folder.write_rest(model);
  folder.commit();
  return reports;
}

}  // namespace test
