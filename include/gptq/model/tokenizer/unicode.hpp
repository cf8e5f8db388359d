// SPDX-License-Identifier: MIT
#pragma once

// What tokenizers need of Unicode: UTF-8 code points, normal forms (utf8proc) and the printable
// alphabet in which byte-level vocabularies write their bytes.

#include <gptq/core/error.hpp>

#include <utf8proc.h>

#include <array>
#include <cstdint>
#include <cstdlib>  // std::free
#include <memory>
#include <string>
#include <string_view>

namespace gptq::model::unicode {

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

inline std::string from_code_point(std::uint32_t code_point) {
  utf8proc_uint8_t bytes[4];
  const auto length = utf8proc_encode_char(static_cast<utf8proc_int32_t>(code_point), bytes);
  return {reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(length)};
}

/// White space as defined by Unicode (White_Space).
inline bool is_white_space(std::uint32_t c) {
  return c == ' ' || (c >= 0x09 && c <= 0x0d) || c == 0x85 || c == 0xa0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f ||
         c == 0x3000;
}

/// A character and its length in bytes.
struct Character {
  std::uint32_t code_point;
  std::size_t size;
};

/// The character at the start of `text`, which is valid UTF-8 and not empty.
inline Character first_character(std::string_view text) {
  const auto byte = [&](std::size_t i) {
    return static_cast<std::uint32_t>(static_cast<unsigned char>(text[i]));
  };
  const std::uint32_t first = byte(0);
  const std::size_t size = first < 0xc0 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
  if (size == 1 || size > text.size()) return {first, 1};
  std::uint32_t code_point = first & (0x7fU >> size);
  for (std::size_t i = 1; i < size; ++i) code_point = code_point << 6 | (byte(i) & 0x3f);
  return {code_point, size};
}

/// The last character of `text`, which is valid UTF-8 and not empty.
inline std::string_view last_character(std::string_view text) {
  std::size_t at = text.size() - 1;
  while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xc0) == 0x80) --at;
  return text.substr(at);
}

enum class Form { nfc, nfd, nfkc, nfkd };

namespace detail {

inline void append_normalized(std::string_view text, Form form, std::string& normal) {
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
  normal.append(reinterpret_cast<const char*>(out), static_cast<std::size_t>(length));
}

/// Characters that gained a decomposition or take part in a composition only after Unicode 12.0,
/// which the tokenizers library normalizes by: left unchanged, so that ids match the library's.
inline bool stays(std::uint32_t c) {
  return c == 0x32ff || (c >= 0xa7f2 && c <= 0xa7f4) || c == 0xab69 ||
         (c >= 0x10780 && c <= 0x107bf) || c == 0x11930 || c == 0x11938 ||
         (c >= 0x1e030 && c <= 0x1e06d);
}

inline void append_normalized_parts(std::string_view text, Form form, std::string& normal) {
  std::size_t begin = 0;
  for (std::size_t at = 0; at < text.size();) {
    const auto [code_point, size] = first_character(text.substr(at));
    if (stays(code_point)) {
      if (at > begin) append_normalized(text.substr(begin, at - begin), form, normal);
      normal.append(text, at, size);
      begin = at + size;
    }
    at += size;
  }
  if (begin < text.size()) append_normalized(text.substr(begin), form, normal);
}

}  // namespace detail

/// A normal form of a text. ASCII is its own normal form, and nothing composes with a following
/// ASCII character, so only the text in between is normalized, piece by piece.
/// \param step  called now and then
template <class Step>
std::string normalize(std::string_view text, Form form, const Step& step) {
  const auto is_ascii = [&](std::size_t at) { return static_cast<unsigned char>(text[at]) < 0x80; };
  std::string normal;
  normal.reserve(text.size());
  std::size_t begin = 0;  // of what is not yet in `normal`
  for (std::size_t at = 0; at < text.size();) {
    if (is_ascii(at)) {
      ++at;
      continue;
    }
    const std::size_t run = at == begin ? at : at - 1;  // with the preceding character
    normal.append(text, begin, run - begin);
    while (at < text.size() && !is_ascii(at)) ++at;
    detail::append_normalized_parts(text.substr(run, at - run), form, normal);
    begin = at;
    step();
  }
  normal.append(text, begin);
  return normal;
}

/// The character that stands for each byte in a byte-level vocabulary (GPT-2): printable Latin-1
/// characters stand for themselves, the other bytes become 256, 257, ... in order.
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

/// A text with each byte written as its character of the alphabet.
inline std::string to_byte_alphabet(std::string_view text) {
  const auto& alphabet = byte_alphabet();
  std::string out;
  out.reserve(2 * text.size());
  for (const char byte : text) out += alphabet[static_cast<unsigned char>(byte)];
  return out;
}

}  // namespace gptq::model::unicode
