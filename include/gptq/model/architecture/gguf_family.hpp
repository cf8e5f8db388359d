// SPDX-License-Identifier: MIT
#pragma once

// GgufFamily: how llama.cpp names and stores the weights of an architecture.

#include <span>
#include <string_view>

namespace gptq::model::architecture {

/// A name in GGUF files and in Hugging Face folders.
struct GgufName {
  std::string_view gguf, hf;
};

/// Modules whose rows llama.cpp stores with the halves of each head interleaved.
struct InterleavedModule {
  std::string_view part;  ///< of the name in Hugging Face folders
  bool of_keys;           ///< it has the heads of keys, not those of queries
};

struct GgufFamily {
  std::string_view arch;              ///< general.architecture
  std::string_view layers;            ///< how the names of layers begin: "model.layers."
  std::span<const GgufName> outside;  ///< whole names
  std::span<const GgufName> inside;   ///< names in a layer, without ".weight"
  std::span<const InterleavedModule> interleaved{};
  bool attention_bias = false, mlp_bias = false;  ///< keys that say which modules have biases
};

}  // namespace gptq::model::architecture
