// SPDX-License-Identifier: MIT
#pragma once

// What tokenizers need of Unicode: UTF-8 by code points, normal forms (utf8proc) and the printable
// alphabet in which byte-level vocabularies write their bytes.

#include <gptq/core/error.hpp>

#include <utf8proc.h>

#include <array>
#include <cstdint>
#include <cstdlib>  // std::free
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace gptq::model::unicode {

/// Bytes of the code point at the start of `text`, which must not be empty.
/// \throws FormatError  not valid UTF-8
inline std::size_t code_point_length(std::string_view text) {
  utf8proc_int32_t code_point = 0;
  const auto length = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                       static_cast<utf8proc_ssize_t>(text.size()), &code_point);
  gptq::detail::require<FormatError>(length > 0, "the text is not valid UTF-8");
  return static_cast<std::size_t>(length);
}

/// \throws FormatError  names the byte where valid UTF-8 ends
inline void require_utf8(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    if (static_cast<unsigned char>(text[at]) < 0x80) {
      ++at;
      continue;
    }
    utf8proc_int32_t code_point = 0;
    const auto length =
        utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()) + at,
                         static_cast<utf8proc_ssize_t>(text.size() - at), &code_point);
    gptq::detail::require<FormatError>(length > 0, "the text is not valid UTF-8: byte ", at,
                                       " is 0x", std::hex,
                                       int(static_cast<unsigned char>(text[at])));
    at += static_cast<std::size_t>(length);
  }
}

inline std::vector<std::string_view> code_points(std::string_view text) {
  std::vector<std::string_view> parts;
  while (!text.empty()) {
    parts.push_back(text.substr(0, code_point_length(text)));
    text.remove_prefix(parts.back().size());
  }
  return parts;
}

inline std::string from_code_point(std::uint32_t code_point) {
  utf8proc_uint8_t bytes[4];
  const auto length = utf8proc_encode_char(static_cast<utf8proc_int32_t>(code_point), bytes);
  return {reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(length)};
}

enum class Form { nfc, nfd, nfkc, nfkd };

inline std::string normalize(std::string_view text, Form form) {
  int options = UTF8PROC_STABLE;
  options |= form == Form::nfc || form == Form::nfkc ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE;
  if (form == Form::nfkc || form == Form::nfkd) options |= UTF8PROC_COMPAT;
  utf8proc_uint8_t* out = nullptr;
  const auto length = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                   static_cast<utf8proc_ssize_t>(text.size()), &out,
                                   static_cast<utf8proc_option_t>(options));
  gptq::detail::require<FormatError>(length >= 0,
                                     "cannot normalize the text: ", utf8proc_errmsg(length));
  const std::unique_ptr<utf8proc_uint8_t, void (*)(void*)> owner(out, std::free);
  return {reinterpret_cast<const char*>(out), static_cast<std::size_t>(length)};
}

/// The character that stands for each byte in a byte-level vocabulary (GPT-2): printable Latin-1
/// characters stand for themselves, the others for 256, 257, ... in order.
inline const std::array<std::string, 256>& byte_alphabet() {
  static const auto alphabet = [] {
    std::array<std::string, 256> table;
    std::uint32_t next = 256;
    for (std::uint32_t b = 0; b < 256; ++b) {
      const bool printable = (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
      table[b] = from_code_point(printable ? b : next++);
    }
    return table;
  }();
  return alphabet;
}

}  // namespace gptq::model::unicode
