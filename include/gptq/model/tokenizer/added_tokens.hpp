// SPDX-License-Identifier: MIT
#pragma once

// Added tokens: strings that are tokens as a whole, wherever they stand in the text
// ("<|im_start|>").

#include <gptq/model/tokenizer/bpe.hpp>
#include <gptq/model/tokenizer/regex.hpp>

#include <algorithm>  // std::max
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace gptq::model {

/// A token that is found in a text before anything else.
struct AddedToken {
  std::string content;
  TokenId id = 0;
  bool single_word = false;  ///< not inside a word
  bool lstrip = false;       ///< takes the white space before it
  bool rstrip = false;       ///< takes the white space behind it
  bool normalized = false;   ///< found in the normalized text
  bool special = false;      ///< comes first where two tokens are written alike
};

/// Finds added tokens in a text: the leftmost one, and of several there the longest.
class AddedTokens {
 public:
  /// A piece of text, or a token where `id` ≥ 0.
  struct Section {
    std::string_view text;
    TokenId id = -1;
  };

  /// Of tokens with the same content and id, the one that was added first is found.
  void add(AddedToken token) {
    if (token.content.empty()) return;
    starts_[static_cast<unsigned char>(token.content.front())] = true;
    std::uint32_t node = 0;
    for (const char byte : token.content)
      node = edges_.try_emplace(edge(node, byte), static_cast<std::uint32_t>(edges_.size() + 1))
                 .first->second;
    if (token.single_word && !word_)
      // A letter of a word as the regex crate, which the tokenizers library uses here, has it.
      word_ = Regex("[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{200c}\\x{200d}]");
    const auto [end, fresh] = ends_.try_emplace(node, tokens_.size());
    if (fresh) tokens_.push_back(std::move(token));
    else if (tokens_[end->second].id != token.id) ambiguous_.insert(node);
  }

  bool empty() const { return tokens_.empty(); }

  /// Gives `f` the sections of the text until it returns false.
  template <class F>
  bool for_each_section(std::string_view text, Effort& effort, const F& f) const {
    std::size_t done = 0;
    for (std::size_t at = 0; at < text.size() && !tokens_.empty();) {
      if ((at & 0xfff) == 0) effort.step();
      const AddedToken* token =
          starts_[static_cast<unsigned char>(text[at])] ? longest(text, at) : nullptr;
      if (!token) {
        ++at;
        continue;
      }
      std::size_t begin = at, end = at + token->content.size();
      at = end;
      if (token->single_word && (is_word_before(text, begin) || is_word_at(text, end))) continue;
      if (token->lstrip) {
        while (begin > done) {
          const auto last = unicode::last_character(text.substr(0, begin));
          if (!unicode::is_white_space(unicode::first_character(last).code_point)) break;
          begin -= last.size();
        }
        begin = (std::max)(begin, done);  // what the token before has taken is not taken again
      }
      if (token->rstrip)
        while (end < text.size()) {
          const auto next = unicode::first_character(text.substr(end));
          if (!unicode::is_white_space(next.code_point)) break;
          end += next.size;
        }
      if (begin >= end) {  // a token inside white space that is taken already
        done = (std::max)(done, end);
        continue;
      }
      if (begin > done && !f(Section{text.substr(done, begin - done), -1})) return false;
      if (!f(Section{text.substr(begin, end - begin), token->id})) return false;
      // A token inside white space that has been taken is found all the same, and what follows it
      // counts as text again, as in the tokenizers library.
      done = end;
    }
    return done >= text.size() || f(Section{text.substr(done), -1});
  }

 private:
  static std::uint64_t edge(std::uint32_t node, char byte) {
    return std::uint64_t{node} << 8 | static_cast<unsigned char>(byte);
  }

  const AddedToken* longest(std::string_view text, std::size_t at) const {
    const AddedToken* best = nullptr;
    bool ambiguous = false;
    std::uint32_t node = 0;
    for (; at < text.size(); ++at) {
      const auto next = edges_.find(edge(node, text[at]));
      if (next == edges_.end()) break;
      node = next->second;
      if (const auto end = ends_.find(node); end != ends_.end()) {
        best = &tokens_[end->second];
        ambiguous = ambiguous_.count(node) > 0;
      }
    }
    gptq::detail::require<FormatError>(!ambiguous, "the text has \"", best ? best->content : "",
                                       "\", which two added tokens are when they are normalized; ",
                                       tokenize_elsewhere);
    return best;
  }

  bool is_word_before(std::string_view text, std::size_t at) const {
    return at > 0 && word_->matches_start(unicode::last_character(text.substr(0, at)));
  }
  bool is_word_at(std::string_view text, std::size_t at) const {
    if (at == text.size()) return false;
    const auto rest = text.substr(at);
    return word_->matches_start(rest.substr(0, unicode::first_character(rest).size));
  }

  std::vector<AddedToken> tokens_;
  std::unordered_map<std::uint64_t, std::uint32_t> edges_;  // of the tree of all contents
  std::unordered_map<std::uint32_t, std::size_t> ends_;     // tokens by node
  std::unordered_set<std::uint32_t> ambiguous_;             // nodes of tokens with two ids
  std::optional<Regex> word_;
  bool starts_[256] = {};
};

}  // namespace gptq::model
