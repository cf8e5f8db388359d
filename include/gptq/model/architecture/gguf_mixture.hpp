// SPDX-License-Identifier: MIT
#pragma once

// Mixtures of experts in GGUF files.

#include <gptq/model/architecture/gguf_llama.hpp>

namespace gptq::model::architecture {

/// Old files have a tensor for each expert.
inline constexpr GgufName single_experts[] = {{"ffn_gate.*", "block_sparse_moe.experts.*.w1"},
                                              {"ffn_up.*", "block_sparse_moe.experts.*.w3"},
                                              {"ffn_down.*", "block_sparse_moe.experts.*.w2"}};
inline constexpr auto mixtral_inside = joined(interleaved_inside, mixtral_experts, single_experts);
inline constexpr GgufName qwen_moe_names[] = {
    {"ffn_gate_inp", "mlp.gate"},
    {"ffn_gate_inp_shexp", "mlp.shared_expert_gate", GgufForm::row},
    {"ffn_gate_shexp", "mlp.shared_expert.gate_proj"},
    {"ffn_up_shexp", "mlp.shared_expert.up_proj"},
    {"ffn_down_shexp", "mlp.shared_expert.down_proj"}};
inline constexpr auto qwen_moe_inside = joined(qwen_moe_names, stacked_experts);
inline constexpr GgufName granite_moe_names[] = {
    {"ffn_gate_inp", "block_sparse_moe.router.layer"},
    {"ffn_gate_exps", "block_sparse_moe.experts.*.gate_proj", GgufForm::stacked},
    {"ffn_up_exps", "block_sparse_moe.experts.*.up_proj", GgufForm::stacked},
    {"ffn_down_exps", "block_sparse_moe.experts.*.down_proj", GgufForm::stacked},
    {"ffn_gate_shexp", "shared_mlp.input_linear", GgufForm::first},
    {"ffn_up_shexp", "shared_mlp.input_linear", GgufForm::last},
    {"ffn_down_shexp", "shared_mlp.output_linear"}};
inline constexpr auto granite_moe_inside = joined(interleaved_inside, granite_moe_names);
inline constexpr GgufName glm4_moe_names[] = {
    {"post_attention_norm", "post_attention_layernorm"},
    {"exp_probs_b.bias", "mlp.gate.e_score_correction_bias"}};
inline constexpr auto glm4_moe_inside = joined(glm4_moe_names, stacked_experts, shared_experts);
inline constexpr GgufName ernie_moe_names[] = {
    {"exp_probs_b.bias", "mlp.moe_statics.e_score_correction_bias", GgufForm::row}};
inline constexpr auto ernie_moe_inside = joined(ernie_moe_names, stacked_experts, shared_experts);
inline constexpr GgufName hunyuan_moe_names[] = {{"ffn_gate_inp", "mlp.gate.wg"},
                                                 {"ffn_gate_shexp", "mlp.shared_mlp.gate_proj"},
                                                 {"ffn_up_shexp", "mlp.shared_mlp.up_proj"},
                                                 {"ffn_down_shexp", "mlp.shared_mlp.down_proj"}};
inline constexpr auto hunyuan_moe_inside =
    joined(hunyuan_inside, hunyuan_moe_names, stacked_experts);
inline constexpr GgufName minimax_names[] = {
    {"exp_probs_b.bias", "block_sparse_moe.e_score_correction_bias"}};
inline constexpr auto minimax_inside = joined(minimax_names, mixtral_experts);
inline constexpr GgufName gpt_oss_names[] = {{"post_attention_norm", "post_attention_layernorm"},
                                             {"attn_sinks.weight", "self_attn.sinks"},
                                             {"ffn_gate_inp", "mlp.router"}};
inline constexpr auto gpt_oss_inside = joined(gpt_oss_names, stacked_experts);

/// expert_gating_func, where 0 and a missing key leave it to the family.
enum class Gating : std::uint64_t { softmax = 1, sigmoid = 2, softmax_of_chosen = 3 };

inline void require_gating(const detail::GgufReader& from, Gating expected) {
  const auto function = from.get_or<std::uint64_t>("expert_gating_func", 0);
  if (function != 0 && function != static_cast<std::uint64_t>(expected))
    from.fail(from.key("expert_gating_func"), " = ", function, " is not supported (",
              static_cast<std::uint64_t>(expected), " is)");
}

/// \throws FormatError  a whole number under the key is not the one that the family implies
inline void require_size(const detail::GgufReader& from, const char* name,
                         const nlohmann::ordered_json& expected) {
  const auto wanted = expected.get<std::uint64_t>();
  if (const auto size = from.get_or<std::uint64_t>(name, wanted); size != wanted && size != 0)
    from.fail(from.key(name), " = ", size, " is not supported (", wanted, " is)");
}

/// expert_count and expert_used_count.
inline void set_experts(const detail::GgufReader& from, nlohmann::ordered_json& config,
                        const char* count, const char* chosen = "num_experts_per_tok") {
  config[count] = from.size("expert_count");
  config[chosen] = from.size("expert_used_count");
}

/// \throws FormatError  the weights of the chosen experts are normalized, or not, unlike the family
inline void require_normalized(const detail::GgufReader& from, bool expected) {
  if (from.get_or<bool>("expert_weights_norm", expected) != expected)
    from.fail(from.key("expert_weights_norm"), " = ", !expected, " is not supported");
}

/// The width of experts where config.json has one width for all.
inline void require_one_width(const detail::GgufReader& from,
                              const nlohmann::ordered_json& config) {
  if (!config.contains("intermediate_size")) from.size("feed_forward_length");  // throws
  require_size(from, "expert_feed_forward_length", config["intermediate_size"]);
}

inline void configure_mixtral(const detail::GgufReader& from, nlohmann::ordered_json& config) {
  set_experts(from, config, "num_local_experts");
  require_gating(from, Gating::softmax);
  require_normalized(from, true);
  require_one_width(from, config);
  set_window(from, config);
}

/// Layers without a router are dense.
inline void set_dense_layers(const detail::GgufReader& from, nlohmann::ordered_json& config) {
  auto dense = nlohmann::ordered_json::array();
  const auto layers = config["num_hidden_layers"].get<std::uint64_t>();
  for (std::uint64_t i = 0; i < layers; ++i)
    if (!from.files().contains("blk." + std::to_string(i) + ".ffn_gate_inp.weight"))
      dense.push_back(i);
  config["mlp_only_layers"] = std::move(dense);
}

template <bool Third>
void configure_qwen_moe(const detail::GgufReader& from, nlohmann::ordered_json& config) {
  set_experts(from, config, "num_experts");
  require_gating(from, Gating::softmax);
  require_normalized(from, Third);
  config["norm_topk_prob"] = Third;
  config["moe_intermediate_size"] = from.size("expert_feed_forward_length");
  config["decoder_sparse_step"] = 1;
  set_dense_layers(from, config);
  if (Third) return;
  config["qkv_bias"] = has_bias(from, "attn_q");
  config["shared_expert_intermediate_size"] = from.size("expert_shared_feed_forward_length");
}

inline void configure_olmoe(const detail::GgufReader& from, nlohmann::ordered_json& config) {
  set_experts(from, config, "num_experts");
  require_gating(from, Gating::softmax);
  require_normalized(from, false);
  config["norm_topk_prob"] = false;
  require_one_width(from, config);
}

/// Some have a shared MLP.
inline void configure_granite_moe(const detail::GgufReader& from, nlohmann::ordered_json& config) {
  configure_granite(from, config);
  config.erase("mlp_bias");
  set_experts(from, config, "num_local_experts");
  require_gating(from, Gating::softmax);
  require_normalized(from, true);
  require_one_width(from, config);
  if (const auto width = from.get_or<std::uint64_t>("expert_shared_feed_forward_length", 0);
      width > 0) {
    config["architectures"] = {"GraniteMoeSharedForCausalLM"};
    config["model_type"] = "granitemoeshared";
    config["shared_intermediate_size"] = width;
  }
}

/// The last layers of block_count may predict tokens further ahead, which a decoder does not use.
inline void set_prediction_layers(const detail::GgufReader& from, nlohmann::ordered_json& config) {
  const auto extra = from.get_or<std::uint64_t>("nextn_predict_layers", 0),
             all = config["num_hidden_layers"].get<std::uint64_t>();
  if (extra >= all)
    from.fail(from.key("nextn_predict_layers"), " = ", extra, " of ", all, " layers");
  if (extra == 0) return;
  config["num_nextn_predict_layers"] = extra;
  config["num_hidden_layers"] = all - extra;
}

/// Experts chosen by group, dense layers in front, shared experts, a factor.
inline void set_routed_experts(const detail::GgufReader& from, nlohmann::ordered_json& config) {
  set_experts(from, config, "n_routed_experts");
  config["moe_intermediate_size"] = from.size("expert_feed_forward_length");
  config["n_shared_experts"] = from.get_or<std::uint64_t>("expert_shared_count", 0);
  config["first_k_dense_replace"] = from.get_or<std::uint64_t>("leading_dense_block_count", 0);
  config["norm_topk_prob"] = from.get_or<bool>("expert_weights_norm", false);
  if (from.get_or<double>("expert_weights_scale", 0) != 0)
    config["routed_scaling_factor"] = from.positive("expert_weights_scale");
  const auto groups = from.get_or<std::uint64_t>("expert_group_count", 0);
  config["n_group"] = groups > 0 ? groups : 1;
  const auto chosen = from.get_or<std::uint64_t>("expert_group_used_count", 0);
  config["topk_group"] = groups > 0 && chosen > 0 ? chosen : 1;
}

inline void configure_glm4_moe(const detail::GgufReader& from, nlohmann::ordered_json& config) {
  set_prediction_layers(from, config);
  set_routed_experts(from, config);
  require_gating(from, Gating::sigmoid);
  config["use_qk_norm"] = from.files().contains("blk.0.attn_q_norm.weight");
  config["attention_bias"] = has_bias(from, "attn_q");
}

inline void configure_ernie_moe(const detail::GgufReader& from, nlohmann::ordered_json& config) {
  configure_ernie(from, config);
  set_experts(from, config, "moe_num_experts", "moe_k");
  require_gating(from, Gating::softmax);
  require_normalized(from, true);
  const auto width = from.size("expert_feed_forward_length");
  config["moe_intermediate_size"] = width;
  config["moe_num_shared_experts"] = from.get_or<std::uint64_t>("expert_shared_count", 0);
  require_size(from, "expert_shared_feed_forward_length",
               config["moe_num_shared_experts"].get<std::uint64_t>() * width);
  config["moe_layer_start_index"] = from.get_or<std::uint64_t>("leading_dense_block_count", 0);
  config["moe_layer_interval"] = from.size_or("interleave_moe_layer_step", 1);
}

inline void configure_hunyuan_moe(const detail::GgufReader& from, nlohmann::ordered_json& config) {
  set_experts(from, config, "num_experts", "moe_topk");
  require_gating(from, Gating::softmax);
  require_normalized(from, true);
  require_one_width(from, config);
  require_size(from, "expert_shared_feed_forward_length", config["intermediate_size"]);
  require_size(from, "expert_shared_count", 1);
}

inline void configure_minimax(const detail::GgufReader& from, nlohmann::ordered_json& config) {
  set_experts(from, config, "num_local_experts");
  require_gating(from, Gating::sigmoid);
  require_normalized(from, true);
  require_one_width(from, config);
  config["rotary_dim"] = from.size_or("rope.dimension_count", 64);
  config.erase("partial_rotary_factor");
  config["use_qk_norm"] = from.files().contains("blk.0.attn_q_norm.weight");
}

inline void configure_gpt_oss(const detail::GgufReader& from, nlohmann::ordered_json& config) {
  set_experts(from, config, "num_local_experts");
  require_gating(from, Gating::softmax_of_chosen);
  require_one_width(from, config);
  config["attention_bias"] = true;
  config["sliding_window"] = from.size("attention.sliding_window");
  set_layer_types(from, config, 2);
  if (auto yarn = detail::gguf_yarn(from); !yarn.is_null()) {
    yarn["truncate"] = false;  // all of them have it, the file does not say so
    config["rope_scaling"] = std::move(yarn);
  }
}

inline constexpr GgufFamily gguf_mixture[] = {{.arch = "llama",
                                               .architecture = "MixtralForCausalLM",
                                               .inside = mixtral_inside,
                                               .configure = configure_mixtral},
                                              {.arch = "qwen2moe",
                                               .architecture = "Qwen2MoeForCausalLM",
                                               .inside = qwen_moe_inside,
                                               .configure = configure_qwen_moe<false>},
                                              {.arch = "qwen3moe",
                                               .architecture = "Qwen3MoeForCausalLM",
                                               .inside = qwen_moe_inside,
                                               .configure = configure_qwen_moe<true>},
                                              {.arch = "olmoe",
                                               .architecture = "OlmoeForCausalLM",
                                               .inside = qwen_moe_inside,
                                               .configure = configure_olmoe},
                                              {.arch = "granitemoe",
                                               .architecture = "GraniteMoeForCausalLM",
                                               .inside = granite_moe_inside,
                                               .configure = configure_granite_moe},
                                              {.arch = "glm4moe",
                                               .architecture = "Glm4MoeForCausalLM",
                                               .inside = glm4_moe_inside,
                                               .rope = GgufFamily::Rope::partial,
                                               .configure = configure_glm4_moe},
                                              {.arch = "ernie4_5-moe",
                                               .architecture = "Ernie4_5_MoeForCausalLM",
                                               .inside = ernie_moe_inside,
                                               .configure = configure_ernie_moe},
                                              {.arch = "hunyuan-moe",
                                               .architecture = "HunYuanMoEV1ForCausalLM",
                                               .inside = hunyuan_moe_inside,
                                               .configure = configure_hunyuan_moe},
                                              {.arch = "minimax-m2",
                                               .architecture = "MiniMaxM2ForCausalLM",
                                               .inside = minimax_inside,
                                               .rope = GgufFamily::Rope::partial,
                                               .configure = configure_minimax},
                                              {.arch = "gpt-oss",
                                               .architecture = "GptOssForCausalLM",
                                               .inside = gpt_oss_inside,
                                               .configure = configure_gpt_oss}};

}  // namespace gptq::model::architecture
