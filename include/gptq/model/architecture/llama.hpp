// SPDX-License-Identifier: MIT
#pragma once

// Llama, Mistral, Qwen2 and Qwen3.

#include <gptq/model/architecture/architecture.hpp>
#include <gptq/model/architecture/common.hpp>
#include <gptq/model/architecture/rope_config.hpp>

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

/// What a layer depends on.
struct LlamaConfig : Sizes {
  double norm_epsilon = 1e-6;
  std::vector<Index> window{};  ///< per layer: how many positions a query sees; 0: all
  bool qk_norm = false, qkv_bias = false, o_bias = false, mlp_bias = false;
  int rope = 0;
};

inline Block llama_layer(const LlamaConfig& c, Index i) {
  const step::Norm norm{.epsilon = c.norm_epsilon},
      head_norm{.epsilon = c.norm_epsilon, .size = c.head_dim};
  const step::Rope rope{.table = c.rope, .head_dim = c.head_dim};
  const Index kv_width = c.kv_heads * c.head_dim;
  Block b(layer_prefix("model.layers.", i));
  const Value h = b.input(c.hidden);
  const Value x = b.norm(h, "input_layernorm", norm);
  Value q = b.linear(x, "self_attn.q_proj", c.heads * c.head_dim, c.qkv_bias);
  Value k = b.linear(x, "self_attn.k_proj", kv_width, c.qkv_bias);
  const Value v = b.linear(x, "self_attn.v_proj", kv_width, c.qkv_bias);
  if (c.qk_norm) {
    q = b.norm(q, "self_attn.q_norm", head_norm);
    k = b.norm(k, "self_attn.k_norm", head_norm);
  }
  q = b.rope(q, rope);
  k = b.rope(k, rope);
  const Value a = b.attention(q, k, v,
                              {.heads = c.heads,
                               .kv_heads = c.kv_heads,
                               .head_dim = c.head_dim,
                               .window = c.window[std::size_t(i)]});
  const Value r = b.add(h, b.linear(a, "self_attn.o_proj", c.hidden, c.o_bias));
  const Value y = b.norm(r, "post_attention_layernorm", norm);
  const Value gate = b.linear(y, "mlp.gate_proj", c.intermediate, c.mlp_bias);
  const Value up = b.linear(y, "mlp.up_proj", c.intermediate, c.mlp_bias);
  const Value m = b.gated(gate, up, Activation::silu);
  b.output(b.add(r, b.linear(m, "mlp.down_proj", c.hidden, c.mlp_bias)));
  return b;
}

/// Embeddings, final norm and head under the names that most models use.
inline void add_ends(Description& to, bool tied, const step::Norm& norm,
                     const std::string& base = "model.") {
  const Sizes& s = to.sizes;
  to.embeddings = base + "embed_tokens.weight";
  to.entry = nothing(s.hidden);
  to.layers_prefix = base + "layers.";
  to.exit.output(to.exit.norm(to.exit.input(s.hidden), base + "norm", norm));
  to.head.linear = {.name = "lm_head", .out = s.vocabulary, .in = s.hidden};
  to.head.tied = tied;
}

/// q, k and v, and gate and up, which engines join.
inline std::vector<FusedModules> usual_fusion() {
  return {{"self_attn.qkv_proj",
           "q, k and v",
           {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"}},
          {"mlp.gate_up_proj", "gate and up", {"mlp.gate_proj", "mlp.up_proj"}}};
}

template <LlamaKind Kind>
void describe_llama(const ConfigReader& config, Description& to) {
  require_silu(config);
  LlamaConfig c{read_sizes(config, Kind.head_dim)};
  to.sizes = c;
  c.norm_epsilon = config.has("rms_norm_eps") ? config.positive("rms_norm_eps") : 1e-6;
  const Rope rope = parse_rope(config, c.head_dim, to.notes);
  c.rope = to.rope(rope);
  const bool tied = config.get_or<bool>("tie_word_embeddings", false);
  c.qk_norm = Kind.qk_norm;
  const bool attention_bias = Kind.attention_bias && config.get_or<bool>("attention_bias", false);
  c.qkv_bias = attention_bias || Kind.qkv_bias;
  c.o_bias = attention_bias;
  if (Kind.qkv_bias && !config.get_or<bool>("attention_bias", true))
    to.notes.push_back(config.where() +
                       ": \"attention_bias\" is false but ignored: q, k and v of a " +
                       to.architecture + " always have biases");
  c.mlp_bias = Kind.mlp_bias && config.get_or<bool>("mlp_bias", false);
  c.window = parse_windows(config, c, to.architecture, to.notes);
  nlohmann::json used = used_values(c);
  used.update({{"rms_norm_eps", c.norm_epsilon},
               {"rope_theta", rope.theta},
               {"tie_word_embeddings", tied},
               {"not tie_word_embeddings", !tied},
               {"biases of q, k and v", c.qkv_bias},
               {"bias of o", c.o_bias},
               {"biases of the MLP", c.mlp_bias},
               {"norms of q and k", c.qk_norm}});
  require_agreeing_aliases(config, used);

  add_ends(to, tied, {.epsilon = c.norm_epsilon});
  to.fused = usual_fusion();
  for (Index i = 0; i < c.layers; ++i) to.layers.push_back(llama_layer(c, i));
}

inline constexpr GgufName llama_outside[] = {{"token_embd.weight", "model.embed_tokens.weight"},
                                             {"output_norm.weight", "model.norm.weight"},
                                             {"output.weight", "lm_head.weight"}};
inline constexpr GgufName llama_inside[] = {
    {"attn_norm", "input_layernorm"},    {"ffn_norm", "post_attention_layernorm"},
    {"attn_q", "self_attn.q_proj"},      {"attn_k", "self_attn.k_proj"},
    {"attn_v", "self_attn.v_proj"},      {"attn_output", "self_attn.o_proj"},
    {"attn_q_norm", "self_attn.q_norm"}, {"attn_k_norm", "self_attn.k_norm"},
    {"ffn_gate", "mlp.gate_proj"},       {"ffn_up", "mlp.up_proj"},
    {"ffn_down", "mlp.down_proj"}};
inline constexpr InterleavedModule interleaved_qk[] = {{"self_attn.q_proj.", false},
                                                       {"self_attn.k_proj.", true}};

inline constexpr GgufFamily gguf_llama{.arch = "llama",
                                       .layers = "model.layers.",
                                       .outside = llama_outside,
                                       .inside = llama_inside,
                                       .interleaved = interleaved_qk,
                                       .attention_bias = true,
                                       .mlp_bias = true};
inline constexpr GgufFamily gguf_qwen2{
    .arch = "qwen2", .layers = "model.layers.", .outside = llama_outside, .inside = llama_inside};
inline constexpr GgufFamily gguf_qwen3{.arch = "qwen3",
                                       .layers = "model.layers.",
                                       .outside = llama_outside,
                                       .inside = llama_inside,
                                       .attention_bias = true};

}  // namespace gptq::model::architecture
