// SPDX-License-Identifier: MIT
#pragma once

// Gemma, Gemma 2 and Gemma 3 in GGUF files.

#include <gptq/model/architecture/gguf_keys.hpp>

#include <cstdint>

namespace gptq::model::architecture {

inline constexpr GgufName gemma_outside[] = {{"output_norm", "norm", GgufForm::plus_one}};
inline constexpr GgufName gemma_inside[] = {
    {"attn_norm", "input_layernorm", GgufForm::plus_one},
    {"ffn_norm", "post_attention_layernorm", GgufForm::plus_one}};
inline constexpr GgufName gemma2_inside[] = {
    {"attn_norm", "input_layernorm", GgufForm::plus_one},
    {"post_attention_norm", "post_attention_layernorm", GgufForm::plus_one},
    {"ffn_norm", "pre_feedforward_layernorm", GgufForm::plus_one},
    {"post_ffw_norm", "post_feedforward_layernorm", GgufForm::plus_one},
    {"attn_q_norm", "self_attn.q_norm", GgufForm::plus_one},
    {"attn_k_norm", "self_attn.k_norm", GgufForm::plus_one}};

inline void configure_gemma(const detail::GgufReader& /*from*/, nlohmann::ordered_json& config) {
  config.erase("hidden_act");
  config["hidden_activation"] = "gelu_pytorch_tanh";
}

/// Scores are divided by the square root of the head size, except in the largest models.
inline void set_query_scale(nlohmann::ordered_json& config, int layers_of_27b) {
  const auto size = [&](const char* key) { return config[key].get<std::uint64_t>(); };
  config["query_pre_attn_scalar"] = size("num_hidden_layers") == std::uint64_t(layers_of_27b)
                                        ? size("hidden_size") / size("num_attention_heads")
                                        : size("head_dim");
}

inline void configure_gemma2(const detail::GgufReader& from, nlohmann::ordered_json& config) {
  configure_gemma(from, config);
  set_query_scale(config, 46);
  config["attn_logit_softcapping"] = from.get_or<double>("attn_logit_softcapping", 50);
  config["final_logit_softcapping"] = from.get_or<double>("final_logit_softcapping", 30);
  config["sliding_window"] = from.size_or("attention.sliding_window", 4096);
  set_layer_types(from, config, 2);
}

/// Layers with a window have a rotation of their own.
inline void configure_gemma3(const detail::GgufReader& from, nlohmann::ordered_json& config) {
  configure_gemma(from, config);
  set_query_scale(config, 62);
  config["rope_local_base_freq"] =
      from.has("rope.freq_base_swa") ? from.positive("rope.freq_base_swa") : 10000.0;
  if (const auto cap = from.get_or<double>("final_logit_softcapping", 0); cap != 0)
    config["final_logit_softcapping"] = cap;
  config["sliding_window"] = from.size("attention.sliding_window");
  set_layer_types(from, config, 6);
}

inline constexpr GgufFamily gguf_gemma[] = {{.arch = "gemma",
                                             .architecture = "GemmaForCausalLM",
                                             .inside = gemma_inside,
                                             .outside = gemma_outside,
                                             .configure = configure_gemma},
                                            {.arch = "gemma2",
                                             .architecture = "Gemma2ForCausalLM",
                                             .inside = gemma2_inside,
                                             .outside = gemma_outside,
                                             .configure = configure_gemma2},
                                            {.arch = "gemma3",
                                             .architecture = "Gemma3ForCausalLM",
                                             .inside = gemma2_inside,
                                             .outside = gemma_outside,
                                             .configure = configure_gemma3}};

}  // namespace gptq::model::architecture
