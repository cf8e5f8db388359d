// SPDX-License-Identifier: MIT
#pragma once

// The tensors outside the layers that a decoder reads.

#include <gptq/model/description.hpp>

#include <set>
#include <string>

namespace gptq::model {

/// \param parts  (module) the endings of its weight's names: ".weight", or those of packed words
template <class Parts>
std::set<std::string> tensors_outside_layers(const Description& description, const Parts& parts) {
  std::set<std::string> names{description.embeddings};
  const auto add = [&](const LinearSpec& linear) {
    for (const std::string& part : parts(linear.name)) names.insert(linear.name + part);
    if (linear.bias) names.insert(linear.name + ".bias");
  };
  for (const Block* block : {&description.entry, &description.exit}) {
    for (const VectorSpec& vector : block->vectors())
      for (const auto& tensor : tensors_of(vector)) names.insert(tensor.first);
    for (const LinearSpec& linear : block->linears()) add(linear);
  }
  add(description.head.linear);
  return names;
}

}  // namespace gptq::model
