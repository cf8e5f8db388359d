// SPDX-License-Identifier: MIT
#pragma once

// Unigram: of all ways to write a word with pieces of the vocabulary, the one with the highest sum
// of scores (Viterbi), as SentencePiece's unigram models are encoded.

#include <gptq/model/tokenizer/bpe.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>  // std::min, std::reverse
#include <cmath>      // std::isfinite
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>  // std::pair
#include <vector>

namespace gptq::model {

/// Encodes the pieces of a text with a unigram vocabulary.
class Unigram {
 public:
  Unigram() = default;

  /// \param config  the "model" of a tokenizer.json
  /// \throws FormatError  unsupported options, or a malformed vocabulary
  explicit Unigram(const nlohmann::json& config) {
    for (const char* option : {"alpha", "nbest_size"})
      if (config.contains(option) && !config[option].is_null())
        unsupported_component(std::string("Unigram with ") + option);
    const auto& vocabulary = config.at("vocab");
    gptq::detail::require<FormatError>(
        vocabulary.is_array(), "the vocabulary of a Unigram model is not a list of [token, score]");
    gptq::detail::require<FormatError>(vocabulary.size() < 0x7fffffff, "the vocabulary has ",
                                       vocabulary.size(), " tokens");
    double lowest = std::numeric_limits<double>::infinity();
    for (const auto& entry : vocabulary) {
      gptq::detail::require<FormatError>(entry.is_array() && entry.size() == 2 &&
                                             entry[0].is_string() && entry[1].is_number() &&
                                             std::isfinite(entry[1].get<double>()),
                                         "the vocabulary entry ", tokens_.size(), " is ",
                                         entry.dump().substr(0, 80), ", not [token, score]");
      tokens_.push_back({entry[0].get<std::string>(), entry[1].get<double>()});
      lowest = (std::min)(lowest, tokens_.back().score);
    }
    unknown_score_ = lowest - 10;
    for (std::size_t i = 0; i < tokens_.size(); ++i) add_token(static_cast<TokenId>(i));
    if (config.contains("unk_id") && !config["unk_id"].is_null()) {
      const auto& id = config["unk_id"];
      gptq::detail::require<FormatError>(
          id.is_number_unsigned() && id.get<std::uint64_t>() < tokens_.size(),
          "unk_id = ", id.dump(), " is not a token of the vocabulary, which has ", tokens_.size());
      unknown_ = id.get<TokenId>();
    }
    if (config.value("byte_fallback", false)) byte_tokens_ = detail::byte_tokens(*this);
  }

  std::optional<TokenId> find(std::string_view token) const {
    const auto found = ids_.find(token);
    return found == ids_.end() ? std::nullopt : std::optional(found->second);
  }

  /// The number of tokens in the vocabulary.
  TokenId count() const { return static_cast<TokenId>(tokens_.size()); }

  /// One more than the largest id.
  TokenId size() const { return count(); }

  /// The token with this id, for messages.
  std::string token(TokenId id) const {
    return id >= 0 && id < count() ? tokens_[static_cast<std::size_t>(id)].text : "";
  }

  /// Appends the ids of one word.
  /// \throws FormatError  a character is not in the vocabulary, and there is no unknown token
  void encode(std::string_view word, Effort& effort, std::vector<TokenId>& ids) const {
    if (word.empty()) return;
    const std::vector<Path> paths = best_paths(word, effort);
    // Adjacent unknown pieces are one piece.
    std::vector<std::pair<std::size_t, std::size_t>> pieces;  // from the last to the first
    bool after_unknown = false;
    for (std::size_t end = word.size(); end > 0;) {
      const Path& path = paths[end];
      const bool is_unknown = path.id == unknown_;
      if (is_unknown && after_unknown) pieces.back().first = path.begin;
      else pieces.emplace_back(path.begin, end);
      after_unknown = is_unknown;
      end = path.begin;
    }
    std::reverse(pieces.begin(), pieces.end());
    for (const auto& [begin, end] : pieces) append_piece(word.substr(begin, end - begin), ids);
  }

 private:
  struct Token {
    std::string text;
    double score;
  };

  /// The best way to write the text up to some byte.
  struct Path {
    double score = 0;
    std::size_t begin = none;  // of its last piece
    TokenId id = 0;            // of its last piece
  };

  static constexpr std::size_t none = std::numeric_limits<std::size_t>::max();

  static std::uint64_t edge(std::uint32_t node, char byte) {
    return std::uint64_t{node} << 8 | static_cast<unsigned char>(byte);
  }

  /// Of tokens with the same text, the last one counts.
  void add_token(TokenId id) {
    const std::string& text = tokens_[static_cast<std::size_t>(id)].text;
    ids_.insert_or_assign(text, id);
    if (text.empty()) return;
    std::uint32_t node = 0;
    for (const char byte : text)
      node = edges_.try_emplace(edge(node, byte), static_cast<std::uint32_t>(edges_.size() + 1))
                 .first->second;
    ends_.insert_or_assign(node, id);
  }

  TokenId unknown() const {
    gptq::detail::require<FormatError>(
        unknown_.has_value(),
        "a character is not in the vocabulary, and the model has no unknown token (unk_id)");
    return *unknown_;
  }

  static bool improves(const Path& path, double score) {
    return path.begin == none || score > path.score;
  }

  /// The best ways to write the word up to each of its bytes.
  std::vector<Path> best_paths(std::string_view word, Effort& effort) const {
    std::vector<Path> paths(word.size() + 1);
    for (std::size_t begin = 0; begin < word.size();) {
      effort.step();
      const std::size_t size = unicode::first_character(word.substr(begin)).size;
      const double score = paths[begin].score;
      bool known = false;  // the character alone is a token
      std::uint32_t node = 0;
      for (std::size_t end = begin + 1; end <= word.size(); ++end) {
        const auto next = edges_.find(edge(node, word[end - 1]));
        if (next == edges_.end()) break;
        node = next->second;
        const auto found = ends_.find(node);
        if (found == ends_.end()) continue;
        const Token& token = tokens_[static_cast<std::size_t>(found->second)];
        if (improves(paths[end], score + token.score))
          paths[end] = {score + token.score, begin, found->second};
        known = known || end == begin + size;
      }
      Path& next = paths[begin + size];
      if (!known && improves(next, score + unknown_score_))
        next = {score + unknown_score_, begin, unknown()};
      begin += size;
    }
    return paths;
  }

  void append_piece(std::string_view piece, std::vector<TokenId>& ids) const {
    if (const auto id = find(piece)) {
      ids.push_back(*id);
      return;
    }
    if (!detail::append_bytes(piece, byte_tokens_, ids)) ids.push_back(unknown());
  }

  std::vector<Token> tokens_;  // by id
  detail::StringMap<TokenId> ids_;
  std::unordered_map<std::uint64_t, std::uint32_t> edges_;  // of the trie of all tokens
  std::unordered_map<std::uint32_t, TokenId> ends_;         // tokens by node
  std::optional<TokenId> unknown_;
  std::vector<TokenId> byte_tokens_;
  double unknown_score_ = 0;
};

}  // namespace gptq::model
