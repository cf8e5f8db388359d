// SPDX-License-Identifier: MIT
#pragma once

// The architectures, and how a config.json becomes a description.

#include <gptq/model/architecture/architecture.hpp>
#include <gptq/model/architecture/llama.hpp>

#include <string>
#include <utility>  // std::move
#include <vector>

namespace gptq::model {
namespace architecture {

inline constexpr Architecture architectures[] = {
    {"LlamaForCausalLM", "llama",
     describe_llama<LlamaKind{.attention_bias = true, .mlp_bias = true}>, &gguf_llama},
    {"MistralForCausalLM", "mistral", describe_llama<LlamaKind{}>},
    {"Qwen2ForCausalLM", "qwen2", describe_llama<LlamaKind{.qkv_bias = true}>, &gguf_qwen2},
    {"Qwen3ForCausalLM", "qwen3", describe_llama<LlamaKind{.qk_norm = true, .head_dim = 128}>,
     &gguf_qwen3}};

/// transformers goes by model_type, vLLM and most others by architectures.
/// \throws FormatError  an unsupported architecture, or the two keys disagree
inline const Architecture& find_architecture(const ConfigReader& config) {
  const auto names = config.get_or<std::vector<std::string>>("architectures", {});
  const auto type = config.get_or<std::string>("model_type", "");
  if (names.size() > 1)
    config.fail("\"architectures\" names ", names.size(), " architectures; expected one");
  if (names.empty() && type.empty()) config.fail("has no \"architectures\"");
  for (const Architecture& a : architectures) {
    if (names.empty() ? a.model_type != type : a.name != names[0]) continue;
    if (!type.empty() && a.model_type != type)
      config.fail("\"architectures\" says ", a.name, " and \"model_type\" says ", type,
                  " (loaders go by one or the other; ", a.name, " is of type ", a.model_type, ")");
    return a;
  }
  std::string all;
  for (const Architecture& a : architectures)
    all += (all.empty() ? "" : ", ") + std::string(a.name);
  if (names.empty()) config.fail("the model type ", type, " is not supported (", all, " are)");
  config.fail("the architecture ", names[0], " is not supported (", all, " are)");
}

/// \throws FormatError  llama.cpp's name of the architecture is not known
inline const Architecture& find_gguf(const std::string& arch, const std::string& where) {
  std::string all;
  for (const Architecture& a : architectures) {
    if (!a.gguf) continue;
    if (a.gguf->arch == arch) return a;
    all += (all.empty() ? "" : ", ") + std::string(a.gguf->arch);
  }
  throw FormatError(gptq::detail::message(where, ": the architecture \"", arch,
                                          "\" is not supported (", all, " are)"));
}

}  // namespace architecture

inline Description Description::parse(const nlohmann::json& json, const std::string& where) {
  const ConfigReader config(json, where);
  const auto& found = architecture::find_architecture(config);
  Description made;
  made.architecture = found.name;
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
