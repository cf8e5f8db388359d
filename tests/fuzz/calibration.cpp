// SPDX-License-Identifier: MIT

// Files of text, JSON lines and token ids. The first byte selects the file's name.

#include "harness.hpp"

#include <gptq/model/calibration_text.hpp>

namespace {

const gptq::model::Tokenizer& small_tokenizer() {
  static const gptq::model::Tokenizer tokenizer(nlohmann::json::parse(R"({
    "added_tokens": [{"id": 9, "content": "<s>"}],
    "normalizer": {"type": "NFC"},
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": true, "use_regex": true},
    "model": {"type": "BPE", "merges": ["a b", "ab ab", "\u0120 a"],
              "vocab": {"a": 0, "b": 1, "ab": 2, "abab": 3, "\u0120": 4, "\u0120a": 5}}})"));
  return tokenizer;
}

}  // namespace

void fuzz::calibration(Input input) {
  if (input.empty()) return;
  const auto path = folder().write(input[0] % 2 == 1 ? "x.jsonl" : "x.txt", text(input.subspan(1)));
  may_refuse([&] { gptq::model::tokenize_file(small_tokenizer(), path); });
  may_refuse([&] {
    for (const auto id : gptq::model::read_token_ids(path)) require(id >= 0, "ids count from 0");
  });
}
