// SPDX-License-Identifier: MIT

// Every format: what is written is what was rounded, and is read back.

#include "../support/catch.hpp"
#include "../support/written_model.hpp"

#include <map>

using gptq::FormatError;
using gptq::Index;
using gptq::InvalidArgument;
using gptq::io::DType;
using gptq::model::Override;
using test::of_type, test::uniform, test::WrittenModel;

namespace {

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
        const auto expected = WrittenModel("plain", table).weights();
        std::vector<std::string> formats{"gptq", "compressed-tensors"};
        if (bits == 4) formats.emplace_back("awq");
        if (bits == 8) formats.emplace_back("compressed-tensors:int-quantized");
        if (bits != 3 && symmetric && group == 32) formats.emplace_back("mlx");
        for (const std::string& format : formats) {
          INFO(format << ", " << bits << " bits, symmetric " << symmetric << ", group " << group);
          CHECK(WrittenModel(format, table).weights() == expected);
        }
      }
  for (const auto& [type, format] :
       std::map<std::string, std::string>{{"nf4", "bitsandbytes"},
                                          {"nvfp4", "compressed-tensors"},
                                          {"mxfp4", "compressed-tensors"},
                                          {"fp8", "compressed-tensors"}}) {
    INFO(type);
    const auto table = of_type(type);
    CHECK(WrittenModel(format, table).weights() == WrittenModel("plain", table).weights());
  }
}

TEST_CASE("numbers of other types are refused by formats of integers", "[formats]") {
  CHECK_THAT(
      format_refusal("gptq", of_type("nf4")),
      ContainsSubstring("the gptq format holds no numbers of the type nf4 (model.layers.0.") &&
          ContainsSubstring("with these settings: bitsandbytes, plain"));
  CHECK_THAT(format_refusal("bitsandbytes", uniform(4, true)),
             ContainsSubstring("the bitsandbytes format holds no numbers of the type int"));
  auto table = of_type("nvfp4");
  table.base.group_size = 32;
  CHECK_THAT(format_refusal("compressed-tensors", table),
             ContainsSubstring("groups of 32 of model.layers.0.") &&
                 ContainsSubstring("nvfp4 has blocks of 16"));
  table = of_type("fp8");
  table.base.group_size = 32;
  CHECK_THAT(format_refusal("compressed-tensors", table),
             ContainsSubstring("fp8 has one per output (-1)"));
  table = of_type("mxfp4");
  table.base.bits = 8;
  CHECK_THAT(format_refusal("compressed-tensors", table), ContainsSubstring("mxfp4 has 4"));
  table = of_type("mxfp4");
  table.base.symmetric = false;
  CHECK_THAT(format_refusal("compressed-tensors", table),
             ContainsSubstring("mxfp4 has no zero points"));
  table = of_type("nf4");
  table.base.group_size = -1;
  CHECK_THAT(format_refusal("bitsandbytes", table), ContainsSubstring("groups of -1"));
  CHECK_THAT(format_refusal("mlx", uniform(4, false)),
             ContainsSubstring("asymmetric grids: the MLX format"));
  CHECK_THROWS_AS(gptq::model::number_type("fp3"), InvalidArgument);
}

TEST_CASE("configurations of MLX, bitsandbytes and 4-bit floats", "[formats]") {
  auto table = uniform(4, true);
  table.overrides.push_back(Override::parse("re:.*layers\\.1\\.mlp\\.down_proj=bits:8"));
  const WrittenModel mlx("mlx", table);
  CHECK_FALSE(mlx.config().contains("quantization_config"));
  CHECK(mlx.config()["quantization"] ==
        nlohmann::json({{"group_size", 32},
                        {"bits", 4},
                        {"model.layers.1.mlp.down_proj", {{"group_size", 32}, {"bits", 8}}}}));
  CHECK(mlx.open().tensors->type_name("model.layers.1.mlp.down_proj.weight") == "U32");
  CHECK(mlx.weights() == WrittenModel("gptq", table).weights());

  const WrittenModel nf4("bitsandbytes", of_type("nf4"));
  const auto bnb = nf4.config()["quantization_config"];
  CHECK(bnb["quant_method"] == "bitsandbytes");
  CHECK(bnb["load_in_4bit"] == true);
  CHECK(bnb["bnb_4bit_quant_type"] == "nf4");
  CHECK(bnb["llm_int8_skip_modules"] == nlohmann::json{"lm_head"});
  const auto opened = nf4.open();
  const auto state =
      opened.tensors->raw_bytes("model.layers.0.mlp.up_proj.weight.quant_state.bitsandbytes__nf4");
  const auto json = nlohmann::json::parse(
      std::string_view(reinterpret_cast<const char*>(state.data()), state.size()));
  CHECK(json["blocksize"] == 64);
  CHECK(json["quant_type"] == "nf4");

  const WrittenModel nv("compressed-tensors", of_type("nvfp4"));
  const auto config = nv.config()["quantization_config"];
  CHECK(config["format"] == "nvfp4-pack-quantized");
  const auto& weights = config["config_groups"]["group_0"]["weights"];
  CHECK(weights["type"] == "float");
  CHECK(weights["strategy"] == "tensor_group");
  CHECK(weights["group_size"] == 16);
  CHECK(nv.open().quantization->variant == "compressed-tensors nvfp4-pack-quantized");
  CHECK(WrittenModel("compressed-tensors", of_type("fp8"))
            .config()["quantization_config"]["config_groups"]["group_0"]["format"] ==
        "float-quantized");
}

TEST_CASE("damaged MLX, bitsandbytes and byte layouts are refused by name", "[formats]") {
  const std::string module = "model.layers.1.mlp.up_proj";
  const auto edit = [](const WrittenModel& w, const std::string& from, const std::string& to) {
    auto bytes = gptq::io::read_file(w.out / "model.safetensors");
    const auto at = bytes.find(from);
    REQUIRE(at != std::string::npos);
    bytes.replace(at, from.size(), to);
    gptq::io::write_file(w.out / "model.safetensors", bytes);
  };
  const auto configure = [](const WrittenModel& w, const char* patch) {
    auto json = w.config();
    json.merge_patch(nlohmann::json::parse(patch));
    gptq::io::write_file(w.out / "config.json", json.dump());
  };
  {
    const WrittenModel w("mlx", uniform(4, true));
    CHECK_THAT(error_of_damage(w, [&] { configure(w, R"({"quantization": {"mode": "mxfp4"}})"); }),
               ContainsSubstring("\"mode\" = \"mxfp4\" is not supported"));
    configure(w, R"({"quantization": {"mode": "affine"}})");
    CHECK_THAT(error_of_damage(w, [&] { edit(w, module + ".biases", module + ".biasez"); }),
               ContainsSubstring("has no tensor " + module + ".biases"));
  }
  {
    const WrittenModel w("bitsandbytes", of_type("nf4"));
    CHECK_THAT(error_of_damage(w,
                               [&] {
                                 configure(w, R"({"quantization_config":
                                                  {"bnb_4bit_use_double_quant": true}})");
                               }),
               ContainsSubstring("double_quant\" is not supported"));
    configure(w, R"({"quantization_config": {"bnb_4bit_use_double_quant": false}})");
    configure(w, R"({"quantization_config": {"bnb_4bit_quant_type": "fp4"}})");
    CHECK_THAT(error_of<FormatError>([&] { w.open(); }),
               ContainsSubstring("quantized with \"bitsandbytes\", which is not supported"));
    configure(w, R"({"quantization_config": {"bnb_4bit_quant_type": "nf4"}})");
    const auto bytes_of = [](float first) {
      const float numbers[2] = {first, gptq::scheme::NormalFloat4Levels::values[1]};
      return std::string(reinterpret_cast<const char*>(numbers), sizeof numbers);
    };
    edit(w, bytes_of(-1), bytes_of(-0.9f));
    CHECK_THAT(error_of<FormatError>([&] {
                 const auto model = w.open();
                 for (Index layer = 0; layer < 4; ++layer) gptq::model::load_layer(model, layer);
               }),
               ContainsSubstring("does not have the levels of NF4"));
  }
  {
    const WrittenModel w("compressed-tensors:int-quantized", uniform(8, false));
    CHECK_THAT(
        error_of_damage(w, [&] { edit(w, module + ".weight_scale", module + ".weight_scalf"); }),
        ContainsSubstring("has no tensor " + module + ".weight_scale"));
  }
  const WrittenModel w("compressed-tensors", of_type("nvfp4"));
  CHECK_THAT(
      error_of_damage(w, [&] { edit(w, module + ".weight_scale\"", module + ".weight_scalf\""); }),
      ContainsSubstring("has no tensor " + module + ".weight_scale"));
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
  CHECK_THAT(error_of_damage(w, [&] { configure(w, R"({"format": "zip"})"); }),
             ContainsSubstring("the format \"zip\" is not supported (these are: pack-quantized, "));
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
                R"({"config_groups": {"group_0": {"input_activations": null, "weights": {"type": "real"}}}})");
          }),
      ContainsSubstring("the type \"real\" is not supported"));
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
