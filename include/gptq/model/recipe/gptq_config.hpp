// SPDX-License-Identifier: MIT
#pragma once

// The GPTQConfig of transformers, and the quantize_config.json of AutoGPTQ and GPTQModel, as a
// recipe. Every key is translated, noted as one that changes nothing here, or refused.

#include <gptq/model/config_reader.hpp>
#include <gptq/model/recipe/recipe.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>  // std::remove_if
#include <string>
#include <utility>  // std::move
#include <vector>

namespace gptq::model {

namespace detail {

/// GPTQModel's rules by name: "+:EXPRESSION" has settings of its own, "-:EXPRESSION" is left out.
/// \param json  with its keys in the order of the file
inline void add_dynamic_rules(const nlohmann::ordered_json& json, const ConfigReader& config,
                              Recipe& recipe) {
  if (!config.has("dynamic")) return;
  bool positive = false;
  for (const auto& [key, settings_of_rule] : json["dynamic"].items()) {
    const nlohmann::json value = settings_of_rule;
    const bool negative = key.starts_with("-:");
    const std::string expression = negative || key.starts_with("+:") ? key.substr(2) : key;
    if (negative) {
      if (positive)
        config.fail("\"dynamic\": \"", key,
                    "\" comes after a rule with settings; here the modules "
                    "that are left out come first");
      recipe.options.emplace_back("skip", "re:" + expression);
      continue;
    }
    positive = true;
    const ConfigReader rule(value, config.where() + ": dynamic: " + key);
    std::string settings;
    for (const auto& [name, number] : value.items()) {
      if (name != "bits" && name != "group_size")
        rule.fail("\"", name, "\" is not supported for single modules (bits and group_size are)");
      settings += (settings.empty() ? "" : ",") +
                  std::string(name == "bits" ? "bits" : "group-size") + ":" +
                  std::to_string(rule.get<Index>(name.c_str()));
    }
    recipe.options.emplace_back("override", "re:" + expression + "=" + settings);
  }
}

/// The only modules to be quantized, by the ends of their names.
inline void add_module_list(const ConfigReader& config, Recipe& recipe) {
  if (!config.has("modules_in_block_to_quantize")) return;
  const auto lists =
      config.get<std::vector<std::vector<std::string>>>("modules_in_block_to_quantize");
  std::string names;
  for (const auto& list : lists)
    for (const std::string& name : list) {
      names += names.empty() ? "" : "|";
      for (const char c : name) names += c == '.' ? "\\." : std::string(1, c);
    }
  if (names.empty()) config.fail("\"modules_in_block_to_quantize\" is empty");
  recipe.options.emplace_back("skip", "re:(?!.*\\.(?:" + names + ")$)");
  recipe.notes.emplace_back(
      "modules_in_block_to_quantize: which modules are calibrated together follows from the model");
}

/// The texts to calibrate on.
inline void require_no_dataset(const ConfigReader& config) {
  if (!config.has("dataset")) return;
  const auto& value = config.json()["dataset"];
  if (value.is_string())
    config.fail(
        "\"dataset\" = ", ConfigReader::text(value),
        " names a dataset, and nothing is downloaded: give its text with --calibration, and "
        "remove the key");
  config.fail(
      "\"dataset\" has texts: put them into a file, one {\"text\": ...} per line, give it "
      "with --calibration, and remove the key");
}

}  // namespace detail

/// Whether a JSON file is a GPTQConfig rather than a recipe in our own words.
inline bool is_gptq_config(const nlohmann::ordered_json& json) {
  for (const char* key : {"quant_method", "damp_percent", "desc_act", "checkpoint_format",
                          "true_sequential", "group_size", "quantization_config"})
    if (json.contains(key)) return true;
  return false;
}

/// Translates a GPTQConfig. A key without a value counts as missing, and what is missing has our
/// defaults.
/// \throws FormatError  a key has a value that is not supported, or is unknown
inline Recipe read_gptq_config(const nlohmann::ordered_json& json, const std::string& where) {
  const nlohmann::json keys = json;
  const ConfigReader config(keys, where);
  Recipe recipe;
  const auto set = [&](const char* option, std::string value) {
    recipe.options.emplace_back(option, std::move(value));
  };
  const auto without_effect = [&](const char* key, const char* why) {
    if (config.has(key)) recipe.notes.push_back(std::string(key) + ": " + why);
  };
  if (const auto method = config.get_or<std::string>("quant_method", "gptq"); method != "gptq")
    config.fail("\"quant_method\" = \"", method, "\": recipes of gptq are supported");
  if (const auto method = config.get_or<std::string>("method", "gptq"); method != "gptq")
    config.fail("\"method\" = \"", method, "\": recipes of gptq are supported");
  if (config.has("bits")) set("bits", std::to_string(config.size("bits")));
  if (config.has("group_size")) set("group-size", std::to_string(config.get<Index>("group_size")));
  if (config.has("damp_percent")) {
    config.get<double>("damp_percent");
    set("damping", json["damp_percent"].dump());
  }
  const bool symmetric = config.get_or<bool>("sym", true);
  if (config.has("sym")) set("asym", symmetric ? "false" : "true");
  if (config.has("desc_act")) {
    const bool act = config.get<bool>("desc_act");
    set("order", act ? "act" : "natural");
    if (act)
      recipe.notes.emplace_back(
          "desc_act: the order is act, but groups remain neighbouring inputs, so that no engine "
          "needs a g_idx");
  }
  if (config.get_or<bool>("act_group_aware", false) && !config.get_or<bool>("desc_act", false)) {
    recipe.options.erase(std::remove_if(recipe.options.begin(), recipe.options.end(),
                                        [](const auto& o) { return o.first == "order"; }),
                         recipe.options.end());
    recipe.notes.emplace_back(
        "act_group_aware: the order is act, which gives the same kind of groups");
  }
  if (config.has("true_sequential"))
    set("sequential", config.get<bool>("true_sequential") ? "sublayer" : "layer");
  for (const char* key : {"checkpoint_format", "format"}) {
    if (!config.has(key)) continue;
    const auto version = config.get<std::string>(key);
    const std::string own = symmetric ? "gptq" : "gptq_v2";
    if (version != "gptq" && version != "gptq_v2")
      config.fail("\"", key, "\" = \"", version, "\" is not supported (gptq and gptq_v2 are)");
    if (version != own)
      recipe.notes.push_back(gptq::detail::message(
          key, ": ", symmetric ? "symmetric" : "asymmetric", " grids are stored in ", own));
  }
  if (config.has("model_seqlen"))
    set("sequence-length", std::to_string(config.size("model_seqlen")));
  if (config.has("block_name_to_quantize"))
    recipe.layers = config.get<std::string>("block_name_to_quantize") + ".";
  if (config.get_or<bool>("lm_head", false))
    config.fail("\"lm_head\" = true: heads are not quantized");
  if (config.get_or<std::string>("pack_dtype", "int32") != "int32")
    config.fail("\"pack_dtype\": codes are packed in int32");
  detail::add_dynamic_rules(json, config, recipe);
  detail::add_module_list(config, recipe);
  detail::require_no_dataset(config);
  without_effect("tokenizer", "the model's own tokenizer is used");
  without_effect("module_name_preceding_first_block", "it follows from the model");
  without_effect("batch_size", "results do not depend on it; memory is bounded otherwise");
  without_effect("pad_token_id", "calibration windows are whole, nothing is padded");
  without_effect("cache_block_outputs", "what is kept follows from the memory that is allowed");
  without_effect("backend", "it says who multiplies when the model is used");
  without_effect("use_cuda_fp16", "it says how the model is multiplied when it is used");
  without_effect("use_exllama", "it says how the model is multiplied when it is used");
  without_effect("exllama_config", "it says how the model is multiplied when it is used");
  without_effect("max_input_length", "it is for exllama when the model is used");
  without_effect("static_groups", "groups are static");
  without_effect("meta", "it says who wrote the file");
  without_effect("model_name_or_path", "the model is the one on the command line");
  without_effect("model_file_base_name", "files are called model*.safetensors");
  for (const auto& [key, value] : json.items())
    if (!config.was_read(key) && !value.is_null())
      config.fail("the key \"", key, "\" is unknown (the nearest known one is \"",
                  nearest_word(key, config.known_keys()), "\")");
  return recipe;
}

}  // namespace gptq::model
