// SPDX-License-Identifier: MIT
#pragma once

// Regular expressions over UTF-8, matched by Oniguruma, which is also the engine of the tokenizers
// library. Matching is bounded in steps and memory and can be stopped by the caller.

#include <gptq/model/tokenizer/effort.hpp>
#include <gptq/model/tokenizer/python_regex.hpp>
#include <gptq/model/tokenizer/unicode.hpp>

#include <oniguruma.h>

#include <algorithm>  // std::min
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>  // std::pair
#include <vector>

namespace gptq::model {

/// A regular expression. Copies share the compiled form, and several threads may match at once.
class Regex {
 public:
  enum class Syntax {
    oniguruma,  ///< Oniguruma's own, as in a tokenizer.json
    python      ///< what Python's re and Oniguruma read the same way; anything else is refused
  };

  /// \throws InvalidArgument  the pattern does not compile, or Python reads it differently
  explicit Regex(const std::string& pattern, Syntax syntax = Syntax::oniguruma)
      : pattern_(pattern) {
    const char* const problem = is_utf8(pattern) ? "" : "it is not valid UTF-8";
    gptq::detail::require(*problem == 0, "the regular expression ", pattern,
                          " is invalid: ", problem);
    if (syntax == Syntax::python) require_python_regex(pattern);
    initialize();
    OnigRegex code = nullptr;
    OnigErrorInfo info{};
    const auto* begin = bytes(pattern_);
    const int result =
        onig_new(&code, begin, begin + pattern_.size(), ONIG_OPTION_NONE, ONIG_ENCODING_UTF8,
                 syntax == Syntax::python ? ONIG_SYNTAX_PYTHON : ONIG_SYNTAX_ONIGURUMA, &info);
    if (result == ONIGERR_MEMORY) throw std::bad_alloc();
    gptq::detail::require(result == ONIG_NORMAL, "the regular expression ", pattern,
                          " is invalid: ", error_text(result, &info));
    code_.reset(code, onig_free);
    needs_start_ = pattern_.find("\\G") != std::string::npos;
  }

  using Span = std::pair<std::size_t, std::size_t>;  ///< begin and end, in bytes

  /// Calls `f(begin, end)` for all matches from left to right until it returns false. Empty matches
  /// count, except right after another match: the same as in the tokenizers library.
  /// \param text  valid UTF-8
  /// \throws FormatError  matching takes too many steps or too much memory
  /// \throws Cancelled    the caller wants to stop
  template <class F>
  bool for_each_match(std::string_view text, Effort& effort, const F& f) const {
    std::size_t at = 0;
    std::optional<std::size_t> last;  // the end of the last match
    while (at <= text.size()) {
      const std::optional<Span> match = search(text, at, effort);
      if (!match) break;
      const auto [begin, end] = *match;
      if (begin == end && last == end) {
        if (at == text.size()) break;
        at = next_character(text, at + 1);
        continue;
      }
      // \K may move the start of a match into text already consumed.
      gptq::detail::require<FormatError>(begin >= last.value_or(0) && begin <= end,
                                         "the regular expression ", pattern_,
                                         " finds a match inside another one; ", tokenize_elsewhere);
      if (!f(begin, end)) return false;
      at = end;
      last = end;
    }
    return true;
  }

  /// All matches, as found by `for_each_match`.
  /// \throws FormatError  the text is not valid UTF-8, or matching costs too much
  std::vector<Span> find_all(std::string_view text) const {
    unicode::require_utf8(text);
    Effort effort(text.size());
    std::vector<Span> spans;
    for_each_match(text, effort, [&](std::size_t begin, std::size_t end) {
      spans.emplace_back(begin, end);
      return true;
    });
    return spans;
  }

  /// Whether the text matches at its start (Python's re.match).
  /// \throws FormatError  the text is not valid UTF-8, or matching costs too much
  bool matches_start(std::string_view text) const {
    unicode::require_utf8(text);
    Effort effort(text.size());
    return match(text, 0, effort);
  }

  /// Whether the character is in Oniguruma's Unicode tables.
  static bool knows(std::uint32_t code_point) {
    static const int unassigned = property({'C', 'n'});
    return !ONIGENC_IS_CODE_CTYPE(ONIG_ENCODING_UTF8, code_point,
                                  static_cast<OnigCtype>(unassigned));
  }

  /// Whether the character is any kind of number: category N.
  static bool is_number(std::uint32_t code_point) {
    if (code_point < 0x80) return code_point >= '0' && code_point <= '9';
    static const int number = property({'N'});
    return ONIGENC_IS_CODE_CTYPE(ONIG_ENCODING_UTF8, code_point, static_cast<OnigCtype>(number));
  }

 private:
  static constexpr unsigned long free_retries = 4096;  // per call
  static constexpr unsigned long most_retries =
      10'000'000;                                        // per match, as in the tokenizers library
  static constexpr unsigned int most_entries = 1 << 22;  // in a match's stack, 64 bytes each
  static constexpr std::size_t short_text = 1 << 14;

  static const OnigUChar* bytes(std::string_view text) {
    return reinterpret_cast<const OnigUChar*>(text.data());
  }

  static bool is_utf8(std::string_view text) {
    try {
      unicode::require_utf8(text);
      return true;
    } catch (const FormatError&) {
      return false;
    }
  }

  /// Initializes the library's tables once.
  static void initialize() {
    static const int result = [] {
      OnigEncoding encodings[] = {ONIG_ENCODING_UTF8};
      return onig_initialize(encodings, 1);
    }();
    gptq::detail::require(result == ONIG_NORMAL,
                          "cannot initialize Oniguruma: ", error_text(result));
  }

  /// The number of a property in Oniguruma's tables.
  static int property(std::vector<OnigUChar> name) {
    initialize();
    return ONIGENC_PROPERTY_NAME_TO_CTYPE(ONIG_ENCODING_UTF8, name.data(),
                                          name.data() + name.size());
  }

  static std::string error_text(int code, OnigErrorInfo* info = nullptr) {
    OnigUChar text[ONIG_MAX_ERROR_MESSAGE_LEN];
    const int length = onig_error_code_to_str(text, code, info);
    return {reinterpret_cast<const char*>(text), static_cast<std::size_t>(length)};
  }

  static bool is_over(int found) {
    return found == ONIGERR_RETRY_LIMIT_IN_SEARCH_OVER ||
           found == ONIGERR_RETRY_LIMIT_IN_MATCH_OVER;
  }

  static void set_limits(Effort& effort, unsigned long retries) {
    OnigMatchParam* const parameters = &effort.parameters();
    onig_set_retry_limit_in_search_of_match_param(parameters, retries);
    onig_set_retry_limit_in_match_of_match_param(parameters, retries);
    onig_set_match_stack_limit_size_of_match_param(parameters, most_entries);
  }

  /// `found`, unless it is an error.
  int check(int found, std::string_view rest) const {
    if (found == ONIGERR_MEMORY) throw std::bad_alloc();
    gptq::detail::require<FormatError>(
        found >= 0 || found == ONIG_MISMATCH, "the regular expression ", pattern_, " fails at \"",
        rest.substr(0, (std::min)(next_character(rest, 40), rest.size())),
        "\": ", error_text(found), "; ", tokenize_elsewhere);
    return found;
  }

  static std::size_t next_character(std::string_view text, std::size_t at) {
    while (at < text.size() && (static_cast<unsigned char>(text[at]) & 0xc0) == 0x80) ++at;
    return at;
  }

  /// The first match from `at` on.
  std::optional<Span> search(std::string_view text, std::size_t at, Effort& effort) const {
    // A position where nothing matches may cost as many steps as there is text after it, and no
    // limit counts those. So only short texts are searched in one call; in long ones, and once
    // retries run out, each position is tried in a separate call, so that the caller can stop in
    // between.
    const bool whole = text.size() - at <= short_text || needs_start_;
    for (unsigned long limit = free_retries; whole; limit = (std::min)(8 * limit, most_retries)) {
      set_limits(effort, limit);
      const int found = onig_search_with_param(
          code_.get(), bytes(text), bytes(text) + text.size(), bytes(text) + at,
          bytes(text) + text.size(), &effort.region(), ONIG_OPTION_NONE, &effort.parameters());
      if (found >= 0) return span(text, effort.region());
      if (!is_over(found) || limit == most_retries) check(found, text.substr(at));
      if (found == ONIG_MISMATCH) return std::nullopt;
      effort.charge(limit, pattern_, text.substr(at));
      if (!needs_start_) break;
    }
    for (;; at = next_character(text, at + 1)) {
      if (match(text, at, effort)) return span(text, effort.region());
      if (at == text.size()) return std::nullopt;
      effort.pause();
    }
  }

  /// Whether the text matches at exactly this position.
  bool match(std::string_view text, std::size_t at, Effort& effort) const {
    for (unsigned long limit = free_retries;; limit = (std::min)(8 * limit, most_retries)) {
      set_limits(effort, limit);
      const int found = onig_match_with_param(code_.get(), bytes(text), bytes(text) + text.size(),
                                              bytes(text) + at, &effort.region(), ONIG_OPTION_NONE,
                                              &effort.parameters());
      const bool done = !is_over(found) || limit == most_retries;
      // If a limit sufficed where the previous one had not, at least an eighth of it was used.
      if (!done || limit > free_retries)
        effort.charge(done ? limit / 4 : limit, pattern_, text.substr(at));
      if (done) return check(found, text.substr(at)) >= 0;
    }
  }

  /// The position of the match.
  Span span(std::string_view text, const OnigRegion& region) const {
    const auto begin = static_cast<std::size_t>(region.beg[0]),
               end = static_cast<std::size_t>(region.end[0]);
    const auto inside_character = [&](std::size_t at) {
      return at < text.size() && (static_cast<unsigned char>(text[at]) & 0xc0) == 0x80;
    };
    gptq::detail::require<FormatError>(!inside_character(begin) && !inside_character(end),
                                       "the regular expression ", pattern_, " splits a character; ",
                                       tokenize_elsewhere);
    return {begin, end};
  }

  std::string pattern_;
  std::shared_ptr<OnigRegexType> code_;  // read-only once compiled
  bool needs_start_ = false;             // \G is where the search starts
};

}  // namespace gptq::model
