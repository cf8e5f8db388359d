// SPDX-License-Identifier: MIT
#pragma once

// Cohere (Command-R) and Cohere 2: attention and MLP side by side on one norm.

#include <gptq/model/architecture/llama_kin.hpp>

#include <vector>

namespace gptq::model::architecture {

template <class AttentionOf>
void add_cohere(const ConfigReader& config, Description& to, UsualParts& p,
                const AttentionOf& attention_of) {
  p.norm = read_layer_norm(config, "layer_norm_eps");
  p.norm.biased = false;
  p.attention.rope->interleaved = true;
  add_ends(to, p.tied, p.norm);
  to.head.scale = config.has("logit_scale") ? config.positive("logit_scale") : 0.0625;
  to.fused = usual_fusion();
  const bool qk_norm = p.attention.qk_norm.has_value();
  require_usual_aliases(config, to, {{"norms of q and k", qk_norm}});
  for (Index i = 0; i < to.sizes.layers; ++i) {
    const AttentionPart a = attention_of(i);
    to.layers.push_back(parallel_layer(
        layer_block(to, i), to.sizes.hidden, p.norm,
        [&](Block& b, Value x) { return attention(b, x, a); },
        [&](Block& b, Value x) { return gated_mlp(b, x, p.mlp); }));
  }
}

/// Command-R+ has LayerNorms of q and k, with a weight per head.
inline void describe_cohere(const ConfigReader& config, Description& to) {
  UsualParts p = read_usual(config, to, true);
  if (config.get_or<bool>("use_qk_norm", false)) {
    p.attention.qk_norm = read_layer_norm(config, "layer_norm_eps");
    p.attention.qk_norm->biased = false;
    p.attention.qk_norm->size = to.sizes.head_dim;
    p.attention.qk_norm->weights = step::Norm::Weights::in_rows;
  }
  add_cohere(config, to, p, [&](Index) { return p.attention; });
}

/// Only layers with a window rotate.
inline void describe_cohere2(const ConfigReader& config, Description& to) {
  UsualParts p = read_usual(config, to, true);
  Index pattern = 4;
  for (const char* key : {"sliding_window_pattern", "_sliding_window_pattern"})
    pattern = config.size_or(key, pattern);
  const auto slides = read_sliding(config, to.sizes.layers, pattern);
  const Index window = config.size_or("sliding_window", 4096);
  add_cohere(config, to, p, [&](Index i) {
    AttentionPart a = p.attention;
    if (slides[std::size_t(i)]) a.how.window = window;
    else a.rope.reset();
    return a;
  });
}

}  // namespace gptq::model::architecture
