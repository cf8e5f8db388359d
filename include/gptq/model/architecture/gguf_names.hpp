// SPDX-License-Identifier: MIT
#pragma once

// Names of tensors that most GGUF files have in common.

#include <gptq/model/architecture/gguf_family.hpp>

#include <algorithm>  // std::find_if
#include <array>
#include <cstddef>
#include <string>
#include <string_view>

namespace gptq::model::architecture {

/// In a layer, as in a Llama. What a family calls otherwise stands in its own list.
inline constexpr GgufName usual_inside[] = {
    {"attn_norm", "input_layernorm"},    {"ffn_norm", "post_attention_layernorm"},
    {"attn_q", "self_attn.q_proj"},      {"attn_k", "self_attn.k_proj"},
    {"attn_v", "self_attn.v_proj"},      {"attn_output", "self_attn.o_proj"},
    {"attn_q_norm", "self_attn.q_norm"}, {"attn_k_norm", "self_attn.k_norm"},
    {"ffn_gate", "mlp.gate_proj"},       {"ffn_up", "mlp.up_proj"},
    {"ffn_down", "mlp.down_proj"}};

/// Outside the layers; token_embd.weight are always the embeddings, and output the head.
inline constexpr GgufName usual_outside[] = {{"output_norm", "norm"}};

/// Stacked experts, as most models call them, and as Mixtral does.
inline constexpr GgufName stacked_experts[] = {
    {"ffn_gate_exps", "mlp.experts.*.gate_proj", GgufForm::stacked},
    {"ffn_up_exps", "mlp.experts.*.up_proj", GgufForm::stacked},
    {"ffn_down_exps", "mlp.experts.*.down_proj", GgufForm::stacked},
    {"ffn_gate_up_exps", "mlp.experts.*.gate_proj|mlp.experts.*.up_proj",
     GgufForm::stacked_halves}};
inline constexpr GgufName mixtral_experts[] = {
    {"ffn_gate_inp", "block_sparse_moe.gate"},
    {"ffn_gate_exps", "block_sparse_moe.experts.*.w1", GgufForm::stacked},
    {"ffn_up_exps", "block_sparse_moe.experts.*.w3", GgufForm::stacked},
    {"ffn_down_exps", "block_sparse_moe.experts.*.w2", GgufForm::stacked}};
/// Stacked experts beside shared ones, as in DeepSeek.
inline constexpr GgufName shared_experts[] = {{"ffn_gate_inp", "mlp.gate"},
                                              {"ffn_gate_shexp", "mlp.shared_experts.gate_proj"},
                                              {"ffn_up_shexp", "mlp.shared_experts.up_proj"},
                                              {"ffn_down_shexp", "mlp.shared_experts.down_proj"}};

/// All names of several lists.
template <std::size_t... Sizes>
constexpr auto joined(const GgufName (&... lists)[Sizes]) {
  std::array<GgufName, (Sizes + ...)> all{};
  std::size_t at = 0;
  const auto add = [&](const auto& list) {
    for (const GgufName& name : list) all[at++] = name;
  };
  (add(lists), ...);
  return all;
}

/// Tensors that are part of the configuration: factors of rotary frequencies.
inline bool is_part_of_config(std::string_view name) {
  return name == "rope_freqs.weight" || name == "rope_factors_long.weight" ||
         name == "rope_factors_short.weight" ||
         name.ends_with(".attn_rot_embd.weight");  // in old files
}

/// A name that was found.
struct FoundName {
  const GgufName* name = nullptr;
  std::string_view ending{};  ///< ".weight", or empty if the list has the whole name
  std::string_view number{};  ///< what a '*' stands for
};

/// A tensor's name in a list: whole, or without its ending, or with '*' for a number at its end.
inline FoundName find_name(std::span<const GgufName> names, std::string_view wanted) {
  const auto at = [&](std::string_view text) {
    const auto found =
        std::find_if(names.begin(), names.end(), [&](const GgufName& n) { return n.gguf == text; });
    return found == names.end() ? nullptr : &*found;
  };
  if (const GgufName* whole = at(wanted)) return {whole};
  const std::size_t dot = wanted.rfind('.');
  if (dot == std::string_view::npos) return {};
  const std::string_view stem = wanted.substr(0, dot), ending = wanted.substr(dot);
  if (const GgufName* known = at(stem)) return {known, ending};
  const std::size_t before = stem.rfind('.');
  const std::string_view number = before == std::string_view::npos ? "" : stem.substr(before + 1);
  if (number.empty() || number.find_first_not_of("0123456789") != std::string_view::npos) return {};
  return {at(std::string(stem.substr(0, before + 1)) + "*"), ending, number};
}

}  // namespace gptq::model::architecture
