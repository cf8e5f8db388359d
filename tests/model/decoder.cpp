// SPDX-License-Identifier: MIT

// Small random models of every kind against transformers.

#include "../support/catch.hpp"
#include "../support/files.hpp"
#include "../support/gguf_builder.hpp"
#include "../support/losses.hpp"

using gptq::Index;
using gptq::model::TokenId;

namespace {

gptq::model::Perplexity run(const std::filesystem::path& folder, const nlohmann::json& expected,
                            int threads = 0) {
  const auto model = gptq::model::open_model(folder);
  const auto ids = expected["ids"].get<std::vector<TokenId>>();
  return gptq::model::perplexity(model, gptq::model::CpuOperations<>(gptq::exec::Threads(threads)),
                                 ids, 0, expected["length"].get<Index>());
}

/// −log p of every scored token, which says more than their mean. These models are random: small
/// errors grow on the way, so split products get a looser bound.
void check_model(const std::string& name, gptq::Precision precision, double margin) {
  const auto folder = test::data_folder() / "models" / name;
  const auto model = gptq::model::open_model(folder);
  const auto expected = gptq::io::read_json(folder / "expected.json");
  const auto ids = expected["ids"].get<std::vector<TokenId>>();
  const auto losses = test::losses(model, ids, expected["length"].get<Index>(), precision);
  const auto reference = expected["token_nll"].get<std::vector<double>>();
  REQUIRE(losses.size() == reference.size());
  for (std::size_t i = 0; i < losses.size(); ++i)
    CHECK(losses[i] == Approx(reference[i]).margin(margin));
}

void check_model(const std::string& name) {
  check_model(name, gptq::Precision::single, 2e-4);
  check_model(name, gptq::Precision::split, 2e-2);
}

}  // namespace

TEST_CASE("Llama, bfloat16", "[decoder]") { check_model("llama"); }
TEST_CASE("Llama with Llama 3 rope scaling, tied embeddings, an old config.json", "[decoder]") {
  check_model("llama3_rope");
}
TEST_CASE("Llama with linear rope and biases everywhere, float16", "[decoder]") {
  check_model("llama_linear");
}
TEST_CASE("Mistral with a sliding window", "[decoder]") { check_model("mistral"); }
TEST_CASE("Qwen2 with biases and a window in some layers", "[decoder]") { check_model("qwen2"); }
TEST_CASE("Qwen3 with norms on q and k and an independent head size", "[decoder]") {
  check_model("qwen3");
}

TEST_CASE("the forward pass has the same bits for any number of threads",
          "[decoder][determinism]") {
  const auto folder = test::data_folder() / "models" / "qwen3";
  const auto expected = gptq::io::read_json(folder / "expected.json");
  const auto first = run(folder, expected, 1).window_nll;
  for (const int threads : {2, 3, 8}) CHECK(run(folder, expected, threads).window_nll == first);
}

TEST_CASE("perplexity refuses what it cannot score", "[perplexity]") {
  const auto model = gptq::model::open_model(test::data_folder() / "models" / "llama");
  const gptq::model::CpuOperations<> operations;
  const std::vector<TokenId> ids(30, 3), foreign{1, 2, 999, 4};
  CHECK_THAT(error_of<gptq::InvalidArgument>(
                 [&] { gptq::model::perplexity(model, operations, ids, 1, 31); }),
             ContainsSubstring("30 tokens, fewer than one window of 31"));
  CHECK_THAT(error_of<gptq::InvalidArgument>(
                 [&] { gptq::model::perplexity(model, operations, foreign, 1, 4); }),
             ContainsSubstring("token 2 has the id 999"));
  CHECK_THROWS_AS(gptq::model::perplexity(model, operations, ids, 1, 8,
                                          [](auto, double, double) { return false; }),
                  gptq::Cancelled);
  CHECK(gptq::model::perplexity(model, operations, ids, 100, 8).window_nll.size() == 3);
}

TEST_CASE("a GGUF file of a Llama gives the outputs of the folder it was made from",
          "[decoder][gguf]") {
  const auto folder = test::data_folder() / "models" / "llama3_rope";
  const auto source = gptq::model::open_model(folder);
  const auto& c = source.description.sizes;
  test::GgufBuilder builder;
  builder.text("general.architecture", "llama")
      .number<std::uint32_t>("llama.context_length", 64)
      .number<std::uint32_t>("llama.embedding_length", 32);
  builder.number<std::uint32_t>("llama.block_count", 2)
      .number<std::uint32_t>("llama.feed_forward_length", 64)
      .number<std::uint32_t>("llama.attention.head_count", 4);
  builder.number<std::uint32_t>("llama.attention.head_count_kv", 2)
      .number<float>("llama.attention.layer_norm_rms_epsilon", 1e-5f)
      .number<float>("llama.rope.freq_base", 500.0f);
  const auto tensor = [&](const std::string& gguf_name, const std::string& name,
                          Index permuted_heads = 0) {
    const auto shape = source.tensors->shape(name);
    std::vector<float> numbers(static_cast<std::size_t>(gptq::io::element_count(shape)));
    source.tensors->read(name, numbers);
    if (permuted_heads > 0) {  // as llama.cpp's converter writes q and k
      const auto original = numbers;
      const Index half = c.head_dim / 2, width = shape[1];
      for (Index h = 0; h < permuted_heads; ++h)
        for (Index i = 0; i < half; ++i)
          for (Index t = 0; t < 2; ++t)
            for (Index k = 0; k < width; ++k)
              numbers[static_cast<std::size_t>((h * c.head_dim + 2 * i + t) * width + k)] =
                  original[static_cast<std::size_t>((h * c.head_dim + t * half + i) * width + k)];
    }
    builder.tensor(gguf_name, {shape.begin(), shape.end()}, numbers);
  };
  tensor("token_embd.weight", "model.embed_tokens.weight");
  tensor("output_norm.weight", "model.norm.weight");
  for (const std::string i : {"0", "1"}) {
    const std::string from = "model.layers." + i + ".", to = "blk." + i + ".";
    tensor(to + "attn_norm.weight", from + "input_layernorm.weight");
    tensor(to + "ffn_norm.weight", from + "post_attention_layernorm.weight");
    tensor(to + "attn_q.weight", from + "self_attn.q_proj.weight", c.heads);
    tensor(to + "attn_k.weight", from + "self_attn.k_proj.weight", c.kv_heads);
    tensor(to + "attn_v.weight", from + "self_attn.v_proj.weight");
    tensor(to + "attn_output.weight", from + "self_attn.o_proj.weight");
    tensor(to + "ffn_gate.weight", from + "mlp.gate_proj.weight");
    tensor(to + "ffn_up.weight", from + "mlp.up_proj.weight");
    tensor(to + "ffn_down.weight", from + "mlp.down_proj.weight");
  }
  const test::TemporaryFolder temporary;
  SECTION("without rope scaling") {
    gptq::io::write_file(temporary / "m.gguf", builder.bytes());
    const auto gguf = gptq::model::open_model(temporary / "m.gguf");
    CHECK(gguf.from_gguf);
    CHECK(gguf.description.head.tied);
    CHECK(gguf.description.sizes.head_dim == 8);
    for (const std::string name :
         {"model.layers.1.self_attn.q_proj.weight", "model.layers.0.self_attn.k_proj.weight",
          "model.layers.1.mlp.down_proj.weight"}) {
      std::vector<float> a(
          static_cast<std::size_t>(gptq::io::element_count(gguf.tensors->shape(name)))),
          b(a.size());
      gguf.tensors->read(name, a);
      source.tensors->read(name, b);
      CHECK(a == b);
    }
  }
  SECTION("Llama 3 factors become its rule in config.json") {
    gptq::model::Rope rope{.dims = 8,
                           .theta = 500,
                           .kind = gptq::model::Rope::Kind::llama3,
                           .factor = 8,
                           .original_positions = 8192};
    const auto stretched = rope.frequencies(),
               plain = gptq::model::Rope{.dims = 8, .theta = 500}.frequencies();
    std::vector<float> factors;
    for (std::size_t i = 0; i < 4; ++i)
      factors.push_back(static_cast<float>(plain[i] / stretched[i]));
    auto with = builder;
    with.tensor("rope_freqs.weight", {4}, factors);
    gptq::io::write_file(temporary / "m.gguf", with.bytes());
    const auto model = gptq::model::open_model(temporary / "m.gguf");
    // The waves of this small model are all shorter than the original context: nothing is
    // stretched, which also follows the rule.
    CHECK(model.config_json["rope_scaling"]["rope_type"] == "llama3");
    factors[2] = 3.0f;
    auto odd = builder;
    odd.tensor("rope_freqs.weight", {4}, factors);
    gptq::io::write_file(temporary / "odd.gguf", odd.bytes());
    CHECK_THAT(
        error_of<gptq::FormatError>([&] { gptq::model::open_model(temporary / "odd.gguf"); }),
        ContainsSubstring("does not follow the Llama 3 rule"));
  }
  SECTION("tensors that do not belong are refused") {
    builder.tensor("blk.0.ffn_gate_inp.weight", {2, 2}, {1, 2, 3, 4});
    gptq::io::write_file(temporary / "m.gguf", builder.bytes());
    CHECK_THAT(error_of<gptq::FormatError>([&] { gptq::model::open_model(temporary / "m.gguf"); }),
               ContainsSubstring("blk.0.ffn_gate_inp.weight does not belong"));
  }
}
