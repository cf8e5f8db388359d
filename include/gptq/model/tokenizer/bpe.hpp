// SPDX-License-Identifier: MIT
#pragma once

// Byte-pair encoding: characters of a word are joined, the best-ranked pair first, until no pair is
// in the table.

#include <gptq/model/tokenizer/normalizer.hpp>
#include <gptq/model/tokenizer/unicode.hpp>

#include <cstdint>
#include <cstdio>  // std::snprintf
#include <optional>
#include <queue>
#include <string>
#include <unordered_map>
#include <vector>

namespace gptq::model {

using TokenId = std::int32_t;

/// \throws FormatError  not a number from 0 to 2³¹ − 2
inline TokenId token_id(const nlohmann::json& id, const std::string& token) {
  gptq::detail::require<FormatError>(id.is_number_integer() && id >= 0 && id < 0x7fffffff,
                                     "the token ", token, " has the id ", id.dump(),
                                     ", which is not a token id");
  return id.get<TokenId>();
}

/// Byte-pair encoding of the pieces of a text.
class Bpe {
 public:
  Bpe() = default;

  /// \param config  the "model" of a tokenizer.json
  /// \throws FormatError  not BPE, or with options that are not supported, or merges that do not
  /// fit the vocabulary
  explicit Bpe(const nlohmann::json& config) {
    const std::string type = config.value("type", config.contains("merges") ? "BPE" : "of no type");
    if (type != "BPE") unsupported_component("the model " + type);
    for (const char* option : {"continuing_subword_prefix", "end_of_word_suffix"})
      if (config.contains(option) && config[option].is_string() &&
          !config[option].get_ref<const std::string&>().empty())
        unsupported_component(std::string("BPE with ") + option);
    if (config.contains("dropout") && config["dropout"].is_number() &&
        config["dropout"].get<double>() > 0)
      unsupported_component("BPE with dropout");

    gptq::detail::require<FormatError>(config.at("vocab").is_object(),
                                       "the vocabulary is not an object of tokens and ids");
    for (const auto& [token, id] : config.at("vocab").items())
      vocabulary_[token] = token_id(id, token);
    TokenId rank = 0;
    for (const auto& merge : config.at("merges")) add_merge(merge, rank++);

    ignore_merges_ = config.value("ignore_merges", false);
    fuse_unknown_ = config.value("fuse_unk", false);
    if (config.contains("unk_token") && config["unk_token"].is_string())
      unknown_ = find(config["unk_token"].get<std::string>());
    if (config.value("byte_fallback", false)) {
      byte_tokens_.resize(256, -1);
      for (int b = 0; b < 256; ++b) {
        char text[8];
        std::snprintf(text, sizeof text, "<0x%02X>", static_cast<unsigned>(b));
        if (const auto id = find(text)) byte_tokens_[std::size_t(b)] = *id;
      }
    }
  }

  std::optional<TokenId> find(const std::string& token) const {
    const auto found = vocabulary_.find(token);
    return found == vocabulary_.end() ? std::nullopt : std::optional(found->second);
  }

  /// One more than the largest id.
  TokenId size() const {
    TokenId size = 0;
    for (const auto& [token, id] : vocabulary_) size = (std::max)(size, id + 1);
    return size;
  }

  /// Appends the ids of one word.
  void encode(const std::string& word, std::vector<TokenId>& ids) const {
    if (ignore_merges_)
      if (const auto id = find(word)) {
        ids.push_back(*id);
        return;
      }
    std::vector<Symbol> symbols = split(word);
    join(symbols);
    for (const Symbol& symbol : symbols)
      if (symbol.id != removed) ids.push_back(symbol.id);
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

  /// "left right", or since 2024 ["left", "right"].
  void add_merge(const nlohmann::json& merge, TokenId rank) {
    std::string left, right;
    if (merge.is_array() && merge.size() == 2) {
      left = merge[0].get<std::string>();
      right = merge[1].get<std::string>();
    } else {
      const auto text = merge.get<std::string>();
      const std::size_t space = text.find(' ', 1);
      gptq::detail::require<FormatError>(space != std::string::npos, "the merge \"", text,
                                         "\" is not a pair");
      left = text.substr(0, space);
      right = text.substr(space + 1);
    }
    const auto a = find(left), b = find(right), both = find(left + right);
    gptq::detail::require<FormatError>(a && b && both, "the merge of \"", left, "\" and \"", right,
                                       "\" is not in the vocabulary");
    merges_.try_emplace(key(*a, *b), Merge{rank, *both});
  }

  std::vector<Symbol> split(const std::string& word) const {
    std::vector<Symbol> symbols;
    const auto push = [&](TokenId id) {
      symbols.push_back({id, static_cast<std::int32_t>(symbols.size()) - 1, -1});
    };
    for (const std::string_view character : unicode::code_points(word)) {
      if (const auto id = find(std::string(character))) {
        push(*id);
        continue;
      }
      bool bytes = !byte_tokens_.empty();
      for (const char byte : character)
        bytes = bytes && byte_tokens_[static_cast<unsigned char>(byte)] >= 0;
      if (bytes)
        for (const char byte : character) push(byte_tokens_[static_cast<unsigned char>(byte)]);
      else if (unknown_ && !(fuse_unknown_ && !symbols.empty() && symbols.back().id == *unknown_))
        push(*unknown_);
    }
    for (std::size_t i = 0; i + 1 < symbols.size(); ++i)
      symbols[i].next = static_cast<std::int32_t>(i) + 1;
    return symbols;
  }

  /// Joins pairs by rank, from left to right among equals, in O(n log n).
  void join(std::vector<Symbol>& symbols) const {
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
      const auto found = merges_.find(key(symbols[std::size_t(left)].id, symbols[right].id));
      if (found != merges_.end()) queue.push({found->second.rank, left, found->second.result});
    };
    for (std::size_t i = 0; i < symbols.size(); ++i) consider(static_cast<std::int32_t>(i));
    while (!queue.empty()) {
      const Candidate best = queue.top();
      queue.pop();
      Symbol& left = symbols[std::size_t(best.left)];
      if (left.id == removed || left.next < 0) continue;
      Symbol& right = symbols[std::size_t(left.next)];
      const auto found = merges_.find(key(left.id, right.id));
      if (found == merges_.end() || found->second.result != best.result ||
          found->second.rank != best.rank)
        continue;  // out of date
      left.id = best.result;
      left.next = right.next;
      right.id = removed;
      if (left.next >= 0) symbols[std::size_t(left.next)].previous = best.left;
      consider(left.previous);
      consider(best.left);
    }
  }

  std::unordered_map<std::string, TokenId> vocabulary_;
  std::unordered_map<std::uint64_t, Merge> merges_;
  std::vector<TokenId> byte_tokens_;
  std::optional<TokenId> unknown_;
  bool ignore_merges_ = false, fuse_unknown_ = false;
};

}  // namespace gptq::model
