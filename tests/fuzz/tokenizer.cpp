// SPDX-License-Identifier: MIT

#include "harness.hpp"

#include <gptq/io/checkpoint.hpp>
#include <gptq/model/tokenizer.hpp>

void fuzz::tokenizer(Input input) {
  const auto given = parts(input);
  const auto path = folder().write("tokenizer.json", given[0]);
  may_refuse([&] {
    const gptq::model::Tokenizer tokenizer(gptq::io::read_json(path));
    const std::string always = "Hello <s> it's  1234\n\n x\u00e9\u2581y <|a|>";
    for (const std::string& text : {always, given.size() > 1 ? given[1] : std::string()})
      may_refuse([&] {
        const auto ids = tokenizer.encode(text);
        require(ids == tokenizer.encode(text), "a text has the same ids each time");
        for (const auto id : ids)
          require(id >= 0 && id < tokenizer.size(), "ids are those of the vocabulary");
      });
  });
}
