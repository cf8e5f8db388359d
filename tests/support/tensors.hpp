// SPDX-License-Identifier: MIT
#pragma once

// Tensors of safetensors files as vectors.

#include <gptq/io/safetensors.hpp>

#include <cstring>
#include <string>
#include <vector>

namespace test {

/// The elements of a tensor of type T.
template <class T>
std::vector<T> numbers(const gptq::io::Safetensors& file, const std::string& name) {
  const auto bytes = file.at(name).bytes;
  std::vector<T> out(bytes.size() / sizeof(T));
  std::memcpy(out.data(), bytes.data(), bytes.size());
  return out;
}

}  // namespace test
