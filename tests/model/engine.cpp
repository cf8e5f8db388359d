// SPDX-License-Identifier: MIT

// Which engines load a model, from its settings.

#include <gptq/model/engine.hpp>
#include <gptq/model/format/registry.hpp>
#include <gptq/model/model_files.hpp>

#include "../support/catch.hpp"
#include "../support/files.hpp"

#include <map>

using gptq::Index;
using gptq::model::Override;
using gptq::model::SettingsTable;

namespace {

/// A small Llama whose sizes suit every kernel.
const gptq::model::Description& model_to_judge(Index hidden = 256) {
  static std::map<Index, gptq::model::Description> made;
  if (!made.count(hidden)) {
    const auto json = nlohmann::json::parse(R"({
      "architectures": ["LlamaForCausalLM"], "model_type": "llama", "num_hidden_layers": 2,
      "num_attention_heads": 4, "num_key_value_heads": 4, "vocab_size": 128,
      "intermediate_size": 512, "rms_norm_eps": 1e-6})");
    auto own = json;
    own["hidden_size"] = hidden;
    made.emplace(hidden, gptq::model::Description::parse(own, "config.json"));
  }
  return made.at(hidden);
}

/// "loads", or why not.
std::string verdict(const char* name, const char* format, const SettingsTable& table,
                    Index ranks = 1,
                    const gptq::model::Description& description = model_to_judge()) {
  const auto made = gptq::model::make_format(format, gptq::io::DType::F16);
  for (const auto& engine : gptq::model::engines) {
    if (engine.name != name) continue;
    const auto found = judge(engine, {description, table, *made, ranks});
    std::string text;
    for (const auto& why : found.refusals) text += why + "; ";
    if (found.refusals.empty()) text = "loads";
    for (const auto& why : found.warnings) text += " (" + why + ")";
    return text;
  }
  return "unknown";
}

}  // namespace

TEST_CASE("what the usual settings give loads nearly everywhere", "[engine]") {
  const SettingsTable usual{{4, true, 128}, {}, {}};
  for (const char* engine :
       {"vllm", "sglang", "transformers", "gptqmodel", "llama.cpp", "exllamav2"})
    CHECK(verdict(engine, "gptq", usual) == "loads");
  CHECK_THAT(verdict("mlx", "gptq", usual), ContainsSubstring("does not read the format gptq"));
  CHECK(verdict("mlx", "awq", usual) == "loads");
  CHECK(verdict("mlx", "mlx", usual) == "loads");
  CHECK(verdict("vllm", "compressed-tensors", usual) == "loads");
  CHECK_THAT(verdict("vllm", "mlx", usual), ContainsSubstring("does not read the format mlx"));
  CHECK(gptq::model::engine_notes({model_to_judge(), usual, gptq::model::format::Gptq()}).empty());
  for (const auto& engine : gptq::model::engines)
    if (engine.name != "gptqmodel")
      CHECK(verdict(std::string(engine.name).c_str(), "plain", usual) == "loads");
}

TEST_CASE("engines refuse bits, zero points and groups that they have no kernels for", "[engine]") {
  const SettingsTable three{{3, true, 128}, {}, {}}, asymmetric{{4, false, 128}, {}, {}},
      small{{4, true, 16}, {}, {}}, odd{{4, true, 96}, {}, {}};
  CHECK(verdict("vllm", "gptq", three) == "3 bits (4 and 8 load); ");
  CHECK(verdict("exllamav2", "gptq", three) == "3 bits (4 load); ");
  CHECK(verdict("llama.cpp", "gptq", three) == "3 bits (2, 4 and 8 load); ");
  CHECK(verdict("gptqmodel", "gptq", three) == "loads");
  CHECK_THAT(verdict("vllm", "compressed-tensors", three),
             ContainsSubstring("loads (3 bits load with humming-kernels only)"));
  CHECK(verdict("vllm", "gptq", asymmetric) == "asymmetric grids; ");
  CHECK(verdict("vllm", "awq", asymmetric) == "loads");
  CHECK_THAT(verdict("transformers", "compressed-tensors", asymmetric),
             ContainsSubstring("zero points that are not packed"));
  CHECK(verdict("transformers", "compressed-tensors:int-quantized", {{8, false, 128}, {}, {}}) ==
        "loads");
  CHECK_THAT(verdict("vllm", "compressed-tensors:int-quantized", {{8, true, -1}, {}, {}}),
             ContainsSubstring("without quantized activations"));
  CHECK(verdict("vllm", "gptq", small) == "groups of 16 (one per output, 32, 64 and 128 load); ");
  CHECK(verdict("gptqmodel", "gptq", small) == "loads");
  CHECK_THAT(verdict("exllamav2", "gptq", odd), ContainsSubstring("no power of two"));
  CHECK_THAT(verdict("sglang", "gptq", odd),
             ContainsSubstring("a short last group (256 inputs in groups of 96)"));
  CHECK_THAT(verdict("vllm", "gptq", {{4, true, 32}, {}, {}}, 1, model_to_judge(96)),
             ContainsSubstring("96 x 96 is not a multiple of 64 x 128"));
}

TEST_CASE("modules that an engine joins must be alike", "[engine]") {
  const SettingsTable mixed{{4, true, 128}, {Override::parse("re:.*q_proj=bits:8")}, {}};
  for (const char* engine : {"vllm", "sglang"})
    CHECK_THAT(verdict(engine, "gptq", mixed),
               ContainsSubstring("q, k and v have different settings"));
  CHECK(verdict("transformers", "gptq", mixed) == "loads");
  CHECK(gptq::model::engine_notes({model_to_judge(), mixed, gptq::model::format::Gptq()}) ==
        std::vector<std::string>{"vllm, sglang will refuse it: q, k and v have different settings, "
                                 "but are one module there",
                                 "exllamav2 will refuse it: 8 bits (4 load)"});
  const auto mixture = gptq::model::open_model(test::data_folder() / "models" / "mixtral");
  SettingsTable experts{{4, true, 16}, {Override::parse("re:.*experts.1.*=bits:8")}, {}};
  CHECK_THAT(verdict("vllm", "compressed-tensors", experts, 1, mixture.description),
             ContainsSubstring("experts of a layer have different settings"));
  experts.overrides.clear();
  CHECK(verdict("vllm", "compressed-tensors", experts, 1, mixture.description) == "loads");
  experts.base.bits = 2;
  CHECK_THAT(verdict("sglang", "gptq", experts, 1, mixture.description),
             ContainsSubstring("2 bits (4 and 8 load)"));
}

TEST_CASE("ranks get whole groups and words", "[engine]") {
  const SettingsTable table{{4, true, 128}, {}, {}};
  CHECK(verdict("vllm", "gptq", table, 2) == "loads");
  CHECK_THAT(verdict("vllm", "gptq", table, 4),
             ContainsSubstring("256 inputs of o on 4 ranks are no whole groups"));
  CHECK_THAT(verdict("sglang", "awq", table, 64),
             ContainsSubstring("256 outputs of q on 64 ranks are no whole words"));
  CHECK_THAT(verdict("vllm", "gptq", table, 8),
             ContainsSubstring("512 inputs of down on 8 ranks are no whole groups"));
}
