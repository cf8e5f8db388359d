// SPDX-License-Identifier: MIT
#pragma once

// Llama, Mistral, Qwen2 and Qwen3.

#include <gptq/model/architecture/parts.hpp>

#include <string>
#include <string_view>
#include <vector>

namespace gptq::model::architecture {

/// Mistral: every layer. Qwen: by layer_types, or from max_window_layers on where
/// use_sliding_window is set. Missing keys default to what transformers uses.
inline std::vector<Index> parse_windows(const ConfigReader& config, const Sizes& sizes,
                                        std::string_view architecture,
                                        std::vector<std::string>& notes) {
  std::vector<Index> windows(std::size_t(sizes.layers), 0);
  const bool mistral = architecture == "MistralForCausalLM",
             llama = architecture == "LlamaForCausalLM";
  const bool used = config.get_or<bool>("use_sliding_window", mistral);
  if (mistral && !used && config.has("sliding_window"))
    config.fail("\"use_sliding_window\" is false and \"sliding_window\" is ",
                config.size("sliding_window"), ", which a ", architecture, " always uses");
  Index window = config.size_or("sliding_window", 0);
  if (used && !llama && !config.mentions("sliding_window")) {
    window = 4096;
    notes.push_back(config.where() +
                    ": has no \"sliding_window\": using 4096, as transformers does");
  }
  const bool reaches = window > 0 && (sizes.context == 0 || window < sizes.context);
  const bool stated_unused = config.has("use_sliding_window") && !used;
  if (llama && reaches && !stated_unused)
    config.fail("\"sliding_window\" = ", window, ": transformers ignores it in a ", architecture,
                ", but other loaders use it (set it to null, or make the model a "
                "MistralForCausalLM)");
  if (used && !llama && window > 0) {
    const Index first = mistral                           ? 0
                        : config.has("max_window_layers") ? config.size("max_window_layers", 0)
                                                          : 28;
    for (Index i = first; i < sizes.layers; ++i) windows[std::size_t(i)] = window;
  }
  if (!config.has("layer_types")) return windows;

  const auto types = config.get<std::vector<std::string>>("layer_types");
  if (types.size() != windows.size())
    config.fail("\"layer_types\" has ", types.size(), " entries for ", windows.size(), " layers");
  const bool decides = used && !llama && !mistral;
  for (std::size_t i = 0; i < types.size(); ++i) {
    const bool slides = types[i] == "sliding_attention";
    if (!slides && types[i] != "full_attention")
      config.fail("the layer type \"", types[i], "\" is not supported");
    if (slides && window == 0)
      config.fail("layer ", i, " is of type \"", types[i],
                  "\", but there is no \"sliding_window\"");
    const Index expected = slides ? window : 0;
    if (windows[i] == expected) continue;
    // Before layer_types, transformers wrote max_window_layers alone; since then, both.
    if (!decides || config.has("max_window_layers"))
      config.fail("\"layer_types\" says \"", types[i], "\" for layer ", i,
                  ", which contradicts the other keys (use_sliding_window, sliding_window, "
                  "max_window_layers)");
    windows[i] = expected;
  }
  return windows;
}

/// What tells the members of this family apart.
struct LlamaKind {
  bool qk_norm = false;         ///< RMSNorm on each head of q and k
  bool qkv_bias = false;        ///< q, k and v always have biases, whatever attention_bias says
  bool attention_bias = false;  ///< whether attention_bias applies
  bool mlp_bias = false;        ///< whether mlp_bias applies
  Index head_dim = 0;           ///< default; 0: hidden_size / num_attention_heads
};

/// The attention of this family; `how.window` differs between layers.
template <LlamaKind Kind>
AttentionPart llama_attention(const ConfigReader& config, Description& to) {
  AttentionPart a = usual_attention(to.sizes);
  const Rope rope = parse_rope(config, a.head_dim, to.notes);
  a.rope = step::Rope{.table = to.rope(rope), .head_dim = a.head_dim};
  const bool bias = Kind.attention_bias && config.get_or<bool>("attention_bias", false);
  a.qkv_bias = bias || Kind.qkv_bias;
  a.o_bias = bias;
  if (Kind.qkv_bias && !config.get_or<bool>("attention_bias", true))
    to.notes.push_back(config.where() +
                       ": \"attention_bias\" is false but ignored: q, k and v of a " +
                       to.architecture + " always have biases");
  if (Kind.qk_norm) {
    normalize_heads(a, read_rms(config));
  }
  return a;
}

template <LlamaKind Kind>
void describe_llama(const ConfigReader& config, Description& to) {
  require_silu(config);
  to.sizes = read_sizes(config, Kind.head_dim);
  require_pairs(config, to.sizes.head_dim);
  const step::Norm norm = read_rms(config);
  AttentionPart a = llama_attention<Kind>(config, to);
  const bool tied = config.get_or<bool>("tie_word_embeddings", false);
  const MlpPart m{.width = to.sizes.intermediate,
                  .bias = Kind.mlp_bias && config.get_or<bool>("mlp_bias", false)};
  const auto windows = parse_windows(config, to.sizes, to.architecture, to.notes);
  add_ends(to, tied, norm);
  to.fused = usual_fusion();
  require_usual_aliases(config, to,
                        {{"rms_norm_eps", norm.epsilon},
                         {"biases of q, k and v", a.qkv_bias},
                         {"bias of o", a.o_bias},
                         {"biases of the MLP", m.bias},
                         {"norms of q and k", Kind.qk_norm}});
  for (Index i = 0; i < to.sizes.layers; ++i) {
    a.how.window = windows[std::size_t(i)];
    to.layers.push_back(pre_norm_layer(
        layer_block(to, i), to.sizes.hidden, norm,
        [&](Block& b, Value x) { return attention(b, x, a); },
        [&](Block& b, Value y) { return gated_mlp(b, y, m); }));
  }
}

}  // namespace gptq::model::architecture
