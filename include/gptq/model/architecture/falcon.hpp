// SPDX-License-Identifier: MIT
#pragma once

// Falcon: 7B (one head of keys, one norm), 40B and 11B (groups of heads), RW (ALiBi, sequential).

#include <gptq/model/architecture/gpt.hpp>

#include <string>
#include <utility>  // std::move

namespace gptq::model::architecture {

inline void describe_falcon(const ConfigReader& config, Description& to) {
  SizeKeys keys;
  keys.intermediate = nullptr, keys.kv_heads = nullptr;
  if (config.has("n_layer")) keys.layers = "n_layer";
  if (config.has("n_head")) keys.heads = "n_head";
  to.sizes = read_sizes(config, 0, keys);
  const Index hidden = to.sizes.hidden;
  to.sizes.intermediate = config.size_or("ffn_hidden_size", 4 * hidden);
  const step::Norm norm = read_layer_norm(config, "layer_norm_epsilon");
  const bool groups = config.get_or<bool>("new_decoder_architecture", false),
             one_head = config.get_or<bool>("multi_query", true) && !groups,
             parallel = config.get_or<bool>("parallel_attn", true) || groups,
             bias = config.get_or<bool>("bias", false);
  for (const char* key : {"n_head_kv", "num_kv_heads"})
    if (config.has(key) && groups) to.sizes.kv_heads = config.size(key);
  if (one_head) to.sizes.kv_heads = 1;
  if (to.sizes.heads % to.sizes.kv_heads != 0)
    config.fail("num_attention_heads = ", to.sizes.heads,
                " is not a multiple of num_kv_heads = ", to.sizes.kv_heads);
  const bool two_norms = groups && config.size_or("num_ln_in_parallel_attn", 2) == 2;
  config.has("num_ln_in_parallel_attn");

  AttentionPart a = usual_attention(to.sizes);
  a.qkv_bias = a.o_bias = bias;
  a.o = "self_attention.dense";
  if (config.get_or<bool>("alibi", false)) {
    require_slopes(config, a.heads);
    a.how.slopes = alibi_slopes(a.heads);
    a.how.scaled_slopes = true;
    for (const char* key : {"rope_parameters", "rope_theta"}) config.has(key);
  } else {
    require_pairs(config, a.head_dim);
    a.rope = step::Rope{.table = to.rope(parse_rope(config, a.head_dim, to.notes)),
                        .head_dim = a.head_dim};
  }
  const MlpPart m{.width = to.sizes.intermediate,
                  .activation = read_activation(config, {"activation"}, "gelu"),
                  .bias = bias,
                  .up = "mlp.dense_h_to_4h",
                  .down = "mlp.dense_4h_to_h"};
  add_ends(to, config.get_or<bool>("tie_word_embeddings", true), norm, "ln_f");
  require_usual_aliases(config, to);

  const std::string qkv = "self_attention.query_key_value";
  const auto attention_part = [&](Block& b, Value x) {
    return one_head ? fused_attention(b, x, a, qkv) : grouped_attention(b, x, a, qkv);
  };
  const auto mlp_part = [&](Block& b, Value y) { return plain_mlp(b, y, m); };
  for (Index i = 0; i < to.sizes.layers; ++i) {
    if (!parallel) {
      to.layers.push_back(
          pre_norm_layer(layer_block(to, i), hidden, norm, attention_part, mlp_part));
    } else if (!two_norms) {
      to.layers.push_back(
          parallel_layer(layer_block(to, i), hidden, norm, attention_part, mlp_part));
    } else {
      Block b = layer_block(to, i);
      const Value h = b.input(hidden);
      const Value x = b.norm(h, "ln_attn", norm);
      const Value y = b.norm(h, "ln_mlp", norm);
      const Value r = b.add(h, attention_part(b, x));
      b.output(b.add(r, mlp_part(b, y)));
      to.layers.push_back(std::move(b));
    }
  }
}

}  // namespace gptq::model::architecture
