// SPDX-License-Identifier: MIT
#pragma once

// ModelFiles: a model on disk - a Hugging Face folder or a GGUF file - opened: configuration,
// tensors, tokenizer.

#include <gptq/io/checkpoint.hpp>
#include <gptq/model/config.hpp>
#include <gptq/model/gguf_model.hpp>
#include <gptq/model/gguf_tokenizer.hpp>
#include <gptq/pack/gptq.hpp>

#include <algorithm>  // std::min
#include <filesystem>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>

namespace gptq::model {

/// How the linear layers of a folder are quantized, from its quantization_config.
struct QuantizationInfo {
  std::string method;  ///< "gptq", or another one that is not read
  pack::GptqFormat format = pack::GptqFormat::v1;
  int bits = 0;
  Index group_size = 0;
  bool symmetric = true;
};

/// Tokenizer and generation files that a model folder may have.
inline constexpr const char* companion_names[] = {
    "tokenizer.json",    "tokenizer_config.json",  "special_tokens_map.json",
    "added_tokens.json", "tokenizer.model",        "vocab.json",
    "merges.txt",        "generation_config.json", "chat_template.jinja",
    "chat_template.json"};

/// Where a model's tensors, configuration and tokenizer come from.
struct ModelFiles {
  std::filesystem::path path;
  bool from_gguf = false;
  nlohmann::ordered_json config_json{};  ///< config.json, made up for a GGUF file
  ModelConfig config{};
  std::shared_ptr<const io::TensorSource> tensors{};
  std::optional<nlohmann::json> tokenizer{};  ///< tokenizer.json, where there is one
  std::string tokenizer_problem{};            ///< why it could not be read or made up
  /// Tokenizer and generation files by name, with their contents.
  std::map<std::string, std::string> companions{};
  std::optional<QuantizationInfo> quantization{};
};

namespace detail {

inline QuantizationInfo parse_quantization(const nlohmann::json& json, const std::string& where) {
  const ConfigReader config(json, where);
  QuantizationInfo info;
  info.method = config.get_or<std::string>("quant_method", "gptq");
  if (info.method != "gptq") return info;
  info.bits = static_cast<int>(config.size("bits"));
  info.group_size = config.get_or<Index>("group_size", -1);
  info.symmetric = config.get_or<bool>("sym", true);
  // Old writers set checkpoint_format, optimum sets format; a file that says two things is not
  // guessed at.
  const auto first =
      config.get_or<std::string>("checkpoint_format", config.get_or<std::string>("format", "gptq"));
  const auto second = config.get_or<std::string>("format", first);
  if (first != second)
    config.fail("checkpoint_format is \"", first, "\" and format is \"", second, "\"");
  if (first != "gptq" && first != "gptq_v2")
    config.fail("the format \"", first, "\" is not read (gptq and gptq_v2 are)");
  info.format = first == "gptq" ? pack::GptqFormat::v1 : pack::GptqFormat::v2;
  return info;
}

inline std::map<std::string, std::string> gguf_companions(const io::Gguf& gguf,
                                                          const nlohmann::json& tokenizer) {
  nlohmann::ordered_json config{{"tokenizer_class", "PreTrainedTokenizerFast"},
                                {"clean_up_tokenization_spaces", false}};
  nlohmann::ordered_json generation = nlohmann::ordered_json::object();
  const auto tokens = gguf.get<std::vector<std::string>>("tokenizer.ggml.tokens");
  const std::pair<const char*, const char*> specials[] = {
      {"bos", "bos"}, {"eos", "eos"}, {"unknown", "unk"}, {"padding", "pad"}};
  for (const auto& [gguf_name, name] : specials) {
    const auto key = "tokenizer.ggml." + std::string(gguf_name) + "_token_id";
    if (!gguf.has(key)) continue;
    const auto id = gguf.get<std::uint64_t>(key);
    if (id >= tokens.size()) continue;
    config[std::string(name) + "_token"] = tokens[id];
    if (std::string(name) != "unk") generation[std::string(name) + "_token_id"] = id;
  }
  if (gguf.has("tokenizer.chat_template"))
    config["chat_template"] = gguf.get<std::string>("tokenizer.chat_template");
  return {{"tokenizer.json", tokenizer.dump()},
          {"tokenizer_config.json", config.dump(2) + "\n"},
          {"generation_config.json", generation.dump(2) + "\n"}};
}

inline ModelFiles open_gguf(const std::filesystem::path& path) {
  const auto gguf = std::make_shared<const io::Gguf>(path);
  ModelFiles model{.path = path, .from_gguf = true, .config_json = gguf_config(*gguf)};
  model.config = ModelConfig::parse(model.config_json, path.string());
  model.tensors = std::make_shared<GgufSource>(gguf, model.config);
  if (gguf->has("tokenizer.ggml.model") &&
      gguf->get<std::string>("tokenizer.ggml.model") != "none" &&
      gguf->get<std::string>("tokenizer.ggml.model") != "no_vocab") {
    try {  // a model can be quantized without: --tokens
      model.tokenizer = gguf_tokenizer_json(*gguf);
      model.companions = gguf_companions(*gguf, *model.tokenizer);
    } catch (const FormatError& error) {
      model.tokenizer_problem = error.what();
    } catch (const nlohmann::json::exception& error) {  // text that is not UTF-8
      model.tokenizer_problem = gptq::detail::message(
          path.string(), ": the vocabulary cannot become a tokenizer.json: ", error.what());
    }
  }
  return model;
}

inline ModelFiles open_folder(const std::filesystem::path& path) {
  const auto config = path / "config.json";
  if (!std::filesystem::exists(config))
    throw IoError(gptq::detail::message(
        path.string(), ": has no config.json (a model is a Hugging Face folder or a .gguf file)"));
  ModelFiles model{.path = path, .config_json = io::read_json<nlohmann::ordered_json>(config)};
  model.config = ModelConfig::parse(model.config_json, config.string());
  if (model.config_json.contains("quantization_config") &&
      !model.config_json["quantization_config"].is_null())
    model.quantization = parse_quantization(model.config_json["quantization_config"],
                                            config.string() + ": quantization_config");
  else
    for (const char* name : {"quantize_config.json", "quant_config.json"})
      if (const auto file = path / name; !model.quantization && std::filesystem::exists(file))
        model.quantization = parse_quantization(io::read_json(file), file.string());
  model.tensors = std::make_shared<io::FolderSource>(path);
  if (!model.quantization)
    for (const std::string& name : model.tensors->names())
      if (name.size() > 8 && name.substr(name.size() - 8) == ".qweight")
        throw FormatError(gptq::detail::message(
            path.string(), ": ", name,
            " is quantized, and no quantization_config in config.json says how"));
  if (const auto file = path / "tokenizer.json"; std::filesystem::exists(file)) {
    try {  // a model can be quantized without: --tokens
      model.tokenizer = io::read_json(file);
    } catch (const FormatError& error) {
      model.tokenizer_problem = error.what();
    }
  }
  for (const char* name : companion_names)
    if (std::filesystem::exists(path / name)) model.companions[name] = io::read_file(path / name);
  return model;
}

}  // namespace detail

/// \throws FormatError  the model has no tokenizer, or one that is not supported
inline Tokenizer load_tokenizer(const ModelFiles& model) {
  if (!model.tokenizer)
    throw FormatError(
        gptq::detail::message(model.path.string(), ": ",
                              model.tokenizer_problem.empty()
                                  ? "has no tokenizer.json; tokenize with another program and "
                                    "pass the ids with --tokens FILE"
                                  : model.tokenizer_problem));
  const std::string where =
      (model.from_gguf ? model.path : model.path / "tokenizer.json").string() + ": ";
  try {
    Tokenizer tokenizer(*model.tokenizer, listed_tokens(model.companions));
    // Only ids that a text really has must be those of embeddings: many models have a pad token
    // without one.
    tokenizer.set_limit(static_cast<TokenId>(
        (std::min<Index>)(model.config.vocabulary, std::numeric_limits<TokenId>::max())));
    return tokenizer;
  } catch (const FormatError& error) {
    throw FormatError(where + error.what());
  }
}

/// Opens a model folder or a .gguf file.
/// \throws IoError      the path or a file in it is missing
/// \throws FormatError  something in it is damaged or not supported
inline ModelFiles open_model(const std::filesystem::path& path) {
  std::error_code error;
  if (!std::filesystem::exists(path, error))
    throw IoError(gptq::detail::message(path.string(), ": ",
                                        error ? error.message() : "no such file or folder"));
  return std::filesystem::is_directory(path, error) ? detail::open_folder(path)
                                                    : detail::open_gguf(path);
}

}  // namespace gptq::model
