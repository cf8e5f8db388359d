// SPDX-License-Identifier: MIT
#pragma once

// DeepSeek V2 and V3 in GGUF files, which hold kv_b_proj in two parts.

#include <gptq/model/architecture/gguf_mixture.hpp>

namespace gptq::model::architecture {

inline constexpr GgufName deepseek_names[] = {
    {"attn_q_a", "self_attn.q_a_proj"},
    {"attn_q_a_norm", "self_attn.q_a_layernorm"},
    {"attn_q_b", "self_attn.q_b_proj"},
    {"attn_q", "self_attn.q_proj"},
    {"attn_kv_a_mqa", "self_attn.kv_a_proj_with_mqa"},
    {"attn_kv_a_norm", "self_attn.kv_a_layernorm"},
    {"attn_kv_b", "self_attn.kv_b_proj"},
    {"attn_k_b", "self_attn.kv_b_proj", GgufForm::latent_k},
    {"attn_v_b", "self_attn.kv_b_proj", GgufForm::latent_v},
    {"exp_probs_b.bias", "mlp.gate.e_score_correction_bias"}};
inline constexpr auto deepseek_inside = joined(deepseek_names, stacked_experts, shared_experts);

/// Sizes of heads, without and with the part of kv_b_proj in them, and the rotation.
inline void configure_latent(const detail::GgufReader& from, nlohmann::ordered_json& config) {
  const auto key = config["head_dim"].get<std::uint64_t>(),
             turning = from.size("rope.dimension_count");
  if (turning >= key)
    from.fail(from.key("rope.dimension_count"), " = ", turning, " of ", key,
              " coordinates of a head");
  config["qk_rope_head_dim"] = turning;
  config["qk_nope_head_dim"] = key - turning;
  config["v_head_dim"] =
      from.size(from.has("attention.value_length_mla") ? "attention.value_length_mla"
                                                       : "attention.value_length");
  for (const char* name : {"attention.key_length", "attention.value_length"}) from.has(name);
  config["kv_lora_rank"] = from.size("attention.kv_lora_rank");
  const auto rank = from.get_or<std::uint64_t>("attention.q_lora_rank", 0);
  config["q_lora_rank"] = rank > 0 ? nlohmann::ordered_json(rank) : nullptr;
  config["head_dim"] = turning;  // as transformers has it
  set_mscale_yarn(from, config, 10 * from.get_or<double>("rope.scaling.yarn_log_multiplier", 0));
}

inline void configure_deepseek2(const detail::GgufReader& from, nlohmann::ordered_json& config) {
  configure_latent(from, config);
  set_routed_experts(from, config);
  require_gating(from, Gating::softmax);
  require_normalized(from, false);
  config["topk_method"] =
      config["n_group"].get<std::uint64_t>() > 1 ? "group_limited_greedy" : "greedy";
}

inline void configure_deepseek3(const detail::GgufReader& from, nlohmann::ordered_json& config) {
  configure_latent(from, config);
  set_prediction_layers(from, config);
  set_routed_experts(from, config);
  require_gating(from, Gating::sigmoid);
}

inline void configure_mistral4(const detail::GgufReader& from, nlohmann::ordered_json& config) {
  configure_latent(from, config);
  set_sharpening(from, config);
  set_routed_experts(from, config);
  require_gating(from, Gating::softmax);
}

inline constexpr GgufFamily gguf_deepseek[] = {{.arch = "mistral4",
                                                .architecture = "Mistral4ForCausalLM",
                                                .inside = deepseek_inside,
                                                .rope = GgufFamily::Rope::latent,
                                                .configure = configure_mistral4},
                                               {.arch = "deepseek2",
                                                .architecture = "DeepseekV3ForCausalLM",
                                                .inside = deepseek_inside,
                                                .rope = GgufFamily::Rope::latent,
                                                .configure = configure_deepseek3,
                                                .applies =
                                                    [](const detail::GgufReader& from) {
                                                      return from.get_or<std::uint64_t>(
                                                                 "expert_gating_func", 0) == 2;
                                                    }},
                                               {.arch = "deepseek2",
                                                .architecture = "DeepseekV2ForCausalLM",
                                                .inside = deepseek_inside,
                                                .rope = GgufFamily::Rope::latent,
                                                .configure = configure_deepseek2}};

}  // namespace gptq::model::architecture
