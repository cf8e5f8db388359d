// SPDX-License-Identifier: MIT
#pragma once

// Families with LayerNorms in GGUF files: GPT-2, GPT-NeoX, BLOOM, MPT, Falcon, Phi-2, StableLM,
// Starcoder2, Nemotron, Cohere.

#include <gptq/model/architecture/gguf_keys.hpp>

namespace gptq::model::architecture {

inline constexpr GgufName gpt2_outside[] = {{"output_norm", "ln_f"}, {"position_embd", "wpe"}};
inline constexpr GgufName gpt2_inside[] = {{"attn_norm", "ln_1"},
                                           {"ffn_norm", "ln_2"},
                                           {"attn_qkv", "attn.c_attn", GgufForm::transposed},
                                           {"attn_output", "attn.c_proj", GgufForm::transposed},
                                           {"ffn_up", "mlp.c_fc", GgufForm::transposed},
                                           {"ffn_down", "mlp.c_proj", GgufForm::transposed}};
inline constexpr GgufName neox_outside[] = {{"output_norm", "final_layer_norm"}};
inline constexpr GgufName dense_mlp[] = {{"ffn_up", "mlp.dense_h_to_4h"},
                                         {"ffn_down", "mlp.dense_4h_to_h"}};
inline constexpr GgufName neox_attention[] = {
    {"attn_qkv", "attention.query_key_value", GgufForm::regrouped},
    {"attn_output", "attention.dense"}};
inline constexpr auto neox_inside = joined(neox_attention, dense_mlp);
inline constexpr GgufName bloom_outside[] = {{"output_norm", "ln_f"},
                                             {"token_embd_norm", "word_embeddings_layernorm"}};
inline constexpr GgufName bloom_attention[] = {
    {"attn_qkv", "self_attention.query_key_value", GgufForm::regrouped},
    {"attn_output", "self_attention.dense"}};
inline constexpr auto bloom_inside = joined(bloom_attention, dense_mlp);
/// With two norms side by side; models with one call it attn_norm, too.
inline constexpr GgufName falcon_norms[] = {{"attn_norm", "ln_mlp"}, {"attn_norm_2", "ln_attn"}};
inline constexpr auto falcon_inside = joined(falcon_norms, bloom_attention, dense_mlp);
inline constexpr GgufName mpt_outside[] = {{"output_norm", "norm_f"}};
inline constexpr GgufName mpt_inside[] = {
    {"attn_norm", "norm_1"},          {"ffn_norm", "norm_2"},    {"attn_qkv", "attn.Wqkv"},
    {"attn_output", "attn.out_proj"}, {"ffn_up", "ffn.up_proj"}, {"ffn_down", "ffn.down_proj"}};
inline constexpr GgufName phi2_outside[] = {{"output_norm", "final_layernorm"}};
inline constexpr GgufName phi2_inside[] = {
    {"attn_qkv", "self_attn.q_proj|self_attn.k_proj|self_attn.v_proj", GgufForm::split_qkv},
    {"attn_output", "self_attn.dense"},
    {"ffn_up", "mlp.fc1"},
    {"ffn_down", "mlp.fc2"}};
inline constexpr GgufName stablelm_inside[] = {
    {"attn_q_norm", "self_attn.q_layernorm.norms.*", GgufForm::stacked},
    {"attn_k_norm", "self_attn.k_layernorm.norms.*", GgufForm::stacked}};
inline constexpr GgufName starcoder2_inside[] = {{"ffn_up", "mlp.c_fc"},
                                                 {"ffn_down", "mlp.c_proj"}};
inline constexpr GgufName nemotron_outside[] = {
    {"output_norm.weight", "norm.weight", GgufForm::plus_one}, {"output_norm", "norm"}};
inline constexpr GgufName nemotron_inside[] = {
    {"attn_norm.weight", "input_layernorm.weight", GgufForm::plus_one},
    {"ffn_norm.weight", "post_attention_layernorm.weight", GgufForm::plus_one}};

inline void configure_gpt2(const detail::GgufReader& /*from*/, nlohmann::ordered_json& config) {
  config["activation_function"] = "gelu_new";
  rename_keys(config, {{"hidden_size", "n_embd"},
                       {"num_hidden_layers", "n_layer"},
                       {"num_attention_heads", "n_head"},
                       {"max_position_embeddings", "n_positions"},
                       {"intermediate_size", "n_inner"},
                       {"num_key_value_heads", nullptr},
                       {"head_dim", nullptr},
                       {"hidden_act", nullptr}});
}

inline void configure_neox(const detail::GgufReader& from, nlohmann::ordered_json& config) {
  config["hidden_act"] = "gelu";
  config["use_parallel_residual"] = from.get_or<bool>("use_parallel_residual", true);
  config["attention_bias"] = has_bias(from, "attn_qkv");
  rename_keys(config, {{"rope_theta", "rotary_emb_base"},
                       {"partial_rotary_factor", "rotary_pct"},
                       {"num_key_value_heads", nullptr},
                       {"head_dim", nullptr}});
}

/// \throws FormatError  the width of the MLP, which the family fixes, is another
inline void require_four_times(const detail::GgufReader& from, nlohmann::ordered_json& config) {
  const auto hidden = config["hidden_size"].get<std::uint64_t>();
  if (config["intermediate_size"].get<std::uint64_t>() != 4 * hidden)
    from.fail(from.key("feed_forward_length"), " = ", config["intermediate_size"].dump(),
              " is not supported (", 4 * hidden, ", four times ", from.key("embedding_length"),
              ", is)");
}

/// \throws FormatError  slopes other than those of ALiBi with 8
inline void require_alibi(const detail::GgufReader& from) {
  if (const double bias = from.get_or<double>("attention.max_alibi_bias", 8); bias != 8)
    from.fail(from.key("attention.max_alibi_bias"), " = ", bias, " is not supported (8 is)");
}

inline void configure_bloom(const detail::GgufReader& from, nlohmann::ordered_json& config) {
  require_four_times(from, config);
  require_alibi(from);
  rename_keys(config, {{"num_hidden_layers", "n_layer"},
                       {"num_attention_heads", "n_head"},
                       {"max_position_embeddings", "seq_length"},
                       {"intermediate_size", nullptr},
                       {"num_key_value_heads", nullptr},
                       {"head_dim", nullptr},
                       {"hidden_act", nullptr}});
}

inline void configure_mpt(const detail::GgufReader& from, nlohmann::ordered_json& config) {
  require_four_times(from, config);
  if (!from.has("attention.max_alibi_bias"))
    from.fail("has no metadata key ", from.key("attention.max_alibi_bias"),
              ": an MPT with other positions than ALiBi is not supported");
  require_alibi(from);
  config["attn_config"] = {{"alibi", true}, {"alibi_bias_max", 8}};
  if (const double clip = from.get_or<double>("attention.clamp_kqv", 0); clip != 0)
    config["attn_config"]["clip_qkv"] = clip;
  if (config["num_key_value_heads"] != config["num_attention_heads"])
    config["attn_config"]["kv_n_heads"] = config["num_key_value_heads"];
  rename_keys(config, {{"hidden_size", "d_model"},
                       {"num_hidden_layers", "n_layers"},
                       {"num_attention_heads", "n_heads"},
                       {"max_position_embeddings", "max_seq_len"},
                       {"intermediate_size", nullptr},
                       {"num_key_value_heads", nullptr},
                       {"head_dim", nullptr},
                       {"hidden_act", nullptr}});
}

inline void configure_falcon(const detail::GgufReader& from, nlohmann::ordered_json& config) {
  if (const auto layout = from.get_or<std::string>("tensor_data_layout", "jploski");
      layout != "jploski")
    from.fail(from.key("tensor_data_layout"), " = \"", layout,
              "\" is not supported (\"jploski\", q, k and v one after the other, is)");
  const bool groups = config["num_key_value_heads"].get<std::uint64_t>() > 1;
  config["activation"] = "gelu";
  config["alibi"] = false;
  config["parallel_attn"] = true;
  config["multi_query"] = true;
  config["new_decoder_architecture"] = groups;
  config["num_ln_in_parallel_attn"] = from.files().contains("blk.0.attn_norm_2.weight") ? 2 : 1;
  config["bias"] = has_bias(from, "attn_qkv");
  rename_keys(config, {{"intermediate_size", "ffn_hidden_size"},
                       {"num_key_value_heads", "num_kv_heads"},
                       {"head_dim", nullptr},
                       {"hidden_act", nullptr}});
}

inline void configure_phi2(const detail::GgufReader& /*from*/, nlohmann::ordered_json& config) {
  config["hidden_act"] = "gelu_new";
}

inline void configure_stablelm(const detail::GgufReader& from, nlohmann::ordered_json& config) {
  config["use_parallel_residual"] = from.get_or<bool>("use_parallel_residual", false) ||
                                    !from.files().contains("blk.0.ffn_norm.weight");
  config["use_qkv_bias"] = has_bias(from, "attn_q");
  config["qk_layernorm"] = from.files().contains("blk.0.attn_q_norm.weight");
}

inline void configure_starcoder2(const detail::GgufReader& from, nlohmann::ordered_json& config) {
  config["hidden_act"] = "gelu_pytorch_tanh";
  config["use_bias"] = has_bias(from, "attn_q");
  set_window(from, config);
}

inline void configure_nemotron(const detail::GgufReader& from, nlohmann::ordered_json& config) {
  config["hidden_act"] = "relu2";
  set_biases(from, config);
}

inline void configure_cohere(const detail::GgufReader& from, nlohmann::ordered_json& config) {
  config["logit_scale"] = from.positive("logit_scale");
  config["use_qk_norm"] = from.files().contains("blk.0.attn_q_norm.weight");
}

inline void configure_cohere2(const detail::GgufReader& from, nlohmann::ordered_json& config) {
  config["logit_scale"] = from.positive("logit_scale");
  config["sliding_window"] = from.size("attention.sliding_window");
  set_layer_types(from, config, 4);
}

inline constexpr GgufFamily gguf_gpt[] = {
    {.arch = "gpt2",
     .architecture = "GPT2LMHeadModel",
     .inside = gpt2_inside,
     .outside = gpt2_outside,
     .rope = GgufFamily::Rope::none,
     .configure = configure_gpt2,
     .epsilon = "layer_norm_epsilon"},
    {.arch = "gptneox",
     .architecture = "GPTNeoXForCausalLM",
     .inside = neox_inside,
     .outside = neox_outside,
     .rope = GgufFamily::Rope::partial,
     .configure = configure_neox,
     .epsilon = "layer_norm_eps"},
    {.arch = "bloom",
     .architecture = "BloomForCausalLM",
     .inside = bloom_inside,
     .outside = bloom_outside,
     .rope = GgufFamily::Rope::none,
     .configure = configure_bloom,
     .epsilon = "layer_norm_epsilon"},
    {.arch = "mpt",
     .architecture = "MptForCausalLM",
     .inside = mpt_inside,
     .outside = mpt_outside,
     .rope = GgufFamily::Rope::none,
     .configure = configure_mpt,
     .epsilon = "layer_norm_epsilon"},
    {.arch = "falcon",
     .architecture = "FalconForCausalLM",
     .inside = falcon_inside,
     .outside = gpt2_outside,
     .configure = configure_falcon,
     .epsilon = "layer_norm_epsilon",
     .applies =
         [](const detail::GgufReader& from) {
           return from.files().contains("blk.0.attn_norm_2.weight");
         }},
    {.arch = "falcon",
     .architecture = "FalconForCausalLM",
     .inside = bloom_inside,
     .outside = gpt2_outside,
     .configure = configure_falcon,
     .epsilon = "layer_norm_epsilon"},
    {.arch = "phi2",
     .architecture = "PhiForCausalLM",
     .inside = phi2_inside,
     .outside = phi2_outside,
     .rope = GgufFamily::Rope::partial,
     .configure = configure_phi2,
     .epsilon = "layer_norm_eps"},
    {.arch = "stablelm",
     .architecture = "StableLmForCausalLM",
     .inside = stablelm_inside,
     .rope = GgufFamily::Rope::partial,
     .configure = configure_stablelm,
     .epsilon = "layer_norm_eps"},
    {.arch = "starcoder2",
     .architecture = "Starcoder2ForCausalLM",
     .inside = starcoder2_inside,
     .configure = configure_starcoder2,
     .epsilon = "norm_epsilon"},
    {.arch = "nemotron",
     .architecture = "NemotronForCausalLM",
     .inside = nemotron_inside,
     .outside = nemotron_outside,
     .rope = GgufFamily::Rope::partial,
     .configure = configure_nemotron,
     .epsilon = "norm_eps"},
    {.arch = "command-r",
     .architecture = "CohereForCausalLM",
     .configure = configure_cohere,
     .epsilon = "layer_norm_eps"},
    {.arch = "cohere2",
     .architecture = "Cohere2ForCausalLM",
     .configure = configure_cohere2,
     .epsilon = "layer_norm_eps"}};

}  // namespace gptq::model::architecture
