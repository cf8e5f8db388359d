// SPDX-License-Identifier: MIT
#pragma once

// Dequantizing the IQ1, IQ2 and IQ3 blocks of GGUF files: 256 elements, four or eight at a time an
// entry of a grid, with signs that are stored beside it.

#include <gptq/pack/gguf_grids.hpp>
#include <gptq/pack/gguf_ternary_grid.hpp>
#include <gptq/pack/gguf_types.hpp>

#include <bit>  // std::popcount
#include <cstdint>

namespace gptq::pack::detail {

inline constexpr float iq2_magnitudes[3] = {8, 25, 43};
inline constexpr float iq3_xxs_magnitudes[8] = {4, 12, 20, 28, 36, 44, 52, 62};
inline constexpr float iq3_s_magnitudes[8] = {1, 3, 5, 7, 9, 11, 13, 15};

inline std::uint32_t u16_at(const std::uint8_t* p) {
  return p[0] | static_cast<std::uint32_t>(p[1]) << 8;
}

inline std::uint32_t u32_at(const std::uint8_t* p) { return u16_at(p) | u16_at(p + 2) << 16; }

/// Nibble i of the bytes at p.
inline std::uint32_t nibble_at(const std::uint8_t* p, int i) {
  return p[i / 2] >> (4 * (i % 2)) & 15u;
}

/// Eight signs, 1 for negative, from seven: the number of negative ones is even.
inline std::uint32_t even_signs(std::uint32_t seven) {
  return seven | (static_cast<std::uint32_t>(std::popcount(seven)) & 1u) << 7;
}

/// `count` elements of a grid entry whose codes have `bits` bits; signs from bit 0 up.
template <int bits, int count>
void signed_entry(std::uint32_t entry, const float* magnitudes, std::uint32_t signs, float scale,
                  float* out) {
  for (int j = 0; j < count; ++j) {
    const float sign = static_cast<float>(1 - 2 * static_cast<int>(signs >> j & 1u));  // no branch
    out[j] = scale * magnitudes[entry >> (bits * j) & ((1u << bits) - 1)] * sign;
  }
}

/// d, then for each 32 elements: four bytes of indices, 4 · 7 bits of signs, 4 bits of scale.
inline void iq2_xxs_block(const std::uint8_t* p, float* out) {
  const float d = half_at(p);
  for (int k = 0; k < 32; ++k) {  // in eights
    const std::uint8_t* group = p + 2 + 8 * (k / 4);
    const std::uint32_t packed = u32_at(group + 4);
    const float scale = d * (0.5f + static_cast<float>(packed >> 28)) * 0.25f;
    signed_entry<2, 8>(iq2_xxs_grid[group[k % 4]], iq2_magnitudes,
                       even_signs(packed >> (7 * (k % 4)) & 127u), scale, out + 8 * k);
  }
}

/// d, 32 words of 9 bits of index and 7 of signs, a nibble of scale for each 16 elements.
inline void iq2_xs_block(const std::uint8_t* p, float* out) {
  const float d = half_at(p);
  for (int k = 0; k < 32; ++k) {
    const std::uint32_t word = u16_at(p + 2 + 2 * k);
    const float scale = d * (0.5f + static_cast<float>(nibble_at(p + 66, k / 2))) * 0.25f;
    signed_entry<2, 8>(iq2_xs_grid[word & 511u], iq2_magnitudes, even_signs(word >> 9), scale,
                       out + 8 * k);
  }
}

/// d, the low bytes of 32 indices, 32 bytes of signs, the two high bits of the indices, a nibble of
/// scale for each 16 elements.
inline void iq2_s_block(const std::uint8_t* p, float* out) {
  const float d = half_at(p);
  for (int k = 0; k < 32; ++k) {
    const std::uint32_t high = p[66 + k / 4] >> (2 * (k % 4)) & 3u;
    const float scale = d * (0.5f + static_cast<float>(nibble_at(p + 74, k / 2))) * 0.25f;
    signed_entry<2, 8>(iq2_s_grid[p[2 + k] | high << 8], iq2_magnitudes, p[34 + k], scale,
                       out + 8 * k);
  }
}

/// d, 64 bytes of indices, then for each 32 elements 4 · 7 bits of signs and 4 bits of scale.
inline void iq3_xxs_block(const std::uint8_t* p, float* out) {
  const float d = half_at(p);
  for (int k = 0; k < 64; ++k) {  // in fours
    const std::uint32_t packed = u32_at(p + 66 + 4 * (k / 8));
    const std::uint32_t signs = even_signs(packed >> (7 * (k / 2 % 4)) & 127u);
    const float scale = d * (0.5f + static_cast<float>(packed >> 28)) * 0.5f;
    signed_entry<4, 4>(iq3_xxs_grid[p[2 + k]], iq3_xxs_magnitudes, signs >> (4 * (k % 2)), scale,
                       out + 4 * k);
  }
}

/// d, the low bytes of 64 indices, their high bits, 32 bytes of signs, a nibble of scale for each
/// 32 elements.
inline void iq3_s_block(const std::uint8_t* p, float* out) {
  const float d = half_at(p);
  for (int k = 0; k < 64; ++k) {
    const std::uint32_t high = p[66 + k / 8] >> (k % 8) & 1u;
    const float scale = d * static_cast<float>(2 * nibble_at(p + 106, k / 8) + 1);
    signed_entry<4, 4>(iq3_s_grid[p[2 + k] | high << 8], iq3_s_magnitudes, nibble_at(p + 74, k),
                       scale, out + 4 * k);
  }
}

/// Eight elements of IQ1: each is moved by an eighth, up or down.
inline void iq1_entry(std::uint32_t entry, bool down, float scale, float* out) {
  const float first = down ? -1.125f : -0.875f;
  for (int j = 0; j < 8; ++j) out[j] = scale * (first + static_cast<float>(entry >> (2 * j) & 3u));
}

/// d, the low bytes of 32 indices, then for each 32 elements a word: 4 · 3 high bits of indices, 3
/// of scale, the direction.
inline void iq1_s_block(const std::uint8_t* p, float* out) {
  const float d = half_at(p);
  for (int k = 0; k < 32; ++k) {
    const std::uint32_t word = u16_at(p + 34 + 2 * (k / 4));
    const std::uint32_t high = word >> (3 * (k % 4)) & 7u;
    iq1_entry(iq1_grid[p[2 + k] | high << 8], word >> 15 != 0,
              d * static_cast<float>(2 * (word >> 12 & 7u) + 1), out + 8 * k);
  }
}

/// The scale of an IQ1_M block, in the highest nibbles of its last four words.
inline float iq1_m_scale(const std::uint8_t* p) {
  std::uint32_t bits = 0;
  for (int i = 0; i < 4; ++i) bits |= (u16_at(p + 48 + 2 * i) >> 12) << (4 * i);
  return to_float(float16{static_cast<std::uint16_t>(bits)});
}

/// The low bytes of 32 indices, nibbles of 3 high bits and the direction, four words of 4 · 3 bits
/// of scale for each 16 elements and a part of d.
inline void iq1_m_block(const std::uint8_t* p, float* out) {
  const float d = iq1_m_scale(p);
  for (int k = 0; k < 32; ++k) {
    const std::uint32_t high = nibble_at(p + 32, k), i = static_cast<std::uint32_t>(k) / 2;
    const std::uint32_t scale = u16_at(p + 48 + 2 * (i / 4)) >> (3 * (i % 4)) & 7u;
    iq1_entry(iq1_grid[p[k] | (high & 7u) << 8], (high & 8u) != 0,
              d * static_cast<float>(2 * scale + 1), out + 8 * k);
  }
}

}  // namespace gptq::pack::detail
