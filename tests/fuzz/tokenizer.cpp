// SPDX-License-Identifier: MIT

#include "harness.hpp"

#include <gptq/io/checkpoint.hpp>
#include <gptq/model/tokenizer.hpp>
#include <gptq/model/tokenizer/merges_txt.hpp>

void fuzz::tokenizer(Input input) {
  const auto given = parts(input);
  const auto path = folder().write("tokenizer.json", given[0]);
  const auto try_out = [&](const gptq::model::Tokenizer& tokenizer) {
    const std::string always = "Hello <s> it's  1234\n\n x\u00e9\u2581y <|a|>";
    for (const std::string& text : {always, given.size() > 1 ? given[1] : std::string()})
      may_refuse([&] {
        const auto ids = tokenizer.encode(text);
        require(ids == tokenizer.encode(text), "a text has the same ids each time");
        for (const auto id : ids)
          require(id >= 0 && id < tokenizer.size(), "ids are those of the vocabulary");
      });
  };
  may_refuse([&] { try_out(gptq::model::Tokenizer(gptq::io::read_json(path))); });
  if (given.size() < 4) return;
  may_refuse([&] {
    const std::map<std::string, std::string> files{
        {"vocab.json", given[2]},
        {"merges.txt", given[3]},
        {"tokenizer_config.json", given.size() > 4 ? given[4] : "{}"}};
    if (const auto json = gptq::model::tokenizer_from_merges(files, "opt"))
      try_out(gptq::model::Tokenizer(*json, gptq::model::listed_tokens(files)));
  });
}
