// SPDX-License-Identifier: MIT
#pragma once

// What several families read from the metadata of a GGUF file in the same way.

#include <gptq/model/architecture/gguf_names.hpp>
#include <gptq/model/gguf_rope.hpp>

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <utility>  // std::pair
#include <vector>

namespace gptq::model::architecture {

/// Gives keys of a config.json the names that an older family has for them; keys without a new name
/// are removed.
inline void rename_keys(nlohmann::ordered_json& config,
                        std::initializer_list<std::pair<const char*, const char*>> names) {
  for (const auto& [usual, own] : names) {
    if (!config.contains(usual)) continue;
    if (own) config[own] = config[usual];
    config.erase(usual);
  }
}

/// Whether the first layer's module has a bias.
inline bool has_bias(const detail::GgufReader& from, const char* module) {
  return from.files().contains(std::string("blk.0.") + module + ".bias");
}

/// Biases of q, k and v, of o, and of the MLP, under the keys of the family.
inline void set_biases(const detail::GgufReader& from, nlohmann::ordered_json& config) {
  config["attention_bias"] = has_bias(from, "attn_q") && has_bias(from, "attn_output");
  config["mlp_bias"] = has_bias(from, "ffn_up");
}

/// layer_types: from attention.sliding_window_pattern - the distance of layers that see everything,
/// or a flag per layer - or the distance that the family has.
inline void set_layer_types(const detail::GgufReader& from, nlohmann::ordered_json& config,
                            std::uint64_t distance) {
  const std::string key = "attention.sliding_window_pattern";
  const auto layers = config["num_hidden_layers"].get<std::uint64_t>();
  std::vector<bool> slides;
  const auto found = from.files().metadata().find(from.key(key));
  if (from.has(key) && found->second.array()) {
    io::GgufValue::for_each(*found->second.array(), [&](const io::GgufValue& element) {
      const auto number =
          element.as<bool>() ? std::optional<double>(*element.as<bool>()) : element.as<double>();
      if (!number || (*number != 0 && *number != 1))
        from.fail(from.key(key), "[", slides.size(), "] = ", element.text(), " is not a flag");
      slides.push_back(*number != 0);
      return slides.size() < 100'000;
    });
    if (slides.size() != layers)
      from.fail(from.key(key), " has ", slides.size(), " entries for ", layers, " layers");
  } else {
    distance = from.has(key) ? from.size(key) : distance;
    for (std::uint64_t i = 0; i < layers; ++i) slides.push_back((i + 1) % distance != 0);
  }
  auto types = nlohmann::ordered_json::array();
  for (const bool slide : slides) types.push_back(slide ? "sliding_attention" : "full_attention");
  config["layer_types"] = std::move(types);
}

/// attention.sliding_window of all layers; 0: none.
inline void set_window(const detail::GgufReader& from, nlohmann::ordered_json& config) {
  const auto window = from.get_or<std::uint64_t>("attention.sliding_window", 0);
  config["sliding_window"] = window > 0 ? nlohmann::ordered_json(window) : nullptr;
}

}  // namespace gptq::model::architecture
