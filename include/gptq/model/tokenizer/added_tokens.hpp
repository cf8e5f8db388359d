// SPDX-License-Identifier: MIT
#pragma once

// Added tokens: strings that are tokens as a whole, wherever they stand in the text
// ("<|im_start|>").

#include <gptq/model/tokenizer/bpe.hpp>

#include <algorithm>  // std::sort
#include <string>
#include <string_view>
#include <vector>

namespace gptq::model {

/// A token that is found in a text before anything else.
struct AddedToken {
  std::string content;
  TokenId id = 0;
  bool single_word = false;  ///< not inside a word
  bool lstrip = false;       ///< takes the white space before it
  bool rstrip = false;       ///< takes the white space behind it
};

/// Finds added tokens in a text, the longest first.
class AddedTokens {
 public:
  /// A piece of text, or a token where `id` ≥ 0.
  struct Section {
    std::string_view text;
    TokenId id = -1;
  };

  void add(AddedToken token) {
    if (token.content.empty()) return;
    tokens_.push_back(std::move(token));
    // Longest first: where several start at the same place, the longest wins.
    std::stable_sort(tokens_.begin(), tokens_.end(), [](const AddedToken& a, const AddedToken& b) {
      return a.content.size() > b.content.size();
    });
    starts_[static_cast<unsigned char>(tokens_.front().content.front())] = true;
    for (const AddedToken& t : tokens_)
      starts_[static_cast<unsigned char>(t.content.front())] = true;
  }

  bool empty() const { return tokens_.empty(); }

  /// Cuts the text at the tokens it contains, leftmost and longest first.
  std::vector<Section> split(std::string_view text) const {
    std::vector<Section> sections;
    std::size_t done = 0;
    for (std::size_t at = 0; at < text.size();) {
      const AddedToken* token =
          starts_[static_cast<unsigned char>(text[at])] ? match(text, at) : nullptr;
      if (!token) {
        ++at;
        continue;
      }
      std::size_t begin = at, end = at + token->content.size();
      while (token->lstrip && begin > done && is_space(text[begin - 1])) --begin;
      while (token->rstrip && end < text.size() && is_space(text[end])) ++end;
      if (begin > done) sections.push_back({text.substr(done, begin - done)});
      sections.push_back({text.substr(begin, end - begin), token->id});
      at = done = end;
    }
    if (done < text.size()) sections.push_back({text.substr(done)});
    return sections;
  }

 private:
  static bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
  static bool is_word(char c) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_' ||
           (c & 0x80);
  }

  const AddedToken* match(std::string_view text, std::size_t at) const {
    for (const AddedToken& token : tokens_) {
      const std::size_t end = at + token.content.size();
      if (text.substr(at, token.content.size()) != token.content) continue;
      if (token.single_word &&
          ((at > 0 && is_word(text[at - 1])) || (end < text.size() && is_word(text[end]))))
        continue;
      return &token;
    }
    return nullptr;
  }

  std::vector<AddedToken> tokens_;
  bool starts_[256] = {};
};

}  // namespace gptq::model
