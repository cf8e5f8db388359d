// SPDX-License-Identifier: MIT

#include "harness.hpp"

#include <gptq/model/model_files.hpp>

void fuzz::gguf_tokenizer(Input input) {
  const auto path = folder().write("x.gguf", text(input));
  may_refuse([&] {
    const gptq::io::GgufFiles file(path);
    nlohmann::json json;
    try {
      json = gptq::model::gguf_tokenizer_json(file.first());
      gptq::model::detail::gguf_companions(file, json);
    } catch (const nlohmann::json::exception&) {
      return;  // tokens that are not UTF-8: open_model reports them
    }
    const gptq::model::Tokenizer tokenizer(json);
    for (const auto id : tokenizer.encode("Hello <s> it's  1234\n\n x\u00e9\u2581y abcabc"))
      require(id >= 0 && id < tokenizer.size(), "ids are those of the vocabulary");
  });
}
