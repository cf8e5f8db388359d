// SPDX-License-Identifier: MIT
#pragma once

// What is known about a tensor in a file before its numbers are read.

#include <gptq/core/matrix_view.hpp>
#include <gptq/io/dtype.hpp>

#include <nlohmann/json.hpp>

#include <limits>
#include <string>
#include <string_view>
#include <vector>

namespace gptq::io {

using Shape = std::vector<Index>;

/// "[576, 49152]"
inline std::string to_string(const Shape& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

/// Number of elements.
/// \throws FormatError  a dimension is negative or the product does not fit
inline Index element_count(const Shape& shape) {
  Index count = 1;
  for (const Index d : shape) {
    gptq::detail::require<FormatError>(d >= 0, "negative dimension in shape ", to_string(shape));
    gptq::detail::require<FormatError>(
        d == 0 || count <= std::numeric_limits<Index>::max() / 64 / d, "the shape ",
        to_string(shape), " overflows");
    count *= d;
  }
  return count;
}

/// JSON of a file that may be hostile: nesting is bounded, since parsers' users recurse over it.
/// \throws nlohmann::json::exception, FormatError
template <class Json = nlohmann::json, class Watch>
Json parse_json(std::string_view text, const Watch& watch) {
  constexpr int deepest = 64;
  return Json::parse(text, [&](int depth, typename Json::parse_event_t event, Json& parsed) {
    gptq::detail::require<FormatError>(depth <= deepest, "JSON nested deeper than ", deepest,
                                       " levels");
    return watch(event, parsed);
  });
}

template <class Json = nlohmann::json>
Json parse_json(std::string_view text) {
  return parse_json<Json>(text, [](auto, const Json&) { return true; });
}

}  // namespace gptq::io
