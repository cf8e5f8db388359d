// SPDX-License-Identifier: MIT
#pragma once

// Regular expressions (PCRE2, Unicode) for pre-tokenizers and module names.

#include <gptq/core/error.hpp>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <memory>
#include <string>
#include <string_view>
#include <utility>  // std::pair
#include <vector>

namespace gptq::model {

/// A regular expression of PCRE2 over UTF-8.
class Regex {
 public:
  /// \throws InvalidArgument  the pattern does not compile
  explicit Regex(const std::string& pattern) {
    int error = 0;
    PCRE2_SIZE at = 0;
    code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                              PCRE2_UTF | PCRE2_UCP, &error, &at, nullptr),
                pcre2_code_free);
    if (!code_) {
      PCRE2_UCHAR text[256];
      pcre2_get_error_message(error, text, sizeof text);
      throw InvalidArgument(gptq::detail::message("the regular expression ", pattern,
                                                  " is wrong at position ", at, ": ",
                                                  reinterpret_cast<const char*>(text)));
    }
    pcre2_jit_compile(code_.get(),
                      PCRE2_JIT_COMPLETE);  // where the machine has none, matching is slower
  }

  using Span = std::pair<std::size_t, std::size_t>;  ///< begin and end, in bytes

  /// All matches from left to right; empty ones are left out.
  std::vector<Span> find_all(std::string_view text) const {
    std::vector<Span> spans;
    const Match match(pcre2_match_data_create_from_pattern(code_.get(), nullptr),
                      pcre2_match_data_free);
    for (std::size_t at = 0; at < text.size();) {
      if (run(match.get(), text, at, 0) < 0) break;
      const PCRE2_SIZE* span = pcre2_get_ovector_pointer(match.get());
      if (span[1] > span[0]) spans.emplace_back(span[0], span[1]);
      at = span[1] > at ? span[1] : at + 1;
      while (at < text.size() && (static_cast<unsigned char>(text[at]) & 0xc0) == 0x80)
        ++at;  // to the next character
    }
    return spans;
  }

  /// Whether the text matches from its start (Python's re.match).
  bool matches_start(std::string_view text) const {
    const Match match(pcre2_match_data_create_from_pattern(code_.get(), nullptr),
                      pcre2_match_data_free);
    return run(match.get(), text, 0, PCRE2_ANCHORED) >= 0;
  }

 private:
  using Match = std::unique_ptr<pcre2_match_data, void (*)(pcre2_match_data*)>;

  int run(pcre2_match_data* match, std::string_view text, std::size_t at,
          std::uint32_t options) const {
    const int found = pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()),
                                  text.size(), at, options | PCRE2_NO_UTF_CHECK, match, nullptr);
    gptq::detail::require<FormatError>(found >= 0 || found == PCRE2_ERROR_NOMATCH,
                                       "a regular expression failed with PCRE2 error ", found);
    return found;
  }

  std::shared_ptr<pcre2_code> code_;  // read-only once compiled, so copies may share it
};

}  // namespace gptq::model
