// SPDX-License-Identifier: MIT
#pragma once

// Byte-pair encoding: the characters of a word are merged, best-ranked pair first, until no pair is
// in the table.

#include <gptq/model/tokenizer/effort.hpp>
#include <gptq/model/tokenizer/unicode.hpp>
#include <gptq/model/tokenizer/word_cache.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>  // std::fill, std::max
#include <cstdint>
#include <cstdio>  // std::snprintf
#include <optional>
#include <queue>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace gptq::model {

/// \throws FormatError  not a number from 0 to 2³¹ − 2
inline TokenId token_id(const nlohmann::json& id, const std::string& token) {
  gptq::detail::require<FormatError>(id.is_number_integer() && id >= 0 && id < 0x7fffffff,
                                     "the token ", token, " has the id ", id.dump(),
                                     ", which is not a token id");
  return id.get<TokenId>();
}

namespace detail {

/// The ids of the tokens <0x00> to <0xFF>, -1 for those that a model does not have.
template <class Model>
std::vector<TokenId> byte_tokens(const Model& model) {
  std::vector<TokenId> ids(256, -1);
  for (int b = 0; b < 256; ++b) {
    char text[8];
    std::snprintf(text, sizeof text, "<0x%02X>", static_cast<unsigned>(b));
    if (const auto id = model.find(text)) ids[std::size_t(b)] = *id;
  }
  return ids;
}

/// Appends the ids of a text's bytes, if all of them have tokens.
/// \param byte_tokens  256 ids, or none
inline bool append_bytes(std::string_view text, const std::vector<TokenId>& byte_tokens,
                         std::vector<TokenId>& ids) {
  if (byte_tokens.empty()) return false;
  for (const char byte : text)
    if (byte_tokens[static_cast<unsigned char>(byte)] < 0) return false;
  for (const char byte : text) ids.push_back(byte_tokens[static_cast<unsigned char>(byte)]);
  return true;
}

}  // namespace detail

/// Byte-pair encodes the pieces of a text.
class Bpe {
 public:
  Bpe() = default;

  /// \param config  the "model" of a tokenizer.json
  /// \throws FormatError  unsupported options, or merges that do not match the vocabulary
  explicit Bpe(const nlohmann::json& config) {
    for (const char* option : {"continuing_subword_prefix", "end_of_word_suffix"})
      if (config.contains(option) && config[option].is_string() &&
          !config[option].get_ref<const std::string&>().empty())
        unsupported_component(std::string("BPE with ") + option);
    if (config.contains("dropout") && config["dropout"].is_number() &&
        config["dropout"].get<double>() > 0)
      unsupported_component("BPE with dropout");

    gptq::detail::require<FormatError>(config.at("vocab").is_object(),
                                       "the vocabulary is not an object that maps tokens to ids");
    for (const auto& [token, id] : config.at("vocab").items())
      add_token(token, token_id(id, token));
    TokenId rank = 0;
    for (const auto& merge : config.at("merges")) add_merge(merge, rank);

    ignore_merges_ = config.value("ignore_merges", false);
    fuse_unknown_ = config.value("fuse_unk", false);
    if (config.contains("unk_token") && config["unk_token"].is_string())
      unknown_token_ = config["unk_token"].get<std::string>();
    if (config.value("byte_fallback", false)) byte_tokens_ = detail::byte_tokens(*this);
  }

  std::optional<TokenId> find(std::string_view token) const {
    const auto found = vocabulary_.find(token);
    return found == vocabulary_.end() ? std::nullopt : std::optional(found->second);
  }

  /// The number of tokens in the vocabulary.
  TokenId count() const { return static_cast<TokenId>(vocabulary_.size()); }

  /// One more than the largest id.
  TokenId size() const {
    TokenId size = 0;
    for (const auto& [token, id] : vocabulary_) size = (std::max)(size, id + 1);
    return size;
  }

  /// The token with this id, for messages.
  std::string token(TokenId id) const {
    for (const auto& [token, its_id] : vocabulary_)
      if (its_id == id) return token;
    return "";
  }

  /// Appends the ids of one word, but may stop once `ids` holds `enough`.
  /// \param parts  caches parts of long words
  /// \throws FormatError  a character is not in the vocabulary, and neither is the unknown token
  void encode(std::string_view word, WordCache& parts, Effort& effort, std::vector<TokenId>& ids,
              std::size_t enough) const {
    if (ignore_merges_)
      if (const auto id = find(word)) {
        ids.push_back(*id);
        return;
      }
    if (word.size() <= 64) {
      join(word, effort, ids);
      return;
    }
    while (!word.empty() && ids.size() < enough) {
      const std::string_view part = word.substr(0, whole_part(word));
      parts.append(part, ids, [&](std::vector<TokenId>& out) { join(part, effort, out); });
      word.remove_prefix(part.size());
      effort.step();
    }
  }

 private:
  static constexpr TokenId removed = -1;

  struct Symbol {
    TokenId id;
    std::int32_t previous, next;  // positions, -1 at the ends
  };

  struct Merge {
    TokenId rank, result;
  };

  static std::uint64_t key(TokenId left, TokenId right) {
    return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 |
           static_cast<std::uint32_t>(right);
  }

  static constexpr std::size_t direct =
      0x400;  // code points in a plain table, enough for the byte alphabet

  void add_token(const std::string& token, TokenId id) {
    vocabulary_.insert_or_assign(token, id);
    if (token.empty() || unicode::first_character(token).size != token.size()) return;
    const std::uint32_t character = unicode::first_character(token).code_point;
    characters_.insert_or_assign(character, id);
    if (character < direct) direct_[character] = id;
  }

  /// "left right", or, since 2024, ["left", "right"].
  void add_merge(const nlohmann::json& merge, TokenId& rank) {
    std::string left, right;
    if (merge.is_array() && merge.size() == 2) {
      left = merge[0].get<std::string>();
      right = merge[1].get<std::string>();
    } else {
      const auto text = merge.get<std::string>();
      if (text.rfind("#version", 0) == 0) return;
      const std::size_t space = text.find(' ');
      gptq::detail::require<FormatError>(
          space != std::string::npos && text.find(' ', space + 1) == std::string::npos,
          "the merge \"", text, "\" is not a pair");
      left = text.substr(0, space);
      right = text.substr(space + 1);
    }
    const auto a = find(left), b = find(right), both = find(left + right);
    gptq::detail::require<FormatError>(a && b && both, "the merge of \"", left, "\" and \"", right,
                                       "\" is not in the vocabulary");
    merges_.insert_or_assign(key(*a, *b), Merge{rank++, *both});
    if (!left.empty() && !right.empty())
      neighbours_.insert(key(
          static_cast<TokenId>(unicode::first_character(unicode::last_character(left)).code_point),
          static_cast<TokenId>(unicode::first_character(right).code_point)));
    else neighbours_of_nothing_ = true;
  }

  std::optional<TokenId> find_character(std::uint32_t character) const {
    if (character < direct)
      return direct_[character] < 0 ? std::nullopt : std::optional(direct_[character]);
    const auto found = characters_.find(character);
    return found == characters_.end() ? std::nullopt : std::optional(found->second);
  }

  /// Bytes of the word up to the first place across which nothing can be merged: between two
  /// characters that no merge joins.
  std::size_t whole_part(std::string_view word) const {
    if (neighbours_of_nothing_) return word.size();
    auto before = unicode::first_character(word);
    bool known_before = find_character(before.code_point).has_value();
    for (std::size_t at = before.size; at < word.size();) {
      const auto here = unicode::first_character(word.substr(at));
      const bool known = find_character(here.code_point).has_value();
      if (known && known_before &&
          neighbours_.count(key(static_cast<TokenId>(before.code_point),
                                static_cast<TokenId>(here.code_point))) == 0)
        return at;
      before = here;
      known_before = known;
      at += here.size;
    }
    return word.size();
  }

  /// Appends the ids of a word.
  void join(std::string_view word, Effort& effort, std::vector<TokenId>& ids) const {
    const std::size_t begin = ids.size();
    split(word, ids);
    const std::size_t count = ids.size() - begin;
    if (count < 2) return;
    if (count <= 48) join_few(ids, begin);
    else join_many(ids, begin, effort);
  }

  /// Appends the ids of a word's characters.
  void split(std::string_view word, std::vector<TokenId>& ids) const {
    bool unknown = false;  // an unknown token is pending
    while (!word.empty()) {
      const auto [code_point, size] = unicode::first_character(word);
      const std::string_view character = word.substr(0, size);
      const auto id = find_character(code_point);
      word.remove_prefix(size);
      if (id) {
        if (unknown) ids.push_back(unknown_token());
        unknown = false;
        ids.push_back(*id);
        continue;
      }
      // Bytes go ahead of a pending unknown token, as in the tokenizers library.
      if (detail::append_bytes(character, byte_tokens_, ids)) continue;
      if (unknown_token_) {
        if (unknown && !fuse_unknown_) ids.push_back(unknown_token());
        unknown = true;
      }
    }
    if (unknown) ids.push_back(unknown_token());
  }

  TokenId unknown_token() const {
    const auto id = find(*unknown_token_);
    gptq::detail::require<FormatError>(
        id.has_value(), "a character is not in the vocabulary, and neither is the unknown token \"",
        *unknown_token_, "\"");
    return *id;
  }

  const Merge* merge(TokenId left, TokenId right) const {
    const auto found = merges_.find(key(left, right));
    return found == merges_.end() ? nullptr : &found->second;
  }

  /// Merges pairs by rank, leftmost first among equals: finds the best pair over and over.
  void join_few(std::vector<TokenId>& ids, std::size_t begin) const {
    std::size_t count = ids.size() - begin;
    TokenId* const symbols = ids.data() + begin;
    const Merge* pairs[48];
    for (std::size_t i = 0; i + 1 < count; ++i) pairs[i] = merge(symbols[i], symbols[i + 1]);
    while (count > 1) {
      std::size_t best = count;
      for (std::size_t i = 0; i + 1 < count; ++i)
        if (pairs[i] && (best == count || pairs[i]->rank < pairs[best]->rank)) best = i;
      if (best == count) break;
      symbols[best] = pairs[best]->result;
      for (std::size_t i = best + 1; i + 1 < count; ++i) symbols[i] = symbols[i + 1];
      for (std::size_t i = best + 1; i + 2 < count; ++i) pairs[i] = pairs[i + 1];
      --count;
      if (best > 0) pairs[best - 1] = merge(symbols[best - 1], symbols[best]);
      if (best + 1 < count) pairs[best] = merge(symbols[best], symbols[best + 1]);
    }
    ids.resize(begin + count);
  }

  /// The same in O(n log n).
  void join_many(std::vector<TokenId>& ids, std::size_t begin, Effort& effort) const {
    gptq::detail::require<FormatError>(ids.size() - begin < 0x7fffffff, "a word has ",
                                       ids.size() - begin, " characters; ", tokenize_elsewhere);
    std::vector<Symbol> symbols;
    symbols.reserve(ids.size() - begin);
    for (std::size_t i = begin; i < ids.size(); ++i) {
      const auto position = static_cast<std::int32_t>(i - begin);
      symbols.push_back({ids[i], position - 1, i + 1 < ids.size() ? position + 1 : -1});
    }
    ids.resize(begin);

    struct Candidate {
      TokenId rank;
      std::int32_t left;
      TokenId result;
      bool operator<(const Candidate& other) const {
        return std::pair(rank, left) > std::pair(other.rank, other.left);
      }
    };
    std::priority_queue<Candidate> queue;
    const auto consider = [&](std::int32_t left) {
      if (left < 0 || symbols[std::size_t(left)].next < 0) return;
      const auto right = static_cast<std::size_t>(symbols[std::size_t(left)].next);
      if (const Merge* found = merge(symbols[std::size_t(left)].id, symbols[right].id))
        queue.push({found->rank, left, found->result});
    };
    for (std::size_t i = 0; i < symbols.size(); ++i) {
      effort.step();
      consider(static_cast<std::int32_t>(i));
    }
    while (!queue.empty()) {
      effort.step();
      const Candidate best = queue.top();
      queue.pop();
      Symbol& left = symbols[std::size_t(best.left)];
      if (left.id == removed || left.next < 0) continue;
      Symbol& right = symbols[std::size_t(left.next)];
      const Merge* found = merge(left.id, right.id);
      if (!found || found->result != best.result) continue;  // outdated
      left.id = best.result;
      left.next = right.next;
      right.id = removed;
      if (left.next >= 0) symbols[std::size_t(left.next)].previous = best.left;
      consider(left.previous);
      consider(best.left);
    }
    for (const Symbol& symbol : symbols)
      if (symbol.id != removed) ids.push_back(symbol.id);
  }

  detail::StringMap<TokenId> vocabulary_;
  std::unordered_map<std::uint32_t, TokenId> characters_;
  std::vector<TokenId> direct_ = std::vector<TokenId>(direct, -1);  // the first ones again
  std::unordered_map<std::uint64_t, Merge> merges_;
  std::unordered_set<std::uint64_t> neighbours_;  // characters that some merge joins
  bool neighbours_of_nothing_ = false;            // a merge of an empty token
  std::vector<TokenId> byte_tokens_;
  std::optional<std::string> unknown_token_;
  bool ignore_merges_ = false, fuse_unknown_ = false;
};

}  // namespace gptq::model
