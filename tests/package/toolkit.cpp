// SPDX-License-Identifier: MIT

#include <gptq/model/tokenizer.hpp>
#include <gptq/pack/gptq.hpp>

#include <iostream>

int main() {
  const auto json = nlohmann::json::parse(
      R"({"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}})");
  const auto ids = gptq::model::Tokenizer(json).encode("abb");
  std::cout << ids.size() << " tokens\n";
  return ids == std::vector<gptq::model::TokenId>{2, 1} ? 0 : 1;
}
