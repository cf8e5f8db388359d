// SPDX-License-Identifier: MIT
#pragma once

// The vocabulary of a GGUF file as a tokenizer.json, so that one tokenizer serves both worlds and
// the folder that is written can be read by everybody.

#include <gptq/io/gguf.hpp>
#include <gptq/model/gguf_config.hpp>
#include <gptq/model/tokenizer.hpp>

#include <algorithm>  // std::stable_sort
#include <cmath>      // std::isfinite
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

namespace gptq::model {

namespace detail {

/// token_type numbers of GGUF.
enum GgufTokenType {
  gguf_normal = 1,
  gguf_unknown = 2,
  gguf_control = 3,
  gguf_user_defined = 4,
  gguf_unused = 5,
  gguf_byte = 6
};

inline nlohmann::json split_isolated(const std::string& regex) {
  return {{"type", "Split"},
          {"pattern", {{"Regex", regex}}},
          {"behavior", "Isolated"},
          {"invert", false}};
}

inline nlohmann::json byte_level(bool use_regex) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", false},
          {"trim_offsets", true},
          {"use_regex", use_regex}};
}

/// How a byte-level vocabulary cuts text, by the name that llama.cpp gives it.
/// \throws FormatError  a name that is not known
inline nlohmann::json gguf_pre_tokenizer(const std::string& pre) {
  static const std::string gpt2 =
      "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
  const auto sequence = [](nlohmann::json parts) {
    return nlohmann::json{{"type", "Sequence"}, {"pretokenizers", std::move(parts)}};
  };
  if (pre == "gpt-2") return byte_level(true);
  // Digits last, as transformers reads such a file: a space before a number stays with it.
  if (pre == "smollm")
    return sequence({split_isolated(gpt2),
                     {{"type", "Digits"}, {"individual_digits", true}},
                     byte_level(false)});
  if (pre == "llama-bpe" || pre == "llama3" || pre == "llama-v3")
    return sequence({split_isolated("(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"
                                    "\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|"
                                    "\\s+(?!\\S)|\\s+"),
                     byte_level(false)});
  if (pre == "qwen2" || pre == "deepseek-r1-qwen")
    return sequence({split_isolated("(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"
                                    "\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|"
                                    "\\s+(?!\\S)|\\s+"),
                     byte_level(false)});
  if (pre == "default")
    return sequence({split_isolated("[\\p{P}\\$\\+<=>\\^~\\|]+"), split_isolated(gpt2),
                     split_isolated("\\p{N}+"), split_isolated("[0-9][0-9][0-9]"),
                     byte_level(false)});
  unsupported_component("the GGUF pre-tokenizer \"" + pre + "\"");
}

/// SentencePiece joins the pair whose piece has the highest score; as merges: every way to make
/// every piece, best score first.
inline nlohmann::json merges_from_scores(const std::vector<std::string>& tokens,
                                         const std::vector<float>& scores,
                                         const std::vector<int>& types) {
  // Pieces are words or less, and every place in them may be a merge: without a limit the merges of
  // a hostile file would be larger than the file squared.
  constexpr std::size_t longest = 1024;
  std::size_t bytes = 0, merge_bytes = 0;
  std::unordered_set<std::string_view> pieces;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    bytes += tokens[i].size();
    if (types[i] != gguf_normal && types[i] != gguf_user_defined) continue;
    if (tokens[i].size() > longest)
      unsupported_component("a token of " + std::to_string(tokens[i].size()) + " bytes (number " +
                            std::to_string(i) + ")");
    pieces.insert(tokens[i]);
  }
  struct Merge {
    float score;
    std::size_t piece, at;
  };
  std::vector<Merge> merges;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const std::string_view token = tokens[i];
    if (pieces.count(token) == 0) continue;
    for (std::size_t at = 1; at < token.size(); ++at) {
      const bool boundary = (static_cast<unsigned char>(token[at]) & 0xc0) != 0x80;
      if (!boundary || !pieces.count(token.substr(0, at)) || !pieces.count(token.substr(at)))
        continue;
      merges.push_back({scores[i], i, at});
      merge_bytes += token.size();
    }
    if (merge_bytes > 64 * bytes + (std::size_t{1} << 20))
      unsupported_component("a vocabulary whose merges are more than 64 times as large");
  }
  std::stable_sort(merges.begin(), merges.end(),
                   [](const Merge& a, const Merge& b) { return a.score > b.score; });
  auto list = nlohmann::json::array();
  for (const Merge& m : merges)
    list.push_back({tokens[m.piece].substr(0, m.at), tokens[m.piece].substr(m.at)});
  return list;
}

}  // namespace detail

/// token_type of every token.
/// \throws FormatError  not whole numbers
inline std::vector<int> gguf_token_types(const io::Gguf& gguf, std::size_t tokens) {
  const std::string key = "tokenizer.ggml.token_type";
  std::vector<int> types;
  if (!gguf.has(key)) {
    types.assign(tokens, detail::gguf_normal);
    return types;
  }
  const auto list = gguf.get<std::vector<std::int64_t>>(key);
  gptq::detail::require<FormatError>(list.size() == tokens, gguf.path().string(), ": ", key,
                                     " has ", list.size(), " entries, tokenizer.ggml.tokens ",
                                     tokens);
  for (const std::int64_t type : list) {
    gptq::detail::require<FormatError>(type >= 0 && type <= 255, gguf.path().string(), ": ", key,
                                       " has the entry ", type, ", which is no type of a token");
    types.push_back(static_cast<int>(type));
  }
  return types;
}

/// \throws FormatError  a vocabulary of a kind that is not supported, or one that contradicts
/// itself
inline nlohmann::json gguf_tokenizer_json(const io::Gguf& gguf) {
  const auto kind = gguf.get<std::string>("tokenizer.ggml.model");
  if (kind != "gpt2" && kind != "llama")
    unsupported_component("a GGUF vocabulary of the kind \"" + kind + "\"");
  const bool byte_level = kind == "gpt2";
  const auto tokens = gguf.get<std::vector<std::string>>("tokenizer.ggml.tokens");
  const auto types = gguf_token_types(gguf, tokens.size());
  const auto token = [&](const std::string& key) -> nlohmann::json {
    const auto id = gguf_token_id(gguf, key, tokens.size());
    return id ? nlohmann::json(tokens[*id]) : nlohmann::json();
  };

  nlohmann::json model{{"type", "BPE"},
                       {"dropout", nullptr},
                       {"unk_token", nullptr},
                       {"continuing_subword_prefix", nullptr},
                       {"end_of_word_suffix", nullptr},
                       {"fuse_unk", !byte_level},
                       {"byte_fallback", !byte_level},
                       {"ignore_merges", false}};
  auto vocabulary = nlohmann::json::object();
  auto added = nlohmann::json::array();
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    vocabulary[tokens[i]] = i;
    const bool special = types[i] == detail::gguf_control || types[i] == detail::gguf_unknown;
    if (special || types[i] == detail::gguf_user_defined)
      added.push_back({{"id", i},
                       {"content", tokens[i]},
                       {"single_word", false},
                       {"lstrip", false},
                       {"rstrip", false},
                       {"normalized", false},
                       {"special", special}});
  }
  model["vocab"] = std::move(vocabulary);

  nlohmann::json out{{"version", "1.0"},
                     {"truncation", nullptr},
                     {"padding", nullptr},
                     {"added_tokens", added},
                     {"normalizer", nullptr}};
  std::string pre = "llama";
  if (byte_level) {
    pre = gguf.get_or<std::string>("tokenizer.ggml.pre", "default");
    model["merges"] = gguf.get<std::vector<std::string>>("tokenizer.ggml.merges");
    model["ignore_merges"] = pre == "llama-bpe" || pre == "llama3" || pre == "llama-v3";
    if (pre == "qwen2" || pre == "deepseek-r1-qwen") out["normalizer"] = {{"type", "NFC"}};
    out["pre_tokenizer"] = detail::gguf_pre_tokenizer(pre);
    out["decoder"] = detail::byte_level(true);
  } else {
    const auto scores = gguf.get<std::vector<float>>("tokenizer.ggml.scores");
    gptq::detail::require<FormatError>(scores.size() == tokens.size(), gguf.path().string(),
                                       ": tokenizer.ggml.scores has ", scores.size(),
                                       " entries, tokenizer.ggml.tokens ", tokens.size());
    for (std::size_t i = 0; i < scores.size(); ++i)
      gptq::detail::require<FormatError>(std::isfinite(scores[i]), gguf.path().string(),
                                         ": tokenizer.ggml.scores has the entry ", scores[i],
                                         " for token ", i);
    const std::string mark = "\u2581";
    model["merges"] = detail::merges_from_scores(tokens, scores, types);
    model["unk_token"] = token("tokenizer.ggml.unknown_token_id");
    auto steps = nlohmann::json::array();
    if (gguf.get_or<bool>("tokenizer.ggml.add_space_prefix", true))
      steps.push_back({{"type", "Prepend"}, {"prepend", mark}});
    steps.push_back({{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", mark}});
    out["normalizer"] = {{"type", "Sequence"}, {"normalizers", steps}};
    out["pre_tokenizer"] = nullptr;
    out["decoder"] = {{"type", "Sequence"},
                      {"decoders",
                       {{{"type", "Replace"}, {"pattern", {{"String", mark}}}, {"content", " "}},
                        {{"type", "ByteFallback"}},
                        {{"type", "Fuse"}},
                        {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}}}}};
  }

  const bool bos_by_default = !byte_level || model["ignore_merges"].get<bool>();
  const auto bos_id = gguf_token_id(gguf, "tokenizer.ggml.bos_token_id", tokens.size());
  const nlohmann::json bos = token("tokenizer.ggml.bos_token_id");
  out["post_processor"] = nullptr;
  if (gguf.get_or<bool>("tokenizer.ggml.add_bos_token", bos_by_default) && bos.is_string()) {
    const nlohmann::json special{{"SpecialToken", {{"id", bos}, {"type_id", 0}}}};
    const auto sequence = [](const char* id, int type) {
      return nlohmann::json{{"Sequence", {{"id", id}, {"type_id", type}}}};
    };
    auto special_tokens = nlohmann::json::object();
    special_tokens[bos.get<std::string>()] = {{"id", bos}, {"ids", {*bos_id}}, {"tokens", {bos}}};
    out["post_processor"] = {{"type", "TemplateProcessing"},
                             {"single", {special, sequence("A", 0)}},
                             {"pair", {special, sequence("A", 0), special, sequence("B", 1)}},
                             {"special_tokens", special_tokens}};
  }
  out["model"] = std::move(model);
  return out;
}

}  // namespace gptq::model
