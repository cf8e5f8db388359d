// SPDX-License-Identifier: MIT
#pragma once

// Architecture: how one kind of model is recognized and described. A new one is a function that
// records its blocks, in a file of its family, and a line in registry.hpp.

#include <gptq/model/architecture/gguf_family.hpp>
#include <gptq/model/config_reader.hpp>
#include <gptq/model/description.hpp>

#include <string>
#include <string_view>

namespace gptq::model::architecture {

struct Architecture {
  std::string_view name;        ///< in config.json's "architectures"
  std::string_view model_type;  ///< in config.json
  /// Fills a description whose `architecture` and `notes` exist.
  void (*describe)(const ConfigReader& config, Description& to);
  const GgufFamily* gguf = nullptr;  ///< if llama.cpp has it, too
};

/// "model.layers.3."
inline std::string layer_prefix(const std::string& layers, Index i) {
  return layers + std::to_string(i) + ".";
}

/// A block that does nothing: between the embeddings and the first layer of most models.
inline Block nothing(Index width) {
  Block b;
  b.output(b.input(width));
  return b;
}

}  // namespace gptq::model::architecture
