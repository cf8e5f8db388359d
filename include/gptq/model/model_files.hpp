// SPDX-License-Identifier: MIT
#pragma once

// ModelFiles: an opened model - a Hugging Face folder or a GGUF file: configuration, tensors,
// tokenizer.

#include <gptq/io/checkpoint.hpp>
#include <gptq/model/architecture/registry.hpp>
#include <gptq/model/expanded_source.hpp>
#include <gptq/model/format/registry.hpp>
#include <gptq/model/gguf_config.hpp>
#include <gptq/model/gguf_model.hpp>
#include <gptq/model/gguf_tokenizer.hpp>
#include <gptq/model/tokenizer/merges_txt.hpp>
#include <gptq/model/tokenizer/tokenizer_config.hpp>
#include <gptq/model/unused_tensors.hpp>

#include <algorithm>  // std::all_of, std::any_of, std::min
#include <cmath>      // std::isfinite
#include <filesystem>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>  // std::move
#include <vector>

namespace gptq::model {

/// Tokenizer and generation files that a model folder may have.
inline constexpr const char* companion_names[] = {"tokenizer.json",
                                                  "tokenizer_config.json",
                                                  "special_tokens_map.json",
                                                  "added_tokens.json",
                                                  "tokenizer.model",
                                                  "vocab.json",
                                                  "merges.txt",
                                                  "generation_config.json",
                                                  "chat_template.jinja",
                                                  "chat_template.json",
                                                  "tekken.json"};

/// Where a model's tensors, configuration and tokenizer come from.
struct ModelFiles {
  std::filesystem::path path;
  bool from_gguf = false;
  nlohmann::ordered_json config_json{};  ///< config.json, or what stands for it in a GGUF file
  Description description{};
  std::shared_ptr<const io::TensorSource> tensors{};
  std::optional<nlohmann::json> tokenizer{};  ///< tokenizer.json, if there is one
  std::string tokenizer_problem{};            ///< why it could not be read or built
  /// Tokenizer and generation files by name, with their contents.
  std::map<std::string, std::string> companions{};
  std::optional<QuantizationInfo> quantization{};
  /// Decisions made on the caller's behalf (one file of two, tensors and files left out, unknown
  /// keys): one sentence each, for the user.
  std::vector<std::string> notes{};

  /// Of packed modules; null if there are none, or the format cannot be read.
  const Format* format() const { return quantization ? quantization->format.get() : nullptr; }
};

namespace detail {

inline std::map<std::string, std::string> gguf_companions(const io::GgufFiles& gguf,
                                                          const nlohmann::json& tokenizer) {
  nlohmann::ordered_json config{{"tokenizer_class", "PreTrainedTokenizerFast"},
                                {"clean_up_tokenization_spaces", false}};
  nlohmann::ordered_json generation = nlohmann::ordered_json::object();
  const auto tokens = gguf.get<std::vector<std::string>>("tokenizer.ggml.tokens");
  const std::pair<const char*, const char*> specials[] = {
      {"bos", "bos"}, {"eos", "eos"}, {"unknown", "unk"}, {"padding", "pad"}};
  for (const auto& [gguf_name, name] : specials) {
    const auto key = "tokenizer.ggml." + std::string(gguf_name) + "_token_id";
    const auto id = gguf_token_id(gguf.first(), key, tokens.size());
    if (!id) continue;
    config[std::string(name) + "_token"] = tokens[*id];
    if (std::string(name) != "unk") generation[std::string(name) + "_token_id"] = *id;
  }
  if (gguf.has("tokenizer.chat_template"))
    config["chat_template"] = gguf.get<std::string>("tokenizer.chat_template");
  return {{"tokenizer.json", tokenizer.dump()},
          {"tokenizer_config.json", config.dump(2) + "\n"},
          {"generation_config.json", generation.dump(2) + "\n"}};
}

inline ModelFiles open_gguf(const std::filesystem::path& path) {
  const auto gguf = std::make_shared<const io::GgufFiles>(path);
  ModelFiles model{.path = path, .from_gguf = true};
  model.config_json = gguf_config(*gguf, &model.notes);
  model.description = Description::parse(model.config_json, path.string());
  model.notes.insert(model.notes.end(), model.description.notes.begin(),
                     model.description.notes.end());
  const GgufReader reader(*gguf, gguf->get<std::string>("general.architecture") + ".");
  model.tensors =
      std::make_shared<GgufSource>(gguf, architecture::find_gguf(reader), model.description);
  if (gguf->has("tokenizer.ggml.model") &&
      gguf->get<std::string>("tokenizer.ggml.model") != "none" &&
      gguf->get<std::string>("tokenizer.ggml.model") != "no_vocab") {
    try {  // not needed to quantize with --tokens
      model.tokenizer = gguf_tokenizer_json(gguf->first());
      model.companions = gguf_companions(*gguf, *model.tokenizer);
    } catch (const FormatError& error) {
      model.tokenizer_problem = error.what();
    } catch (const nlohmann::json::exception& error) {  // invalid UTF-8
      model.tokenizer_problem = gptq::detail::message(
          path.string(),
          ": the vocabulary cannot be converted to a tokenizer.json: ", error.what());
    }
  }
  return model;
}

/// Whether a file of a model folder, perhaps a link, may be copied into another folder: a link to a
/// file of another name outside the model is not part of it. Links in Hugging Face's cache point to
/// ../../blobs.
inline bool belongs_to(const std::filesystem::path& folder, const std::string& name) {
  namespace fs = std::filesystem;
  std::error_code error;
  if (!fs::is_symlink(folder / name, error)) return true;
  const fs::path target = fs::canonical(folder / name, error), home = fs::canonical(folder, error);
  if (error) return false;
  return target.filename() == name || target.parent_path() == home ||
         target.parent_path() == home.parent_path().parent_path() / "blobs";
}

/// The tokenizer and generation files of a folder, by name, and notes on those that are left out.
inline std::map<std::string, std::string> read_companions(const std::filesystem::path& folder,
                                                          std::vector<std::string>& notes) {
  namespace fs = std::filesystem;
  std::map<std::string, std::string> companions;
  std::error_code error;
  for (const char* name : companion_names) {
    const fs::path file = folder / name;
    const bool there = io::is_there(file);
    if (!there && fs::is_symlink(file, error))
      notes.push_back(gptq::detail::message(file.string(), ": is a link to ",
                                            fs::read_symlink(file, error).string(),
                                            ", which does not exist; left out"));
    if (!there) continue;
    if (!belongs_to(folder, name)) {
      notes.push_back(gptq::detail::message(file.string(), ": is a link to ",
                                            fs::canonical(file, error).string(),
                                            ", which is not part of the model; left out"));
      continue;
    }
    companions[name] = io::read_file(file);
  }
  if (const auto templates = folder / "additional_chat_templates"; io::is_there(templates))
    notes.push_back(templates.string() + ": is not copied to the quantized model");
  return companions;
}

/// The tensors of a folder as modules, one by one and in plain numbers.
inline std::shared_ptr<const io::TensorSource> expanded(
    const std::shared_ptr<const io::FolderSource>& files, ModelFiles& model) {
  Index rows = 128, cols = 128;
  const auto& json = model.config_json;
  if (json.contains("quantization_config") && json["quantization_config"].is_object()) {
    const nlohmann::json stated = json["quantization_config"];
    const ConfigReader config(stated,
                              (model.path / "config.json").string() + ": quantization_config");
    if (config.has("weight_block_size")) {
      const auto size = config.get<std::vector<Index>>("weight_block_size");
      if (size.size() != 2 || size[0] < 1 || size[1] < 1)
        config.fail("\"weight_block_size\" = ", ConfigReader::text(stated["weight_block_size"]),
                    " is not a number of rows and columns");
      rows = size[0], cols = size[1];
    }
  }
  auto source = std::make_shared<ExpandedSource>(files, model.description.stacks, rows, cols);
  if (!source->changes_anything()) return files;
  return source;
}

/// Whether a method only stores weights in fewer bits, which are read as numbers.
inline bool is_storage(const std::string& method) { return method == "fp8" || method == "mxfp4"; }

/// The quantization stated by config.json, or by a separate file as in older models.
inline std::optional<QuantizationInfo> find_quantization(ModelFiles& model,
                                                         const std::string& config) {
  if (model.config_json.contains("quantization") && !model.config_json["quantization"].is_null()) {
    const nlohmann::json stated = model.config_json["quantization"];
    return format::Mlx::parse({stated, config + ": quantization"});
  }
  if (model.config_json.contains("quantization_config") &&
      !model.config_json["quantization_config"].is_null()) {
    auto info = parse_quantization(model.config_json["quantization_config"],
                                   config + ": quantization_config");
    if (!is_storage(info.method)) return info;
    model.notes.push_back(config + ": weights are stored in " + info.method +
                          ", from which numbers are computed first");
    return std::nullopt;
  }
  for (const char* name : {"quantize_config.json", "quant_config.json"})
    if (const auto file = model.path / name; io::is_there(file))
      return parse_quantization(io::read_json(file), file.string());
  return std::nullopt;
}

/// How the tokenizer's files contradict each other.
inline TokenizerContradictions find_contradictions(const ModelFiles& model) {
  const auto config = model.companions.find("tokenizer_config.json");
  if (!model.tokenizer || config == model.companions.end()) return {};
  return tokenizer_contradictions(*model.tokenizer,
                                  nlohmann::json::parse(config->second, nullptr, false));
}

inline ModelFiles open_folder(const std::filesystem::path& path) {
  const auto config = path / "config.json";
  if (io::is_there(path / "adapter_config.json"))
    throw FormatError(gptq::detail::message(
        path.string(),
        ": is a LoRA adapter (adapter_config.json), which changes the weights of its base model: "
        "merge "
        "it first (peft: model.merge_and_unload(), then save_pretrained); if it is merged, remove "
        "the adapter's files"));
  if (!io::is_there(config))
    throw IoError(gptq::detail::message(
        path.string(), ": has no config.json (a model is a Hugging Face folder or a .gguf file)"));
  ModelFiles model{.path = path};
  model.config_json = io::read_json<nlohmann::ordered_json>(config, true);
  const auto tensors = std::make_shared<io::FolderSource>(path);
  model.description =
      Description::parse(model.config_json, config.string(),
                         [&](const std::string& name) { return tensors->contains(name); });
  model.notes = model.description.notes;
  for (const auto& [key, value] : model.config_json.items())
    if (value.is_number_float() && !std::isfinite(value.get<double>()))
      model.notes.push_back(gptq::detail::message(config.string(), ": \"", key, "\" is ",
                                                  value.get<double>(),
                                                  ", which is not valid JSON; copied as null"));
  model.quantization = find_quantization(model, config.string());
  model.notes.insert(model.notes.end(), tensors->notes().begin(), tensors->notes().end());
  leave_out_unused(*tensors, model.description, model.format(), path.string(), model.notes);
  model.tensors = expanded(tensors, model);
  if (!model.quantization)
    for (const std::string& name : model.tensors->names())
      if (is_packed_weight(name))
        throw FormatError(
            gptq::detail::message(path.string(), ": ", name,
                                  " is quantized, but config.json has no quantization_config"));
  model.companions = read_companions(path, model.notes);
  try {  // not needed to quantize with --tokens
    if (model.companions.count("tokenizer.json") > 0)
      model.tokenizer = io::read_json(path / "tokenizer.json");
    else
      model.tokenizer = tokenizer_from_merges(model.companions,
                                              model.config_json.value("model_type", std::string()));
    for (std::string& note : find_contradictions(model).notes)
      model.notes.push_back((path / "").string() + std::move(note));
  } catch (const FormatError& error) {
    model.tokenizer_problem = error.what();
  }
  return model;
}

}  // namespace detail

/// \throws FormatError  the model has no tokenizer, or an unsupported one
inline Tokenizer load_tokenizer(const ModelFiles& model) {
  if (!model.tokenizer)
    throw FormatError(gptq::detail::message(
        model.path.string(), ": ",
        !model.tokenizer_problem.empty() ? model.tokenizer_problem
        : model.from_gguf
            ? std::string("has no vocabulary (tokenizer.ggml.model); ") + tokenize_elsewhere
            : std::string("has no tokenizer.json; ") + tokenize_elsewhere));
  if (const auto contradictions = detail::find_contradictions(model);
      !contradictions.refusal.empty())
    throw FormatError((model.path / "").string() + contradictions.refusal);
  const char* file = model.companions.count("tokenizer.json") > 0 ? "tokenizer.json" : "vocab.json";
  const std::string where = (model.from_gguf ? model.path : model.path / file).string() + ": ";
  try {
    Tokenizer tokenizer(*model.tokenizer, listed_tokens(model.companions));
    // Only ids that a text really contains need embeddings: many models have a pad token without
    // one.
    tokenizer.set_limit(static_cast<TokenId>((
        std::min<Index>)(model.description.sizes.vocabulary, std::numeric_limits<TokenId>::max())));
    return tokenizer;
  } catch (const FormatError& error) {
    throw FormatError(where + error.what());
  }
}

/// Opens a model folder or a .gguf file.
/// \throws IoError      the path or a file in it is missing
/// \throws FormatError  something in it is damaged or unsupported
inline ModelFiles open_model(const std::filesystem::path& path) {
  std::error_code error;
  if (!std::filesystem::exists(path, error))
    throw IoError(gptq::detail::message(path.string(), ": ",
                                        error ? error.message() : "no such file or folder"));
  return std::filesystem::is_directory(path, error) ? detail::open_folder(path)
                                                    : detail::open_gguf(path);
}

}  // namespace gptq::model
