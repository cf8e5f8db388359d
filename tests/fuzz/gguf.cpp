// SPDX-License-Identifier: MIT

#include "harness.hpp"

#include <gptq/model/decoder_tensors.hpp>
#include <gptq/model/model_files.hpp>

void fuzz::gguf(Input input) {
  const auto path = folder().write("x.gguf", text(input));
  may_refuse([&] {
    const gptq::io::Gguf file(path);
    for (const auto& [name, tensor] : file.tensors()) {
      if (!tensor.type) continue;  // without a known size, its shape says nothing about the file
      std::vector<float> numbers(static_cast<std::size_t>(gptq::io::element_count(tensor.shape)));
      may_refuse([&, name = name] { file.read(name, numbers); });
    }
  });
  may_refuse([&] {  // as the program does
    const auto model = gptq::model::open_model(path);
    for (const std::string& name : model.tensors->names()) {
      model.tensors->type_name(name);
      may_refuse([&] { model.tensors->output_bytes(name); });
    }
    gptq::model::require_decoder_tensors(model);
    for (gptq::Index layer = 0; layer < model.description.sizes.layers; ++layer)
      gptq::model::load_layer(model, layer);
  });
}
