// SPDX-License-Identifier: MIT
#pragma once

// Gemma, Gemma 2 and Gemma 3 (text).

#include <gptq/model/architecture/parts.hpp>

#include <cmath>  // std::sqrt
#include <string>
#include <vector>

namespace gptq::model::architecture {

/// What all layers of a Gemma have in common.
struct GemmaConfig {
  step::Norm norm;
  AttentionPart attention;
  MlpPart mlp;
};

/// Norms multiply by 1 + w, embeddings are scaled by √hidden.
inline GemmaConfig read_gemma(const ConfigReader& config, Description& to) {
  to.sizes = read_sizes(config, 256);
  require_pairs(config, to.sizes.head_dim);
  GemmaConfig c{read_rms(config), usual_attention(to.sizes), {.width = to.sizes.intermediate}};
  c.norm.added = 1;
  c.attention.qkv_bias = c.attention.o_bias = config.get_or<bool>("attention_bias", false);
  add_ends(to, config.get_or<bool>("tie_word_embeddings", true), c.norm);
  to.entry = Block(to.base);
  to.entry.output(to.entry.scale(to.entry.input(to.sizes.hidden),
                                 std::sqrt(static_cast<double>(to.sizes.hidden))));
  to.fused = usual_fusion();
  return c;
}

/// The scale of scores, from query_pre_attn_scalar.
inline double gemma_scale(const ConfigReader& config) {
  return 1 / std::sqrt(config.has("query_pre_attn_scalar")
                           ? config.positive("query_pre_attn_scalar")
                           : 256.0);
}

inline void describe_gemma(const ConfigReader& config, Description& to) {
  GemmaConfig c = read_gemma(config, to);
  c.attention.rope = step::Rope{.table = to.rope(parse_rope(config, to.sizes.head_dim, to.notes)),
                                .head_dim = to.sizes.head_dim};
  // Old files say gelu and mean its approximation.
  const auto activation = read_activation(config, {"hidden_activation", "hidden_act"}, "gelu");
  if (activation != Activation::gelu && activation != Activation::gelu_tanh)
    config.fail("\"hidden_activation\" is not a gelu");
  c.mlp.activation = Activation::gelu_tanh;
  require_usual_aliases(config, to, {{"rms_norm_eps", c.norm.epsilon}});
  for (Index i = 0; i < to.sizes.layers; ++i)
    to.layers.push_back(pre_norm_layer(
        layer_block(to, i), to.sizes.hidden, c.norm,
        [&](Block& b, Value x) { return attention(b, x, c.attention); },
        [&](Block& b, Value y) { return gated_mlp(b, y, c.mlp); }));
}

/// Layers with norms of inputs and outputs, some of which see only a window.
inline void add_gemma_layers(const ConfigReader& config, Description& to, GemmaConfig& c,
                             Index pattern, const LayerRopes& ropes) {
  c.mlp.activation =
      read_activation(config, {"hidden_activation", "hidden_act"}, "gelu_pytorch_tanh");
  c.attention.how.scale = gemma_scale(config);
  const auto slides = read_sliding(config, to.sizes.layers, pattern);
  const Index window = config.size_or("sliding_window", 4096);
  const int full = to.rope(ropes.full), sliding = to.rope(ropes.sliding);
  require_usual_aliases(config, to,
                        {{"rms_norm_eps", c.norm.epsilon}, {"rope_theta", ropes.full.theta}});
  for (Index i = 0; i < to.sizes.layers; ++i) {
    AttentionPart a = c.attention;
    a.how.window = slides[std::size_t(i)] ? window : 0;
    a.rope = step::Rope{.table = slides[std::size_t(i)] ? sliding : full, .head_dim = a.head_dim};
    to.layers.push_back(sandwich_layer(
        layer_block(to, i), to.sizes.hidden, c.norm,
        [&](Block& b, Value x) { return attention(b, x, a); },
        [&](Block& b, Value y) { return gated_mlp(b, y, c.mlp); }));
  }
}

/// A cap that null or 0 turns off.
inline double read_cap(const ConfigReader& config, const char* key, double otherwise) {
  if (!config.mentions(key)) return otherwise;
  return config.has(key) && config.get<double>(key) != 0 ? config.positive(key) : 0;
}

inline void describe_gemma2(const ConfigReader& config, Description& to) {
  GemmaConfig c = read_gemma(config, to);
  c.attention.how.softcap = read_cap(config, "attn_logit_softcapping", 50);
  to.head.softcap = read_cap(config, "final_logit_softcapping", 30);
  const Rope rope = parse_rope(config, to.sizes.head_dim, to.notes);
  add_gemma_layers(config, to, c, 2, {rope, rope});
}

/// Norms of q and k; layers that see everything have a rotation of their own.
inline void describe_gemma3(const ConfigReader& config, Description& to) {
  GemmaConfig c = read_gemma(config, to);
  normalize_heads(c.attention, c.norm);
  config.has("attn_logit_softcapping");  // transformers ignores it in Gemma 3
  to.head.softcap = read_cap(config, "final_logit_softcapping", 0);
  LayerRopes ropes =
      parse_layer_ropes(config, to.sizes.head_dim, to.notes, {.theta = 1000000}, false);
  if (config.has("rope_local_base_freq"))
    ropes.sliding.theta = config.positive("rope_local_base_freq");
  else if (!config.json().contains("rope_parameters")) ropes.sliding.theta = 10000;
  Index pattern = 6;
  for (const char* key : {"sliding_window_pattern", "_sliding_window_pattern"})
    pattern = config.size_or(key, pattern);
  add_gemma_layers(config, to, c, pattern, ropes);
}

}  // namespace gptq::model::architecture
