// SPDX-License-Identifier: MIT
#pragma once

// What the functions of all architectures read from a config.json in the same way.

#include <gptq/model/config_aliases.hpp>
#include <gptq/model/config_reader.hpp>
#include <gptq/model/description.hpp>

#include <nlohmann/json.hpp>

#include <initializer_list>
#include <string>

namespace gptq::model::architecture {

/// The names of sizes, where a family has its own.
struct SizeKeys {
  const char* hidden = "hidden_size";
  const char* intermediate = "intermediate_size";  ///< null: read elsewhere
  const char* layers = "num_hidden_layers";
  const char* heads = "num_attention_heads";
  const char* kv_heads = "num_key_value_heads";  ///< null: as many as heads
  const char* context = "max_position_embeddings";
};

/// hidden_size, num_hidden_layers, vocab_size, ...
/// \param head_dim  its default; 0: hidden_size / num_attention_heads
inline Sizes read_sizes(const ConfigReader& config, Index head_dim = 0, const SizeKeys& keys = {}) {
  Sizes s;
  s.hidden = config.size(keys.hidden);
  if (keys.intermediate) s.intermediate = config.size(keys.intermediate);
  s.layers = config.size(keys.layers);
  if (s.layers > 10'000)
    config.fail("\"", keys.layers, "\" = ", s.layers, " is not a number of layers");
  s.vocabulary = config.size("vocab_size");
  s.context = config.size_or(keys.context, 0);
  s.heads = config.size(keys.heads);
  s.kv_heads = keys.kv_heads ? config.size_or(keys.kv_heads, s.heads) : s.heads;
  if (s.heads % s.kv_heads != 0)
    config.fail(keys.heads, " = ", s.heads, " is not a multiple of ", keys.kv_heads, " = ",
                s.kv_heads);
  if (config.has("head_dim")) {
    s.head_dim = config.size("head_dim");
  } else if (head_dim > 0 && !config.mentions("head_dim")) {
    s.head_dim = head_dim;
  } else {
    s.head_dim = s.hidden / s.heads;
    if (s.hidden % s.heads != 0)
      config.fail("has no \"head_dim\", and ", keys.hidden, " = ", s.hidden,
                  " is not a multiple of ", keys.heads, " = ", s.heads);
  }
  if (s.head_dim == 0) config.fail("head_dim = 0");
  return s;
}

/// \throws FormatError  the size is odd, so that its coordinates form no pairs
inline void require_pairs(const ConfigReader& config, Index head_dim) {
  if (head_dim % 2 != 0) config.fail("head_dim = ", head_dim, " is not even");
}

/// \param keys  its names, of which the first that is present counts
/// \throws FormatError  the function is not known
inline Activation read_activation(const ConfigReader& config,
                                  std::initializer_list<const char*> keys,
                                  const std::string& otherwise) {
  std::string name = otherwise;
  const char* used = *keys.begin();
  bool found = false;
  for (const char* key : keys)
    if (config.has(key) && !found) name = config.get<std::string>(used = key), found = true;
  if (name == "silu" || name == "swish") return Activation::silu;
  if (name == "gelu") return Activation::gelu;
  if (name == "gelu_new" || name == "gelu_pytorch_tanh" || name == "gelu_fast")
    return Activation::gelu_tanh;
  if (name == "relu") return Activation::relu;
  if (name == "relu2") return Activation::relu_squared;
  config.fail("the activation \"", name, "\" (\"", used,
              "\") is not supported (silu, gelu, gelu_new, gelu_pytorch_tanh, relu and relu2 are)");
}

/// Checks the activation, under all the names it goes by.
inline void require_silu(const ConfigReader& config) {
  for (const char* key :
       {"hidden_act", "hidden_activation", "activation_function", "activation", "activation_fn",
        "activation_type", "act_fn", "ffn_activation", "mlp_act", "mlp_activation"})
    if (const auto act = config.get_or<std::string>(key, "silu");
        act != "silu" && act != "swish" && (act != "swiglu" || std::string(key) == "hidden_act"))
      config.fail("the activation \"", act, "\" (\"", key, "\") is not supported (silu is)");
}

/// The values that are used, under the names that `aliases` refer to.
inline nlohmann::json used_values(const Sizes& s) {
  return {{"hidden_size", s.hidden},
          {"intermediate_size", s.intermediate},
          {"num_hidden_layers", s.layers},
          {"num_attention_heads", s.heads},
          {"num_key_value_heads", s.kv_heads},
          {"num_attention_heads / num_key_value_heads", s.heads / s.kv_heads},
          {"head_dim", s.head_dim},
          {"vocab_size", s.vocabulary}};
}

/// Other model families use other names for the same values; a loader that knows those names would
/// compute something else.
/// \param used  values by their standard names
/// \throws FormatError  an alias differs from the value used
inline void require_agreeing_aliases(const ConfigReader& config, const nlohmann::json& used) {
  for (const Alias& alias : aliases) {
    const std::string name(alias.name);
    if (config.was_read(name) || !config.has(name.c_str())) continue;
    const auto agrees = [&](std::string_view standard) {
      const auto found = used.find(std::string(standard));
      if (found == used.end()) return false;
      return found->is_boolean() ? config.get<bool>(name.c_str()) == found->get<bool>()
                                 : config.get<double>(name.c_str()) == found->get<double>();
    };
    if (agrees(alias.standard) || agrees(alias.or_standard)) continue;
    const std::string standard(alias.standard);
    config.fail("\"", name, "\" = ", ConfigReader::text(config.get<nlohmann::json>(name.c_str())),
                ", and \"", standard, "\" is ", used[standard].dump(),
                config.mentions(standard.c_str()) || standard.find(' ') != std::string::npos
                    ? ""
                    : " by default",
                ": a loader that reads \"", name,
                "\" would compute something else (delete it if it is wrong)");
  }
}

}  // namespace gptq::model::architecture
