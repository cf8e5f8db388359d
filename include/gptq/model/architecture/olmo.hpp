// SPDX-License-Identifier: MIT
#pragma once

// OLMo, OLMo 2, OLMo 3 and EXAONE 4.

#include <gptq/model/architecture/llama_kin.hpp>

#include <vector>

namespace gptq::model::architecture {

/// clip_qkv; null or 0: no limit.
inline double read_clip(const ConfigReader& config) {
  return config.has("clip_qkv") && config.get<double>("clip_qkv") != 0 ? config.positive("clip_qkv")
                                                                       : 0;
}

/// LayerNorm without weights.
inline void describe_olmo(const ConfigReader& config, Description& to) {
  UsualParts p = read_usual(config, to, false);
  p.norm = {.kind = step::Norm::Kind::layer, .epsilon = 1e-5, .weighted = false};
  p.attention.clip = read_clip(config);
  add_pre_norm(
      config, to, p, [&](Index) { return p.attention; }, gated_mlp);
}

/// Norms of outputs, and of q and k over all heads or one.
template <class AttentionOf>
void add_post_norm(const ConfigReader& config, Description& to, const UsualParts& p,
                   const AttentionOf& attention_of) {
  add_ends(to, p.tied, p.norm);
  to.fused = usual_fusion();
  require_usual_aliases(config, to, {{"rms_norm_eps", p.norm.epsilon}});
  for (Index i = 0; i < to.sizes.layers; ++i) {
    const AttentionPart a = attention_of(i);
    to.layers.push_back(post_norm_layer(
        layer_block(to, i), to.sizes.hidden, p.norm,
        [&](Block& b, Value x) { return attention(b, x, a); },
        [&](Block& b, Value y) { return gated_mlp(b, y, p.mlp); }));
  }
}

inline void describe_olmo2(const ConfigReader& config, Description& to) {
  UsualParts p = read_usual(config, to, false);
  p.attention.qk_norm = p.norm;
  add_post_norm(config, to, p, [&](Index) { return p.attention; });
}

/// Windows in three of four layers; rope_scaling concerns the others.
inline void describe_olmo3(const ConfigReader& config, Description& to) {
  to.sizes = read_sizes(config);
  UsualParts p{.norm = read_rms(config), .attention = usual_attention(to.sizes), .mlp = {}};
  p.attention.qk_norm = p.norm;
  p.attention.qkv_bias = p.attention.o_bias = config.get_or<bool>("attention_bias", false);
  p.mlp = {.width = to.sizes.intermediate,
           .activation = read_activation(config, {"hidden_act"}, "silu")};
  p.tied = config.get_or<bool>("tie_word_embeddings", false);
  const LayerRopes ropes =
      parse_layer_ropes(config, to.sizes.head_dim, to.notes, {.theta = 500000}, false);
  const int full = to.rope(ropes.full), sliding = to.rope(ropes.sliding);
  const auto slides = read_sliding(config, to.sizes.layers, 4);
  const Index window = config.size_or("sliding_window", 4096);
  add_post_norm(config, to, p, [&](Index i) {
    AttentionPart a = p.attention;
    const bool slide = slides[std::size_t(i)];
    a.how.window = slide ? window : 0;
    a.rope = step::Rope{.table = slide ? sliding : full, .head_dim = a.head_dim};
    return a;
  });
}

/// Norms per head of q and k; with windows, only the layers that have one rotate.
inline void describe_exaone4(const ConfigReader& config, Description& to) {
  UsualParts p = read_usual(config, to, false);
  normalize_heads(p.attention, p.norm);
  const bool windows = config.has("sliding_window");
  const Index pattern =
      config.has("sliding_window_pattern") && config.json()["sliding_window_pattern"].is_number()
          ? config.size("sliding_window_pattern", 0)
          : 4;
  config.has("sliding_window_pattern");
  const auto slides = read_sliding(config, to.sizes.layers, windows ? pattern : 0);
  const Index window = windows ? config.size("sliding_window") : 0;
  add_post_norm(config, to, p, [&](Index i) {
    AttentionPart a = p.attention;
    if (windows && slides[std::size_t(i)]) a.how.window = window;
    if (windows && !slides[std::size_t(i)]) a.rope.reset();
    return a;
  });
}

}  // namespace gptq::model::architecture
