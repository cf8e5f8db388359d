// SPDX-License-Identifier: MIT
#pragma once

// What the functions of all architectures read from a config.json in the same way.

#include <gptq/model/config_aliases.hpp>
#include <gptq/model/config_reader.hpp>
#include <gptq/model/description.hpp>

#include <nlohmann/json.hpp>

#include <string>

namespace gptq::model::architecture {

/// hidden_size, num_hidden_layers, vocab_size, ...
/// \param head_dim  its default; 0: hidden_size / num_attention_heads
inline Sizes read_sizes(const ConfigReader& config, Index head_dim = 0) {
  Sizes s;
  s.hidden = config.size("hidden_size");
  s.intermediate = config.size("intermediate_size");
  s.layers = config.size("num_hidden_layers");
  if (s.layers > 10'000)
    config.fail("\"num_hidden_layers\" = ", s.layers, " is not a number of layers");
  s.vocabulary = config.size("vocab_size");
  s.context = config.size_or("max_position_embeddings", 0);
  s.heads = config.size("num_attention_heads");
  s.kv_heads = config.size_or("num_key_value_heads", s.heads);
  if (s.heads % s.kv_heads != 0)
    config.fail("num_attention_heads = ", s.heads,
                " is not a multiple of num_key_value_heads = ", s.kv_heads);
  if (config.has("head_dim")) {
    s.head_dim = config.size("head_dim");
  } else if (head_dim > 0 && !config.mentions("head_dim")) {
    s.head_dim = head_dim;
  } else {
    s.head_dim = s.hidden / s.heads;
    if (s.hidden % s.heads != 0)
      config.fail("has no \"head_dim\", and hidden_size = ", s.hidden,
                  " is not a multiple of num_attention_heads = ", s.heads);
  }
  if (s.head_dim % 2 != 0 || s.head_dim == 0)
    config.fail("head_dim = ", s.head_dim, " is not even");
  return s;
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
    if (!config.has(name.c_str())) continue;
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
