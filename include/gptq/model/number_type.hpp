// SPDX-License-Identifier: MIT
#pragma once

// NumberType: what the codes of a quantized module stand for.

#include <gptq/core/error.hpp>
#include <gptq/core/matrix_view.hpp>
#include <gptq/core/params.hpp>

#include <string_view>

namespace gptq::model {

/// Integers, or numbers of a small floating-point type.
enum class NumberType { integer, nf4, nvfp4, mxfp4, fp8 };

/// What belongs to a type.
struct NumberTypeInfo {
  NumberType type;
  std::string_view name;  ///< as on the command line
  int bits;               ///< per code; 0: those that the settings say
  Index group_size;       ///< the usual one; −1: one per output
  bool any_group;         ///< whether there may be others
  ScaleType scales;       ///< that files have
};

/// All types, integers first.
inline constexpr NumberTypeInfo number_types[] = {
    {NumberType::integer, "int", 0, 128, true, ScaleType::fp16},
    {NumberType::nf4, "nf4", 4, 64, true, ScaleType::fp32},
    {NumberType::nvfp4, "nvfp4", 4, 16, false, ScaleType::fp8_e4m3},
    {NumberType::mxfp4, "mxfp4", 4, 32, false, ScaleType::power_of_two},
    {NumberType::fp8, "fp8", 8, -1, false, ScaleType::bf16},
};

/// What belongs to a type.
constexpr const NumberTypeInfo& info(NumberType type) {
  for (const NumberTypeInfo& one : number_types)
    if (one.type == type) return one;
  return number_types[0];
}

/// \throws InvalidArgument  there is no such type
inline const NumberTypeInfo& number_type(std::string_view name) {
  for (const NumberTypeInfo& one : number_types)
    if (one.name == name) return one;
  throw InvalidArgument(gptq::detail::message("there are no numbers of the type \"", name, "\""));
}

}  // namespace gptq::model
