// SPDX-License-Identifier: MIT
#pragma once

// Characters newer than this Oniguruma's Unicode tables: newer libraries may split the words around
// them differently.

#include <gptq/model/tokenizer/regex.hpp>
#include <gptq/model/tokenizer/unicode.hpp>

#include <string>
#include <string_view>

namespace gptq::model {

/// Counts the new characters in texts.
class NewCharacters {
 public:
  /// \param text  valid UTF-8
  void look_at(std::string_view text) {
    for (std::size_t at = 0; at < text.size();) {
      const auto [code_point, size] = unicode::first_character(text.substr(at));
      at += size;
      // Everything below has been complete since Unicode 1.1.
      if (code_point < 0x370 || Regex::knows(code_point)) continue;
      if (count_++ == 0) first_ = code_point;
    }
  }

  /// A line for the user, or "" if there is nothing to say.
  std::string note() const {
    if (count_ == 0) return "";
    return gptq::detail::message(
        count_, count_ == 1 ? " character (" : " characters (the first: ", "U+", std::hex,
        std::uppercase, first_, ") not known to Oniguruma ", onig_version(),
        "; newer libraries may split the words around them differently");
  }

 private:
  std::size_t count_ = 0;
  std::uint32_t first_ = 0;
};

}  // namespace gptq::model
