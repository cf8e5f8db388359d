// SPDX-License-Identifier: MIT
#pragma once

// DeepSeek-V2 and V3, and Mistral 4: latent attention, in which q, and k and v together, come from
// narrow values, and part of each head of q and k alone turns.

#include <gptq/model/architecture/mixture.hpp>

#include <cmath>  // std::sqrt
#include <optional>
#include <string>

namespace gptq::model::architecture {

/// Latent attention.
struct LatentAttention {
  Index heads, q_rank, kv_rank, still, turning, value_dim;  ///< columns of a head, or ranks
  step::Norm norm{.epsilon = 1e-6};                         ///< of the narrow values
  step::Rope rope;
  step::Attention how;
  double sharpen_beta = 0, sharpen_length = 0;
};

inline Value latent_attention(Block& b, Value x, const LatentAttention& p) {
  const Index head = p.still + p.turning;
  Value q = x;
  if (p.q_rank > 0)
    q = b.norm(b.linear(x, "self_attn.q_a_proj", p.q_rank), "self_attn.q_a_layernorm", p.norm);
  const Value narrow = b.linear(x, "self_attn.kv_a_proj_with_mqa", p.kv_rank + p.turning);
  const Value latent = b.norm(b.columns(narrow, 0, p.kv_rank), "self_attn.kv_a_layernorm", p.norm);
  q = b.linear(q, p.q_rank > 0 ? "self_attn.q_b_proj" : "self_attn.q_proj", p.heads * head);
  const Value kv = b.linear(latent, "self_attn.kv_b_proj", p.heads * (p.still + p.value_dim));
  q = b.rope(q, p.rope);
  if (p.sharpen_beta != 0) q = b.sharpen(q, p.sharpen_beta, p.sharpen_length);
  step::Rope shared = p.rope;  // one head for all
  shared.first = 0, shared.head_dim = p.turning;
  const Value turned = b.rope(b.columns(narrow, p.kv_rank, p.turning), shared);
  const Value k =
      b.join(b.columns(kv, 0, p.still, p.still + p.value_dim), turned, p.heads, p.turning);
  const Value v = b.columns(kv, p.still, p.value_dim, p.still + p.value_dim);
  const Value a = b.attention(q, k, v, p.how);
  return b.linear(a, "self_attn.o_proj", b.width({0}));
}

enum class DeepSeek { v2, v3, mistral4 };

template <DeepSeek Kind>
void describe_deepseek(const ConfigReader& config, Description& to) {
  SizeKeys keys;
  keys.kv_heads = nullptr;
  config.has("num_key_value_heads");  // does not matter
  LatentAttention a{};
  a.turning = config.size("qk_rope_head_dim");
  a.still = config.size("qk_nope_head_dim");
  a.value_dim = config.size("v_head_dim");
  to.sizes = read_sizes(config, a.still + a.turning, keys);
  to.sizes.head_dim = a.still + a.turning;
  a.heads = to.sizes.heads;
  a.q_rank = config.has("q_lora_rank") ? config.size("q_lora_rank") : 0;
  a.kv_rank = config.size("kv_lora_rank");
  for (const char* key : {"qk_head_dim", "moe_layer_freq", "ep_size", "aux_loss_alpha"})
    config.has(key);
  if (a.turning % 2 != 0) config.fail("\"qk_rope_head_dim\" = ", a.turning, " is not even");
  if (config.get_or<bool>("attention_bias", false))
    config.fail("\"attention_bias\" = true is not supported");

  // Its partial_rotary_factor says the same as qk_rope_head_dim.
  RopeRules rules{.may_be_partial = true, .ignores_partial = true};
  const Rope rope = parse_rope(config, a.turning, to.notes, rules);
  a.rope = {.table = to.rope(rope),
            .head_dim = to.sizes.head_dim,
            .first = a.still,
            .interleaved = config.get_or<bool>("rope_interleave", true)};
  a.how = {.heads = a.heads,
           .kv_heads = a.heads,
           .head_dim = to.sizes.head_dim,
           .value_dim = a.value_dim};
  a.how.scale = rope.score_scale / std::sqrt(static_cast<double>(to.sizes.head_dim));
  if (Kind == DeepSeek::mistral4)
    a.sharpen_beta = rope.sharpen_beta, a.sharpen_length = rope.original_positions;

  const step::Norm norm = read_rms(config);
  const MlpPart mlp{.width = to.sizes.intermediate,
                    .activation = read_activation(config, {"hidden_act"}, "silu"),
                    .bias = config.get_or<bool>("mlp_bias", false)};
  MixturePart m{.experts = read_experts(config), .width = config.size("moe_intermediate_size")};
  m.gated.kind = mlp.activation;
  m.route = sigmoid_route(config, config.get_or<bool>("norm_topk_prob", true), 1e-20);
  if (Kind == DeepSeek::v3) m.bias = "mlp.gate.e_score_correction_bias";
  else m.route.score = step::Route::Score::softmax;
  if (Kind == DeepSeek::v2) {
    const auto method = config.get_or<std::string>("topk_method", "greedy");
    if (method != "greedy" && method != "group_limited_greedy")
      config.fail("\"topk_method\" = \"", method, "\" is not supported");
    if (method == "greedy") m.route.groups = m.route.chosen_groups = 1;
    m.route.group_score = step::Route::GroupScore::best;
    m.route.normalized = false;  // transformers ignores norm_topk_prob
  } else {
    config.has("topk_method");
  }
  if (config.has("scoring_func")) {
    const auto score = config.get<std::string>("scoring_func");
    if ((score == "sigmoid") != (m.route.score == step::Route::Score::sigmoid))
      config.fail("\"scoring_func\" = \"", score, "\" is not supported");
  }
  require_experts(config, m, to.sizes.layers);
  const auto beside = read_shared(config, m);
  const Index dense =
      config.has("first_k_dense_replace") ? config.size("first_k_dense_replace", 0) : 0;
  add_ends(to, config.get_or<bool>("tie_word_embeddings", false), norm);
  to.fused = {{"self_attn.fused_qkv_a_proj",
               "q_a and kv_a",
               {"self_attn.q_a_proj", "self_attn.kv_a_proj_with_mqa"}}};
  if (a.q_rank == 0) to.fused.clear();
  ignore_prediction_layers(config, to);
  for (const char* key : {"head_dim", "v_head_dim"}) config.has(key);
  require_usual_aliases(config, to, {{"rms_norm_eps", norm.epsilon}});
  for (Index i = 0; i < to.sizes.layers; ++i) {
    Block block = layer_block(to, i);
    if (i >= dense) add_usual_stacks(to, block.prefix(), m);
    to.layers.push_back(pre_norm_layer(
        std::move(block), to.sizes.hidden, norm,
        [&](Block& b, Value x) { return latent_attention(b, x, a); },
        [&](Block& b, Value y) {
          return i < dense ? gated_mlp(b, y, mlp) : mixture_and_shared(b, y, m, beside);
        }));
  }
}

}  // namespace gptq::model::architecture
