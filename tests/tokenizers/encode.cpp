// SPDX-License-Identifier: MIT

// Encodes texts for compare.py: reads lines of JSON from standard input, {"tokenizer": ...} or
// {"text": ...} or {"pattern": ..., "text": ...} for Python's re, and answers each with one line.
// With the arguments TOKENIZER.json FILE N, times the encoding of a file N times.

#include <gptq/core/stopwatch.hpp>
#include <gptq/io/checkpoint.hpp>
#include <gptq/model/calibration_text.hpp>
#include <gptq/model/tokenizer.hpp>

#include <iostream>
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
