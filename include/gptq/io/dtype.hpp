// SPDX-License-Identifier: MIT
#pragma once

// DType: the element types of safetensors files, their names and sizes, and how the floating-point
// ones are read.

#include <gptq/core/error.hpp>
#include <gptq/core/half.hpp>
#include <gptq/core/minifloat.hpp>

#include <algorithm>  // std::min
#include <array>
#include <cstddef>  // std::byte, std::ptrdiff_t
#include <cstdint>
#include <cstring>  // std::memcpy
#include <limits>
#include <span>
#include <string_view>
#include <type_traits>

namespace gptq::io {

enum class DType {
  U64,
  I64,
  F64,
  C64,
  F32,
  U32,
  I32,
  BF16,
  F16,
  U16,
  I16,
  F8_E5M2,
  F8_E4M3,
  F8_E8M0,
  F8_E4M3FNUZ,
  F8_E5M2FNUZ,
  I8,
  U8,
  F6_E2M3,
  F6_E3M2,
  F4,
  BOOL,
};

/// A type's name and the bits per element.
struct DTypeInfo {
  std::string_view name;
  int bits;
};

/// In the order of DType, which is also the order in which the reference writer sorts tensors:
/// widest types first.
inline constexpr std::array<DTypeInfo, 22> dtype_table{{
    {"U64", 64},        {"I64", 64},    {"F64", 64},    {"C64", 64},    {"F32", 32},
    {"U32", 32},        {"I32", 32},    {"BF16", 16},   {"F16", 16},    {"U16", 16},
    {"I16", 16},        {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8},
    {"F8_E5M2FNUZ", 8}, {"I8", 8},      {"U8", 8},      {"F6_E2M3", 6}, {"F6_E3M2", 6},
    {"F4", 4},          {"BOOL", 8},
}};

inline const DTypeInfo& info(DType type) { return dtype_table[static_cast<std::size_t>(type)]; }
inline std::string_view name(DType type) { return info(type).name; }
inline int bits(DType type) { return info(type).bits; }

/// \throws FormatError  no such type
inline DType parse_dtype(std::string_view text) {
  for (std::size_t i = 0; i < dtype_table.size(); ++i)
    if (dtype_table[i].name == text) return static_cast<DType>(i);
  throw FormatError(gptq::detail::message("unknown dtype \"", text, "\""));
}

/// Whether `to_floats` can read the type.
inline bool is_float(DType type) {
  return type == DType::F64 || type == DType::F32 || type == DType::F16 || type == DType::BF16 ||
         type == DType::F8_E4M3 || type == DType::F8_E5M2;
}

/// A number of 8 bits: 4 of the exponent and 3 of the mantissa; NaN, but no infinity.
struct StoredE4M3 {
  std::uint8_t bits;
};
inline float to_float(StoredE4M3 x) {
  const int ordinal = x.bits & 0x7f;
  if (ordinal > Float8E4M3::max_ordinal) return std::numeric_limits<float>::quiet_NaN();
  const float magnitude = Float8E4M3::value(ordinal);
  return x.bits & 0x80 ? -magnitude : magnitude;
}

/// The upper half of a float16.
struct StoredE5M2 {
  std::uint8_t bits;
};
inline float to_float(StoredE5M2 x) {
  return to_float(float16{static_cast<std::uint16_t>(x.bits << 8)});
}

/// Converts `out.size()` little-endian numbers.
/// \throws FormatError  the type is not one for which is_float() holds
inline void to_floats(DType type, std::span<const std::byte> bytes, std::span<float> out) {
  const auto convert = [&]<class T>(T) {
    for (std::size_t i = 0; i < out.size(); ++i) {
      T x;
      std::memcpy(&x, bytes.data() + i * sizeof(T), sizeof(T));
      if constexpr (std::is_same_v<T, double>) out[i] = static_cast<float>(x);
      else out[i] = to_float(x);
    }
  };
  gptq::detail::require<FormatError>(
      bytes.size() * 8 == out.size() * static_cast<std::size_t>(bits(type)),
      "to_floats: ", bytes.size(), " bytes for ", out.size(), " numbers of ", bits(type), " bits");
  switch (type) {
    case DType::F32: std::memcpy(out.data(), bytes.data(), bytes.size()); return;
    case DType::F16: return convert(float16{});
    case DType::BF16: return convert(bfloat16{});
    case DType::F64: return convert(double{});
    case DType::F8_E4M3: return convert(StoredE4M3{});
    case DType::F8_E5M2: return convert(StoredE5M2{});
    default:
      throw FormatError(gptq::detail::message(
          "dtype ", name(type), " is not a floating-point type of 8, 16, 32 or 64 bits"));
  }
}

/// Writes a number, little-endian.
/// \param type  F32, F16 or BF16
inline void store(float x, DType type, std::byte* to) {
  const auto copy = [to](const auto& number) { std::memcpy(to, &number, sizeof(number)); };
  if (type == DType::F32) copy(x);
  else if (type == DType::F16) copy(to_float16(x));
  else copy(to_bfloat16(x));
}

/// The first element that is infinite or NaN, or -1; always -1 for types that have neither.
inline std::ptrdiff_t find_non_finite(DType type, std::span<const std::byte> bytes) {
  const auto find = [&]<class Word>(Word exponent) -> std::ptrdiff_t {
    // Whole blocks first, in loops without an early exit, which the compiler can vectorize.
    constexpr std::size_t block = 1024;
    Word words[block];
    const std::size_t count = bytes.size() / sizeof(Word);
    for (std::size_t begin = 0; begin < count; begin += block) {
      const std::size_t size = (std::min)(block, count - begin);
      std::memcpy(words, bytes.data() + begin * sizeof(Word), size * sizeof(Word));
      unsigned bad = 0;
      for (std::size_t i = 0; i < size; ++i) bad |= (words[i] & exponent) == exponent ? 1u : 0u;
      if (bad == 0) continue;
      for (std::size_t i = 0;; ++i)
        if ((words[i] & exponent) == exponent) return static_cast<std::ptrdiff_t>(begin + i);
    }
    return -1;
  };
  switch (type) {
    case DType::F64: return find(std::uint64_t(0x7ff0000000000000u));
    case DType::F32: return find(std::uint32_t(0x7f800000u));
    case DType::F16: return find(std::uint16_t(0x7c00u));
    case DType::BF16: return find(std::uint16_t(0x7f80u));
    case DType::F8_E4M3: return find(std::uint8_t(0x7fu));
    case DType::F8_E5M2: return find(std::uint8_t(0x7cu));
    default: return -1;
  }
}

}  // namespace gptq::io
