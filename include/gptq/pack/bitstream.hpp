// SPDX-License-Identifier: MIT
#pragma once

// Dense little-endian bit streams: code i of a stream starts at bit bits·i. The layout of GPTQ
// words (including 3-bit codes that cross word boundaries) and of compressed-tensors.

#include <gptq/core/matrix_view.hpp>

#include <cstdint>

namespace gptq::pack {

/// The number of 32-bit words that hold `count` codes.
constexpr Index word_count(Index count, int bits) { return (count * bits + 31) / 32; }

/// Packs codes down the rows: column c of `words` [word_count(rows), cols] is the stream of column
/// c of `codes` [rows, cols]. Both are traversed row by row, so rows should be contiguous.
/// \param code  code(row, col), of which only the lowest `bits` bits are used
template <class Code>
void pack_rows(const Code& code, Index rows, int bits, MatrixView<std::uint32_t> words) {
  for (Index w = 0; w < words.rows(); ++w)
    for (Index c = 0; c < words.cols(); ++c) words(w, c) = 0;
  const std::uint32_t mask = (1u << bits) - 1u;
  for (Index r = 0; r < rows; ++r) {
    const Index word = r * bits / 32;
    const int shift = static_cast<int>(r * bits % 32);
    const bool crosses = shift + bits > 32;
    for (Index c = 0; c < words.cols(); ++c) {
      const std::uint32_t value = static_cast<std::uint32_t>(code(r, c)) & mask;
      words(word, c) |= value << shift;
      if (crosses) words(word + 1, c) |= value >> (32 - shift);
    }
  }
}

/// Code `index` of the stream given by word(i), i ≥ 0.
template <class Word>
std::uint32_t unpack(const Word& word, Index index, int bits) {
  const Index first = index * bits / 32;
  const int shift = static_cast<int>(index * bits % 32);
  std::uint64_t both = word(first);
  if (shift + bits > 32) both |= static_cast<std::uint64_t>(word(first + 1)) << 32;
  return static_cast<std::uint32_t>(both >> shift) & ((1u << bits) - 1u);
}

}  // namespace gptq::pack
