// SPDX-License-Identifier: MIT
#pragma once

// What is known about a tensor before its numbers are read.

#include <gptq/core/matrix_view.hpp>
#include <gptq/io/dtype.hpp>

#include <limits>
#include <string>
#include <vector>

namespace gptq::io {

/// The file of a model folder that says which tensors are in which shard.
inline constexpr const char* safetensors_index = "model.safetensors.index.json";

using Shape = std::vector<Index>;

/// "[576, 49152]"
inline std::string to_string(const Shape& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

/// "a, b, c and 7 more": the first few of some names.
inline std::string some_of(const std::vector<std::string>& names) {
  constexpr std::size_t shown = 3;
  std::string text;
  for (std::size_t i = 0; i < names.size() && i < shown; ++i)
    text += (i > 0 ? ", " : "") + names[i];
  if (names.size() > shown) text += " and " + std::to_string(names.size() - shown) + " more";
  return text;
}

/// Number of elements.
/// \throws FormatError  a dimension is negative or the product does not fit
inline Index element_count(const Shape& shape) {
  Index count = 1;
  for (const Index d : shape) {
    if (d < 0)
      throw FormatError(gptq::detail::message("negative dimension in shape ", to_string(shape)));
    if (d != 0 && count > std::numeric_limits<Index>::max() / 64 / d)
      throw FormatError(gptq::detail::message("the shape ", to_string(shape), " overflows"));
    count *= d;
  }
  return count;
}

}  // namespace gptq::io
