// SPDX-License-Identifier: MIT

// Folds: which there are, and that factors in them change nothing.

#include <gptq/model/cpu_operations.hpp>
#include <gptq/model/decoder.hpp>
#include <gptq/model/folds.hpp>
#include <gptq/model/layer_weights.hpp>

#include "../support/catch.hpp"
#include "../support/files.hpp"

#include <cmath>  // std::exp2
#include <random>
#include <set>

using gptq::Index;
using gptq::model::Cuts;
using gptq::model::Fold;
using gptq::model::LayerWeights;
using Operations = gptq::model::CpuOperations<>;

namespace {

/// Puts a factor for each row in a fold.
void scale(const Fold& fold, LayerWeights& weights, std::mt19937& random) {
  Index rows = 0;
  for (const Index row : fold.rows) rows = (std::max)(rows, row + 1);
  std::vector<float> factors(static_cast<std::size_t>(rows));
  for (float& s : factors) s = std::exp2(float(random() % 1000) / 500 - 1);
  for (const int reader : fold.readers) {
    auto& w = weights.linears[std::size_t(reader)].weight;
    for (Index r = 0; r < w.rows(); ++r)
      for (Index c = 0; c < w.cols(); ++c)
        w(r, c) *= factors[std::size_t(fold.rows[std::size_t(c)])];
  }
  const std::set<Index> divided(fold.rows.begin(), fold.rows.end());
  for (const Index row : divided) {
    const float s = factors[std::size_t(row)];
    if (fold.linear < 0) {
      weights.vectors[std::size_t(fold.weight)][std::size_t(row)] /= s;
      if (fold.bias >= 0) weights.vectors[std::size_t(fold.bias)][std::size_t(row)] /= s;
      continue;
    }
    auto& linear = weights.linears[std::size_t(fold.linear)];
    for (Index c = 0; c < linear.weight.cols(); ++c) linear.weight(row, c) /= s;
    if (!linear.bias.empty()) linear.bias[std::size_t(row)] /= s;
  }
}

std::string short_text(const gptq::model::Block& block, const Fold& fold) {
  std::string text;
  for (const int reader : fold.readers)
    text += gptq::model::short_name(block.linears()[std::size_t(reader)].name) + " ";
  const auto name = [&](std::string full) { return full.substr(block.prefix().size()); };
  return text + "<- " +
         (fold.linear < 0 ? name(block.vectors()[std::size_t(fold.weight)].name)
                          : name(block.linears()[std::size_t(fold.linear)].name));
}

std::vector<std::string> folds_of(const char* fixture, std::size_t layer = 0) {
  const auto model = gptq::model::open_model(test::data_folder() / "models" / fixture);
  const auto& block = model.description.layers[layer];
  const Cuts cuts(block);
  std::vector<std::string> texts;
  for (const Fold& fold : folds(cuts)) texts.push_back(short_text(block, fold));
  return texts;
}

}  // namespace

TEST_CASE("folds follow from the steps", "[folds]") {
  using Texts = std::vector<std::string>;
  CHECK(folds_of("llama") == Texts{"q k v <- input_layernorm.weight", "o <- self_attn.v_proj",
                                   "gate up <- post_attention_layernorm.weight",
                                   "down <- mlp.up_proj"});
  CHECK(folds_of("gpt2") ==
        Texts{"c_attn <- ln_1.weight", "c <- attn.c_attn", "c_fc <- ln_2.weight"});
  CHECK(folds_of("opt").back() == "fc2 <- fc1");
  CHECK(folds_of("phi3") == Texts{"qkv <- input_layernorm.weight", "o <- self_attn.qkv_proj",
                                  "gate_up <- post_attention_layernorm.weight",
                                  "down <- mlp.gate_up_proj"});
  CHECK(folds_of("mixtral") == Texts{"q k v <- input_layernorm.weight", "o <- self_attn.v_proj",
                                     "gate w1 w3 w1 w3 w1 w3 <- post_attention_layernorm.weight",
                                     "w2 <- block_sparse_moe.experts.0.w3",
                                     "w2 <- block_sparse_moe.experts.1.w3",
                                     "w2 <- block_sparse_moe.experts.2.w3"});
  // q, k and v read what is added, too; norms are of outputs.
  CHECK(folds_of("olmo2") == Texts{"o <- self_attn.v_proj", "down <- mlp.up_proj"});
  // The limit of its activation is not of a multiple.
  for (const std::string& text : folds_of("gpt_oss")) CHECK(text.find("down") == text.npos);
}

TEST_CASE("factors in the folds of every architecture change nothing", "[folds]") {
  std::size_t checked = 0;
  for (const auto& entry : std::filesystem::directory_iterator(test::data_folder() / "models")) {
    const auto model = gptq::model::open_model(entry.path());
    constexpr Index tokens = 12;
    const gptq::model::Decoder<Operations> decoder(model.description, tokens, Operations{});
    std::mt19937 random(3);
    for (std::size_t i = 0; i < model.description.layers.size(); ++i) {
      INFO(entry.path().filename().string() << ", layer " << i);
      const auto& block = model.description.layers[i];
      const Cuts cuts(block);
      LayerWeights weights = load_layer(model, Index(i));
      gptq::backend::HostMatrix<float> x(tokens, block.steps().front().width);
      for (Index t = 0; t < tokens; ++t)
        for (Index c = 0; c < x.cols(); ++c) x(t, c) = float(random() % 2001) / 1000 - 1;
      const auto run = [&] {
        const Operations operations;
        auto hidden = operations.tensor(x.rows(), x.cols());
        operations.copy(hidden.view(), std::as_const(x).view());
        auto result = decoder.forward(hidden.view(), weights, cuts);
        return result.rows() > 0 ? std::move(result) : std::move(hidden);
      };
      const auto before = run();
      for (const Fold& fold : folds(cuts)) scale(fold, weights, random), ++checked;
      const auto after = run();
      double worst = 0, largest = 0;
      for (Index t = 0; t < tokens; ++t)
        for (Index c = 0; c < before.cols(); ++c) {
          worst = (std::max)(worst, std::abs(double(after(t, c)) - double(before(t, c))));
          largest = (std::max)(largest, std::abs(double(before(t, c))));
        }
      CHECK(worst <= 2e-5 * largest);
    }
  }
  CHECK(checked > 700);
}
