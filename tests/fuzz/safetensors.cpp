// SPDX-License-Identifier: MIT

#include "harness.hpp"

#include <gptq/io/safetensors.hpp>

void fuzz::safetensors(Input input) {
  const auto path = folder().write("x.safetensors", text(input));
  may_refuse([&] {
    const gptq::io::Safetensors file(path);
    for (const auto& entry : file.tensors()) {
      const gptq::io::SafeTensor& tensor = entry.second;
      // An element has at least four bits.
      const auto count = static_cast<std::size_t>(gptq::io::element_count(tensor.shape));
      require(count <= 2 * input.size(), "a tensor has no more elements than its file");
      gptq::io::find_non_finite(tensor.dtype, tensor.bytes);
      std::vector<float> numbers(count);
      may_refuse([&] { gptq::io::to_floats(tensor.dtype, tensor.bytes, numbers); });
    }
  });
}
