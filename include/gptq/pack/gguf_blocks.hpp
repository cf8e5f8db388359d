// SPDX-License-Identifier: MIT
#pragma once

// The quantized blocks of GGUF files and how to dequantize them. A block holds 32 or 256
// neighbouring inputs of one row; d, m and dmin are its half-precision scale and offsets, c_j the
// code of element j.

#include <gptq/core/error.hpp>
#include <gptq/core/half.hpp>
#include <gptq/core/matrix_view.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>   // std::memcpy
#include <iterator>  // std::size
#include <span>
#include <string>
#include <string_view>

namespace gptq::pack {

/// ggml_type numbers of the supported types.
enum class GgmlType : std::uint32_t {
  F32 = 0,
  F16 = 1,
  Q4_0 = 2,
  Q4_1 = 3,
  Q5_0 = 6,
  Q5_1 = 7,
  Q8_0 = 8,
  Q2_K = 10,
  Q3_K = 11,
  Q4_K = 12,
  Q5_K = 13,
  Q6_K = 14,
  BF16 = 30,
};

/// The size of a block of a GGUF type.
struct GgmlTypeInfo {
  GgmlType type;
  std::string_view name;
  Index elements;  ///< per block
  Index bytes;     ///< per block
};

inline constexpr GgmlTypeInfo ggml_types[] = {
    {GgmlType::F32, "F32", 1, 4},       {GgmlType::F16, "F16", 1, 2},
    {GgmlType::BF16, "BF16", 1, 2},     {GgmlType::Q4_0, "Q4_0", 32, 18},
    {GgmlType::Q4_1, "Q4_1", 32, 20},   {GgmlType::Q5_0, "Q5_0", 32, 22},
    {GgmlType::Q5_1, "Q5_1", 32, 24},   {GgmlType::Q8_0, "Q8_0", 32, 34},
    {GgmlType::Q2_K, "Q2_K", 256, 84},  {GgmlType::Q3_K, "Q3_K", 256, 110},
    {GgmlType::Q4_K, "Q4_K", 256, 144}, {GgmlType::Q5_K, "Q5_K", 256, 176},
    {GgmlType::Q6_K, "Q6_K", 256, 210},
};

/// The entry of a type, or nullptr if it is not supported.
constexpr const GgmlTypeInfo* find_ggml_type(std::uint32_t type) {
  for (const GgmlTypeInfo& info : ggml_types)
    if (static_cast<std::uint32_t>(info.type) == type) return &info;
  return nullptr;
}

/// The name of a type, supported or not; "" for an unknown number.
constexpr std::string_view ggml_type_name(std::uint32_t type) {
  constexpr std::string_view names[] = {
      "F32",   "F16",        "Q4_0",       "Q4_1",       "Q4_2",     "Q4_3",     "Q5_0",
      "Q5_1",  "Q8_0",       "Q8_1",       "Q2_K",       "Q3_K",     "Q4_K",     "Q5_K",
      "Q6_K",  "Q8_K",       "IQ2_XXS",    "IQ2_XS",     "IQ3_XXS",  "IQ1_S",    "IQ4_NL",
      "IQ3_S", "IQ2_S",      "IQ4_XS",     "I8",         "I16",      "I32",      "I64",
      "F64",   "IQ1_M",      "BF16",       "Q4_0_4_4",   "Q4_0_4_8", "Q4_0_8_8", "TQ1_0",
      "TQ2_0", "IQ4_NL_4_4", "IQ4_NL_4_8", "IQ4_NL_8_8", "MXFP4",    "NVFP4",    "Q1_0",
      "Q2_0"};
  return type < std::size(names) ? names[type] : std::string_view();
}

/// "F32, F16, ... Q5_K and Q6_K"
inline std::string readable_ggml_types() {
  std::string text;
  constexpr std::size_t count = std::size(ggml_types);
  for (std::size_t i = 0; i < count; ++i)
    text += std::string(i == 0          ? ""
                        : i + 1 < count ? ", "
                                        : " and ") +
            std::string(ggml_types[i].name);
  return text;
}

namespace detail {

inline float half_at(const std::uint8_t* p) {
  return to_float(float16{static_cast<std::uint16_t>(p[0] | p[1] << 8)});
}

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

}  // namespace detail

/// The first block whose numbers are not all finite, or -1. Codes are integers, so only the
/// half-precision numbers of a block matter.
/// \param type   a block type: not F32, F16 or BF16
/// \param bytes  whole blocks
inline Index find_non_finite_block(const GgmlTypeInfo& type, std::span<const std::byte> bytes) {
  int first = 0, second = 0;  // offsets of the half-precision numbers; equal if there is only one
  switch (type.type) {
    case GgmlType::Q4_1:
    case GgmlType::Q5_1:
    case GgmlType::Q4_K:
    case GgmlType::Q5_K: second = 2; break;
    case GgmlType::Q2_K: first = 80, second = 82; break;
    case GgmlType::Q3_K: first = second = 108; break;
    case GgmlType::Q6_K: first = second = 208; break;
    default: break;
  }
  const auto* p = reinterpret_cast<const std::uint8_t*>(bytes.data());
  const Index blocks = static_cast<Index>(bytes.size()) / type.bytes;
  for (Index i = 0; i < blocks; ++i, p += type.bytes)
    for (const int at : {first, second})
      if ((p[at + 1] & 0x7c) == 0x7c) return i;  // sign and exponent are in the second byte
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
    }
}

}  // namespace gptq::pack
