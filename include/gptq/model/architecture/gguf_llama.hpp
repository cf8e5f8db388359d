// SPDX-License-Identifier: MIT
#pragma once

// Llama and its closest relatives in GGUF files.

#include <gptq/model/architecture/gguf_keys.hpp>

#include <cmath>    // std::abs, std::sqrt
#include <utility>  // std::move, std::pair
#include <vector>

namespace gptq::model::architecture {

inline constexpr GgufName interleaved_inside[] = {{"attn_q", "self_attn.q_proj", GgufForm::queries},
                                                  {"attn_k", "self_attn.k_proj", GgufForm::keys}};
/// Norms of outputs, and whether there is one in front of the MLP.
inline constexpr GgufName post_norm_inside[] = {{"post_attention_norm", "post_attention_layernorm"},
                                                {"post_ffw_norm", "post_feedforward_layernorm"}};
inline constexpr GgufName seed_inside[] = {{"post_attention_norm", "post_attention_layernorm"}};
inline constexpr GgufName glm4_inside[] = {{"post_attention_norm", "post_self_attn_layernorm"},
                                           {"post_ffw_norm", "post_mlp_layernorm"},
                                           {"ffn_up", "mlp.gate_up_proj"}};
/// Converted from a folder of transformers, or from one of the first, with q, k and v in one.
inline constexpr GgufName glm_inside[] = {
    {"attn_qkv", "self_attn.q_proj|self_attn.k_proj|self_attn.v_proj", GgufForm::split_qkv},
    {"ffn_up", "mlp.gate_up_proj"}};
inline constexpr GgufName phi3_inside[] = {{"attn_qkv", "self_attn.qkv_proj"},
                                           {"ffn_up", "mlp.gate_up_proj"}};
inline constexpr GgufName hunyuan_inside[] = {{"attn_q_norm", "self_attn.query_layernorm"},
                                              {"attn_k_norm", "self_attn.key_layernorm"}};

/// Only q, k, v and o may have biases.
inline void configure_qwen3(const detail::GgufReader& from, nlohmann::ordered_json& config) {
  config["attention_bias"] = has_bias(from, "attn_q") && has_bias(from, "attn_output");
}

/// llama.cpp reads rope.scaling.finetuned = false of a Granite as "does not rotate".
inline void configure_granite(const detail::GgufReader& from, nlohmann::ordered_json& config) {
  set_biases(from, config);
  if (!from.get_or<bool>("rope.scaling.finetuned", true))
    from.fail(from.key("rope.scaling.finetuned"),
              " = false: a Granite without rotary positions is not supported");
  config["attention_multiplier"] = 1 / std::sqrt(config["head_dim"].get<double>());
  for (const auto& [name, key] : {std::pair{"embedding_scale", "embedding_multiplier"},
                                  std::pair{"attention.scale", "attention_multiplier"},
                                  std::pair{"residual_scale", "residual_multiplier"},
                                  std::pair{"logit_scale", "logits_scaling"}})
    if (from.get_or<double>(name, 0) != 0) config[key] = from.positive(name);
}

/// Every fourth layer does not rotate, which the file does not say.
inline void configure_smollm3(const detail::GgufReader& from, nlohmann::ordered_json& config) {
  set_biases(from, config);
  config["no_rope_layer_interval"] = 4;
}

/// The ε of its norms is not in config.json.
inline void configure_olmo(const detail::GgufReader& from, nlohmann::ordered_json& config) {
  if (const double epsilon = from.get_or<double>("attention.layer_norm_epsilon", 1e-5);
      std::abs(epsilon - 1e-5) > 1e-9)
    from.fail(from.key("attention.layer_norm_epsilon"), " = ", epsilon,
              " is not supported (1e-5 is)");
  if (const double clip = from.get_or<double>("attention.clamp_kqv", 0); clip != 0)
    config["clip_qkv"] = clip;
}

/// Half of a head's coordinates turn, q, k and v have biases.
inline void configure_glm4(const detail::GgufReader& from, nlohmann::ordered_json& config) {
  config["attention_bias"] = has_bias(from, "attn_q") || has_bias(from, "attn_qkv");
}

inline void configure_seed(const detail::GgufReader& from, nlohmann::ordered_json& config) {
  config["attention_bias"] = has_bias(from, "attn_q");
  config["attention_out_bias"] = has_bias(from, "attn_output");
}

inline void configure_ernie(const detail::GgufReader& from, nlohmann::ordered_json& config) {
  config["use_bias"] = has_bias(from, "attn_q");
}

/// Three of four layers have a window, and no scaling of their rotation.
inline void configure_olmo3(const detail::GgufReader& from, nlohmann::ordered_json& config) {
  config["sliding_window"] = from.size("attention.sliding_window");
  set_layer_types(from, config, 4);
  auto scaling = detail::gguf_yarn(from);
  if (scaling.is_null()) return;
  if (from.has("rope.scaling.attn_factor"))
    scaling["attention_factor"] = from.positive("rope.scaling.attn_factor");
  config["rope_scaling"] = std::move(scaling);
}

/// YaRN with the same mscale and mscale_all_dim, so that rotated coordinates keep their size and
/// only scores are scaled; mscale = 0: with neither, which scales the coordinates.
inline void set_mscale_yarn(const detail::GgufReader& from, nlohmann::ordered_json& config,
                            double mscale) {
  auto yarn = detail::gguf_yarn(from);
  if (yarn.is_null()) return;
  if (mscale != 0) yarn["mscale"] = yarn["mscale_all_dim"] = mscale;
  config["rope_scaling"] = std::move(yarn);
}

/// How much attention sharpens beyond the first context of YaRN.
inline void set_sharpening(const detail::GgufReader& from, nlohmann::ordered_json& config) {
  if (!config.contains("rope_scaling")) return;
  if (const double beta = from.get_or<double>("attention.temperature_scale", 0); beta != 0)
    config["rope_scaling"]["llama_4_scaling_beta"] = beta;
}

inline void configure_mistral3(const detail::GgufReader& from, nlohmann::ordered_json& config) {
  set_mscale_yarn(from, config, 1);
  if (config.contains("rope_scaling") && from.has("rope.scaling.yarn_log_multiplier"))
    config["rope_scaling"]["mscale_all_dim"] = from.get<double>("rope.scaling.yarn_log_multiplier");
  set_sharpening(from, config);
}

/// Only some layers see everything, if there is a window at all.
inline void configure_exaone4(const detail::GgufReader& from, nlohmann::ordered_json& config) {
  set_window(from, config);
  const bool windows = !config["sliding_window"].is_null();
  set_layer_types(from, config, windows ? 4 : 1);
}

inline void configure_arcee(const detail::GgufReader& from, nlohmann::ordered_json& config) {
  set_biases(from, config);
  config["hidden_act"] = "relu2";
}

/// Factors per frequency for short and for long texts.
inline void configure_phi3(const detail::GgufReader& from, nlohmann::ordered_json& config) {
  set_window(from, config);
  const auto original = from.size_or("rope.scaling.original_context_length",
                                     config["max_position_embeddings"].get<std::uint64_t>());
  config["original_max_position_embeddings"] = original;
  const double amplitude = from.get_or<double>("rope.scaling.attn_factor", 1);
  if (!from.files().contains("rope_factors_long.weight")) {
    if (amplitude != 1)
      from.fail(from.key("rope.scaling.attn_factor"), " = ", amplitude,
                ", but there is no tensor rope_factors_long.weight");
    return;
  }
  if (const auto type = from.get_or<std::string>("rope.scaling.type", "longrope");
      type != "longrope" && type != "none")
    from.fail("the rope scaling \"", type, "\" (", from.key("rope.scaling.type"),
              ") with factors per frequency is not supported");
  nlohmann::ordered_json scaling{{"rope_type", "longrope"}};
  for (const auto& [name, key] : {std::pair{"rope_factors_short.weight", "short_factor"},
                                  std::pair{"rope_factors_long.weight", "long_factor"}}) {
    const auto& tensor = from.files().at(name);
    if (tensor.shape.size() != 1 || tensor.shape[0] > 65536)
      from.fail("tensor ", name, " has the shape ", io::to_string(tensor.shape));
    std::vector<float> factors(static_cast<std::size_t>(tensor.shape[0]));
    from.files().read(name, factors);
    scaling[key] = factors;
  }
  scaling["attention_factor"] = amplitude;
  config["rope_scaling"] = std::move(scaling);
}

inline constexpr GgufFamily gguf_llama[] = {
    {.arch = "llama",
     .architecture = "LlamaForCausalLM",
     .inside = interleaved_inside,
     .configure = set_biases,
     .applies =
         [](const detail::GgufReader& from) {
           return from.get_or<std::uint64_t>("expert_count", 0) == 0;
         }},
    {.arch = "qwen2", .architecture = "Qwen2ForCausalLM"},
    {.arch = "qwen3", .architecture = "Qwen3ForCausalLM", .configure = configure_qwen3},
    {.arch = "granite",
     .architecture = "GraniteForCausalLM",
     .inside = interleaved_inside,
     .configure = configure_granite},
    {.arch = "smollm3",
     .architecture = "SmolLM3ForCausalLM",
     .inside = interleaved_inside,
     .configure = configure_smollm3},
    {.arch = "olmo",
     .architecture = "OlmoForCausalLM",
     .inside = interleaved_inside,
     .configure = configure_olmo,
     .epsilon = ""},
    {.arch = "olmo2",
     .architecture = "Olmo3ForCausalLM",
     .inside = post_norm_inside,
     .configure = configure_olmo3,
     .applies =
         [](const detail::GgufReader& from) {
           return from.get_or<std::uint64_t>("attention.sliding_window", 0) > 0;
         }},
    {.arch = "olmo2", .architecture = "Olmo2ForCausalLM", .inside = post_norm_inside},
    {.arch = "exaone4",
     .architecture = "Exaone4ForCausalLM",
     .inside = post_norm_inside,
     .configure = configure_exaone4},
    {.arch = "glm4",
     .architecture = "Glm4ForCausalLM",
     .inside = glm4_inside,
     .rope = GgufFamily::Rope::partial,
     .configure = configure_glm4},
    {.arch = "chatglm",
     .architecture = "GlmForCausalLM",
     .inside = glm_inside,
     .rope = GgufFamily::Rope::partial,
     .configure = configure_glm4},
    {.arch = "mistral3",
     .architecture = "Ministral3ForCausalLM",
     .inside = interleaved_inside,
     .configure = configure_mistral3},
    {.arch = "phi3",
     .architecture = "Phi3ForCausalLM",
     .inside = phi3_inside,
     .rope = GgufFamily::Rope::partial,
     .configure = configure_phi3},
    {.arch = "seed_oss",
     .architecture = "SeedOssForCausalLM",
     .inside = seed_inside,
     .configure = configure_seed},
    {.arch = "ernie4_5", .architecture = "Ernie4_5ForCausalLM", .configure = configure_ernie},
    {.arch = "arcee",
     .architecture = "ArceeForCausalLM",
     .inside = interleaved_inside,
     .configure = configure_arcee},
    {.arch = "hunyuan-dense",
     .architecture = "HunYuanDenseV1ForCausalLM",
     .inside = hunyuan_inside,
     .configure = configure_qwen3}};

}  // namespace gptq::model::architecture
