// SPDX-License-Identifier: MIT
#pragma once

// What is said where a tokenizer needs something that this library does not do: the part's name and
// the way round it.

#include <gptq/core/error.hpp>

#include <string>

namespace gptq::model {

/// The way out of everything that this tokenizer cannot do.
inline constexpr const char* tokenize_elsewhere =
    "tokenize with another program and pass the ids with --tokens FILE";

/// \throws FormatError  always: the tokenizer uses `what`
[[noreturn]] inline void unsupported_component(const std::string& what) {
  throw FormatError(gptq::detail::message("the tokenizer uses ", what, ", which is not supported; ",
                                          tokenize_elsewhere));
}

}  // namespace gptq::model
