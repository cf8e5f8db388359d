// SPDX-License-Identifier: MIT

// Encodes texts for compare.py: reads lines of JSON from standard input, {"tokenizer": ...},
// {"files": {name: content, ...}, "model_type": ...} for a folder without tokenizer.json, {"pre":
// ...} for the components that stand for a tokenizer.ggml.pre, {"gguf": FILE} for the tokenizer of
// a GGUF file, {"text": ...}, or {"pattern": ..., "text": ...} for Python's re, and answers each
// with one line. With the arguments TOKENIZER.json FILE N, times the encoding of a file N times.

#include <gptq/core/stopwatch.hpp>
#include <gptq/io/checkpoint.hpp>
#include <gptq/model/calibration_text.hpp>
#include <gptq/model/gguf_tokenizer.hpp>
#include <gptq/model/tokenizer.hpp>
#include <gptq/model/tokenizer/merges_txt.hpp>

#include <iostream>
#include <map>
#include <memory>
#include <string>

using gptq::model::Tokenizer;

namespace {

nlohmann::json answer(const nlohmann::json& question, std::unique_ptr<Tokenizer>& tokenizer) {
  try {
    if (question.contains("tokenizer")) {
      tokenizer = nullptr;
      tokenizer = std::make_unique<Tokenizer>(question["tokenizer"]);
      return "ready";
    }
    if (question.contains("files")) {
      tokenizer = nullptr;
      const auto files = question["files"].get<std::map<std::string, std::string>>();
      const auto json =
          gptq::model::tokenizer_from_merges(files, question.at("model_type").get<std::string>());
      tokenizer = std::make_unique<Tokenizer>(json.value(), gptq::model::listed_tokens(files));
      return "ready";
    }
    if (question.contains("pre")) {
      const auto pre = gptq::model::gguf_pre_tokenizer(question["pre"].get<std::string>());
      return {{"steps", pre.steps}, {"nfc", pre.nfc}, {"ignore_merges", pre.ignore_merges}};
    }
    if (question.contains("gguf")) {
      tokenizer = nullptr;
      const auto json =
          gptq::model::gguf_tokenizer_json(gptq::io::Gguf(question["gguf"].get<std::string>()));
      tokenizer = std::make_unique<Tokenizer>(json);
      return json;
    }
    const auto text = question.at("text").get<std::string>();
    if (question.contains("pattern")) {
      using gptq::model::Regex;
      return Regex(question["pattern"].get<std::string>(), Regex::Syntax::python)
          .matches_start(text);
    }
    return tokenizer ? nlohmann::json(tokenizer->encode(text)) : nlohmann::json("no tokenizer");
  } catch (const gptq::Error& error) {
    return {{"error", error.what()}};
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 4) {
    const Tokenizer tokenizer(gptq::io::read_json(argv[1]));
    const auto text = gptq::io::read_file(argv[2]);
    for (int i = 0; i < std::stoi(argv[3]); ++i) {
      gptq::Stopwatch watch;
      const auto ids = tokenizer.encode(text);
      std::cout << watch.lap() << ' ' << ids.size() << std::endl;
    }
    return 0;
  }
  std::unique_ptr<Tokenizer> tokenizer;
  for (std::string line; std::getline(std::cin, line);)
    std::cout << answer(nlohmann::json::parse(line), tokenizer)
                     .dump(-1, ' ', true, nlohmann::json::error_handler_t::replace)
              << std::endl;
}
