// SPDX-License-Identifier: MIT
#pragma once

// Tokenizers of older models, which have no tokenizer.json: builds one from vocab.json, merges.txt
// and the settings beside them, as transformers does.

#include <gptq/model/gguf_pre_tokenizer.hpp>
#include <gptq/model/tokenizer/bpe.hpp>
#include <gptq/model/tokenizer/components.hpp>
#include <gptq/model/tokenizer/listed_tokens.hpp>
#include <gptq/model/tokenizer/tokenizer_config.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>  // std::min
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace gptq::model {

namespace detail {

/// \throws FormatError  not JSON, or no object
inline nlohmann::json parse_companion(const std::map<std::string, std::string>& files,
                                      const std::string& name) {
  const auto file = files.find(name);
  if (file == files.end()) return nlohmann::json::object();
  auto json = nlohmann::json::parse(file->second, nullptr, false);
  gptq::detail::require<FormatError>(json.is_object(), name, ": is not a JSON object");
  return json;
}

/// The lines of a merges.txt.
/// \throws FormatError  a line that is not a pair
inline nlohmann::json parse_merges(std::string_view text) {
  auto merges = nlohmann::json::array();
  for (std::size_t number = 1; !text.empty(); ++number) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix((std::min)(line.size() + 1, text.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.starts_with("#version") || line.empty()) continue;
    const std::size_t space = line.find(' ');
    gptq::detail::require<FormatError>(space != line.npos && line.find(' ', space + 1) == line.npos,
                                       "merges.txt: line ", number, ", \"", line.substr(0, 80),
                                       "\", is not two tokens with a space in between");
    merges.push_back({line.substr(0, space), line.substr(space + 1)});
  }
  return merges;
}

/// Whether one of the files lists a token.
inline bool is_listed(const std::map<std::string, std::string>& files, const std::string& token) {
  for (const ListedToken& listed : listed_tokens(files))
    if (listed.token.content == token) return true;
  return false;
}

/// The content of a special token of tokenizer_config.json or special_tokens_map.json.
inline std::string special_token(const nlohmann::json& config, const nlohmann::json& map,
                                 const std::string& name, const std::string& by_default) {
  for (const auto* json : {&config, &map}) {
    const auto found = json->find(name);
    if (found == json->end()) continue;
    if (found->is_string()) return found->get<std::string>();
    if (found->is_object()) return member_text(*found, "content");
    return "";  // null: no such token
  }
  return by_default;
}

}  // namespace detail

/// \param files       the tokenizer files of a model folder, by name
/// \param model_type  of its config.json: tells the kind of tokenizer if no file does
/// \return a tokenizer.json; nothing if vocab.json or merges.txt is missing
/// \throws FormatError  malformed files, or a kind of tokenizer that is not supported
inline std::optional<nlohmann::json> tokenizer_from_merges(
    const std::map<std::string, std::string>& files, const std::string& model_type) {
  if (files.count("vocab.json") == 0 || files.count("merges.txt") == 0) return std::nullopt;
  const auto config = detail::parse_companion(files, "tokenizer_config.json"),
             map = detail::parse_companion(files, "special_tokens_map.json"),
             vocabulary = detail::parse_companion(files, "vocab.json");
  std::string kind = detail::member_text(config, "tokenizer_class");
  if (kind.empty() || kind.starts_with("PreTrainedTokenizer"))
    kind = model_type.starts_with("qwen") ? "Qwen2Tokenizer" : "GPT2Tokenizer";
  if (kind.ends_with("Fast")) kind.resize(kind.size() - 4);
  const bool qwen = kind == "Qwen2Tokenizer";
  if (!qwen && kind != "GPT2Tokenizer" && kind != "CodeGenTokenizer")
    unsupported_component("vocab.json and merges.txt for a " + kind + " (without tokenizer.json)");
  gptq::detail::require<FormatError>(vocabulary.contains("\u0120"),
                                     "vocab.json: is not a byte-level vocabulary: it has no \""
                                     "\u0120\", which stands for a space; ",
                                     tokenize_elsewhere);

  nlohmann::json bytes = detail::byte_level(!qwen);
  bytes["add_prefix_space"] = detail::member_flag(config, "add_prefix_space").value_or(false);
  nlohmann::json out{{"version", "1.0"},
                     {"truncation", nullptr},
                     {"padding", nullptr},
                     {"added_tokens", nlohmann::json::array()},
                     {"normalizer", nullptr},
                     {"pre_tokenizer", bytes},
                     {"post_processor", nullptr},
                     {"decoder", detail::byte_level(true)},
                     {"model",
                      {{"type", "BPE"},
                       {"dropout", nullptr},
                       {"unk_token", nullptr},
                       {"continuing_subword_prefix", ""},
                       {"end_of_word_suffix", ""},
                       {"fuse_unk", false},
                       {"byte_fallback", false},
                       {"vocab", vocabulary},
                       {"merges", detail::parse_merges(files.at("merges.txt"))}}}};
  if (qwen) {
    out["normalizer"] = {{"type", "NFC"}};
    out["pre_tokenizer"] = {{"type", "Sequence"},
                            {"pretokenizers", {gguf_pre_tokenizer("qwen2").steps[0], bytes}}};
  }

  // The class has these tokens unless a file names others. One that the vocabulary lacks would get
  // an id without an embedding; it is left out.
  const std::string end = "<|endoftext|>";
  const std::string bos = detail::special_token(config, map, "bos_token", qwen ? "" : end),
                    eos = detail::special_token(config, map, "eos_token", end),
                    unknown = detail::special_token(config, map, "unk_token", end),
                    padding = detail::special_token(config, map, "pad_token", qwen ? end : "");
  const bool has_end = bos == end || eos == end || unknown == end || padding == end;
  if (has_end && vocabulary.contains(end) && !detail::is_listed(files, end))
    out["added_tokens"].push_back({{"id", vocabulary[end]},
                                   {"content", end},
                                   {"single_word", false},
                                   {"lstrip", false},
                                   {"rstrip", false},
                                   {"normalized", false},
                                   {"special", true}});
  const auto put = [&](const char* flag,
                       const std::string& token) -> std::optional<detail::NamedToken> {
    if (token.empty() || !detail::member_flag(config, flag).value_or(false)) return std::nullopt;
    gptq::detail::require<FormatError>(vocabulary.contains(token), "tokenizer_config.json: \"",
                                       flag, "\" is true, but vocab.json has no \"", token, "\"");
    return detail::NamedToken{token, token_id(vocabulary[token], token)};
  };
  out["post_processor"] =
      detail::template_processing(put("add_bos_token", bos), put("add_eos_token", eos));
  return out;
}

}  // namespace gptq::model
