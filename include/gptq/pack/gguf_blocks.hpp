// SPDX-License-Identifier: MIT
#pragma once

// The quantized blocks of GGUF files and how to dequantize them. A block holds 32, 64 or 256
// neighbouring inputs of one row; d, m and dmin are its half-precision scale and offsets, c_j the
// code of element j.

#include <gptq/core/error.hpp>
#include <gptq/core/half.hpp>
#include <gptq/core/minifloat.hpp>
#include <gptq/pack/gguf_grid_blocks.hpp>
#include <gptq/pack/gguf_types.hpp>

#include <cmath>  // std::isfinite
#include <cstddef>
#include <cstdint>
#include <cstring>  // std::memcpy
#include <limits>
#include <span>

namespace gptq::pack {

namespace detail {

/// Q4_0, Q4_1, Q5_0, Q5_1: nibbles of elements j and j + 16 share a byte; the 5-bit types store the
/// fifth bits separately.
inline void legacy_block(GgmlType type, const std::uint8_t* p, float* out) {
  const bool five = type == GgmlType::Q5_0 || type == GgmlType::Q5_1;
  const bool offset = type == GgmlType::Q4_1 || type == GgmlType::Q5_1;
  const float d = half_at(p), m = offset ? half_at(p + 2) : 0.0f;
  p += offset ? 4 : 2;
  std::uint32_t high = 0;
  if (five) {
    std::memcpy(&high, p, 4);
    p += 4;
  }
  const int centre = offset ? 0 : five ? 16 : 8;
  for (int j = 0; j < 32; ++j) {
    const int nibble = j < 16 ? p[j] & 15 : p[j - 16] >> 4;
    const int code = nibble | static_cast<int>((high >> j & 1u) << 4);
    out[j] = d * static_cast<float>(code - centre) + m;
  }
}

/// The twelve bytes that hold eight 6-bit scales and eight 6-bit mins of Q4_K and Q5_K.
inline void k_scale_min(int i, const std::uint8_t* s, int& scale, int& min) {
  if (i < 4) {
    scale = s[i] & 63;
    min = s[i + 4] & 63;
  } else {
    scale = (s[i + 4] & 15) | (s[i - 4] >> 6) << 4;
    min = s[i + 4] >> 4 | (s[i] >> 6) << 4;
  }
}

inline void q2_k_block(const std::uint8_t* p, float* out) {
  const std::uint8_t* scales = p;
  const std::uint8_t* codes = p + 16;
  const float d = half_at(p + 80), dmin = half_at(p + 82);
  for (int j = 0; j < 256; ++j) {
    const int n = j / 128, r = j % 128, s = scales[j / 16];
    const int code = codes[32 * n + r % 32] >> (2 * (r / 32)) & 3;
    out[j] = d * static_cast<float>((s & 15) * code) - dmin * static_cast<float>(s >> 4);
  }
}

inline void q3_k_block(const std::uint8_t* p, float* out) {
  const std::uint8_t* high = p;
  const std::uint8_t* codes = p + 32;
  const std::uint8_t* scales = p + 96;
  const float d = half_at(p + 108);
  for (int j = 0; j < 256; ++j) {
    const int n = j / 128, r = j % 128, i = j / 16;
    const int low = codes[32 * n + r % 32] >> (2 * (r / 32)) & 3;
    const int code = low | (high[j % 32] >> (j / 32) & 1) << 2;
    const int scale =
        (scales[i % 8] >> (i < 8 ? 0 : 4) & 15) | (scales[8 + i % 4] >> (2 * (i / 4)) & 3) << 4;
    out[j] = d * static_cast<float>((scale - 32) * (code - 4));
  }
}

inline void q4_k_block(const std::uint8_t* p, float* out) {
  const float d = half_at(p), dmin = half_at(p + 2);
  const std::uint8_t* codes = p + 16;
  for (int j = 0; j < 256; ++j) {
    int scale, min;
    k_scale_min(j / 32, p + 4, scale, min);
    const int byte = codes[32 * (j / 64) + j % 32];
    const int code = j % 64 < 32 ? byte & 15 : byte >> 4;
    out[j] = d * static_cast<float>(scale * code) - dmin * static_cast<float>(min);
  }
}

inline void q5_k_block(const std::uint8_t* p, float* out) {
  const float d = half_at(p), dmin = half_at(p + 2);
  const std::uint8_t* high = p + 16;
  const std::uint8_t* codes = p + 48;
  for (int j = 0; j < 256; ++j) {
    int scale, min;
    k_scale_min(j / 32, p + 4, scale, min);
    const int byte = codes[32 * (j / 64) + j % 32];
    const int code = (j % 64 < 32 ? byte & 15 : byte >> 4) | (high[j % 32] >> (j / 32) & 1) << 4;
    out[j] = d * static_cast<float>(scale * code) - dmin * static_cast<float>(min);
  }
}

inline void q6_k_block(const std::uint8_t* p, float* out) {
  const std::uint8_t* low = p;
  const std::uint8_t* high = p + 128;
  const float d = half_at(p + 208);
  for (int j = 0; j < 256; ++j) {
    const int n = j / 128, r = j % 128, l = r % 32, quarter = r / 32;
    const int low4 = low[64 * n + l + 32 * (quarter & 1)] >> (quarter < 2 ? 0 : 4) & 15;
    const int code = low4 | (high[32 * n + l] >> (2 * quarter) & 3) << 4;
    const int scale = static_cast<std::int8_t>(p[192 + j / 16]);
    out[j] = d * static_cast<float>(scale * (code - 32));
  }
}

/// The numbers that codes of IQ4_NL and IQ4_XS stand for, closer together around zero.
inline constexpr std::int8_t iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                               1,    13,   25,  38,  53,  69,  89,  113};

/// `values[code]` times `scale`; nibbles of elements j and j + count / 2 share a byte.
template <class T>
void nibble_values(const T* values, float scale, const std::uint8_t* codes, int count, float* out) {
  for (int j = 0; j < count / 2; ++j) {
    out[j] = scale * static_cast<float>(values[codes[j] & 15]);
    out[j + count / 2] = scale * static_cast<float>(values[codes[j] >> 4]);
  }
}

inline void iq4_xs_block(const std::uint8_t* p, float* out) {
  const float d = half_at(p);
  const int high = p[2] | p[3] << 8;
  for (int i = 0; i < 8; ++i) {
    const int scale = static_cast<int>(nibble_at(p + 4, i)) | (high >> (2 * i) & 3) << 4;
    nibble_values(iq4_values, d * static_cast<float>(scale - 32), p + 8 + 16 * i, 32, out + 32 * i);
  }
}

/// The numbers that E2M1 codes stand for: MXFP4 and NVFP4.
inline constexpr float e2m1_values[16] = {0,     0.5f,  1,  1.5f,  2,  3,  4,  6,
                                          -0.0f, -0.5f, -1, -1.5f, -2, -3, -4, -6};

/// The number that an E8M0 scale stands for: a power of two, or NaN.
inline float e8m0(std::uint8_t bits) {
  if (bits == 255) return std::numeric_limits<float>::quiet_NaN();
  return bits == 0 ? 0x1p-127f : Float4E2M1::power_of_two(bits - 127);
}

/// The number that an unsigned E4M3 scale stands for. ggml reads NaN as zero.
inline float ue4m3(std::uint8_t bits) {
  return bits == 0x7f ? 0.0f : Float8E4M3::value(bits & 0x7f);
}

/// Four groups of 16, each with a scale.
inline void nvfp4_block(const std::uint8_t* p, float* out) {
  for (int i = 0; i < 4; ++i)
    nibble_values(e2m1_values, ue4m3(p[i]), p + 4 + 8 * i, 16, out + 16 * i);
}

inline void q2_0_block(const std::uint8_t* p, float* out) {
  const float d = half_at(p);
  for (int j = 0; j < 64; ++j)
    out[j] = d * static_cast<float>((p[2 + j / 4] >> (2 * (j % 4)) & 3) - 1);
}

inline void tq2_0_block(const std::uint8_t* p, float* out) {
  const float d = half_at(p + 64);
  for (int j = 0; j < 256; ++j) {
    const int n = j / 128, r = j % 128;
    out[j] = d * static_cast<float>((p[32 * n + r % 32] >> (2 * (r / 32)) & 3) - 1);
  }
}

/// A byte holds five ternary digits as a fraction of 256: times 3ⁿ modulo 256 drops the first n,
/// times 3 divided by 256 is the next. The last four bytes hold four digits.
inline void tq1_0_block(const std::uint8_t* p, float* out) {
  const float d = half_at(p + 52);
  const auto digits = [&](const std::uint8_t* bytes, int width, int count) {
    for (int n = 0, power = 1; n < count; ++n, power *= 3)
      for (int j = 0; j < width; ++j)
        *out++ = d * static_cast<float>(((bytes[j] * power & 255) * 3 >> 8) - 1);
  };
  digits(p, 32, 5);
  digits(p + 32, 16, 5);
  digits(p + 48, 4, 4);
}

/// Whether all numbers of a block are finite. Codes are small, so only its scales matter, except
/// next to the largest scales of MXFP4.
inline bool is_finite_block(GgmlType type, const std::uint8_t* p) {
  const auto finite = [p](int at) { return (p[at + 1] & 0x7c) != 0x7c; };  // a half's exponent
  switch (type) {
    case GgmlType::Q4_1:
    case GgmlType::Q5_1:
    case GgmlType::Q4_K:
    case GgmlType::Q5_K: return finite(0) && finite(2);
    case GgmlType::Q2_K: return finite(80) && finite(82);
    case GgmlType::Q3_K: return finite(108);
    case GgmlType::Q6_K: return finite(208);
    case GgmlType::IQ1_M: return std::isfinite(iq1_m_scale(p));
    case GgmlType::TQ1_0: return finite(52);
    case GgmlType::TQ2_0: return finite(64);
    case GgmlType::NVFP4: return true;
    case GgmlType::MXFP4: {
      const float scale = e8m0(p[0]);
      if (scale <= 0x1p125f) return true;  // times 6 is finite
      float numbers[32];
      nibble_values(e2m1_values, scale, p + 1, 32, numbers);
      for (const float x : numbers)
        if (!std::isfinite(x)) return false;
      return true;
    }
    default: return finite(0);
  }
}

}  // namespace detail

/// The first block whose numbers are not all finite, or -1.
/// \param type   a block type: not F32, F16 or BF16
/// \param bytes  whole blocks
inline Index find_non_finite_block(const GgmlTypeInfo& type, std::span<const std::byte> bytes) {
  const auto* p = reinterpret_cast<const std::uint8_t*>(bytes.data());
  const Index blocks = static_cast<Index>(bytes.size()) / type.bytes;
  for (Index i = 0; i < blocks; ++i, p += type.bytes)
    if (!detail::is_finite_block(type.type, p)) return i;
  return -1;
}

/// Dequantizes `out.size()` elements, in whole blocks.
/// \throws FormatError  the sizes do not match
inline void dequantize_ggml(const GgmlTypeInfo& type, std::span<const std::byte> bytes,
                            std::span<float> out) {
  const auto count = static_cast<Index>(out.size());
  gptq::detail::require<FormatError>(
      count % type.elements == 0 &&
          static_cast<Index>(bytes.size()) == count / type.elements * type.bytes,
      bytes.size(), " bytes of ", type.name, " for ", count, " elements");
  const auto* p = reinterpret_cast<const std::uint8_t*>(bytes.data());
  float* to = out.data();
  for (Index i = 0; i < count / type.elements; ++i, p += type.bytes, to += type.elements)
    switch (type.type) {
      case GgmlType::F32: std::memcpy(to, p, 4); break;
      case GgmlType::F16: *to = detail::half_at(p); break;
      case GgmlType::BF16:
        *to = to_float(bfloat16{static_cast<std::uint16_t>(p[0] | p[1] << 8)});
        break;
      case GgmlType::Q4_0:
      case GgmlType::Q4_1:
      case GgmlType::Q5_0:
      case GgmlType::Q5_1: detail::legacy_block(type.type, p, to); break;
      case GgmlType::Q8_0:
        for (int j = 0; j < 32; ++j)
          to[j] = detail::half_at(p) * static_cast<float>(static_cast<std::int8_t>(p[2 + j]));
        break;
      case GgmlType::Q2_K: detail::q2_k_block(p, to); break;
      case GgmlType::Q3_K: detail::q3_k_block(p, to); break;
      case GgmlType::Q4_K: detail::q4_k_block(p, to); break;
      case GgmlType::Q5_K: detail::q5_k_block(p, to); break;
      case GgmlType::Q6_K: detail::q6_k_block(p, to); break;
      case GgmlType::IQ1_S: detail::iq1_s_block(p, to); break;
      case GgmlType::IQ1_M: detail::iq1_m_block(p, to); break;
      case GgmlType::IQ2_XXS: detail::iq2_xxs_block(p, to); break;
      case GgmlType::IQ2_XS: detail::iq2_xs_block(p, to); break;
      case GgmlType::IQ2_S: detail::iq2_s_block(p, to); break;
      case GgmlType::IQ3_XXS: detail::iq3_xxs_block(p, to); break;
      case GgmlType::IQ3_S: detail::iq3_s_block(p, to); break;
      case GgmlType::IQ4_NL:
        detail::nibble_values(detail::iq4_values, detail::half_at(p), p + 2, 32, to);
        break;
      case GgmlType::IQ4_XS: detail::iq4_xs_block(p, to); break;
      case GgmlType::MXFP4:
        detail::nibble_values(detail::e2m1_values, detail::e8m0(p[0]), p + 1, 32, to);
        break;
      case GgmlType::NVFP4: detail::nvfp4_block(p, to); break;
      case GgmlType::Q2_0: detail::q2_0_block(p, to); break;
      case GgmlType::TQ1_0: detail::tq1_0_block(p, to); break;
      case GgmlType::TQ2_0: detail::tq2_0_block(p, to); break;
    }
}

}  // namespace gptq::pack
