// SPDX-License-Identifier: MIT
#pragma once

// A small model, quantized and written, for tests of what is stored.

#include <gptq/backend/cpu.hpp>
#include <gptq/model/cpu_operations.hpp>
#include <gptq/model/decoder_tensors.hpp>
#include <gptq/model/format/requirements.hpp>

#include "files.hpp"
#include "quantize.hpp"

#include <string>
#include <string_view>
#include <vector>

namespace test {

using gptq::Index;

/// The demo model, rounded to nearest and written in some format.
struct WrittenModel {
  TemporaryFolder folder;
  std::filesystem::path out = folder / "out";

  WrittenModel(const std::string& format, const gptq::model::SettingsTable& settings,
               gptq::io::DType own = gptq::io::DType::F32,
               const std::filesystem::path& source = demo_folder()) {
    const auto model = gptq::model::open_model(source);
    gptq::model::PipelineOptions options;
    options.settings = settings;
    options.method = gptq::model::Method::round_to_nearest;
    options.params.range = gptq::Range::minmax;
    options.format = gptq::model::make_format(format, own);
    gptq::model::require_quantizable(model.description, settings, options.params, *options.format);
    quantize_into(out, model, options, gptq::model::CpuOperations<>(), gptq::backend::Cpu());
  }

  gptq::model::ModelFiles open() const {
    auto model = gptq::model::open_model(out);
    gptq::model::require_decoder_tensors(model);
    return model;
  }
  nlohmann::json config() const { return gptq::io::read_json(out / "config.json"); }

  /// The weights of the second layer, one after the other.
  std::vector<float> weights() const {
    std::vector<float> all;
    const auto layer = gptq::model::load_layer(open(), 1);
    for (const auto& linear : layer.linears) {
      const auto w = linear.weight.view();
      for (Index r = 0; r < w.rows(); ++r)
        for (Index c = 0; c < w.cols(); ++c) all.push_back(w(r, c));
    }
    return all;
  }
};

inline gptq::model::SettingsTable uniform(int bits, bool symmetric, Index group_size = 32) {
  return {{bits, symmetric, group_size}, {}, {}};
}

inline gptq::model::SettingsTable of_type(std::string_view type) {
  return {gptq::model::settings_of(gptq::model::number_type(type)), {}, {}};
}

}  // namespace test
