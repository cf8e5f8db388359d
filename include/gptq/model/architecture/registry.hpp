// SPDX-License-Identifier: MIT
#pragma once

// The architectures, and how a config.json becomes a description.

#include <gptq/model/architecture/architecture.hpp>
#include <gptq/model/architecture/cohere.hpp>
#include <gptq/model/architecture/deepseek.hpp>
#include <gptq/model/architecture/falcon.hpp>
#include <gptq/model/architecture/gemma.hpp>
#include <gptq/model/architecture/gpt.hpp>
#include <gptq/model/architecture/gpt_oss.hpp>
#include <gptq/model/architecture/llama.hpp>
#include <gptq/model/architecture/llama_kin.hpp>
#include <gptq/model/architecture/mixture.hpp>
#include <gptq/model/architecture/olmo.hpp>
#include <gptq/model/architecture/qwen_next.hpp>

#include <functional>
#include <string>
#include <string_view>
#include <utility>  // std::move
#include <vector>

namespace gptq::model {
namespace architecture {

inline constexpr std::string_view transformer_bases[] = {"transformer.", ""},
                                  opt_bases[] = {"model.decoder.", "decoder."},
                                  neox_bases[] = {"gpt_neox."},
                                  nested_bases[] = {"model.language_model.",
                                                    "language_model.model."};
inline constexpr ModelNames gpt_names{transformer_bases, "wte.weight", "h."},
    word_names{transformer_bases, "word_embeddings.weight", "h."},
    mpt_names{transformer_bases, "wte.weight", "blocks."}, opt_names{opt_bases},
    neox_names{neox_bases, "embed_in.weight"}, nested_names{nested_bases};

inline constexpr Architecture architectures[] = {
    {"LlamaForCausalLM", "llama",
     describe_llama<LlamaKind{.attention_bias = true, .mlp_bias = true}>},
    {"MistralForCausalLM", "mistral", describe_llama<LlamaKind{}>},
    {"Qwen2ForCausalLM", "qwen2", describe_llama<LlamaKind{.qkv_bias = true}>},
    {"Qwen3ForCausalLM", "qwen3", describe_llama<LlamaKind{.qk_norm = true, .head_dim = 128}>},
    {"GemmaForCausalLM", "gemma", describe_gemma},
    {"Gemma2ForCausalLM", "gemma2", describe_gemma2},
    {"Gemma3ForCausalLM", "gemma3_text", describe_gemma3},
    {"Gemma3ForConditionalGeneration", "gemma3", describe_gemma3, nested_names, true},
    {"PhiForCausalLM", "phi", describe_phi},
    {"Phi3ForCausalLM", "phi3", describe_phi3},
    {"OlmoForCausalLM", "olmo", describe_olmo},
    {"Olmo2ForCausalLM", "olmo2", describe_olmo2},
    {"Olmo3ForCausalLM", "olmo3", describe_olmo3},
    {"Exaone4ForCausalLM", "exaone4", describe_exaone4},
    {"GraniteForCausalLM", "granite", describe_granite},
    {"SmolLM3ForCausalLM", "smollm3", describe_smollm3},
    {"CohereForCausalLM", "cohere", describe_cohere},
    {"Cohere2ForCausalLM", "cohere2", describe_cohere2},
    {"StableLmForCausalLM", "stablelm", describe_stablelm},
    {"Starcoder2ForCausalLM", "starcoder2", describe_starcoder2},
    {"GlmForCausalLM", "glm", describe_glm<false>},
    {"Glm4ForCausalLM", "glm4", describe_glm<true>},
    {"SeedOssForCausalLM", "seed_oss", describe_seed_oss},
    {"Ernie4_5ForCausalLM", "ernie4_5", describe_ernie},
    {"MinistralForCausalLM", "ministral", describe_ministral},
    {"Ministral3ForCausalLM", "ministral3", describe_ministral},
    {"ArceeForCausalLM", "arcee", describe_arcee},
    {"NemotronForCausalLM", "nemotron", describe_nemotron},
    {"HunYuanDenseV1ForCausalLM", "hunyuan_v1_dense", describe_hunyuan},
    {"GPT2LMHeadModel", "gpt2", describe_gpt2, gpt_names},
    {"GPTJForCausalLM", "gptj", describe_gptj, gpt_names},
    {"GPTNeoXForCausalLM", "gpt_neox", describe_neox, neox_names},
    {"OPTForCausalLM", "opt", describe_opt, opt_names},
    {"BloomForCausalLM", "bloom", describe_bloom, word_names},
    {"MptForCausalLM", "mpt", describe_mpt, mpt_names},
    {"FalconForCausalLM", "falcon", describe_falcon, word_names},
    {"MixtralForCausalLM", "mixtral", describe_mixtral},
    {"Qwen2MoeForCausalLM", "qwen2_moe", describe_qwen_moe<false>},
    {"Qwen3MoeForCausalLM", "qwen3_moe", describe_qwen_moe<true>},
    {"OlmoeForCausalLM", "olmoe", describe_olmoe},
    {"GraniteMoeForCausalLM", "granitemoe", describe_granite_moe},
    {"GraniteMoeSharedForCausalLM", "granitemoeshared", describe_granite_moe},
    {"GraniteMoeHybridForCausalLM", "granitemoehybrid", describe_granite_moe},
    {"Glm4MoeForCausalLM", "glm4_moe", describe_glm4_moe},
    {"Ernie4_5_MoeForCausalLM", "ernie4_5_moe", describe_ernie_moe},
    {"MiniMaxM2ForCausalLM", "minimax_m2", describe_minimax},
    {"HunYuanMoEV1ForCausalLM", "hunyuan_v1_moe", describe_hunyuan_moe},
    {"GptOssForCausalLM", "gpt_oss", describe_gpt_oss},
    {"DeepseekV2ForCausalLM", "deepseek_v2", describe_deepseek<DeepSeek::v2>},
    {"DeepseekV3ForCausalLM", "deepseek_v3", describe_deepseek<DeepSeek::v3>},
    {"DeepseekV3ForCausalLM", "kimi_k2", describe_deepseek<DeepSeek::v3>},
    {"Mistral4ForCausalLM", "mistral4", describe_deepseek<DeepSeek::mistral4>},
    {"Qwen3NextForCausalLM", "qwen3_next", describe_qwen_next<QwenNext::next>},
    {"Qwen3_5ForCausalLM", "qwen3_5_text", describe_qwen_next<QwenNext::dense>},
    {"Qwen3_5MoeForCausalLM", "qwen3_5_moe_text", describe_qwen_next<QwenNext::mixture>},
    {"Qwen3_5ForConditionalGeneration", "qwen3_5", describe_qwen_next<QwenNext::dense>,
     nested_names, true},
    {"Qwen3_5MoeForConditionalGeneration", "qwen3_5_moe", describe_qwen_next<QwenNext::mixture>,
     nested_names, true}};

/// Why models with such a part in their name cannot be read.
struct MissingMechanism {
  std::string_view part, mechanism;
};
inline constexpr MissingMechanism missing_mechanisms[] = {
    {"mamba", "state-space layers"},
    {"jamba", "state-space layers"},
    {"zamba", "state-space layers"},
    {"bamba", "state-space layers"},
    {"falconh1", "state-space layers"},
    {"falcon_h1", "state-space layers"},
    {"nemotronh", "state-space layers"},
    {"nemotron_h", "state-space layers"},
    {"lfm2", "gated convolutions"},
    {"rwkv", "a recurrence of its own"},
    {"recurrentgemma", "a recurrence of its own"},
    {"recurrent_gemma", "a recurrence of its own"},
    {"gemma3n", "embeddings per layer"},
    {"gemma4", "embeddings per layer"},
    {"llama4", "attention in chunks"},
    {"kimilinear", "a linear attention of its own"},
    {"kimi_linear", "a linear attention of its own"},
    {"minimaxm1", "lightning attention"},
    {"t5", "an encoder"},
    {"bert", "an encoder"},
    {"bart", "an encoder"},
    {"whisper", "an encoder"},
    {"marian", "an encoder"},
    {"llava", "a vision tower around a decoder of another name"},
    {"vl", "a vision tower around a decoder of another name"}};

/// transformers goes by model_type, vLLM and most others by architectures.
/// \throws FormatError  an unsupported architecture, or the two keys disagree
inline const Architecture& find_architecture(const ConfigReader& config) {
  const auto names = config.get_or<std::vector<std::string>>("architectures", {});
  const auto type = config.get_or<std::string>("model_type", "");
  if (names.size() > 1)
    config.fail("\"architectures\" names ", names.size(), " architectures; expected one");
  if (names.empty() && type.empty()) config.fail("has no \"architectures\"");
  const Architecture* named = nullptr;
  for (const Architecture& a : architectures) {
    if (!names.empty() && a.name != names[0]) continue;
    if (type.empty() || a.model_type == type) return a;
    if (!names.empty()) named = &a;
  }
  if (named)
    config.fail("\"architectures\" says ", named->name, " and \"model_type\" says ", type,
                " (loaders go by one or the other; ", named->name, " is of type ",
                named->model_type, ")");
  const std::string what =
      names.empty() ? "the model type " + type : "the architecture " + names[0];
  const std::string name = detail::lower_case(names.empty() ? type : names[0]);
  for (const auto& [part, mechanism] : missing_mechanisms)
    if (name.find(part) != std::string::npos)
      config.fail(what, " is not supported: it has ", mechanism,
                  ", which no option can leave out (docs/models.md lists what is read)");
  std::string all;
  for (const Architecture& a : architectures)
    if (all.find(a.name) == std::string::npos)
      all += (all.empty() ? "" : ", ") + std::string(a.name);
  config.fail(what, " is not supported (", all, " are)");
}

/// The architecture of that name, which must exist.
inline const Architecture& find_by_name(std::string_view name) {
  for (const Architecture& a : architectures)
    if (a.name == name) return a;
  throw FormatError(gptq::detail::message("the architecture ", name, " is not supported"));
}

}  // namespace architecture

inline Description Description::parse(const nlohmann::json& json, const std::string& where,
                                      const std::function<bool(const std::string&)>& has) {
  const ConfigReader whole(json, where);
  const auto& found = architecture::find_architecture(whole);
  Description made;
  made.architecture = found.name;
  for (const std::string_view base : found.names.bases) {
    const std::string name = std::string(base) + std::string(found.names.embeddings);
    const bool first = made.embeddings.empty();
    if (!first && (!has || has(made.embeddings) || !has(name))) continue;
    made.base = base;
    made.embeddings = name;
    made.layers_prefix = made.base + std::string(found.names.layers);
  }
  nlohmann::json text = json;
  if (found.is_multimodal) {
    if (!whole.has("text_config")) whole.fail("has no \"text_config\"");
    text = json["text_config"];
    if (text.is_object() && json.contains("tie_word_embeddings"))
      text["tie_word_embeddings"] = json["tie_word_embeddings"];
    made.has_other_parts = true;
    made.notes.push_back(where + ": only the text part is used: what it holds beside \"" +
                         made.base + "\" is copied unchanged");
  }
  const ConfigReader config(text, found.is_multimodal ? where + ": text_config" : where);
  for (const char* key : {"architectures", "model_type"}) config.has(key);
  found.describe(config, made);
  if (config.has("auto_map"))
    made.notes.push_back(where +
                         ": \"auto_map\" refers to custom code, which is neither run nor copied: "
                         "the model is treated as a plain " +
                         made.architecture);
  if (std::string note = config.finish(made.architecture); !note.empty())
    made.notes.push_back(std::move(note));
  return made;
}

}  // namespace gptq::model
