// SPDX-License-Identifier: MIT
#pragma once

// Qwen3-Next and Qwen3.5 in GGUF files.

#include <gptq/model/architecture/gguf_mixture.hpp>

#include <string>
#include <utility>  // std::move

namespace gptq::model::architecture {

inline constexpr GgufName delta_names[] = {
    {"attn_norm", "input_layernorm", GgufForm::plus_one},
    {"post_attention_norm", "post_attention_layernorm", GgufForm::plus_one},
    {"attn_q_norm", "self_attn.q_norm", GgufForm::plus_one},
    {"attn_k_norm", "self_attn.k_norm", GgufForm::plus_one},
    {"ssm_a", "linear_attn.A_log", GgufForm::delta_decay},
    {"ssm_dt.bias", "linear_attn.dt_bias", GgufForm::delta_heads},
    {"ssm_conv1d", "linear_attn.conv1d", GgufForm::delta_convolution},
    {"ssm_norm", "linear_attn.norm"},
    {"ssm_out", "linear_attn.out_proj", GgufForm::delta_columns}};
/// Qwen3-Next has q, k, v and z side by side for each key head; files have all of q, k and v in one
/// tensor and z in another, or, older ones, the folder's tensor as it is.
inline constexpr GgufName qwen3_next_names[] = {
    {"attn_qkv", "linear_attn.in_proj_qkvz", GgufForm::delta_qkv},
    {"attn_gate", "linear_attn.in_proj_qkvz", GgufForm::delta_z},
    {"ssm_in", "linear_attn.in_proj_qkvz"},
    {"ssm_ba", "linear_attn.in_proj_ba"}};
inline constexpr GgufName qwen3_5_names[] = {
    {"attn_qkv", "linear_attn.in_proj_qkv", GgufForm::delta_tail},
    {"attn_gate", "linear_attn.in_proj_z", GgufForm::delta_values},
    {"ssm_beta", "linear_attn.in_proj_b", GgufForm::delta_heads},
    {"ssm_alpha", "linear_attn.in_proj_a", GgufForm::delta_heads}};
inline constexpr auto qwen3_next_inside =
    joined(delta_names, qwen3_next_names, qwen_moe_names, stacked_experts);
inline constexpr auto qwen3_5_inside = joined(delta_names, qwen3_5_names);
inline constexpr auto qwen3_5_moe_inside =
    joined(delta_names, qwen3_5_names, qwen_moe_names, stacked_experts);
inline constexpr GgufName plus_one_outside[] = {{"output_norm", "norm", GgufForm::plus_one}};

/// Sizes of the gated delta rule, and which layers have attention instead.
inline void configure_delta(const detail::GgufReader& from, nlohmann::ordered_json& config) {
  const auto heads = from.size("ssm.time_step_rank"), inner = from.size("ssm.inner_size");
  if (inner % heads != 0)
    from.fail(from.key("ssm.inner_size"), " = ", inner, " is not a multiple of ",
              from.key("ssm.time_step_rank"), " = ", heads);
  config["linear_num_key_heads"] = from.size("ssm.group_count");
  config["linear_num_value_heads"] = heads;
  config["linear_key_head_dim"] = from.size("ssm.state_size");
  config["linear_value_head_dim"] = inner / heads;
  config["linear_conv_kernel_dim"] = from.size("ssm.conv_kernel");
  const auto interval = from.size_or("full_attention_interval", 4);
  const auto layers = config["num_hidden_layers"].get<std::uint64_t>();
  auto types = nlohmann::ordered_json::array();
  for (std::uint64_t i = 0; i < layers; ++i)
    types.push_back((i + 1) % interval == 0 ? "full_attention" : "linear_attention");
  config["layer_types"] = std::move(types);
  config["attention_bias"] = false;
  from.has("rope.dimension_sections");  // of images; text has one position for all
}

inline void configure_qwen3_5(const detail::GgufReader& from, nlohmann::ordered_json& config) {
  set_prediction_layers(from, config);
  configure_delta(from, config);
}

inline void configure_delta_mixture(const detail::GgufReader& from,
                                    nlohmann::ordered_json& config) {
  configure_qwen3_5(from, config);
  set_experts(from, config, "num_experts");
  require_gating(from, Gating::softmax);
  require_normalized(from, true);
  config["norm_topk_prob"] = true;
  config["moe_intermediate_size"] = from.size("expert_feed_forward_length");
  config["shared_expert_intermediate_size"] = from.size("expert_shared_feed_forward_length");
}

inline void configure_qwen3_next(const detail::GgufReader& from, nlohmann::ordered_json& config) {
  configure_delta_mixture(from, config);
  config["decoder_sparse_step"] = 1;
  set_dense_layers(from, config);
}

inline constexpr GgufFamily gguf_qwen_next[] = {{.arch = "qwen3next",
                                                 .architecture = "Qwen3NextForCausalLM",
                                                 .inside = qwen3_next_inside,
                                                 .outside = plus_one_outside,
                                                 .rope = GgufFamily::Rope::partial,
                                                 .configure = configure_qwen3_next},
                                                {.arch = "qwen35",
                                                 .architecture = "Qwen3_5ForCausalLM",
                                                 .inside = qwen3_5_inside,
                                                 .outside = plus_one_outside,
                                                 .rope = GgufFamily::Rope::partial,
                                                 .configure = configure_qwen3_5,
                                                 .deals_value_heads = true},
                                                {.arch = "qwen35moe",
                                                 .architecture = "Qwen3_5MoeForCausalLM",
                                                 .inside = qwen3_5_moe_inside,
                                                 .outside = plus_one_outside,
                                                 .rope = GgufFamily::Rope::partial,
                                                 .configure = configure_delta_mixture,
                                                 .deals_value_heads = true}};

}  // namespace gptq::model::architecture
