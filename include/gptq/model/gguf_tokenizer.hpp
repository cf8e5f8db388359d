// SPDX-License-Identifier: MIT
#pragma once

// Converts the vocabulary of a GGUF file to a tokenizer.json, so that one tokenizer serves both
// formats and any loader can read the folder that is written.

#include <gptq/io/gguf.hpp>
#include <gptq/model/gguf_config.hpp>
#include <gptq/model/gguf_pre_tokenizer.hpp>
#include <gptq/model/tokenizer.hpp>

#include <algorithm>  // std::find, std::stable_sort
#include <cmath>      // std::isfinite
#include <cstdint>
#include <iterator>  // std::begin
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

namespace gptq::model {

namespace detail {

/// token_type numbers in GGUF.
enum GgufTokenType {
  gguf_normal = 1,
  gguf_unknown = 2,
  gguf_control = 3,
  gguf_user_defined = 4,
  gguf_unused = 5,
  gguf_byte = 6
};

/// Merges equivalent to the scores of a SentencePiece vocabulary. SentencePiece merges the two
/// neighbours that form the piece with the highest score; so the merges are all pairs of pieces
/// that form a piece, in order of falling score.
inline nlohmann::json merges_from_scores(const std::vector<std::string>& tokens,
                                         const std::vector<float>& scores,
                                         const std::vector<int>& types) {
  // A piece can be split at each of its characters, and every split is a merge that holds the whole
  // text: with very long pieces, merges would take memory quadratic in the file's size. Real pieces
  // are words or parts of words, so longer ones are refused.
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
      unsupported_component("a vocabulary whose merges are more than 64 times its size");
  }
  std::stable_sort(merges.begin(), merges.end(),
                   [](const Merge& a, const Merge& b) { return a.score > b.score; });
  auto list = nlohmann::json::array();
  for (const Merge& m : merges)
    list.push_back({tokens[m.piece].substr(0, m.at), tokens[m.piece].substr(m.at)});
  return list;
}

/// The scores of a SentencePiece vocabulary.
/// \throws FormatError  not one finite number for each token
inline std::vector<float> gguf_scores(const io::Gguf& gguf, std::size_t tokens) {
  auto scores = gguf.get<std::vector<float>>("tokenizer.ggml.scores");
  gptq::detail::require<FormatError>(scores.size() == tokens, gguf.path().string(),
                                     ": tokenizer.ggml.scores has ", scores.size(),
                                     " entries, but tokenizer.ggml.tokens has ", tokens);
  for (std::size_t i = 0; i < scores.size(); ++i)
    gptq::detail::require<FormatError>(std::isfinite(scores[i]), gguf.path().string(),
                                       ": tokenizer.ggml.scores has the entry ", scores[i],
                                       " for token ", i);
  return scores;
}

/// A key after "tokenizer.ggml.", and its neutral values for vocabularies where it is not read (as
/// JSON; for an array, those of its elements).
struct GgufTokenizerKey {
  std::string_view name;
  const char* neutral;
};

inline constexpr GgufTokenizerKey gguf_tokenizer_neutral_keys[] = {
    {"add_space_prefix", "[false]"},         {"escape_whitespaces", "[true]"},
    {"normalizer.lowercase", "[false]"},     {"precompiled_charsmap", R"([""])"},
    {"remove_extra_whitespaces", "[false]"}, {"treat_whitespace_as_suffix", "[false]"}};

/// Keys that are read elsewhere, concern text pairs or text generation, or belong to the other kind
/// of vocabulary.
inline constexpr std::string_view gguf_tokenizer_harmless_keys[] = {
    "add_bos_token",      "add_eos_token",
    "add_sep_token",      "bos_token_id",
    "cls_token_id",       "eog_token_ids",
    "eom_token_id",       "eos_token_id",
    "eos_token_ids",      "eot_token_id",
    "fim_mid_token_id",   "fim_pad_token_id",
    "fim_pre_token_id",   "fim_rep_token_id",
    "fim_sep_token_id",   "fim_suf_token_id",
    "mask_token_id",      "merges",
    "middle_token_id",    "model",
    "padding_token_id",   "pre",
    "prefix_token_id",    "scores",
    "separator_token_id", "seperator_token_id",
    "suffix_token_id",    "token_type",
    "token_type_count",   "tokens",
    "unknown_token_id"};

/// \throws FormatError  an unknown key, or an unsupported one that changes how texts are tokenized
inline void require_known_tokenizer_keys(const io::Gguf& gguf, bool byte_level) {
  const std::string prefix = "tokenizer.ggml.";
  for (auto entry = gguf.metadata().lower_bound(prefix);
       entry != gguf.metadata().end() && entry->first.rfind(prefix, 0) == 0; ++entry) {
    const std::string name = entry->first.substr(prefix.size());
    const auto& harmless = gguf_tokenizer_harmless_keys;
    if (std::find(std::begin(harmless), std::end(harmless), name) != std::end(harmless)) continue;
    if (name == "add_space_prefix" && !byte_level) continue;  // read
    bool neutral = false;
    for (const GgufTokenizerKey& key : gguf_tokenizer_neutral_keys)
      neutral = neutral || (key.name == name && is_gguf_value_of(entry->second, key.neutral));
    if (!neutral) unsupported_component(entry->first + " = " + entry->second.text());
  }
}

/// The id of a token put before or after each text; none if its key says no.
/// \throws FormatError  the metadata asks for one but does not say which
inline std::optional<std::uint64_t> gguf_added_token(const io::Gguf& gguf, const std::string& name,
                                                     std::uint64_t tokens, bool by_default) {
  const std::string flag = "tokenizer.ggml.add_" + name + "_token",
                    id = "tokenizer.ggml." + name + "_token_id";
  if (!gguf.get_or<bool>(flag, by_default)) return std::nullopt;
  const auto token = gguf_token_id(gguf, id, tokens);
  gptq::detail::require<FormatError>(token || !gguf.has(flag), gguf.path().string(), ": ", flag,
                                     " is true, but ", id, " names no token; ", tokenize_elsewhere);
  return token;
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
                                     " has ", list.size(),
                                     " entries, but tokenizer.ggml.tokens has ", tokens);
  for (const std::int64_t type : list) {
    gptq::detail::require<FormatError>(type >= 0 && type <= 255, gguf.path().string(), ": ", key,
                                       " has the entry ", type, ", which is not a token type");
    types.push_back(static_cast<int>(type));
  }
  return types;
}

/// \throws FormatError  an unsupported kind of vocabulary, lists of different lengths, or an
/// unsupported key that changes how texts are tokenized
inline nlohmann::json gguf_tokenizer_json(const io::Gguf& gguf) {
  const auto kind = gguf.get<std::string>("tokenizer.ggml.model");
  if (kind != "gpt2" && kind != "llama" && kind != "gemma4")
    unsupported_component("a GGUF vocabulary of the kind \"" + kind + "\"");
  const auto pre = gguf.get_or<std::string>("tokenizer.ggml.pre", "default");
  // Gemma 4 lists its merges; otherwise it is like a SentencePiece vocabulary.
  const bool listed_merges = kind != "llama", byte_level = kind == "gpt2" && pre != "gemma4";
  detail::require_known_tokenizer_keys(gguf, byte_level);
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
  if (listed_merges) model["merges"] = gguf.get<std::vector<std::string>>("tokenizer.ggml.merges");
  else
    model["merges"] =
        detail::merges_from_scores(tokens, detail::gguf_scores(gguf, tokens.size()), types);
  bool bos_by_default = !listed_merges;
  if (byte_level) {
    GgufPreTokenizer cut = gguf_pre_tokenizer(pre);
    model["ignore_merges"] = cut.ignore_merges;
    bos_by_default = cut.bos;
    if (cut.nfc) out["normalizer"] = {{"type", "NFC"}};
    out["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", cut.steps}};
    if (cut.steps.size() == 1) out["pre_tokenizer"] = cut.steps[0];
    out["decoder"] = detail::byte_level(true);
  } else {
    const std::string mark = "\u2581";
    model["unk_token"] = token("tokenizer.ggml.unknown_token_id");
    auto steps = nlohmann::json::array();
    if (gguf.get_or<bool>("tokenizer.ggml.add_space_prefix", !listed_merges))
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

  const auto around = [&](const std::string& name,
                          bool by_default) -> std::optional<detail::NamedToken> {
    const auto id = detail::gguf_added_token(gguf, name, tokens.size(), by_default);
    if (!id) return std::nullopt;
    return detail::NamedToken{tokens[*id], static_cast<TokenId>(*id)};
  };
  out["post_processor"] =
      detail::template_processing(around("bos", bos_by_default), around("eos", false));
  out["model"] = std::move(model);
  return out;
}

}  // namespace gptq::model
