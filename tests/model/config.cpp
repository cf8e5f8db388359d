// SPDX-License-Identifier: MIT

#include <gptq/model/config.hpp>
#include <gptq/model/layer_weights.hpp>
#include <gptq/model/model_files.hpp>

#include "../support/catch.hpp"
#include "../support/files.hpp"

using gptq::FormatError;
using gptq::model::ModelConfig;

namespace {

nlohmann::json config_json(const std::string& changes = "{}") {
  auto json = nlohmann::json::parse(
      R"({"architectures": ["LlamaForCausalLM"], "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
      "num_attention_heads": 4, "vocab_size": 80})");
  json.merge_patch(nlohmann::json::parse(changes));
  return json;
}

std::string refused_config(const std::string& changes) {
  return error_of<FormatError>([&] { ModelConfig::parse(config_json(changes), "config.json"); });
}

/// A copy of a small model that a test may damage.
struct Copy {
  test::TemporaryFolder folder;
  explicit Copy(const std::string& name) {
    for (const char* file : {"config.json", "model.safetensors"})
      std::filesystem::copy_file(test::data_folder() / "models" / name / file, folder / file);
  }
};

}  // namespace

TEST_CASE("a config.json is read with its defaults", "[config]") {
  const auto model = ModelConfig::parse(config_json(), "config.json");
  CHECK(model.kv_heads == 4);
  CHECK(model.head_dim == 8);
  CHECK(model.rope.theta == 10000);
  CHECK(model.window == std::vector<gptq::Index>{0, 0});
  CHECK_FALSE(model.tied_embeddings);
}

TEST_CASE("sliding windows follow the rules of each architecture", "[config]") {
  const auto windows = [](const std::string& changes) {
    return ModelConfig::parse(config_json(changes), "config.json").window;
  };
  using W = std::vector<gptq::Index>;
  CHECK(windows(R"({"architectures": ["MistralForCausalLM"], "sliding_window": 7})") == W{7, 7});
  CHECK(windows(R"({"architectures": ["Qwen2ForCausalLM"], "sliding_window": 7})") == W{0, 0});
  CHECK(
      windows(
          R"({"architectures": ["Qwen2ForCausalLM"], "sliding_window": 7, "use_sliding_window": true, "max_window_layers": 1})") ==
      W{0, 7});
  CHECK(
      windows(
          R"({"architectures": ["Qwen3ForCausalLM"], "sliding_window": 7, "use_sliding_window": true, "layer_types": ["sliding_attention", "full_attention"]})") ==
      W{7, 0});
}

TEST_CASE("configurations that are not supported are refused with file, key and value",
          "[config]") {
  CHECK_THAT(refused_config(R"({"architectures": ["GPT2LMHeadModel"]})"),
             ContainsSubstring("config.json: the architecture GPT2LMHeadModel is not supported"));
  CHECK_THAT(refused_config(R"({"hidden_size": null})"),
             ContainsSubstring("has no \"hidden_size\""));
  CHECK_THAT(refused_config(R"({"hidden_size": "many"})"),
             ContainsSubstring("\"hidden_size\" has the value \"many\""));
  CHECK_THAT(refused_config(R"({"num_hidden_layers": -3})"),
             ContainsSubstring("\"num_hidden_layers\" = -3 is not a size"));
  CHECK_THAT(refused_config(R"({"hidden_act": "gelu"})"),
             ContainsSubstring("the activation \"gelu\""));
  CHECK_THAT(refused_config(R"({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}})"),
             ContainsSubstring("the rope type \"yarn\""));
  CHECK_THAT(refused_config(R"({"num_key_value_heads": 3})"),
             ContainsSubstring("num_attention_heads = 4 is not a multiple"));
  CHECK_THAT(refused_config(R"({"rms_norm_eps": 0})"), ContainsSubstring("rms_norm_eps"));
}

TEST_CASE("folders that lack something say what", "[model_files]") {
  const test::TemporaryFolder empty;
  CHECK_THAT(error_of<gptq::IoError>([&] { gptq::model::open_model(empty / "none"); }),
             ContainsSubstring("no such file or folder"));
  CHECK_THAT(error_of<gptq::IoError>([&] { gptq::model::open_model(empty.path()); }),
             ContainsSubstring("has no config.json"));
  const Copy copy("llama");
  std::filesystem::remove(copy.folder / "model.safetensors");
  CHECK_THAT(error_of<gptq::IoError>([&] { gptq::model::open_model(copy.folder.path()); }),
             ContainsSubstring("neither model.safetensors nor"));
  gptq::io::write_file(copy.folder / "model.safetensors.index.json",
                       R"({"weight_map": {"a": "model-00001-of-00002.safetensors"}})");
  CHECK_THAT(error_of<gptq::IoError>([&] { gptq::model::open_model(copy.folder.path()); }),
             ContainsSubstring("model-00001-of-00002.safetensors: the shard is missing"));
  gptq::io::write_file(copy.folder / "model.safetensors.index.json",
                       R"({"weight_map": {"a": "../x"}})");
  CHECK_THAT(error_of<FormatError>([&] { gptq::model::open_model(copy.folder.path()); }),
             ContainsSubstring("not a plain file name"));
  gptq::io::write_file(copy.folder / "config.json", "{");
  CHECK_THAT(error_of<FormatError>([&] { gptq::model::open_model(copy.folder.path()); }),
             ContainsSubstring("config.json: not valid JSON"));
}

TEST_CASE("weights of the wrong shape or with NaN are refused with their place",
          "[layer_weights]") {
  const Copy copy("llama3_rope");
  const auto name = std::string("model.layers.1.mlp.down_proj.weight");
  std::string bytes = gptq::io::read_file(copy.folder / "model.safetensors");
  SECTION("NaN") {
    std::size_t offset = 0;
    {
      const gptq::io::Safetensors file(copy.folder / "model.safetensors");
      offset = static_cast<std::size_t>(file.at(name).bytes.data() - file.file().bytes().data());
    }
    const float nan = std::numeric_limits<float>::quiet_NaN();
    std::memcpy(bytes.data() + offset + 4 * (2 * 64 + 7), &nan, 4);
    gptq::io::write_file(copy.folder / "model.safetensors", bytes);
    const auto model = gptq::model::open_model(copy.folder.path());
    CHECK_NOTHROW(gptq::model::load_layer(model, 0));
    CHECK_THAT(
        error_of<gptq::NumericalError>([&] { gptq::model::load_layer(model, 1); }),
        ContainsSubstring("model.safetensors: tensor " + name + " has nan at row 2, column 7"));
  }
  SECTION("shape") {
    const std::size_t at = bytes.find("[32,64]", bytes.find(name));
    REQUIRE(at != std::string::npos);
    bytes.replace(at, 7, "[64,32]");
    gptq::io::write_file(copy.folder / "model.safetensors", bytes);
    const auto model = gptq::model::open_model(copy.folder.path());
    CHECK_THAT(error_of<FormatError>([&] { gptq::model::load_layer(model, 1); }),
               ContainsSubstring(name + " has the shape [64, 32], [32, 64] expected"));
  }
}

TEST_CASE("quantized folders say how they are quantized, and contradictions are refused",
          "[model_files]") {
  const Copy copy("llama");
  const auto with = [&](const std::string& quantization) {
    auto json = gptq::io::read_json(copy.folder / "config.json");
    json["quantization_config"] = nlohmann::json::parse(quantization);
    gptq::io::write_file(copy.folder / "config.json", json.dump());
    return gptq::model::open_model(copy.folder.path()).quantization;
  };
  CHECK(with(R"({"quant_method": "awq"})")->method == "awq");
  const auto v2 = with(
      R"({"quant_method": "gptq", "bits": 4, "group_size": 64, "sym": false, "checkpoint_format": "gptq_v2"})");
  CHECK(v2->format == gptq::pack::GptqFormat::v2);
  CHECK(v2->group_size == 64);
  CHECK(with(R"({"bits": 4})")->format == gptq::pack::GptqFormat::v1);
  CHECK_THAT(error_of<FormatError>(
                 [&] { with(R"({"bits": 4, "format": "gptq", "checkpoint_format": "gptq_v2"})"); }),
             ContainsSubstring("checkpoint_format is \"gptq_v2\" and format is \"gptq\""));
  CHECK_THAT(error_of<FormatError>([&] { with(R"({"bits": 4, "format": "marlin"})"); }),
             ContainsSubstring("the format \"marlin\" is not read"));
}
