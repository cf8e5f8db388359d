// SPDX-License-Identifier: MIT

// What is derived from the steps of a block.

#include <gptq/io/json.hpp>
#include <gptq/model/architecture/registry.hpp>
#include <gptq/model/cuts.hpp>

#include "../support/catch.hpp"
#include "../support/files.hpp"

#include <limits>

using gptq::Index;
using gptq::model::Cuts;
using gptq::model::Description;
using gptq::model::Reading;

namespace {

constexpr Index unlimited = std::numeric_limits<Index>::max();

Description described(const std::string& name) {
  return Description::parse(
      gptq::io::read_json(test::data_folder() / "models" / name / "config.json"), name);
}

/// "q k v | o | gate up | down": the modules of each cut; those with different inputs in brackets.
std::string order(const gptq::model::Block& block) {
  const Cuts cuts(block);
  std::string text;
  for (int cut = 1; cut <= cuts.count(); ++cut) {
    if (cut > 1) text += " | ";
    const auto& readings = cuts.readings(cut);
    for (std::size_t i = 0; i < readings.size(); ++i) {
      if (i > 0) text += " ; ";
      std::string names;
      for (const int linear : readings[i].linears)
        names += (names.empty() ? "" : " ") +
                 gptq::model::short_name(block.linears()[std::size_t(linear)].name);
      text += names;
    }
  }
  return text;
}

std::string order(const std::string& name, std::size_t layer = 0) {
  return order(described(name).layers[layer]);
}

}  // namespace

TEST_CASE("cuts are as deep as the longest chain of quantized modules", "[cuts]") {
  CHECK(order("llama") == "q k v | o | gate up | down");
  CHECK(order("qwen3") == "q k v | o | gate up | down");
  CHECK(order("gemma3") == "q k v | o | gate up | down");
  CHECK(order("phi3") == "qkv | o | gate_up | down");
  CHECK(order("gpt2") == "c_attn | c | c_fc | c");
  CHECK(order("olmo2") == "q k v | o | gate up | down");
  CHECK(order("arcee") == "q k v | o | up | down");
}

TEST_CASE("modules side by side share a cut, and a Hessian if they read one value", "[cuts]") {
  CHECK(order("gpt_neox") == "query_key_value ; dense_h_to_4h | dense ; dense_4h_to_h");
  CHECK(order("gptj") == "q k v fc_in | out ; fc_out");
  CHECK(order("cohere") == "q k v gate up | o ; down");
  CHECK(order("falcon40") == "query_key_value ; dense_h_to_4h | dense ; dense_4h_to_h");
}

TEST_CASE("latent attention has a cut more", "[cuts]") {
  CHECK(order("deepseek_v3") == "q_a kv_a_proj_with_mqa | q_b ; kv_b | o | gate up | down");
  CHECK(order("deepseek_v2") == "kv_a_proj_with_mqa q | kv_b | o | gate up | down");
}

TEST_CASE("experts have inputs of their own, the shared one sees all tokens", "[cuts]") {
  CHECK(order("mixtral") == "q k v | o | w1 w3 ; w1 w3 ; w1 w3 | w2 ; w2 ; w2");
  const Description qwen = described("qwen2_moe");
  CHECK(order(qwen.layers[0]) == "q k v | o | gate up | down");
  CHECK(order(qwen.layers[3]) ==
        "q k v | o | gate up ; gate up ; gate up ; gate up ; gate up ; gate up | "
        "down ; down ; down ; down ; down ; down");
  for (const auto& linear : qwen.layers[3].linears())
    CHECK(linear.quantize ==
          (!linear.name.ends_with("mlp.gate") && !linear.name.ends_with("shared_expert_gate")));
  CHECK(order("qwen3_5").find("in_proj_qkv in_proj_z | out | gate up | down") == 0);
}

TEST_CASE("what is kept between cuts cannot be computed from the rest", "[cuts]") {
  const Description model = described("llama");
  const Cuts cuts(model.layers[0]);
  const auto widths = [&](int cut, Index limit) {
    std::vector<Index> all;
    for (const int value : cuts.kept(cut, limit)) all.push_back(model.layers[0].width({value}));
    return all;
  };
  using W = std::vector<Index>;
  CHECK(widths(1, unlimited) == W{32});      // the stream; its norm follows from it
  CHECK(widths(2, unlimited) == W{32, 32});  // the stream and the input of o
  CHECK(widths(3, unlimited) == W{32});
  CHECK(widths(4, unlimited) == W{32, 64});  // and the input of down,
  CHECK(widths(4, 63) == W{32});             // which two products bring back
  CHECK(widths(2, 0) == W{32, 32});          // attention would be too much work
  CHECK(widths(5, unlimited) == W{32});
}

TEST_CASE("only what is added to the stream directly can make up for the stream's error",
          "[cuts]") {
  const auto residuals = [](const std::string& name) {
    const Description model = described(name);
    const Cuts cuts(model.layers[0]);
    std::vector<int> all;
    for (int cut = 1; cut <= cuts.count(); ++cut)
      for (const Reading& reading : cuts.readings(cut)) all.push_back(reading.residual);
    return all;
  };
  const auto llama = residuals("llama");
  CHECK(llama[0] == -1);
  CHECK(llama[1] == 0);  // the block's input
  CHECK(llama[2] == -1);
  CHECK(llama[3] > 0);                                                   // the sum behind attention
  for (const int residual : residuals("gemma3")) CHECK(residual == -1);  // norms lie between
  const auto parallel = residuals("gpt_neox");
  CHECK(parallel[2] == 0);  // both are added to the block's input,
  CHECK(parallel[3] == 0);  // since neither sees the other
}
