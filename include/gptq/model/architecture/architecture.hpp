// SPDX-License-Identifier: MIT
#pragma once

// Architecture: how one kind of model is recognized and described. A new one is a function that
// records its blocks, in a file of its family, and a line in registry.hpp.

#include <gptq/model/config_reader.hpp>
#include <gptq/model/description.hpp>

#include <span>
#include <string>
#include <string_view>

namespace gptq::model::architecture {

/// How the names of a model's tensors begin, and where its embeddings are.
struct ModelNames {
  /// Prefixes of all names but the head's, of which a folder has one: old files often leave it out.
  std::span<const std::string_view> bases;
  std::string_view embeddings = "embed_tokens.weight";
  std::string_view layers = "layers.";
};

inline constexpr std::string_view usual_bases[] = {"model."};

/// An architecture: its names, and the function that describes its models.
struct Architecture {
  std::string_view name;        ///< in config.json's "architectures"
  std::string_view model_type;  ///< in config.json
  /// Fills a description whose architecture, base, embeddings and layers_prefix are known.
  void (*describe)(const ConfigReader& config, Description& to);
  ModelNames names{usual_bases};
  bool is_multimodal = false;  ///< the decoder's settings are in "text_config"
};

/// A block that does nothing: between the embeddings and the first layer of most models.
inline Block nothing(Index width) {
  Block b;
  b.output(b.input(width));
  return b;
}

}  // namespace gptq::model::architecture
