// SPDX-License-Identifier: MIT
#pragma once

// What characters are to the tokenizers library outside of expressions. It takes punctuation and
// marks from tables of Unicode 8, and lower case from those of its compiler, so newer and older
// utf8proc alike need the differences.

#include <gptq/model/tokenizer/unicode.hpp>

#include <utf8proc.h>

#include <algorithm>  // std::any_of
#include <cstdint>
#include <iterator>  // std::begin
#include <string>
#include <string_view>

namespace gptq::model::unicode {

namespace detail {

/// The first and the last code point.
struct Range {
  std::uint32_t first, last;
};

/// Ranges whose punctuation Unicode 8 did not have.
inline constexpr Range new_punctuation[] = {
    {0x61d, 0x61d},     {0x9fd, 0xa76},     {0xc77, 0xc84},     {0x1b4e, 0x1b4f},
    {0x1b7d, 0x1b7f},   {0x2e43, 0x2e63},   {0x10d6e, 0x10f89}, {0x113d4, 0x1145d},
    {0x11660, 0x116b9}, {0x1183b, 0x11fff}, {0x12ff1, 0x12ff2}, {0x16d6d, 0x16fe2},
    {0x1e5ff, 0x1e95f}};

/// Ranges whose marks Unicode 8 did not have.
inline constexpr Range new_marks[] = {
    {0x5c8, 0x5c9},     {0x7fd, 0x7fd},     {0x897, 0x8d3},     {0x9fe, 0x9fe},
    {0xafa, 0xaff},     {0xb53, 0xb55},     {0xc04, 0xc3c},     {0xcf3, 0xd00},
    {0xd3b, 0xd3c},     {0xd81, 0xd81},     {0xeba, 0xeba},     {0xece, 0xece},
    {0x1715, 0x1715},   {0x180f, 0x180f},   {0x1abf, 0x1af0},   {0x1cf7, 0x1cf7},
    {0x1df6, 0x1dfa},   {0xa82c, 0xa82c},   {0xa8ff, 0xa8ff},   {0x10d24, 0x10f85},
    {0x11070, 0x11074}, {0x110c2, 0x110c2}, {0x11145, 0x11146}, {0x111c9, 0x111c9},
    {0x111ce, 0x111cf}, {0x11241, 0x11241}, {0x1133b, 0x1133b}, {0x113b8, 0x113e2},
    {0x1145e, 0x1145e}, {0x1182c, 0x11b67}, {0x11d31, 0x1612f}, {0x16f4f, 0x16f4f},
    {0x16f7f, 0x16f87}, {0x16fe4, 0x16ff1}, {0x1cf00, 0x1d128}, {0x1d250, 0x1d281},
    {0x1e08f, 0x1e6f5}};

template <std::size_t n>
bool is_in(const Range (&ranges)[n], std::uint32_t c) {
  return std::any_of(std::begin(ranges), std::end(ranges),
                     [c](const Range& range) { return c >= range.first && c <= range.last; });
}

inline utf8proc_category_t category(std::uint32_t c) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(c));
}

/// Capital letters newer than Unicode 15, and their small letters.
inline std::uint32_t new_small_letter(std::uint32_t c) {
  if (c >= 0x10d50 && c <= 0x10d65) return c + 0x20;
  if (c >= 0x16ea0 && c <= 0x16eb8) return c + 0x1b;
  if (c == 0xa7cb) return 0x264;
  if (c == 0xa7dc) return 0x19b;
  for (const std::uint32_t capital : {0x1c89U, 0xa7ccU, 0xa7ceU, 0xa7d2U, 0xa7d4U, 0xa7daU})
    if (c == capital) return c + 1;
  return 0;
}

}  // namespace detail

/// What the pre-tokenizer Punctuation cuts at: categories P and, in ASCII, also S.
inline bool is_punctuation(std::uint32_t c) {
  if (c < 0x80)
    return c > ' ' && c < 0x7f && !(c >= '0' && c <= '9') &&
           !((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
  if (c == 0x166d || c == 0x111c9) return true;  // in Unicode 8
  const auto category = detail::category(c);
  return category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO &&
         !detail::is_in(detail::new_punctuation, c);
}

/// What the normalizer StripAccents removes: category M.
inline bool is_mark(std::uint32_t c) {
  if (c < 0x300) return false;
  if (c == 0x1cf2 || c == 0x1cf3) return true;  // in Unicode 8
  const auto category = detail::category(c);
  return category >= UTF8PROC_CATEGORY_MN && category <= UTF8PROC_CATEGORY_ME &&
         !detail::is_in(detail::new_marks, c);
}

/// Each character in lower case, whatever surrounds it.
inline std::string lower_case(std::string_view text) {
  std::string lower;
  lower.reserve(text.size());
  while (!text.empty()) {
    const auto [c, size] = first_character(text);
    const std::uint32_t small = detail::new_small_letter(c);
    if (c < 0x80) lower += static_cast<char>(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
    else if (c == 0x130) lower += "i\u0307";  // the only one that becomes two
    else if (small > 0) lower += from_code_point(small);
    else
      lower += from_code_point(
          static_cast<std::uint32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
    text.remove_prefix(size);
  }
  return lower;
}

}  // namespace gptq::model::unicode
