// SPDX-License-Identifier: MIT

// What a GGUF file says about its model, and what is refused.

#include <gptq/model/decoder_tensors.hpp>

#include "../support/catch.hpp"
#include "../support/files.hpp"
#include "../support/gguf_builder.hpp"

#include <functional>
#include <limits>

using gptq::FormatError;
using gptq::Index;
using test::GgufBuilder;

namespace {

gptq::model::ModelFiles opened(const GgufBuilder& builder) {
  const test::TemporaryFolder folder;
  gptq::io::write_file(folder / "m.gguf", builder.bytes());
  return gptq::model::open_model(folder / "m.gguf");  // mapped: the file may be deleted
}

gptq::model::ModelFiles opened(const std::function<void(GgufBuilder&)>& change) {
  GgufBuilder builder = test::small_llama();
  change(builder);
  return opened(builder);
}

std::string refused(const std::function<void(GgufBuilder&)>& change) {
  return error_of<FormatError>([&] { opened(change); });
}

/// Sets a number under a key of the architecture.
template <class T>
std::function<void(GgufBuilder&)> with(const std::string& key, T value) {
  return [=](GgufBuilder& b) { b.number<T>("llama." + key, value); };
}

}  // namespace

TEST_CASE("GGUF rope scaling without a type is linear, under its old name too", "[gguf_model]") {
  using gptq::model::Rope;
  CHECK(opened(test::small_llama()).description.ropes[0].kind == Rope::Kind::plain);
  for (const char* key : {"rope.scaling.factor", "rope.scale_linear"}) {
    const auto model = opened(with<float>(key, 4.0f));
    CHECK(model.description.ropes[0].kind == Rope::Kind::linear);
    CHECK(model.description.ropes[0].factor == 4);
    CHECK(model.config_json["rope_scaling"]["factor"] == 4.0);
    CHECK(opened(with<float>(key, 0.0f)).description.ropes[0].kind == Rope::Kind::plain);
    CHECK(opened(with<float>(key, 1.0f)).description.ropes[0].kind == Rope::Kind::plain);
  }
  CHECK_THAT(
      refused([](GgufBuilder& b) {
        b.number<float>("llama.rope.scaling.factor", 4.0f).text("llama.rope.scaling.type", "none");
      }),
      ContainsSubstring("llama.rope.scaling.factor = 4") && ContainsSubstring("\"none\""));
  CHECK_THAT(refused([](GgufBuilder& b) {
               b.number<float>("llama.rope.scaling.factor", 4.0f)
                   .number<float>("llama.rope.scale_linear", 2.0f);
             }),
             ContainsSubstring("contradict each other"));
  CHECK_THAT(refused([](GgufBuilder& b) {
               b.number<float>("llama.rope.scaling.factor", 4.0f)
                   .tensor("rope_freqs.weight", {8}, std::vector<float>(8, 1.0f));
             }),
             ContainsSubstring("rope_freqs.weight and llama.rope.scaling.factor"));
  CHECK_THAT(refused([](GgufBuilder& b) { b.text("llama.rope.scaling.type", "longrope"); }),
             ContainsSubstring("\"longrope\" (llama.rope.scaling.type)"));
  CHECK_THAT(refused([](GgufBuilder& b) { b.text("llama.rope.scaling.type", "yarn"); }),
             ContainsSubstring("has no metadata key llama.rope.scaling.factor"));
}

TEST_CASE("unsupported GGUF keys that change the model are refused, neutral values pass",
          "[gguf_model]") {
  for (const char* key :
       {"expert_used_count", "attention.max_alibi_bias", "attention.clamp_kqv", "logit_scale",
        "residual_scale", "embedding_scale", "attn_logit_softcapping", "final_logit_softcapping",
        "rope.scaling.yarn_ext_factor", "attention.temperature_scale", "expert_weights_scale"}) {
    CHECK_THAT(refused(with<float>(key, 2.5f)),
               ContainsSubstring("the metadata key llama." + std::string(key) + " = 2.5 changes"));
    CHECK_NOTHROW(opened(with<float>(key, 0.0f)));
  }
  // These multiply or switch something: 0 is not the default.
  for (const char* key :
       {"rope.scaling.attn_factor", "rope.scaling.yarn_attn_factor", "attention.causal"})
    CHECK_THAT(refused(with<float>(key, 0.0f)),
               ContainsSubstring("the metadata key llama." + std::string(key) + " = 0.0 changes"));
  CHECK_NOTHROW(opened(with<float>("rope.scaling.attn_factor", 1.0f)));
  // Unknown keys.
  CHECK_THAT(refused(with<float>("some.new_key", 0.0f)),
             ContainsSubstring("the metadata key llama.some.new_key = 0.0 is unknown"));
  CHECK_THAT(refused([](GgufBuilder& b) { b.flag("llama.rope.enabled", false); }),
             ContainsSubstring("the metadata key llama.rope.enabled = false is unknown"));
  CHECK_NOTHROW(opened([](GgufBuilder& b) {
    b.flag("llama.rope.scaling.finetuned", true)
        .text("llama.tensor_data_layout", "Meta AI original pth")
        .number<float>("llama.rope.scaling.yarn_beta_fast", 32.0f)
        .number<float>("llama.attention.layer_norm_epsilon", 1e-5f);
  }));
  CHECK_NOTHROW(opened(with<float>("logit_scale", 1.0f)));
  CHECK_NOTHROW(opened(with<float>("rope.scaling.yarn_ext_factor", -1.0f)));
  CHECK_NOTHROW(opened(with<float>("attention.scale", 0.25f)));
  CHECK_THAT(refused(with<float>("attention.scale", 0.5f)), ContainsSubstring("attention.scale"));
  CHECK_THAT(refused(with<std::uint32_t>("expert_count", 8)),  // a Mixtral
             ContainsSubstring("has no metadata key llama.expert_used_count"));
  CHECK_THAT(refused(with<std::uint32_t>("attention.value_length", 8)),
             ContainsSubstring("attention.value_length = 8"));
  CHECK_THAT(refused(with<std::uint32_t>("attention.sliding_window", 32)),
             ContainsSubstring("attention.sliding_window = 32"));
  CHECK_NOTHROW(opened(with<std::uint32_t>("attention.sliding_window", 64)));
  CHECK_THAT(refused(with<std::uint32_t>("pooling_type", 1)),
             ContainsSubstring("pooling_type = 1"));
  CHECK_THAT(refused([](GgufBuilder& b) { b.flag("llama.attention.causal", false); }),
             ContainsSubstring("llama.attention.causal = false"));
  CHECK_NOTHROW(opened([](GgufBuilder& b) { b.flag("llama.attention.causal", true); }));
  CHECK_THAT(refused([](GgufBuilder& b) {
               b.numbers<std::int32_t>("llama.rope.dimension_sections", {4, 4, 0, 0});
             }),
             ContainsSubstring("llama.rope.dimension_sections = [4, 4, 0, 0]"));
  CHECK_NOTHROW(opened([](GgufBuilder& b) {
    b.numbers<std::int32_t>("llama.rope.dimension_sections", {0, 0, 0, 0});
  }));
}

TEST_CASE("numbers in GGUF metadata that are not sizes are refused", "[gguf_model][fault19]") {
  const auto block_count = [](auto value) {
    return refused(
        [=](GgufBuilder& b) { b.without("llama.block_count").number("llama.block_count", value); });
  };
  for (const double value : {1e300, 1.9, -1.0, std::numeric_limits<double>::quiet_NaN()})
    CHECK_THAT(block_count(value),
               ContainsSubstring("the metadata key llama.block_count has the value"));
  CHECK_THAT(block_count(std::uint64_t(1) << 63), ContainsSubstring("is not a size"));
  CHECK_THAT(block_count(std::uint32_t(0)), ContainsSubstring("llama.block_count = 0"));
  CHECK_THAT(refused([](GgufBuilder& b) {
               b.without("llama.attention.head_count")
                   .number<std::uint32_t>("llama.attention.head_count", 3);
             }),
             ContainsSubstring("llama.embedding_length = 32 is not a multiple"));
}

TEST_CASE("GGUF values per layer are accepted if all layers agree, else refused with their places",
          "[gguf_model]") {
  const auto two_layers = [](GgufBuilder& b) {
    b.without("llama.block_count").number<std::uint32_t>("llama.block_count", 2);
    for (const char* norm : {"attn_norm", "ffn_norm"})
      b.tensor("blk.1." + std::string(norm) + ".weight", {32}, std::vector<float>(32, 0.5f));
    for (const char* m :
         {"attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"})
      b.tensor("blk.1." + std::string(m) + ".weight", {32, 32}, std::vector<float>(1024, 0.5f));
  };
  const auto with_lists = [&](std::vector<std::int32_t> heads, std::vector<std::int32_t> kv,
                              std::vector<std::int32_t> feed_forward) {
    return [=](GgufBuilder& b) {
      two_layers(b);
      b.without("llama.attention.head_count").without("llama.feed_forward_length");
      b.numbers<std::int32_t>("llama.attention.head_count", heads)
          .numbers<std::int32_t>("llama.attention.head_count_kv", kv)
          .numbers<std::int32_t>("llama.feed_forward_length", feed_forward);
    };
  };
  const auto model = opened(with_lists({2, 2}, {2, 2}, {32, 32}));
  CHECK(model.description.sizes.heads == 2);
  CHECK(model.description.sizes.kv_heads == 2);
  CHECK(model.description.sizes.intermediate == 32);
  CHECK_NOTHROW(gptq::model::require_decoder_tensors(model));
  CHECK_THAT(refused(with_lists({2, 2}, {2, 1}, {32, 32})),
             ContainsSubstring("llama.attention.head_count_kv[0] = 2 and "
                               "llama.attention.head_count_kv[1] = 1: different values per layer"));
  CHECK_THAT(refused(with_lists({2, 4}, {2, 2}, {32, 32})),
             ContainsSubstring("llama.attention.head_count[1] = 4"));
  CHECK_THAT(refused(with_lists({2, 2}, {2, 2}, {32, 16})),
             ContainsSubstring("llama.feed_forward_length[1] = 16"));
  CHECK_THAT(refused(with_lists({2, 2}, {2}, {32, 32})),
             ContainsSubstring("llama.attention.head_count_kv has 1 entries for 2 layers"));
  CHECK_THAT(refused(with_lists({2, 2}, {-2, -2}, {32, 32})),
             ContainsSubstring("llama.attention.head_count_kv[0] = -2 is not a number"));
  CHECK_THAT(
      refused([](GgufBuilder& b) {
        b.without("llama.context_length").numbers<std::int32_t>("llama.context_length", {64});
      }),
      ContainsSubstring("llama.context_length has the value [64]"));
}

TEST_CASE("contradictory sizes in a GGUF file are named by their GGUF keys", "[gguf_model]") {
  CHECK_THAT(refused(with<std::uint32_t>("vocab_size", 39)),
             ContainsSubstring("llama.vocab_size = 39, but token_embd.weight has 40 rows"));
  CHECK_THAT(
      refused([](GgufBuilder& b) {
        b.number<std::uint32_t>("llama.vocab_size", 40).texts("tokenizer.ggml.tokens", {"a", "b"});
      }),
      ContainsSubstring("llama.vocab_size = 40, but tokenizer.ggml.tokens has 2 entries"));
  CHECK_NOTHROW(opened(with<std::uint32_t>("vocab_size", 40)));
  CHECK_THAT(refused([](GgufBuilder& b) { b.without("token_embd.weight"); }),
             ContainsSubstring("has no tensor token_embd.weight"));
  CHECK_THAT(refused(with<std::uint32_t>("attention.head_count_kv", 3)),
             ContainsSubstring("llama.attention.head_count = 2 is not a multiple of "
                               "llama.attention.head_count_kv = 3"));
  CHECK_THAT(refused(with<std::uint32_t>("attention.head_count_kv", 0)),
             ContainsSubstring("llama.attention.head_count_kv = 0 is not a size"));
  CHECK_THAT(refused(with<std::uint32_t>("attention.key_length", 15)),
             ContainsSubstring("llama.attention.key_length = 15 is not a valid head size"));
  CHECK_THAT(refused(with<std::uint32_t>("embedding_length_out", 16)),
             ContainsSubstring("llama.embedding_length_out = 16"));
  CHECK_THAT(refused(with<float>("rope.freq_base_swa", 500.0f)),
             ContainsSubstring("llama.rope.freq_base_swa = 500 and llama.rope.freq_base = 10000"));
}

TEST_CASE("tensors that no Llama has are refused in GGUF terms", "[gguf_model]") {
  for (const char* name : {"output.bias", "output_norm.bias", "token_embd_norm.weight",
                           "output.scale", "blk.0.attn_sinks.weight"})
    CHECK_THAT(refused([&](GgufBuilder& b) { b.tensor(name, {32}, std::vector<float>(32)); }),
               ContainsSubstring("tensor " + std::string(name) + " does not belong"));
  for (const char* name : {"blk.0.attn_norm.bias", "blk.0.ffn_down.bias", "blk.0.attn_q.bias"}) {
    const auto model =
        opened([&](GgufBuilder& b) { b.tensor(name, {32}, std::vector<float>(32)); });
    CHECK_THAT(
        error_of<FormatError>([&] { gptq::model::require_decoder_tensors(model); }),
        ContainsSubstring("does not belong in a LlamaForCausalLM of 1 layers as its metadata "
                          "describe it"));
  }
  CHECK_NOTHROW(gptq::model::require_decoder_tensors(opened(
      [](GgufBuilder& b) { b.tensor("blk.0.attn_rot_embd.weight", {8}, std::vector<float>(8)); })));
}

TEST_CASE("a GGUF file without a vocabulary is not asked for a tokenizer.json", "[gguf_model]") {
  const auto model = opened(test::small_llama());
  CHECK_THAT(error_of<FormatError>([&] { gptq::model::load_tokenizer(model); }),
             ContainsSubstring("m.gguf: has no vocabulary (tokenizer.ggml.model)") &&
                 ContainsSubstring("--tokens FILE"));
}

TEST_CASE("more heads than the tensors have are refused, not looped over",
          "[gguf_model][fault27]") {
  const auto model = opened([](GgufBuilder& b) {
    b.without("llama.attention.head_count")
        .number<std::uint32_t>("llama.attention.head_count", 100'000'000)
        .number<std::uint32_t>("llama.attention.key_length", 16);
  });
  const std::string q = "model.layers.0.self_attn.q_proj.weight";
  CHECK_THAT(error_of<FormatError>([&] { model.tensors->output_bytes(q); }),
             ContainsSubstring("[32, 32]; expected 100000000 heads of 16"));
}

TEST_CASE("a tensor of an unknown type is refused before memory is taken for its shape",
          "[gguf_model][fault27]") {
  const std::string name = "model.layers.0.mlp.down_proj.weight";
  const auto model = opened([](GgufBuilder& b) {
    b.tensor("blk.0.ffn_down.weight", {std::int64_t(1) << 50, 32}, 41, std::string(32, '\0'));
  });
  CHECK_THROWS_AS(model.tensors->output_bytes(name), FormatError);
  std::vector<float> out(4);
  CHECK_THROWS_AS(model.tensors->read(name, out), FormatError);
}

TEST_CASE("unsupported types are found from the headers, in any tensor", "[gguf_model][fault7]") {
  for (const auto& [name, rows] : std::vector<std::pair<std::string, int>>{
           {"blk.0.ffn_down.weight", 32}, {"output.weight", 40}, {"token_embd.weight", 40}}) {
    const auto model = opened([&, name = name, rows = rows](GgufBuilder& b) {
      b.tensor(name, {rows, 32}, 41, std::string(static_cast<std::size_t>(rows) * 18, '\0'));
    });
    CHECK_THAT(error_of<FormatError>([&] { gptq::model::require_decoder_tensors(model); }),
               ContainsSubstring("m.gguf: tensor " + name + " has the ggml type Q1_0"));
  }
}

TEST_CASE("a scale beside a tensor, as NVFP4 has it, is a factor of its numbers", "[gguf_model]") {
  const auto model = opened([](GgufBuilder& b) {
    b.tensor("blk.0.ffn_down.scale", {1}, std::vector<float>{0.25f});
    b.tensor("blk.0.ffn_down.input_scale", {1}, std::vector<float>{3.0f});
    b.tensor("blk.0.attn_q.scale", {1}, std::vector<float>{std::numeric_limits<float>::infinity()});
  });
  gptq::model::require_decoder_tensors(model);
  std::vector<float> numbers(32 * 32);
  model.tensors->read("model.layers.0.mlp.down_proj.weight", numbers);
  CHECK(numbers == std::vector<float>(numbers.size(), 0.125f));
  const auto unfit =
      model.tensors->find_unfit("model.layers.0.self_attn.q_proj.weight", 0, 1024, false);
  REQUIRE(unfit);
  CHECK(unfit->element == 0);
  CHECK_THAT(error_of<FormatError>([] {
               opened([](GgufBuilder& b) {
                 b.tensor("blk.0.ffn_down.scale", {2}, std::vector<float>{1, 1});
               });
             }),
             ContainsSubstring("blk.0.ffn_down.scale has the shape [2]; expected [1]"));
  CHECK_THAT(error_of<FormatError>([] {
               opened([](GgufBuilder& b) {
                 b.tensor("blk.0.ffn_gone.scale", {1}, std::vector<float>{1});
               });
             }),
             ContainsSubstring("blk.0.ffn_gone.scale does not belong"));
}

TEST_CASE("numbers that are not finite or do not fit fp16 are found before any work",
          "[gguf_model][fault7]") {
  const gptq::exec::Serial serial;
  const auto all = [](const std::string&) { return true; };
  std::vector<float> numbers(40 * 32, 0.5f);
  numbers[3 * 32 + 5] = 1e5f;
  const auto large = opened([&](GgufBuilder& b) {
    b.tensor("token_embd.weight", {40, 32}, numbers);
  });
  CHECK_NOTHROW(gptq::model::require_finite_tensors(large, serial));
  CHECK_THAT(error_of<gptq::NumericalError>(
                 [&] { gptq::model::require_finite_tensors(large, serial, {}, all); }),
             ContainsSubstring("tensor model.embed_tokens.weight has 100000 at row 3, column 5, "
                               "which does not fit the type that it is written in, F16"));
  numbers[3 * 32 + 5] = std::numeric_limits<float>::quiet_NaN();
  const auto nan = opened([&](GgufBuilder& b) {
    b.tensor("token_embd.weight", {40, 32}, numbers);
  });
  CHECK_THAT(
      error_of<gptq::NumericalError>([&] { gptq::model::require_finite_tensors(nan, serial); }),
      ContainsSubstring("tensor model.embed_tokens.weight has nan at row 3, column 5"));
  CHECK_THAT(error_of<gptq::NumericalError>(
                 [&] { nan.tensors->output_bytes("model.embed_tokens.weight"); }),
             ContainsSubstring("element 101 = nan is not finite"));
  // A Q8_0 scale in the last block of a row: fp16 infinity.
  std::string blocks(32 * 34, '\0');
  blocks[7 * 34 + 1] = '\x7c';
  const auto infinite = opened([&](GgufBuilder& b) {
    b.tensor("blk.0.ffn_down.weight", {32, 32}, 8, blocks);
  });
  CHECK_THAT(error_of<gptq::NumericalError>(
                 [&] { gptq::model::require_finite_tensors(infinite, serial); }),
             ContainsSubstring("model.layers.0.mlp.down_proj.weight has") &&
                 ContainsSubstring("at row 7, column 0"));
}

TEST_CASE("numbers of tensors in another form are read and checked where a folder has them",
          "[gguf_model]") {
  // Q8_0: one block of 32 per row; expert 1, row 2 has the scale 2 and the codes 0, 1, 2, ...
  GgufBuilder b = test::small_llama();
  b.number<std::uint32_t>("llama.expert_count", 3)
      .number<std::uint32_t>("llama.expert_used_count", 1)
      .tensor("blk.0.ffn_gate_inp.weight", {3, 32}, std::vector<float>(96, 0.5f));
  for (const char* dense : {"ffn_gate", "ffn_up", "ffn_down"})
    b.without("blk.0." + std::string(dense) + ".weight");
  std::string blocks(3 * 32 * 34, '\0');
  char* const row = &blocks[34 * (32 + 2)];
  row[1] = '\x40';
  for (char i = 0; i < 32; ++i) row[2 + i] = i;
  for (const char* stack : {"ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"})
    b.tensor("blk.0." + std::string(stack) + ".weight", {3, 32, 32}, 8, blocks);
  const auto model = opened(b);
  CHECK_NOTHROW(gptq::model::require_decoder_tensors(model));
  const std::string experts = "model.layers.0.block_sparse_moe.experts.";
  CHECK(model.tensors->stored_bytes(experts + "1.w1.weight") == 32 * 34);
  std::vector<float> numbers(1024);
  model.tensors->read(experts + "0.w1.weight", numbers);
  CHECK(numbers == std::vector<float>(1024));
  model.tensors->read(experts + "1.w1.weight", numbers);
  for (std::size_t i = 0; i < 1024; ++i)
    CHECK(numbers[i] == (i / 32 == 2 ? 2.0f * static_cast<float>(i % 32) : 0.0f));
  // Row 1 of a head of 16 in the file is row 8 of it in a folder.
  std::vector<float> q(1024, 0.5f);
  q[32 + 5] = std::numeric_limits<float>::infinity();
  const auto infinite = opened([&](GgufBuilder& to) {
    to.tensor("blk.0.attn_q.weight", {32, 32}, q);
  });
  CHECK_THAT(error_of<gptq::NumericalError>(
                 [&] { gptq::model::require_finite_tensors(infinite, gptq::exec::Serial{}); }),
             ContainsSubstring("self_attn.q_proj.weight has inf at row 8, column 5"));
}

TEST_CASE("non-finite scales are found in every block type", "[gguf_model][fault7]") {
  using namespace gptq::pack;
  for (const GgmlTypeInfo& type : ggml_types) {
    if (type.elements == 1) continue;
    // Exactly the byte pairs that hold half-precision numbers can make a block non-finite.
    for (Index at = 0; at + 1 < type.bytes; at += 2) {
      std::vector<std::byte> bytes(static_cast<std::size_t>(3 * type.bytes));
      std::fill_n(bytes.begin() + type.bytes, type.bytes, std::byte{0x11});
      bytes[static_cast<std::size_t>(type.bytes + at)] = std::byte{0};
      bytes[static_cast<std::size_t>(type.bytes + at + 1)] = std::byte{0x7c};
      std::vector<float> out(static_cast<std::size_t>(3 * type.elements));
      dequantize_ggml(type, bytes, out);
      bool finite = true;
      for (const float x : out) finite = finite && std::isfinite(x);
      CHECK(find_non_finite_block(type, bytes) == (finite ? -1 : 1));
    }
  }
}

TEST_CASE("token ids that stand for none count as none", "[gguf_model]") {
  const auto json = [](auto value) {
    return opened([=](GgufBuilder& b) { b.number("tokenizer.ggml.bos_token_id", value); });
  };
  CHECK(json(std::uint32_t(7)).config_json["bos_token_id"] == 7);
  for (const auto& none : {json(std::int32_t(-1)), json(std::uint32_t(4294967295))}) {
    CHECK_FALSE(none.config_json.contains("bos_token_id"));
    CHECK(none.notes.empty());
  }
  const auto outside = json(std::uint32_t(40));
  CHECK_FALSE(outside.config_json.contains("bos_token_id"));
  REQUIRE(outside.notes.size() == 1);
  CHECK_THAT(
      outside.notes[0],
      ContainsSubstring("tokenizer.ggml.bos_token_id = 40 is not an id of one of the 40 tokens"));
}

TEST_CASE("a split GGUF model is read as one, whichever part is named", "[gguf_model]") {
  const test::TemporaryFolder folder;
  const auto whole = opened(test::small_llama());
  const auto write = [&](const char* name, const GgufBuilder& b) {
    gptq::io::write_file(folder / name, b.bytes());
  };
  const auto part = [](std::uint32_t no, std::uint32_t count, bool first) {
    GgufBuilder b = first ? test::small_llama() : GgufBuilder();
    b.number<std::uint32_t>("split.no", no).number<std::uint32_t>("split.count", count);
    b.number<std::int32_t>("split.tensors.count", 11);
    return b;
  };
  const std::string down = "blk.0.ffn_down.weight", embeddings = "token_embd.weight";
  GgufBuilder first = part(0, 3, true), second = part(1, 3, false), third = part(2, 3, false);
  first.without(down).without(embeddings);
  second.tensor(down, {32, 32}, std::vector<float>(1024, 0.5f));
  third.tensor(embeddings, {40, 32}, std::vector<float>(1280, 0.25f));
  write("m-00001-of-00003.gguf", first);
  write("m-00002-of-00003.gguf", second);
  const auto open = [&](const char* name) { return gptq::model::open_model(folder / name); };
  CHECK_THAT(error_of<gptq::IoError>([&] { open("m-00001-of-00003.gguf"); }),
             ContainsSubstring("m-00003-of-00003.gguf: part 3 of 3 of a split model is missing"));
  write("m-00003-of-00003.gguf", third);
  const auto refuses = [&] {
    return error_of<FormatError>([&] { open("m-00001-of-00003.gguf"); });
  };
  SECTION("all parts are there") {
    for (const char* name :
         {"m-00001-of-00003.gguf", "m-00002-of-00003.gguf", "m-00003-of-00003.gguf"}) {
      const auto model = open(name);
      CHECK_NOTHROW(gptq::model::require_decoder_tensors(model));
      CHECK(model.config_json == whole.config_json);
      CHECK(model.tensors->names() == whole.tensors->names());
      CHECK_THAT(model.tensors->where("model.layers.0.mlp.down_proj.weight"),
                 ContainsSubstring("m-00002-of-00003.gguf"));
      std::vector<float> numbers(1280);
      model.tensors->read("model.embed_tokens.weight", numbers);
      CHECK(numbers == std::vector<float>(1280, 0.25f));
    }
  }
  SECTION("a part of another model") {
    write("m-00002-of-00003.gguf", part(1, 4, false));
    CHECK_THAT(refuses(), ContainsSubstring("m-00002-of-00003.gguf: split.count = 4"));
  }
  SECTION("parts in the wrong order") {
    write("m-00002-of-00003.gguf", part(2, 3, false));
    CHECK_THAT(refuses(), ContainsSubstring("m-00002-of-00003.gguf: split.no = 2; expected 1"));
  }
  SECTION("a tensor that is missing") {
    write("m-00002-of-00003.gguf", part(1, 3, false));
    CHECK_THAT(refuses(), ContainsSubstring("split.tensors.count = 11, but the 3 files have 10"));
  }
  SECTION("a tensor in two parts") {
    third.tensor(down, {32, 32}, std::vector<float>(1024, 0.5f));
    write("m-00003-of-00003.gguf", third);
    CHECK_THAT(refuses(), ContainsSubstring("has the tensor blk.0.ffn_down.weight, which") &&
                              ContainsSubstring("m-00002-of-00003.gguf has, too"));
  }
  SECTION("a number that no part has") {
    write("m-00001-of-00003.gguf", part(7, 3, true));
    CHECK_THAT(refuses(), ContainsSubstring("split.no = 7 and split.count = 3"));
  }
}

TEST_CASE("parts of models and adapters are recognized before anything is reported missing",
          "[gguf_model]") {
  GgufBuilder part;
  part.number<std::uint32_t>("split.no", 1).number<std::uint32_t>("split.count", 2);
  CHECK_THAT(error_of<FormatError>([&] { opened(part); }),
             ContainsSubstring("m.gguf: is part 2 of 2 of a split model") &&
                 ContainsSubstring("its name does not end in \"-00002-of-00002.gguf\""));
  CHECK_THAT(refused([](GgufBuilder& b) { b.text("general.type", "adapter"); }),
             ContainsSubstring("is a LoRA adapter"));
}
