// SPDX-License-Identifier: MIT
#pragma once

// The number types of GGUF tensors: their ggml numbers, names and block sizes.

#include <gptq/core/half.hpp>
#include <gptq/core/matrix_view.hpp>

#include <cstdint>
#include <iterator>  // std::size
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
  IQ2_XXS = 16,
  IQ2_XS = 17,
  IQ3_XXS = 18,
  IQ1_S = 19,
  IQ4_NL = 20,
  IQ3_S = 21,
  IQ2_S = 22,
  IQ4_XS = 23,
  IQ1_M = 29,
  BF16 = 30,
  TQ1_0 = 34,
  TQ2_0 = 35,
  MXFP4 = 39,
  NVFP4 = 40,
  Q2_0 = 42,
};

/// The size of a block of a GGUF type.
struct GgmlTypeInfo {
  GgmlType type;
  std::string_view name;
  Index elements;  ///< per block
  Index bytes;     ///< per block
};

inline constexpr GgmlTypeInfo ggml_types[] = {
    {GgmlType::F32, "F32", 1, 4},
    {GgmlType::F16, "F16", 1, 2},
    {GgmlType::BF16, "BF16", 1, 2},
    {GgmlType::Q4_0, "Q4_0", 32, 18},
    {GgmlType::Q4_1, "Q4_1", 32, 20},
    {GgmlType::Q5_0, "Q5_0", 32, 22},
    {GgmlType::Q5_1, "Q5_1", 32, 24},
    {GgmlType::Q8_0, "Q8_0", 32, 34},
    {GgmlType::Q2_K, "Q2_K", 256, 84},
    {GgmlType::Q3_K, "Q3_K", 256, 110},
    {GgmlType::Q4_K, "Q4_K", 256, 144},
    {GgmlType::Q5_K, "Q5_K", 256, 176},
    {GgmlType::Q6_K, "Q6_K", 256, 210},
    {GgmlType::IQ1_S, "IQ1_S", 256, 50},
    {GgmlType::IQ1_M, "IQ1_M", 256, 56},
    {GgmlType::IQ2_XXS, "IQ2_XXS", 256, 66},
    {GgmlType::IQ2_XS, "IQ2_XS", 256, 74},
    {GgmlType::IQ2_S, "IQ2_S", 256, 82},
    {GgmlType::IQ3_XXS, "IQ3_XXS", 256, 98},
    {GgmlType::IQ3_S, "IQ3_S", 256, 110},
    {GgmlType::IQ4_NL, "IQ4_NL", 32, 18},
    {GgmlType::IQ4_XS, "IQ4_XS", 256, 136},
    {GgmlType::MXFP4, "MXFP4", 32, 17},
    {GgmlType::NVFP4, "NVFP4", 64, 36},
    {GgmlType::Q2_0, "Q2_0", 64, 18},
    {GgmlType::TQ1_0, "TQ1_0", 256, 54},
    {GgmlType::TQ2_0, "TQ2_0", 256, 66},
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

/// "F32, F16, ... TQ1_0 and TQ2_0"
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

}  // namespace detail

}  // namespace gptq::pack
