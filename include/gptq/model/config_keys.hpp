// SPDX-License-Identifier: MIT
#pragma once

// What config.json keys mean that the decoder does not read: a different forward pass, unless the
// value is neutral; nothing at all; or unknown.

#include <nlohmann/json.hpp>

#include <algorithm>  // std::find, std::min
#include <initializer_list>
#include <iterator>  // std::begin
#include <string>
#include <string_view>

namespace gptq::model::detail {

// Neutral values of a key, as JSON.
inline constexpr const char* off = R"([false, 0, "", [], {}])";
inline constexpr const char* on = "[true, 1]";
inline constexpr const char* one = "[1]";
inline constexpr const char* never = "[]";

/// A key that changes what a model computes, and its neutral values; null is always neutral.
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
    {"logit_cap", off},
    {"logit_scale", one},
    {"logits_scaling", one},
    {"logits_soft_cap", off},
    {"mlp_multipliers", "[[1, 1]]"},
    {"mup_base_width", off},
    {"mup_enabled", off},
    {"mup_width_multiplier", one},
    {"output_multiplier_scale", one},
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
    {"n_group", "[0, 1]"},
    {"n_routed_experts", off},
    {"n_shared_experts", off},
    {"norm_topk_prob", off},
    {"num_experts", off},
    {"num_experts_per_tok", off},
    {"num_local_experts", off},
    {"num_shared_experts", off},
    {"routed_scaling_factor", one},
    {"scoring_func", never},
    {"shared_expert_intermediate_size", off},
    {"shared_intermediate_size", off},
    {"topk_group", "[0, 1]"},
    {"topk_method", never},
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
    {"attn_type", R"(["causal", "full_attention"])"},
    {"base", never},
    {"bidirectional", off},
    {"clip_qkv", off},
    {"cross_attention_hidden_size", off},
    {"dual_chunk_attention_config", off},
    {"global_attn_every_n_layers", off},
    {"interleaved_sliding_window", off},
    {"is_encoder_decoder", off},
    {"kv_lora_rank", off},
    {"layers_block_type", off},
    {"local", off},
    {"local_attention", off},
    {"multi_query", off},
    {"multi_query_attention", off},
    {"no_rope_layer_interval", off},
    {"no_rope_layers", off},
    {"nope_layer_interval", off},
    {"ntk_alpha", "[0, 1]"},
    {"num_kv_shared_layers", off},
    {"pos_emb", R"(["rope", "rotary"])"},
    {"position_embedding", R"(["rope", "rotary"])"},
    {"position_embedding_type", R"(["rope", "rotary"])"},
    {"position_embeddings", R"(["rope", "rotary"])"},
    {"pre_seq_len", off},
    {"prefix_lm", off},
    {"q_lora_rank", off},
    {"qk_nope_head_dim", off},
    {"qk_rope_head_dim", off},
    {"qkv_clip", off},
    {"rope_interleave", off},
    {"rope_interleaved", off},
    {"rope_local_base_freq", never},
    {"rope_ratio", one},
    {"rotary_pct", one},
    {"sliding_window_pattern", off},
    {"_sliding_window_pattern", off},
    {"use_attention_sinks", off},
    {"use_bidirectional_attention", off},
    {"use_dynamic_ntk", off},
    {"use_logn_attn", off},
    {"use_mrope", off},
    {"use_nope", off},
    {"use_qk_layernorm", off},
    {"use_sinks", off},
    {"yarn", off},
    // Biases, norms, activations, how a layer is put together.
    {"activation_sparsity_pattern", off},
    {"add_bias_linear", off},
    {"apply_residual_connection_post_layernorm", off},
    {"attention_bias", off},
    {"bias", off},
    {"block_configs", off},
    {"cross_layer_sharing", off},
    {"do_layer_norm_before", on},
    {"early_exit", off},
    {"embedding_layernorm", off},
    {"ffn_config", never},
    {"ffn_type", R"(["swiglu", "silu", "gated", "glu", "llama"])"},
    {"fuse_attention_ffn", off},
    {"fuse_attention_qkv", off},
    {"hidden_size_per_layer_input", off},
    {"laurel_rank", off},
    {"layer_configs", off},
    {"lm_head_bias", off},
    {"mlp_bias", off},
    {"mlp_type", R"(["swiglu", "silu", "gated", "glu", "llama"])"},
    {"no_bias", on},
    {"norm_type", R"(["rms", "rmsnorm", "rms_norm", "RMSNorm"])"},
    {"normalization_type", R"(["rms", "rmsnorm", "rms_norm", "RMSNorm"])"},
    {"normalize_embedding", off},
    {"parallel_attn", off},
    {"parallel_residual", off},
    {"per_layer_config", off},
    {"pruned_heads", off},
    {"swiglu_limit", off},
    {"text_config", off},
    {"use_bias", off},
    {"use_bitnet", off},
    {"use_parallel_residual", off},
    {"use_post_norm", off},
    {"vision_config", off},
    {"word_embed_proj_dim", off},
    // Weights in another form.
    {"compression_config", off}};

/// Parts that every decoder here has: a key of this name, perhaps prefixed with use_ or the like,
/// says nothing new if its value is true.
inline constexpr std::string_view parts_of_every_decoder[] = {"autoregressive",
                                                              "causal",
                                                              "causal_attention",
                                                              "causal_mask",
                                                              "decoder_only",
                                                              "ffn_gated",
                                                              "final_norm",
                                                              "gated",
                                                              "gated_act",
                                                              "gated_linear_unit",
                                                              "gated_mlp",
                                                              "glu",
                                                              "mask_future",
                                                              "mlp",
                                                              "mlp_gated",
                                                              "pre_norm",
                                                              "prenorm",
                                                              "residual",
                                                              "residual_connection",
                                                              "residual_connections",
                                                              "rms_norm",
                                                              "rmsnorm",
                                                              "rope",
                                                              "rotary",
                                                              "rotary_emb",
                                                              "rotary_embedding",
                                                              "rotary_embeddings",
                                                              "rotary_position_embedding",
                                                              "rotary_position_embeddings",
                                                              "scale_attention",
                                                              "silu",
                                                              "softmax",
                                                              "swiglu",
                                                              "unidirectional"};

/// Keys that do not affect what a model computes: its history, training, vocabulary, context
/// length, text generation, other task heads, choice of kernels.
inline constexpr std::string_view harmless_keys[] = {
    // Outputs besides the logits, and how they are computed.
    "_attn_implementation", "_attn_implementation_autoset", "_attn_implementation_internal",
    "_experts_implementation", "_flash_attn_2_enabled", "_output_attentions",
    "_use_flash_attention_2", "_use_sdpa", "attention_softmax_in_fp32", "attn_impl",
    "attn_implementation", "base_model_pp_plan", "base_model_tp_plan", "chunk_size_feed_forward",
    "flash_attention", "flash_attn", "fused_attention", "fused_mlp", "fused_norm", "fused_rms_norm",
    "fused_swiglu", "logits_to_keep", "mlp_recompute", "num_logits_to_keep", "output_attentions",
    "output_hidden_states", "output_logits", "output_past", "output_router_logits", "output_scores",
    "parallel_output", "pretraining_tp", "residual_in_fp32", "scale_attention_softmax_in_fp32",
    "sequence_parallel", "tensor_parallel", "tensor_parallel_degree", "tensor_parallel_output",
    "tp_size", "use_bfloat16", "use_cache", "use_flash_attention", "use_flash_attention_2",
    "use_flash_attention_3", "use_flash_attn", "use_flash_attn_2", "use_fused_attention",
    "use_fused_cross_entropy", "use_fused_mlp", "use_fused_rms_norm", "use_fused_rope",
    "use_memory_efficient_attention", "use_sdpa", "use_xformers",
    // Training.
    "activation_dropout", "adam_epsilon", "attention_dropout", "attention_dropout_prob",
    "attention_probs_dropout_prob", "attn_dropout", "attn_dropout_prob", "attn_dropout_rate",
    "attn_pdrop", "aux_loss_alpha", "classifier_dropout", "decoder_layerdrop", "dropout",
    "dropout_p", "dropout_rate", "emb_dropout_prob", "emb_pdrop", "embd_dropout", "embd_pdrop",
    "embed_dropout", "embedding_dropout", "encoder_layerdrop", "ffn_dropout",
    "gradient_checkpointing", "gradient_checkpointing_use_reentrant", "gradient_clipping",
    "group_by_length", "hidden_dropout", "hidden_dropout_prob", "hidden_dropout_rate",
    "init_device", "init_method", "init_method_std", "init_std", "initializer_factor",
    "initializer_range", "label_smoothing_factor", "layer_dropout", "layerdrop", "loss_scale",
    "loss_scaling", "loss_type", "loss_weight", "max_grad_norm", "mlp_dropout",
    "neftune_noise_alpha", "output_dropout", "pdrop", "resid_dropout", "resid_pdrop",
    "residual_dropout", "router_aux_loss_coef", "router_jitter_noise", "router_z_loss_coef",
    "seq_aux", "stochastic_depth", "summary_activation", "summary_first_dropout",
    "summary_proj_to_labels", "summary_type", "summary_use_proj", "tf_legacy_loss",
    "use_scaled_init_method", "weight_decay", "z_loss_coefficient",
    // Context length.
    "block_size", "context_length", "context_window", "max_context_length", "max_length",
    "max_position", "max_positions", "max_seq_len", "max_seq_length", "max_sequence_length",
    "model_max_length", "n_ctx", "n_positions", "seq_len", "seq_length", "sequence_length",
    "tokenizer_model_max_length",
    // Tokens and vocabulary.
    "begin_suppress_tokens", "bos_token", "bos_token_id", "cls_token", "cls_token_id",
    "decoder_start_token_id", "eos_token", "eos_token_id", "ffn_dim_multiplier",
    "forced_bos_token_id", "forced_eos_token_id", "image_token_id", "make_vocab_size_divisible_by",
    "mask_token", "mask_token_id", "multiple_of", "pad_to_multiple_of", "pad_token", "pad_token_id",
    "pad_vocab_size_multiple", "sep_token", "sep_token_id", "suppress_tokens", "unk_token",
    "unk_token_id", "video_token_id",
    // Text generation.
    "bad_words_ids", "diversity_penalty", "do_sample", "early_stopping",
    "encoder_no_repeat_ngram_size", "exponential_decay_length_penalty", "length_penalty",
    "min_length", "min_p", "no_repeat_ngram_size", "num_beam_groups", "num_beams",
    "num_nextn_predict_layers", "num_return_sequences", "remove_invalid_values",
    "repetition_penalty", "return_dict_in_generate", "skip_special_tokens", "temperature", "top_k",
    "top_p", "typical_p",
    // History and housekeeping.
    "_commit_hash", "_is_quantized_training_enabled", "_name_or_path", "_pre_quantization_dtype",
    "bf16", "cache_implementation", "dtype", "ep_size", "finetuning_task", "fp16", "fp32",
    "id2label", "is_decoder", "is_llama_config", "is_quantized", "keys_to_ignore_at_inference",
    "label2id", "max_window_layers", "name_or_path", "num_labels", "onnx_safe", "prefix",
    "problem_type", "quantization", "quantization_config", "return_dict", "task_specific_params",
    "tie_encoder_decoder", "tokenizer_class", "torch_dtype", "torchscript",
    "transformers.js_config", "transformers_version", "unsloth_fixed", "unsloth_version",
    "use_liger_kernel", "use_return_dict"};

/// What a key means that the decoder does not read.
enum class KeyMeaning { harmless, computing, suspicious, unknown };

template <class Parts = std::initializer_list<std::string_view>>
bool contains_any(std::string_view text, const Parts& parts) {
  for (const std::string_view part : parts)
    if (text.find(part) != std::string_view::npos) return true;
  return false;
}

/// Whether a value is in a JSON list.
template <class Json>
bool is_one_of(const Json& value, const char* list) {
  if (value.is_null()) return true;
  for (const auto& neutral : Json::parse(list))
    if (value == neutral) return true;
  return false;
}

inline std::string lower_case(std::string text) {
  for (char& c : text)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return text;
}

/// Substrings of key names that suggest the forward pass.
inline constexpr std::string_view telling_parts[] = {
    "act_fn",  "activation", "adapter",  "alibi",    "attention", "attn",     "base_freq",
    "bias",    "bidir",      "bitnet",   "block",    "causal",    "chunk",    "clamp",
    "clip",    "conv1d",     "dilat",    "ensemble", "epsilon",   "exit",     "expert",
    "ffn",     "freq_base",  "gate",     "glu",      "group",     "hadamard", "heads",
    "hybrid",  "inv_freq",   "latent",   "layer",    "linear",    "logit",    "loop",
    "lora",    "mamba",      "mask",     "mixture",  "mlp",       "moe",      "multipl",
    "norm",    "ntk",        "parallel", "pos_emb",  "pos_enc",   "position", "prun",
    "quant",   "recurr",     "recurs",   "residual", "rope",      "rotary",   "rotat",
    "router",  "sandwich",   "scal",     "share",    "sharing",   "sink",     "skip",
    "sliding", "soft_cap",   "softcap",  "softmax",  "spars",     "ssm",      "temperature",
    "theta",   "tied",       "topk",     "window",   "xpos",      "yarn"};

/// Whole words between underscores that do.
inline constexpr std::string_view telling_words[] = {
    "4bit",    "8bit",      "act",   "alpha",   "bit",  "bits",     "cap",    "centered",
    "conv",    "divisor",   "eps",   "factor",  "fp4",  "fp8",      "future", "gamma",
    "gelu",    "head",      "hyena", "int4",    "int8", "logn",     "mla",    "mult",
    "mup",     "offset",    "pe",    "pos",     "rel",  "relative", "relu",   "repeat",
    "repeats", "retention", "rnn",   "sigmoid", "silu", "tanh",     "tau",    "tie",
    "virtual", "weight",    "yoco"};

/// Whether the name of an unknown key suggests that it affects the forward pass.
inline bool is_telling(const std::string& key) {
  const std::string name = lower_case(key);
  if (contains_any(name, telling_parts)) return true;
  for (std::size_t begin = 0, end; begin <= name.size(); begin = end + 1) {
    end = (std::min)(name.find('_', begin), name.size());
    const auto word = std::string_view(name).substr(begin, end - begin);
    if (std::find(std::begin(telling_words), std::end(telling_words), word) !=
        std::end(telling_words))
      return true;
  }
  return false;
}

/// use_rope, rope, is_causal, ...
inline bool is_part_of_every_decoder(std::string_view key) {
  for (const std::string_view verb : {"use_", "is_", "has_", "with_", "add_", "enable_", "apply_"})
    if (key.substr(0, verb.size()) == verb) {
      key.remove_prefix(verb.size());
      break;
    }
  const auto& parts = parts_of_every_decoder;
  return std::find(std::begin(parts), std::end(parts), key) != std::end(parts);
}

/// \param depth  how many objects and arrays enclose the key
/// \returns  computing and suspicious only if the value is not neutral
template <class Json>
KeyMeaning key_meaning(const std::string& key, const Json& value, int depth = 0) {
  if (value.is_null()) return KeyMeaning::harmless;
  for (const ComputingKey& known : computing_keys)
    if (known.name == key)
      return is_one_of(value, known.neutral) ? KeyMeaning::harmless : KeyMeaning::computing;
  for (const std::string_view harmless : harmless_keys)
    if (harmless == key) return KeyMeaning::harmless;
  if (is_part_of_every_decoder(key))
    return is_one_of(value, on) ? KeyMeaning::harmless : KeyMeaning::computing;
  if (is_one_of(value, off)) return KeyMeaning::unknown;
  if (is_telling(key)) return KeyMeaning::suspicious;
  if (value.is_structured())  // settings of something unknown
    for (const auto& [name, part] : value.items()) {
      if (value.is_array() && !part.is_structured()) continue;
      if (depth > 8) return KeyMeaning::suspicious;
      const auto meaning = key_meaning(name, part, depth + 1);
      if (meaning == KeyMeaning::computing || meaning == KeyMeaning::suspicious)
        return KeyMeaning::suspicious;
    }
  return KeyMeaning::unknown;
}

}  // namespace gptq::model::detail
