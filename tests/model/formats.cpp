// SPDX-License-Identifier: MIT

// Every format: what is written is what was rounded, and is read back.

#include <gptq/backend/cpu.hpp>
#include <gptq/model/cpu_operations.hpp>
#include <gptq/model/decoder_tensors.hpp>
#include <gptq/model/format/requirements.hpp>

#include "../support/catch.hpp"
#include "../support/files.hpp"
#include "../support/quantize.hpp"

using gptq::FormatError;
using gptq::Index;
using gptq::InvalidArgument;
using gptq::io::DType;
using gptq::model::Override;
using gptq::model::PipelineOptions;
using Cpu = gptq::backend::Cpu;

namespace {

/// The demo model, rounded to nearest and written in some format.
struct WrittenModel {
  test::TemporaryFolder folder;
  std::filesystem::path out = folder / "out";

  WrittenModel(const std::string& format, const gptq::model::SettingsTable& settings,
               DType own = DType::F32, const std::filesystem::path& source = test::demo_folder()) {
    const auto model = gptq::model::open_model(source);
    PipelineOptions options;
    options.settings = settings;
    options.method = gptq::model::Method::round_to_nearest;
    options.params.range = gptq::Range::minmax;
    options.format = gptq::model::make_format(format, own);
    gptq::model::require_quantizable(model.description, settings, options.params, *options.format);
    test::quantize_into(out, model, options, gptq::model::CpuOperations<>(), Cpu());
  }

  gptq::model::ModelFiles open() const {
    auto model = gptq::model::open_model(out);
    gptq::model::require_decoder_tensors(model);
    return model;
  }
  nlohmann::json config() const { return gptq::io::read_json(out / "config.json"); }

  /// The weights of the second layer, one after the other.
  std::vector<float> weights() const {
    std::vector<float> all;
    const auto layer = gptq::model::load_layer(open(), 1);
    for (const auto& linear : layer.linears) {
      const auto w = linear.weight.view();
      for (Index r = 0; r < w.rows(); ++r)
        for (Index c = 0; c < w.cols(); ++c) all.push_back(w(r, c));
    }
    return all;
  }
};

gptq::model::SettingsTable uniform(int bits, bool symmetric, Index group_size = 32) {
  return {{bits, symmetric, group_size}, {}, {}};
}

std::string format_refusal(const std::string& format, const gptq::model::SettingsTable& table) {
  return error_of<InvalidArgument>([&] { WrittenModel(format, table); });
}

/// The error at reading a folder after something was done to it.
template <class F>
std::string error_of_damage(const WrittenModel& written, const F& damage) {
  damage();
  return error_of<FormatError>([&] { written.open(); });
}

}  // namespace

TEST_CASE("all formats hold the same numbers", "[formats]") {
  for (const bool symmetric : {true, false})
    for (const int bits : {2, 3, 4, 8})
      for (const Index group : {Index{32}, Index{-1}}) {
        const auto table = uniform(bits, symmetric, group);
        const auto expected = WrittenModel("gptq", table).weights();
        for (const std::string& format : gptq::model::format_names()) {
          if (format == "awq" && bits != 4) continue;
          INFO(format << ", " << bits << " bits, symmetric " << symmetric << ", group " << group);
          CHECK(WrittenModel(format, table).weights() == expected);
        }
      }
}

TEST_CASE("plain weights are rounded to the model's type only", "[formats]") {
  const auto table = uniform(4, false);
  const auto exact = WrittenModel("plain", table).weights(),
             half = WrittenModel("plain", table, DType::F16).weights(),
             brain = WrittenModel("plain", table, DType::BF16).weights();
  bool all = true;
  for (std::size_t i = 0; i < exact.size(); ++i)
    all = all && half[i] == gptq::to_float(gptq::to_float16(exact[i])) &&
          brain[i] == gptq::to_float(gptq::to_bfloat16(exact[i]));
  CHECK(all);
  const WrittenModel plain("plain", table, DType::BF16);
  CHECK_FALSE(plain.config().contains("quantization_config"));
  CHECK(plain.open().tensors->type_name("model.layers.1.mlp.up_proj.weight") == "BF16");
}

TEST_CASE("plain weights of modules stored as [in, out] stay so", "[formats]") {
  const auto source = test::data_folder() / "models" / "gpt2";
  const auto table = uniform(4, true, 16);
  const auto original = gptq::model::open_model(source);
  const WrittenModel plain("plain", table, DType::F32, source);
  for (const std::string& name : original.tensors->names())
    CHECK(plain.open().tensors->shape(name) == original.tensors->shape(name));
  CHECK(plain.weights() == WrittenModel("gptq", table, DType::F32, source).weights());
}

TEST_CASE("AWQ folders have the configuration that loaders look for", "[formats][awq]") {
  auto table = uniform(4, false);
  table.skips.emplace_back("re:.*layers\\.0\\.mlp\\.down_proj");
  const WrittenModel written("awq", table);
  const auto config = written.config()["quantization_config"];
  CHECK(config["quant_method"] == "awq");
  CHECK(config["bits"] == 4);
  CHECK(config["group_size"] == 32);
  CHECK(config["zero_point"] == true);
  CHECK(config["version"] == "gemm");
  CHECK(config["modules_to_not_convert"] == nlohmann::json{"model.layers.0.mlp.down_proj"});
  CHECK_FALSE(std::filesystem::exists(written.out / "quantize_config.json"));
  const auto model = written.open();
  CHECK(model.quantization->method == "awq");
  CHECK(model.tensors->contains("model.layers.0.mlp.down_proj.weight"));
}

TEST_CASE("compressed-tensors folders name modules with settings of their own",
          "[formats][compressed_tensors]") {
  auto table = uniform(4, true);
  table.overrides.push_back(Override::parse("re:.*layers\\.1\\.mlp\\.down_proj=bits:8"));
  table.skips.emplace_back("model.layers.0.self_attn.q_proj");
  const WrittenModel written("compressed-tensors", table);
  const auto config = written.config()["quantization_config"];
  CHECK(config["quant_method"] == "compressed-tensors");
  const auto& groups = config["config_groups"];
  CHECK(groups["group_0"]["targets"] == nlohmann::json{"Linear"});
  CHECK(groups["group_0"]["weights"]["num_bits"] == 4);
  CHECK(groups["group_0"]["weights"]["group_size"] == 32);
  CHECK(groups["group_1"]["targets"] == nlohmann::json{"model.layers.1.mlp.down_proj"});
  CHECK(groups["group_1"]["weights"]["num_bits"] == 8);
  CHECK(config["ignore"] == nlohmann::json({"model.layers.0.self_attn.q_proj", "lm_head"}));
  const auto model = written.open();
  CHECK_FALSE(model.tensors->contains("model.layers.1.mlp.down_proj.weight_zero_point"));
  CHECK(model.tensors->type_name("model.layers.1.mlp.down_proj.weight_shape") == "I64");
  CHECK(WrittenModel("gptq", table).weights() == written.weights());
}

TEST_CASE("what a format cannot hold is refused with those that can", "[formats]") {
  CHECK_THAT(format_refusal("awq", uniform(3, true)),
             ContainsSubstring("bits = 3 of model.layers.0.") &&
                 ContainsSubstring("the AWQ format has 4 bits; formats that hold all modules with "
                                   "these settings: gptq, compressed-tensors, plain"));
  auto table = uniform(4, true);
  table.overrides.push_back(Override::parse("re:.*down_proj=group-size:64"));
  CHECK_THAT(format_refusal("awq", table),
             ContainsSubstring("the AWQ format has the same settings throughout; "
                               "model.layers.0.mlp.down_proj has others"));
  CHECK_THROWS_AS(gptq::model::make_format("zip", DType::F32), InvalidArgument);
}

TEST_CASE("damaged AWQ and compressed-tensors folders are refused by name", "[formats]") {
  const auto configure = [](const WrittenModel& w, const char* patch) {
    auto json = w.config();
    json["quantization_config"].merge_patch(nlohmann::json::parse(patch));
    gptq::io::write_file(w.out / "config.json", json.dump());
  };
  /// Renames a tensor to another of the same length.
  const auto rename = [](const WrittenModel& w, const std::string& from, const std::string& to) {
    auto bytes = gptq::io::read_file(w.out / "model.safetensors");
    const auto at = bytes.find("\"" + from + "\"");
    REQUIRE(at != std::string::npos);
    bytes.replace(at + 1, from.size(), to);
    gptq::io::write_file(w.out / "model.safetensors", bytes);
  };
  const std::string module = "model.layers.1.mlp.up_proj";
  {
    const WrittenModel w("awq", uniform(4, true));
    CHECK_THAT(error_of_damage(w, [&] { configure(w, R"({"version": "gemv"})"); }),
               ContainsSubstring("\"version\" = \"gemv\" is not supported (gemm is)"));
    CHECK_THAT(error_of_damage(w, [&] { configure(w, R"({"version": "GEMM", "bits": 8})"); }),
               ContainsSubstring("\"bits\" = 8: the AWQ format has 4"));
    configure(w, R"({"bits": 4})");
    CHECK_NOTHROW(w.open());
    CHECK_THAT(error_of_damage(w, [&] { rename(w, module + ".qzeros", module + ".qzeroz"); }),
               ContainsSubstring("has no tensor " + module + ".qzeros"));
  }
  const WrittenModel w("compressed-tensors", uniform(4, false));
  CHECK_THAT(error_of_damage(w, [&] { configure(w, R"({"format": "int-quantized"})"); }),
             ContainsSubstring("the format \"int-quantized\" is not supported"));
  CHECK_THAT(
      error_of_damage(
          w,
          [&] {
            configure(
                w,
                R"({"format": "pack-quantized", "config_groups": {"group_0": {"input_activations": {"num_bits": 8}}}})");
          }),
      ContainsSubstring("config_groups: group_0: quantized activations"));
  CHECK_THAT(
      error_of_damage(
          w,
          [&] {
            configure(
                w,
                R"({"config_groups": {"group_0": {"input_activations": null, "weights": {"type": "float"}}}})");
          }),
      ContainsSubstring("the type \"float\" is not supported"));
  configure(w, R"({"config_groups": {"group_0": {"weights": {"type": "int"}}}})");
  CHECK_NOTHROW(w.open());
  CHECK_THAT(
      error_of_damage(w, [&] { rename(w, module + ".weight_scale", module + ".weight_scalf"); }),
      ContainsSubstring("has no tensor " + module + ".weight_scale"));
}

TEST_CASE("nonsense in a compressed-tensors configuration is refused", "[formats]") {
  const WrittenModel w("compressed-tensors", uniform(4, true));
  for (const char* patch :
       {R"({"config_groups": 5})", R"({"config_groups": null})", R"({"config_groups": [1]})",
        R"({"config_groups": {"group_0": null, "a": 1}})",
        R"({"config_groups": {"group_0": {"weights": [4]}}})",
        R"({"config_groups": {"group_0": {"weights": {"type": 4}}}})",
        R"({"config_groups": {"group_0": {"weights": {"num_bits": "four"}}}})",
        R"({"kv_cache_scheme": {"num_bits": 8}})", R"({"sparsity_config": {"format": "sparse"}})",
        R"({"format": 5})"}) {
    INFO(patch);
    auto json = w.config();
    json["quantization_config"].merge_patch(nlohmann::json::parse(patch));
    CHECK_THROWS_AS(
        gptq::model::detail::parse_quantization(json["quantization_config"], "config.json"),
        FormatError);
  }
  CHECK_THROWS_AS(gptq::model::detail::parse_quantization(
                      {{"quant_method", "awq"}, {"bits", 4}, {"version", 3}}, "config.json"),
                  FormatError);
}
