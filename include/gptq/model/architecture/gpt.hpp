// SPDX-License-Identifier: MIT
#pragma once

// GPT-2, GPT-J, GPT-NeoX, OPT, BLOOM and MPT: LayerNorms, MLPs without gates.

#include <gptq/model/architecture/parts.hpp>

#include <bit>    // std::bit_ceil, std::bit_floor
#include <cmath>  // std::pow
#include <cstdint>
#include <string>
#include <utility>  // std::move
#include <vector>

namespace gptq::model::architecture {

/// \throws FormatError  too many heads for a slope each
inline void require_slopes(const ConfigReader& config, Index heads) {
  if (heads > 65'536) config.fail(heads, " is not a number of heads");
}

/// The slopes of ALiBi (Press, Smith, Lewis, "Train Short, Test Long", 2022): powers of two for a
/// power of two of heads; the other heads get those between.
inline std::vector<float> alibi_slopes(Index heads) {
  const auto n = static_cast<Index>(std::bit_floor(static_cast<std::uint64_t>(heads)));
  std::vector<float> slopes;
  const auto add = [&](Index of, Index power) {
    slopes.push_back(static_cast<float>(
        std::pow(2.0, -8.0 * static_cast<double>(power) / static_cast<double>(of))));
  };
  for (Index i = 1; i <= n; ++i) add(n, i);
  for (Index i = 1; static_cast<Index>(slopes.size()) < heads; i += 2) add(2 * n, i);
  return slopes;
}

/// Conv1D: weights are stored as [in, out].
inline Value transposed_linear(Block& b, Value x, const std::string& name, Index out) {
  return b.linear(x, {.name = name, .out = out, .bias = true, .transposed = true});
}

inline void describe_gpt2(const ConfigReader& config, Description& to) {
  to.sizes =
      read_sizes(config, 0, {"n_embd", nullptr, "n_layer", "n_head", nullptr, "n_positions"});
  const Index hidden = to.sizes.hidden;
  to.sizes.intermediate = config.size_or("n_inner", 4 * hidden);
  const step::Norm norm = read_layer_norm(config, "layer_norm_epsilon");
  const Activation activation = read_activation(config, {"activation_function"}, "gelu_new");
  AttentionPart a = usual_attention(to.sizes);
  const bool scaled = config.get_or<bool>("scale_attn_weights", true),
             by_layer = config.get_or<bool>("scale_attn_by_inverse_layer_idx", false);
  config.has("reorder_and_upcast_attn");  // a matter of precision
  add_ends(to, config.get_or<bool>("tie_word_embeddings", true), norm, "ln_f");
  to.entry = Block(to.base);
  to.entry.output(to.entry.positions(to.entry.input(hidden), "wpe.weight", to.sizes.context, 0));
  require_usual_aliases(config, to);
  for (Index i = 0; i < to.sizes.layers; ++i) {
    a.how.scale = (scaled ? 1 / std::sqrt(static_cast<double>(a.head_dim)) : 1.0) /
                  static_cast<double>(by_layer ? i + 1 : 1);
    to.layers.push_back(pre_norm_layer(
        layer_block(to, i), hidden, norm,
        [&](Block& b, Value x) {
          const Value all = transposed_linear(b, x, "attn.c_attn", 3 * hidden);
          const Value q = b.columns(all, 0, hidden);
          const Value k = b.columns(all, hidden, hidden);
          const Value v = b.columns(all, 2 * hidden, hidden);
          return transposed_linear(b, attend(b, q, k, v, a), "attn.c_proj", hidden);
        },
        [&](Block& b, Value y) {
          const Value up = transposed_linear(b, y, "mlp.c_fc", to.sizes.intermediate);
          return transposed_linear(b, b.activate(up, activation), "mlp.c_proj", hidden);
        },
        "ln_1", "ln_2"));
  }
}

/// Attention and MLP side by side; some coordinates of a head turn, in adjacent pairs.
inline void describe_gptj(const ConfigReader& config, Description& to) {
  to.sizes =
      read_sizes(config, 0, {"n_embd", nullptr, "n_layer", "n_head", nullptr, "n_positions"});
  to.sizes.intermediate = config.size_or("n_inner", 4 * to.sizes.hidden);
  const step::Norm norm = read_layer_norm(config, "layer_norm_epsilon");
  AttentionPart a = usual_attention(to.sizes);
  a.q = "attn.q_proj", a.k = "attn.k_proj", a.v = "attn.v_proj", a.o = "attn.out_proj";
  const Index turning = config.size_or("rotary_dim", 64);
  if (turning > a.head_dim || turning % 2 != 0)
    config.fail("\"rotary_dim\" = ", turning, " of ", a.head_dim, " coordinates of a head");
  a.rope =
      step::Rope{.table = to.rope({.dims = turning}), .head_dim = a.head_dim, .interleaved = true};
  const MlpPart m{.width = to.sizes.intermediate,
                  .activation = read_activation(config, {"activation_function"}, "gelu_new"),
                  .bias = true,
                  .up = "mlp.fc_in",
                  .down = "mlp.fc_out"};
  add_ends(to, config.get_or<bool>("tie_word_embeddings", false), norm, "ln_f");
  to.head.linear.bias = true;
  to.fused = {{"attn.qkv_proj", "q, k and v", {a.q, a.k, a.v}}};
  require_usual_aliases(config, to);
  for (Index i = 0; i < to.sizes.layers; ++i)
    to.layers.push_back(parallel_layer(
        layer_block(to, i), to.sizes.hidden, norm,
        [&](Block& b, Value x) { return attention(b, x, a); },
        [&](Block& b, Value x) { return plain_mlp(b, x, m); }, "ln_1"));
}

/// Phi-1, 1.5 and 2: attention and MLP side by side on one norm, a bias everywhere.
inline void describe_phi(const ConfigReader& config, Description& to) {
  to.sizes = read_sizes(config);
  const step::Norm norm = read_layer_norm(config, "layer_norm_eps");
  AttentionPart a = usual_attention(to.sizes);
  a.qkv_bias = a.o_bias = true;
  a.o = "self_attn.dense";
  a.rope = step::Rope{.table = to.rope(parse_rope(config, a.head_dim, to.notes,
                                                  {.partial = 0.5, .may_be_partial = true})),
                      .head_dim = a.head_dim};
  if (config.get_or<bool>("qk_layernorm", false)) {
    normalize_heads(a, norm);
    a.q_norm = "self_attn.q_layernorm", a.k_norm = "self_attn.k_layernorm";
  }
  const MlpPart m{.width = to.sizes.intermediate,
                  .activation = read_activation(config, {"hidden_act"}, "gelu_new"),
                  .bias = true,
                  .up = "mlp.fc1",
                  .down = "mlp.fc2"};
  add_ends(to, config.get_or<bool>("tie_word_embeddings", false), norm, "final_layernorm");
  to.head.linear.bias = true;
  to.fused = {usual_fusion().front()};
  require_usual_aliases(config, to);
  for (Index i = 0; i < to.sizes.layers; ++i)
    to.layers.push_back(parallel_layer(
        layer_block(to, i), to.sizes.hidden, norm,
        [&](Block& b, Value x) { return attention(b, x, a); },
        [&](Block& b, Value x) { return plain_mlp(b, x, m); }));
}

/// Attention and MLP side by side, each on a norm of its own, or one after the other.
inline void describe_neox(const ConfigReader& config, Description& to) {
  to.sizes = read_sizes(config);
  const step::Norm norm = read_layer_norm(config, "layer_norm_eps");
  AttentionPart a = usual_attention(to.sizes);
  a.qkv_bias = a.o_bias = config.get_or<bool>("attention_bias", true);
  a.o = "attention.dense";
  RopeRules rules{.partial = 0.25, .may_be_partial = true};
  if (config.has("rotary_pct")) rules.partial = config.positive("rotary_pct");
  if (config.has("rotary_emb_base")) rules.theta = config.positive("rotary_emb_base");
  a.rope = step::Rope{.table = to.rope(parse_rope(config, a.head_dim, to.notes, rules)),
                      .head_dim = a.head_dim};
  const MlpPart m{.width = to.sizes.intermediate,
                  .activation = read_activation(config, {"hidden_act"}, "gelu"),
                  .bias = true,
                  .up = "mlp.dense_h_to_4h",
                  .down = "mlp.dense_4h_to_h"};
  const bool parallel = config.get_or<bool>("use_parallel_residual", true);
  add_ends(to, config.get_or<bool>("tie_word_embeddings", false), norm, "final_layer_norm",
           "embed_out");
  require_usual_aliases(config, to);
  const auto attention_part = [&](Block& b, Value x) {
    return grouped_attention(b, x, a, "attention.query_key_value");
  };
  for (Index i = 0; i < to.sizes.layers; ++i) {
    if (!parallel) {
      to.layers.push_back(pre_norm_layer(layer_block(to, i), to.sizes.hidden, norm, attention_part,
                                         [&](Block& b, Value y) { return plain_mlp(b, y, m); }));
      continue;
    }
    Block b = layer_block(to, i);
    const Value h = b.input(to.sizes.hidden);
    const Value x = b.norm(h, "input_layernorm", norm);
    const Value y = b.norm(h, "post_attention_layernorm", norm);
    const Value r = b.add(h, attention_part(b, x));
    b.output(b.add(r, plain_mlp(b, y, m)));
    to.layers.push_back(std::move(b));
  }
}

/// Learned positions behind two unused rows; OPT-350m has narrower embeddings and norms of sums.
inline void describe_opt(const ConfigReader& config, Description& to) {
  SizeKeys keys;
  keys.intermediate = "ffn_dim", keys.kv_heads = nullptr;
  to.sizes = read_sizes(config, 0, keys);
  const Index hidden = to.sizes.hidden, embedded = config.size_or("word_embed_proj_dim", hidden);
  const bool before = config.get_or<bool>("do_layer_norm_before", true),
             bias = config.get_or<bool>("enable_bias", true),
             affine = config.get_or<bool>("layer_norm_elementwise_affine", true),
             removed = config.get_or<bool>("_remove_final_layer_norm", false),
             ends_with_norm = before && !removed;
  const step::Norm norm{
      .kind = step::Norm::Kind::layer, .epsilon = 1e-5, .weighted = affine, .biased = affine};
  AttentionPart a = usual_attention(to.sizes);
  a.qkv_bias = a.o_bias = bias;
  a.o = "self_attn.out_proj";
  const MlpPart m{.width = to.sizes.intermediate,
                  .activation = read_activation(config, {"activation_function"}, "relu"),
                  .bias = bias,
                  .up = "fc1",
                  .down = "fc2"};
  add_ends(to, config.get_or<bool>("tie_word_embeddings", true), norm);
  to.entry = Block(to.base);
  Value x = to.entry.input(embedded);
  if (embedded != hidden) x = to.entry.unquantized_linear(x, "project_in", hidden);
  to.entry.output(to.entry.positions(x, "embed_positions.weight", to.sizes.context + 2, 2));
  to.exit = Block(to.base);
  x = to.exit.input(hidden);
  if (ends_with_norm) x = to.exit.norm(x, "final_layer_norm", norm);
  if (embedded != hidden) x = to.exit.unquantized_linear(x, "project_out", embedded);
  to.exit.output(x);
  to.head.linear.in = embedded;
  to.fused = {usual_fusion().front()};
  require_usual_aliases(config, to);
  for (Index i = 0; i < to.sizes.layers; ++i) {
    if (before) {
      to.layers.push_back(pre_norm_layer(
          layer_block(to, i), hidden, norm, [&](Block& b, Value in) { return attention(b, in, a); },
          [&](Block& b, Value in) { return plain_mlp(b, in, m); }, "self_attn_layer_norm",
          "final_layer_norm"));
      continue;
    }
    Block b = layer_block(to, i);
    const Value h = b.input(hidden);
    const Value r = b.norm(b.add(h, attention(b, h, a)), "self_attn_layer_norm", norm);
    b.output(b.norm(b.add(r, plain_mlp(b, r, m)), "final_layer_norm", norm));
    to.layers.push_back(std::move(b));
  }
}

/// ALiBi, a norm of the embeddings, q, k and v joined head by head.
inline void describe_bloom(const ConfigReader& config, Description& to) {
  SizeKeys keys{"hidden_size", nullptr, "n_layer", "n_head", nullptr, "seq_length"};
  if (config.has("n_embed")) keys.hidden = "n_embed";
  if (config.has("num_hidden_layers")) keys.layers = "num_hidden_layers";
  if (config.has("num_attention_heads")) keys.heads = "num_attention_heads";
  to.sizes = read_sizes(config, 0, keys);
  const Index hidden = to.sizes.hidden;
  to.sizes.intermediate = 4 * hidden;
  const step::Norm norm = read_layer_norm(config, "layer_norm_epsilon");
  if (config.get_or<bool>("apply_residual_connection_post_layernorm", false))
    config.fail("\"apply_residual_connection_post_layernorm\" = true is not supported");
  config.has("slow_but_exact");  // a matter of rounding
  AttentionPart a = usual_attention(to.sizes);
  a.qkv_bias = a.o_bias = true;
  a.o = "self_attention.dense";
  require_slopes(config, a.heads);
  a.how.slopes = alibi_slopes(a.heads);
  const MlpPart m{.width = 4 * hidden,
                  .activation = Activation::gelu_tanh,
                  .bias = true,
                  .up = "mlp.dense_h_to_4h",
                  .down = "mlp.dense_4h_to_h"};
  add_ends(to, config.get_or<bool>("tie_word_embeddings", true), norm, "ln_f");
  to.entry = Block(to.base);
  to.entry.output(to.entry.norm(to.entry.input(hidden), "word_embeddings_layernorm", norm));
  require_usual_aliases(config, to);
  for (Index i = 0; i < to.sizes.layers; ++i)
    to.layers.push_back(pre_norm_layer(
        layer_block(to, i), hidden, norm,
        [&](Block& b, Value x) {
          return grouped_attention(b, x, a, "self_attention.query_key_value");
        },
        [&](Block& b, Value y) { return plain_mlp(b, y, m); }));
}

/// ALiBi, LayerNorms without biases. transformers ignores what other settings MPT once had.
inline void describe_mpt(const ConfigReader& config, Description& to) {
  to.sizes =
      read_sizes(config, 0, {"d_model", nullptr, "n_layers", "n_heads", nullptr, "max_seq_len"});
  const Index hidden = to.sizes.hidden;
  to.sizes.intermediate = 4 * hidden;
  step::Norm norm = read_layer_norm(config, "layer_norm_epsilon");
  norm.biased = false;
  AttentionPart a = usual_attention(to.sizes);
  a.o = "attn.out_proj";
  require_slopes(config, a.heads);
  const auto n = static_cast<Index>(std::bit_ceil(static_cast<std::uint64_t>(a.heads)));
  const auto all = alibi_slopes(n);
  for (Index i = 1; i < n && n != a.heads; i += 2) a.how.slopes.push_back(all[std::size_t(i)]);
  for (Index i = 0; i < n; i += n != a.heads ? 2 : 1) a.how.slopes.push_back(all[std::size_t(i)]);
  a.how.slopes.resize(static_cast<std::size_t>(a.heads));
  if (config.has("attn_config")) {
    const ConfigReader own(config.json()["attn_config"], config.where() + ": attn_config");
    for (const char* key : {"qk_ln", "prefix_lm"})
      if (own.get_or<bool>(key, false)) own.fail("\"", key, "\" = true is not supported");
    for (const char* key : {"alibi", "alibi_bias_max"}) own.has(key);
    if (own.has("kv_n_heads") && own.size("kv_n_heads") != a.heads)
      own.fail("\"kv_n_heads\" = ", own.size("kv_n_heads"), " is not supported");
    if (own.has("clip_qkv") && own.get<double>("clip_qkv") != 0) a.clip = own.positive("clip_qkv");
    if (own.has("softmax_scale")) a.how.scale = own.positive("softmax_scale");
  }
  for (const char* key : {"expansion_ratio", "no_bias", "learned_pos_emb", "logit_scale",
                          "norm_type", "embedding_fraction"})
    config.has(key);
  const MlpPart m{.width = 4 * hidden,
                  .activation = Activation::gelu,
                  .up = "ffn.up_proj",
                  .down = "ffn.down_proj"};
  add_ends(to, config.get_or<bool>("tie_word_embeddings", true), norm, "norm_f");
  require_usual_aliases(config, to);
  for (Index i = 0; i < to.sizes.layers; ++i)
    to.layers.push_back(pre_norm_layer(
        layer_block(to, i), hidden, norm,
        [&](Block& b, Value x) { return fused_attention(b, x, a, "attn.Wqkv"); },
        [&](Block& b, Value y) { return plain_mlp(b, y, m); }, "norm_1", "norm_2"));
}

}  // namespace gptq::model::architecture
