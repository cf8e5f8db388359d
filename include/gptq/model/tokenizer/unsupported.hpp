// SPDX-License-Identifier: MIT
#pragma once

// The error for a tokenizer that needs something unsupported: names the part and a workaround.

#include <gptq/core/error.hpp>

#include <string>

namespace gptq::model {

/// The workaround for everything that this tokenizer cannot do.
inline constexpr const char* tokenize_elsewhere =
    "tokenize with another program and pass the ids with --tokens FILE";

/// \throws FormatError  always; says that the tokenizer uses `what`
[[noreturn]] inline void unsupported_component(const std::string& what) {
  throw FormatError(gptq::detail::message("the tokenizer uses ", what, ", which is not supported; ",
                                          tokenize_elsewhere));
}

}  // namespace gptq::model
