// SPDX-License-Identifier: MIT
#pragma once

// Added tokens: strings that are whole tokens wherever they occur in the text ("<|im_start|>").

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

/// A token that is matched before anything else.
struct AddedToken {
  std::string content;
  TokenId id = 0;
  bool single_word = false;  ///< not inside a word
  bool lstrip = false;       ///< absorbs white space before it
  bool rstrip = false;       ///< absorbs white space after it
  bool normalized = false;   ///< matched in the normalized text
  bool special = false;      ///< wins if two tokens have the same text
};

/// Finds added tokens in a text: the leftmost one, and the longest of several there.
class AddedTokens {
 public:
  /// A piece of text, or a token if `id` ≥ 0.
  struct Section {
    std::string_view text;
    TokenId id = -1;
  };

  /// Of tokens with the same content and id, the first one added is found.
  void add(AddedToken token) {
    if (token.content.empty()) return;
    starts_[static_cast<unsigned char>(token.content.front())] = true;
    std::uint32_t node = 0;
    for (const char byte : token.content)
      node = edges_.try_emplace(edge(node, byte), static_cast<std::uint32_t>(edges_.size() + 1))
                 .first->second;
    if (token.single_word && !word_)
      // A word character as defined by the regex crate, which the tokenizers library uses here.
      word_ = Regex("[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{200c}\\x{200d}]");
    const auto [end, fresh] = ends_.try_emplace(node, tokens_.size());
    if (fresh) tokens_.push_back(std::move(token));
    else if (tokens_[end->second].id != token.id) ambiguous_.insert(node);
  }

  bool empty() const { return tokens_.empty(); }

  /// Passes the sections of the text to `f` until it returns false.
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
        begin = (std::max)(begin, done);  // not what the previous token absorbed
      }
      if (token->rstrip)
        while (end < text.size()) {
          const auto next = unicode::first_character(text.substr(end));
          if (!unicode::is_white_space(next.code_point)) break;
          end += next.size;
        }
      if (begin >= end) {  // a token inside white space already absorbed
        done = (std::max)(done, end);
        continue;
      }
      if (begin > done && !f(Section{text.substr(done, begin - done), -1})) return false;
      if (!f(Section{text.substr(begin, end - begin), token->id})) return false;
      // A token inside white space that was absorbed is still found, and what follows it counts as
      // text again, as in the tokenizers library.
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
                                       "\", which is the normalized form of two added tokens; ",
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
  std::unordered_map<std::uint64_t, std::uint32_t> edges_;  // of the trie of all contents
  std::unordered_map<std::uint32_t, std::size_t> ends_;     // tokens by node
  std::unordered_set<std::uint32_t> ambiguous_;             // nodes of tokens with two ids
  std::optional<Regex> word_;
  bool starts_[256] = {};
};

}  // namespace gptq::model
