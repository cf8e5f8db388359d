// SPDX-License-Identifier: MIT
#pragma once

// What the keys of a config.json mean where a decoder does not read them: another forward pass,
// unless the value is one that changes nothing; nothing at all; or nobody knows.

#include <nlohmann/json.hpp>

#include <initializer_list>
#include <string>
#include <string_view>

namespace gptq::model::detail {

// Values with which a key changes nothing, as JSON.
inline constexpr const char* off = R"([false, 0, "", [], {}])";
inline constexpr const char* on = "[true, 1]";
inline constexpr const char* one = "[1]";
inline constexpr const char* never = "[]";

/// A key that changes what a model computes, and the values with which it does not; null never
/// does.
struct ComputingKey {
  std::string_view name;
  const char* neutral;
};

inline constexpr ComputingKey computing_keys[] = {
    // Scales and caps.
    {"attention_multiplier", never},
    {"attention_scale", never},
    {"attn_logit_softcapping", off},
    {"attn_scale", never},
    {"attn_temperature_tuning", off},
    {"attention_in_multiplier", one},
    {"attention_out_multiplier", one},
    {"depth_multiplier", one},
    {"dim_model_base", never},
    {"embedding_multiplier", one},
    {"embedding_scale", one},
    {"final_logit_softcapping", off},
    {"floor_scale", never},
    {"input_embedding_multiplier", one},
    {"key_multiplier", one},
    {"lm_head_multiplier", one},
    {"logit_scale", one},
    {"logits_scaling", one},
    {"logits_soft_cap", off},
    {"mlp_multipliers", "[[1, 1]]"},
    {"mup_base_width", off},
    {"mup_enabled", off},
    {"mup_width_multiplier", one},
    {"query_pre_attn_scalar", never},
    {"residual_multiplier", one},
    {"scale_attn_by_inverse_layer_idx", off},
    {"scale_attn_weights", on},
    {"scale_depth", never},
    {"scale_emb", one},
    {"softmax_scale", never},
    {"use_mup", off},
    {"width_multiplier", one},
    // Experts.
    {"decoder_sparse_step", "[0, 1]"},
    {"enable_moe_block", off},
    {"expert_layer_period", off},
    {"first_k_dense_replace", off},
    {"interleave_moe_layer_step", off},
    {"mlp_only_layers", off},
    {"moe", off},
    {"moe_intermediate_size", off},
    {"moe_layer_freq", "[0, 1]"},
    {"moe_layers", off},
    {"moe_num_experts", off},
    {"n_routed_experts", off},
    {"n_shared_experts", off},
    {"num_experts", off},
    {"num_experts_per_tok", off},
    {"num_local_experts", off},
    {"num_shared_experts", off},
    {"shared_expert_intermediate_size", off},
    {"shared_intermediate_size", off},
    // Attention and positions.
    {"add_cross_attention", off},
    {"alibi", off},
    {"alibi_bias_max", off},
    {"apply_query_key_layer_scaling", off},
    {"attention_chunk_size", off},
    {"attention_output_gate", off},
    {"attention_sinks", off},
    {"attention_value_scale", one},
    {"attn_config", never},
    {"attn_output_gate", off},
    {"bidirectional", off},
    {"causal", on},
    {"clip_qkv", off},
    {"global_attn_every_n_layers", off},
    {"interleaved_sliding_window", off},
    {"is_causal", on},
    {"is_encoder_decoder", off},
    {"kv_lora_rank", off},
    {"layers_block_type", off},
    {"local_attention", off},
    {"multi_query", off},
    {"no_rope_layer_interval", off},
    {"no_rope_layers", off},
    {"nope_layer_interval", off},
    {"num_kv_shared_layers", off},
    {"position_embedding_type", R"(["rope", "rotary"])"},
    {"q_lora_rank", off},
    {"qk_head_dim", off},
    {"qk_nope_head_dim", off},
    {"qk_rope_head_dim", off},
    {"qkv_clip", off},
    {"rope_interleave", off},
    {"rope_interleaved", off},
    {"rope_local_base_freq", never},
    {"rope_ratio", one},
    {"rotary_base", never},
    {"rotary_dim", never},
    {"rotary_emb_base", never},
    {"rotary_pct", one},
    {"sliding_window_pattern", off},
    {"_sliding_window_pattern", off},
    {"use_attention_sinks", off},
    {"use_bidirectional_attention", off},
    {"use_dynamic_ntk", off},
    {"use_logn_attn", off},
    {"use_nope", off},
    {"use_qk_layernorm", off},
    {"use_rope", on},
    {"use_rotary", on},
    {"use_sinks", off},
    {"v_head_dim", off},
    // Biases, norms, activations, how a layer is put together.
    {"activation_sparsity_pattern", off},
    {"add_bias_linear", off},
    {"add_qkv_bias", off},
    {"apply_residual_connection_post_layernorm", off},
    {"attention_bias", off},
    {"bias", off},
    {"cross_layer_sharing", off},
    {"do_layer_norm_before", on},
    {"embedding_layernorm", off},
    {"hidden_size_per_layer_input", off},
    {"laurel_rank", off},
    {"lm_head_bias", off},
    {"mlp_bias", off},
    {"no_bias", on},
    {"norm_type", R"(["rms", "rmsnorm", "rms_norm", "RMSNorm"])"},
    {"normalize_embedding", off},
    {"parallel_attn", off},
    {"parallel_residual", off},
    {"pruned_heads", off},
    {"qkv_bias", off},
    {"swiglu_limit", off},
    {"text_config", off},
    {"use_bias", off},
    {"use_gated_mlp", on},
    {"use_parallel_residual", off},
    {"use_post_norm", off},
    {"use_qkv_bias", off},
    {"vision_config", off},
    {"word_embed_proj_dim", off},
    // Weights in another form.
    {"compression_config", off},
    {"quantization", off}};

/// Keys that say nothing about what a model computes: its history, its training, its vocabulary,
/// text generation, tasks of other heads.
inline constexpr std::string_view harmless_keys[] = {"_name_or_path",
                                                     "bad_words_ids",
                                                     "begin_suppress_tokens",
                                                     "chunk_size_feed_forward",
                                                     "cross_attention_hidden_size",
                                                     "decoder_start_token_id",
                                                     "diversity_penalty",
                                                     "do_sample",
                                                     "dtype",
                                                     "early_stopping",
                                                     "encoder_no_repeat_ngram_size",
                                                     "ep_size",
                                                     "exponential_decay_length_penalty",
                                                     "finetuning_task",
                                                     "forced_bos_token_id",
                                                     "forced_eos_token_id",
                                                     "fused_norm",
                                                     "fused_swiglu",
                                                     "gradient_checkpointing",
                                                     "id2label",
                                                     "initializer_factor",
                                                     "initializer_range",
                                                     "is_decoder",
                                                     "is_llama_config",
                                                     "keys_to_ignore_at_inference",
                                                     "label2id",
                                                     "length_penalty",
                                                     "max_length",
                                                     "max_sequence_length",
                                                     "max_window_layers",
                                                     "min_length",
                                                     "model_max_length",
                                                     "name_or_path",
                                                     "no_repeat_ngram_size",
                                                     "num_beam_groups",
                                                     "num_beams",
                                                     "num_labels",
                                                     "num_nextn_predict_layers",
                                                     "num_return_sequences",
                                                     "pretraining_tp",
                                                     "problem_type",
                                                     "prefix",
                                                     "quantization_config",
                                                     "remove_invalid_values",
                                                     "repetition_penalty",
                                                     "return_dict",
                                                     "return_dict_in_generate",
                                                     "router_aux_loss_coef",
                                                     "router_jitter_noise",
                                                     "suppress_tokens",
                                                     "task_specific_params",
                                                     "temperature",
                                                     "tf_legacy_loss",
                                                     "tie_encoder_decoder",
                                                     "tokenizer_class",
                                                     "top_k",
                                                     "top_p",
                                                     "torch_dtype",
                                                     "torchscript",
                                                     "transformers_version",
                                                     "typical_p",
                                                     "unsloth_fixed",
                                                     "unsloth_version",
                                                     "use_bfloat16",
                                                     "use_cache"};

/// What a key that is not read means.
enum class KeyMeaning { harmless, computing, suspicious, unknown };

inline bool contains_any(std::string_view text, std::initializer_list<std::string_view> parts) {
  for (const std::string_view part : parts)
    if (text.find(part) != std::string_view::npos) return true;
  return false;
}

/// Whether a value is one of those of a JSON list.
template <class Json>
bool is_one_of(const Json& value, const char* list) {
  if (value.is_null()) return true;
  for (const auto& neutral : Json::parse(list))
    if (value == neutral) return true;
  return false;
}

/// \returns  computing only where the value is not neutral
template <class Json>
KeyMeaning key_meaning(const std::string& key, const Json& value) {
  if (value.is_null()) return KeyMeaning::harmless;
  for (const ComputingKey& known : computing_keys)
    if (known.name == key)
      return is_one_of(value, known.neutral) ? KeyMeaning::harmless : KeyMeaning::computing;
  for (const std::string_view harmless : harmless_keys)
    if (harmless == key) return KeyMeaning::harmless;
  const std::string_view name = key;
  if (name.size() > 9 && name.substr(name.size() - 9) == "_token_id") return KeyMeaning::harmless;
  if (name.substr(0, 7) == "output_" ||
      contains_any(name, {"dropout", "pdrop", "implementation", "flash", "sdpa", "_loss", "loss_",
                          "version", "noise", "layerdrop"}))
    return KeyMeaning::harmless;
  const bool telling = contains_any(
      name, {"activation", "act_fn", "alibi",  "attention",   "attn",  "bias",     "causal",
             "clamp",      "clip",   "conv",   "expert",      "gate",  "lora",     "mamba",
             "mask",       "moe",    "mup",    "multiplier",  "norm",  "parallel", "residual",
             "rope",       "rotary", "router", "scal",        "sink",  "sliding",  "soft_cap",
             "softcap",    "sparse", "ssm",    "temperature", "window"});
  return telling && !is_one_of(value, off) ? KeyMeaning::suspicious : KeyMeaning::unknown;
}

}  // namespace gptq::model::detail
