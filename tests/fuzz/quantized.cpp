// SPDX-License-Identifier: MIT

// A folder of GPTQ tensors. The input is config.json, the header of model.safetensors and bytes,
// separated by "\x1e": offsets are computed from the shapes, and the bytes repeat until every
// tensor is full. So tensors with contradictory shapes come in a well-formed file.

#include "harness.hpp"

#include <gptq/model/decoder_tensors.hpp>
#include <gptq/model/model_files.hpp>
#include <gptq/model/perplexity.hpp>

namespace {

/// \return  empty if the tensors would be too large
std::string safetensors_file(const std::string& header, const std::string& filling) {
  constexpr std::size_t largest = 1 << 20;  // bytes of all tensors
  auto json = nlohmann::ordered_json::parse(header, nullptr, false);
  std::string data, text = header;  // a damaged header is left as it is
  if (json.is_object()) {
    for (const auto& item : json.items()) {
      auto& entry = item.value();
      if (!entry.is_object() || !entry.contains("shape") || !entry.contains("dtype")) continue;
      std::size_t bits = 0;
      fuzz::may_refuse([&] {
        if (!entry["dtype"].is_string() || !entry["shape"].is_array()) return;
        gptq::io::Shape shape;
        for (const auto& size : entry["shape"])
          shape.push_back(size.is_number_unsigned() ? size.get<gptq::Index>() : 0);
        bits = static_cast<std::size_t>(gptq::io::element_count(shape)) *
               static_cast<std::size_t>(
                   gptq::io::bits(gptq::io::parse_dtype(entry["dtype"].get<std::string>())));
      });
      const std::size_t begin = data.size(), end = begin + bits / 8;
      if (end > largest) return {};
      entry["data_offsets"] = {begin, end};
      for (std::size_t i = 0; begin + i < end; ++i)
        data += filling.empty() ? '\0' : filling[i % filling.size()];
    }
    text = json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  }
  const std::uint64_t length = text.size();
  return std::string(reinterpret_cast<const char*>(&length), sizeof length) + text + data;
}

}  // namespace

void fuzz::quantized(Input input) {
  const auto given = parts(input);
  if (given.size() < 3) return;
  const std::string tensors = safetensors_file(given[1], given[2]);
  if (tensors.empty()) return;
  folder().write("config.json", given[0]);
  folder().write("model.safetensors", tensors);
  may_refuse([&] {
    const auto model = gptq::model::open_model(folder().path());
    for (const std::string& name : model.tensors->names())
      may_refuse([&] { model.tensors->output_bytes(name); });
    gptq::model::require_decoder_tensors(model);
    for (gptq::Index layer = 0; layer < model.description.sizes.layers; ++layer)
      may_refuse([&] { gptq::model::load_layer(model, layer); });
    may_refuse([&] { gptq::model::load_head(model); });
  });
}
