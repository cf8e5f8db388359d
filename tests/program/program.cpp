// SPDX-License-Identifier: MIT

// The gptq program from the outside: what it prints, its exit codes, and that bad input costs
// nothing.

#include "../support/demo.hpp"

#include <random>
#include <regex>

using test::calibration;
using test::check_refused;
using test::demo;
using test::DemoCopy;
using test::program;
using test::TemporaryFolder;

TEST_CASE("quantize, inspect and eval work together", "[program]") {
  const TemporaryFolder folder;
  const std::string out = (folder / "out").string(), report = (folder / "report.json").string();
  const auto quantize = program("quantize " + demo.string() + " --out " + out + calibration() +
                                " --report " + report);
  INFO(quantize.output);
  REQUIRE(quantize.code == 0);
  CHECK_THAT(quantize.output, ContainsSubstring("fp_inp_SNR") && ContainsSubstring("q_inp_SNR") &&
                                  ContainsSubstring("model.layers.3.mlp.down_proj"));
  CHECK_THAT(quantize.output,
             ContainsSubstring("size: ") && ContainsSubstring("peak memory") &&
                 ContainsSubstring("round to nearest, on the calibration text: 0."));
  const auto json = nlohmann::json::parse(gptq::io::read_file(report));
  CHECK(json["modules"].size() == 28);
  CHECK(json["samples"] == 4);
  CHECK(json["modules"][0]["relative_error"].get<double>() <
        json["modules"][0]["rtn_relative_error"].get<double>());

  const auto inspect = program("inspect " + out);
  CHECK(inspect.code == 0);
  CHECK_THAT(inspect.output,
             ContainsSubstring("quantized: 4 bits, groups of 128, symmetric, format gptq") &&
                 ContainsSubstring("model.layers.0.mlp.up_proj.qweight"));
  CHECK(program("inspect " + out + "/model.safetensors").code == 0);

  const auto full = program("eval " + demo.string() + " --text " + (demo / "heldout.txt").string() +
                            " --windows 8 --sequence-length 256");
  const auto small = program("eval " + out + " --text " + (demo / "heldout.txt").string() +
                             " --windows 8 --sequence-length 256");
  const std::regex last_line("perplexity: ([0-9.]+)\n$");
  std::smatch a, b;
  REQUIRE(std::regex_search(full.output, a, last_line));
  REQUIRE(std::regex_search(small.output, b, last_line));
  CHECK(std::stod(b[1]) < 1.03 * std::stod(a[1]));
  CHECK(folder.names().size() == 2);
}

TEST_CASE("every format is written, inspected and evaluated", "[program]") {
  const TemporaryFolder folder;
  const auto run = [&](const std::string& format, const std::string& type = "int") {
    const std::string out = (folder / (format + "_" + type)).string();
    const auto quantize = program("quantize " + demo.string() + " --out " + out +
                                  " --method rtn --quiet --format " + format + " --type " + type);
    INFO(quantize.output);
    REQUIRE(quantize.code == 0);
    const auto eval = program("eval " + out + " --text " + (demo / "heldout.txt").string() +
                              " --windows 4 --sequence-length 128 --quiet");
    REQUIRE(eval.code == 0);
    return eval.output + program("inspect " + out).output;
  };
  const auto gptq = run("gptq");
  std::smatch found;
  REQUIRE(std::regex_search(gptq, found, std::regex("perplexity: [0-9.]+\n")));
  const std::string figure = found[0];
  CHECK_THAT(run("awq"), ContainsSubstring(figure) && ContainsSubstring("format awq gemm"));
  CHECK_THAT(
      run("compressed-tensors"),
      ContainsSubstring(figure) && ContainsSubstring("format compressed-tensors pack-quantized"));
  CHECK_THAT(run("mlx"), ContainsSubstring(figure) && ContainsSubstring("format mlx"));
  CHECK_THAT(run("plain"), ContainsSubstring("not quantized"));
  CHECK_THAT(run("bitsandbytes", "nf4"), ContainsSubstring("format bitsandbytes nf4"));
  CHECK_THAT(run("compressed-tensors", "nvfp4"),
             ContainsSubstring("format compressed-tensors nvfp4-pack-quantized"));
  CHECK_THAT(run("compressed-tensors", "fp8"),
             ContainsSubstring("format compressed-tensors float-quantized"));
  check_refused(demo.string() + " --method rtn --type nf4",
                ContainsSubstring("the gptq format holds no numbers of the type nf4") &&
                    ContainsSubstring("with these settings: bitsandbytes, plain"));
  check_refused(demo.string() + " --method rtn --type fp8 --format compressed-tensors --bits 4",
                ContainsSubstring("fp8 has 8"));
  check_refused(demo.string() + " --method rtn --bits 3 --format awq",
                ContainsSubstring("the AWQ format has 4 bits; formats that hold all modules with "
                                  "these settings: gptq, compressed-tensors, plain"));
}

TEST_CASE("a quantized folder is converted to another format", "[program]") {
  const TemporaryFolder folder;
  const std::string from = (folder / "gptq").string(), to = (folder / "awq").string(),
                    direct = (folder / "direct").string();
  REQUIRE(program("quantize " + demo.string() + " --method rtn --quiet --out " + from).code == 0);
  REQUIRE(
      program("quantize " + demo.string() + " --method rtn --quiet --format awq --out " + direct)
          .code == 0);
  const auto converted = program("convert " + from + " --to awq --out " + to);
  INFO(converted.output);
  CHECK(converted.code == 0);
  CHECK_THAT(converted.output, ContainsSubstring("28 modules") && ContainsSubstring("format awq"));
  for (const char* file : {"model.safetensors", "config.json", "tokenizer.json"})
    CHECK((gptq::io::read_file(folder / "awq" / file) ==
           gptq::io::read_file(folder / "direct" / file)));
  const auto refused = [&](const std::string& options, const std::string& why) {
    const auto outcome = program("convert " + options);
    CHECK(outcome.code == 2);
    CHECK_THAT(outcome.output, ContainsSubstring(why));
  };
  refused(demo.string() + " --to awq --out " + (folder / "x").string(), "is not quantized");
  refused(from + " --to awq --out " + to, "--overwrite replaces");
  refused(from + " --to awq --out " + from, "is the model itself");
  refused(from + " --to bitsandbytes --out " + (folder / "x").string(),
          "holds no numbers of the type int");
  refused(from + " --to zip --out " + (folder / "x").string(), "--to");
  CHECK_FALSE(std::filesystem::exists(folder / "x"));
}

TEST_CASE("a recipe does what the command line does", "[program]") {
  const TemporaryFolder folder;
  const auto file = [&](const char* name) { return (folder / name).string(); };
  const auto quantize = [&](const std::string& out, const std::string& options) {
    const auto outcome = program("quantize " + demo.string() + " --quiet --out " +
                                 file(out.c_str()) + " " + options);
    INFO(outcome.output);
    REQUIRE(outcome.code == 0);
    return gptq::io::read_file(folder / out / "model.safetensors") +
           gptq::io::read_file(folder / out / "config.json");
  };
  const std::string direct =
      quantize("direct",
               "--method rtn --bits 3 --asym --group-size 64 --override re:.*down_proj=bits:8 "
               "--skip re:.*q_proj --save-config " +
                   file("saved.json"));
  gptq::io::write_file(folder / "own.json",
                       R"({"method": "rtn", "bits": 3, "asym": true, "group-size": 64,
                           "override": ["re:.*down_proj=bits:8"], "skip": "re:.*q_proj"})");
  gptq::io::write_file(folder / "theirs.json",
                       R"({"bits": 3, "sym": false, "group_size": 64, "quant_method": "gptq",
                           "batch_size": 4, "block_name_to_quantize": "model.layers",
                           "dynamic": {"-:.*q_proj": {}, "+:.*down_proj": {"bits": 8}}})");
  CHECK((quantize("own", "--config " + file("own.json")) == direct));
  CHECK((quantize("saved", "--config " + file("saved.json")) == direct));
  CHECK((quantize("theirs", "--method rtn --config " + file("theirs.json")) ==
         quantize("order",
                  "--method rtn --bits 3 --asym --group-size 64 --skip re:.*q_proj "
                  "--override re:.*down_proj=bits:8")));
  // The command line takes precedence, and the report has what was in force.
  CHECK((quantize("four",
                  "--bits 4 --report " + file("report.json") + " --config " + file("own.json")) ==
         quantize("four_direct",
                  "--method rtn --bits 4 --asym --group-size 64 --override "
                  "re:.*down_proj=bits:8 --skip re:.*q_proj")));
  const auto options = gptq::io::read_json(folder / "report.json")["options"];
  CHECK(options["bits"] == "4");
  CHECK(options["group-size"] == "64");
  CHECK(options["asym"] == true);
  CHECK(options["skip"] == nlohmann::json{"re:.*q_proj"});

  const auto refused = [&](const char* json, const std::string& why) {
    gptq::io::write_file(folder / "bad.json", json);
    const auto outcome = program("quantize " + demo.string() + " --method rtn --out " + file("x") +
                                 " --config " + file("bad.json"));
    CHECK(outcome.code == 2);
    CHECK_THAT(outcome.output, ContainsSubstring("bad.json") && ContainsSubstring(why));
  };
  refused(R"({"bts": 4})", "there is no option \"bts\" (the nearest one is \"bits\")");
  refused(R"({"out": "elsewhere"})", "there is no option \"out\"");
  refused(R"({"bits": 5})", "--bits: 5 not in");
  refused(R"([4])", "is not a JSON object");
  refused(R"({"bits": 4, "desc_act": false, "block_name_to_quantize": "transformer.h"})",
          "are called model.layers.N, not transformer.h.N");
  CHECK(program("quantize " + demo.string() + " --method rtn --out " + file("x") +
                " --save-config " + file("own.json"))
            .code == 2);
  CHECK_FALSE(std::filesystem::exists(folder / "x"));
}

TEST_CASE("a quantized folder is checked for engines", "[program]") {
  const TemporaryFolder folder;
  const std::string out = (folder / "out").string();
  const auto quantize =
      program("quantize " + demo.string() + " --method rtn --bits 3 --quiet --out " + out);
  CHECK_THAT(quantize.output,
             ContainsSubstring("note: vllm will refuse it: 3 bits (4 and 8 load)"));
  const auto all = program("check --quiet " + out);
  CHECK(all.code == 0);
  CHECK_THAT(all.output, ContainsSubstring("transformers  loads it") &&
                             ContainsSubstring("exllamav2     refuses it: 3 bits (4 load)") &&
                             ContainsSubstring("all tensors of 28 modules are there"));
  CHECK(program("check --quiet --engine gptqmodel " + out).code == 0);
  const auto refused = program("check --quiet --engine vllm --engine sglang " + out);
  CHECK(refused.code == 2);
  CHECK_THAT(refused.output, ContainsSubstring("out: vllm will not load it"));
  CHECK(program("check --quiet " + demo.string()).code == 2);
  const std::string floats = (folder / "fp8").string();
  REQUIRE(program("quantize " + demo.string() +
                  " --method rtn --type fp8 --format compressed-tensors --quiet --out " + floats)
              .code == 0);
  CHECK_THAT(program("check --quiet --engine vllm " + floats).output,
             ContainsSubstring("vllm          loads it"));
  // A module that is not there.
  auto bytes = gptq::io::read_file(folder / "out" / "model.safetensors");
  bytes.replace(bytes.find("layers.1.mlp.up_proj.qweight"), 28, "layers.1.mlp.up_proj.qweighu");
  gptq::io::write_file(folder / "out" / "model.safetensors", bytes);
  const auto missing = program("check --quiet " + out);
  CHECK(missing.code == 2);
  CHECK_THAT(missing.output, ContainsSubstring("model.layers.1.mlp.up_proj"));
}

TEST_CASE("fewer windows than requested are used and noted, none is an error", "[program]") {
  const TemporaryFolder folder;
  const std::string text = (folder / "short.txt").string();
  gptq::io::write_file(text, gptq::io::read_file(demo / "calibration.txt").substr(0, 3000));
  const auto some = program("quantize " + demo.string() + " --out " + (folder / "out").string() +
                            " --quiet --sequence-length 128 --calibration " + text);
  CHECK(some.code == 0);
  CHECK_THAT(some.output, ContainsSubstring("windows of 128 tokens; 128 were requested"));
  gptq::io::write_file(text, gptq::io::read_file(demo / "calibration.txt").substr(0, 500));
  check_refused(
      demo.string() + " --sequence-length 4096 --calibration " + text,
      ContainsSubstring("fewer than one window of 512") && ContainsSubstring("short.txt"));
}

TEST_CASE("--help shows examples and usage errors exit with 2", "[program]") {
  CHECK_THAT(program("--help").output,
             ContainsSubstring("Examples:") && ContainsSubstring("gptq quantize"));
  CHECK(program("--help").code == 0);
  CHECK_THAT(program("quantize --help").output,
             ContainsSubstring("--group-size") && ContainsSubstring("Examples:"));
  CHECK_THAT(program("--version").output, ContainsSubstring("gptq 0.1."));
  for (const char* wrong :
       {"", "dance", "quantize", "quantize a", "quantize a --out b --bits 5",
        "quantize a --out b --nonsense", "eval", "quantize a --out b --samples 0",
        "quantize a --out b --sequence-length 1", "quantize a --out b --order backwards"})
    CHECK(program(wrong).code == 2);
}

TEST_CASE("wrong options are refused before any work", "[program]") {
  const std::string model = demo.string();
  check_refused(model, ContainsSubstring("--calibration FILE"));
  check_refused(model + calibration() + " --group-size 96",
                ContainsSubstring("group_size = 96 does not divide in_features = 256") &&
                    ContainsSubstring("16, 32, 64, 128"));
  check_refused(model + calibration() + " --group-size 0", ContainsSubstring("group_size = 0"));
  check_refused(model + calibration() + " --damping 0", ContainsSubstring("damping = 0"));
  check_refused(model + calibration() + " --override 're:.*=bits:five'",
                ContainsSubstring("bits:five"));
  check_refused(model + calibration() + " --override 're:.*=sym:false'",
                ContainsSubstring("would mix symmetric and asymmetric"));
  check_refused(model + calibration() + " --skip 're:('", ContainsSubstring("regular expression"));
  check_refused(model + calibration() + " --skip 're:.*'",
                ContainsSubstring("every module is skipped"));
  check_refused(model + calibration() + " --max-shard-size huge",
                ContainsSubstring("--max-shard-size = huge"));
  check_refused(model + " --calibration no-such-file.txt", ContainsSubstring("no-such-file.txt"));
  check_refused("no-such-model" + calibration(), ContainsSubstring("no-such-model"));
  check_refused(model + calibration() + " --skip nothing",
                ContainsSubstring("no module's name matches \"nothing\""));
  check_refused(model + calibration() +
                    " --override 're:.*down_proj=bits:8' --override "
                    "'re:.*down_proj=bits:2'",
                ContainsSubstring("two overrides"));
  check_refused(model + calibration() + " --report /no/such/folder/report.json",
                ContainsSubstring("/no/such/folder/report.json"));
}

TEST_CASE("a short last group is possible on request", "[program]") {
  const TemporaryFolder folder;
  const auto outcome =
      program("quantize " + demo.string() + " --quiet --out " + (folder / "out").string() +
              calibration() + " --group-size 96 --allow-tail-group");
  CHECK(outcome.code == 0);
  CHECK_THAT(
      outcome.output,
      ContainsSubstring("note: vllm, sglang, exllamav2 will refuse it: a short last group (256 "
                        "inputs in groups of 96)"));
  CHECK(program("eval " + (folder / "out").string() + " --windows 2 --sequence-length 128 --text " +
                (demo / "heldout.txt").string())
            .code == 0);
}

TEST_CASE("a model that is already quantized is refused with the reason", "[program]") {
  const TemporaryFolder folder;
  const std::string out = (folder / "out").string();
  REQUIRE(program("quantize " + demo.string() + " --method rtn --quiet --out " + out).code == 0);
  check_refused(out + calibration(), ContainsSubstring("already quantized (gptq, 4 bits)"));
}

TEST_CASE("round to nearest says which options it ignores, and searches ranges on request",
          "[program]") {
  const TemporaryFolder folder;
  const auto rtn = [&](const std::string& name, const std::string& flags) {
    const auto outcome = program("quantize " + demo.string() + " --method rtn" + flags + " --out " +
                                 (folder / name).string());
    REQUIRE(outcome.code == 0);
    return outcome.output;
  };
  const auto tensors = [&](const std::string& name) {
    return gptq::io::read_file(folder / name / "model.safetensors");
  };
  CHECK_THAT(rtn("plain", ""), !ContainsSubstring("ignores"));
  CHECK_THAT(rtn("noted", " --damping 0.1 --order natural"),
             ContainsSubstring("note: --method rtn ignores --order, --damping\n"));
  rtn("minmax", " --range minmax");
  rtn("searched", " --range weighted");
  CHECK(tensors("noted") == tensors("plain"));
  CHECK(tensors("minmax") == tensors("plain"));
  CHECK(tensors("searched") != tensors("plain"));
}

TEST_CASE("an output folder that is not empty is kept", "[program]") {
  const TemporaryFolder folder;
  gptq::io::write_file(folder / "precious.txt", "mine");
  const auto outcome =
      program("quantize " + demo.string() + " --method rtn --out " + folder.path().string());
  CHECK(outcome.code == 2);
  CHECK_THAT(outcome.output, ContainsSubstring("is not empty"));
  CHECK(folder.names() == std::vector<std::string>{"precious.txt"});
}

TEST_CASE("a model is not overwritten while it is read", "[program]") {
  const DemoCopy model;
  const std::string before = gptq::io::read_file(model.folder / "model.safetensors");
  const auto names = model.folder.names().size();
  const auto outcome = program("quantize " + model.path() + " --method rtn --overwrite --out " +
                               model.path() + "/.");
  CHECK(outcome.code == 2);
  CHECK_THAT(outcome.output, ContainsSubstring("is the model itself"));
  CHECK(gptq::io::read_file(model.folder / "model.safetensors") == before);
  CHECK(model.folder.names().size() == names);
}

TEST_CASE("an output folder may exist, be a link, or be the working directory", "[program]") {
  const TemporaryFolder folder;
  const std::string quantize =
      std::string(GPTQ_PROGRAM) + " quantize " + demo.string() + " --method rtn --quiet --out ";
  std::filesystem::create_directory(folder / "target");
  std::filesystem::create_directory_symlink(folder / "target", folder / "link");
  CHECK(test::run(quantize + (folder / "link").string()).code == 0);
  CHECK(std::filesystem::is_symlink(folder / "link"));
  CHECK(std::filesystem::exists(folder / "target/model.safetensors"));

  std::filesystem::create_directory(folder / "here");
  const auto outcome =
      test::run("cd " + (folder / "here").string() + " && " + quantize + ". && ls");
  CHECK(outcome.code == 0);
  CHECK_THAT(outcome.output, ContainsSubstring("model.safetensors"));

  std::filesystem::create_directories(folder / "odd/tokenizer.json");
  const auto odd = test::run(quantize + (folder / "odd").string() + " --overwrite");
  CHECK(odd.code == 2);
  CHECK_THAT(odd.output, ContainsSubstring("tokenizer.json is a folder"));
  CHECK(std::filesystem::is_directory(folder / "odd/tokenizer.json"));

  // Folders created in vain are removed again.
  CHECK(test::run(quantize + (folder / "deep/a/b").string() + " --group-size 100").code == 2);
  CHECK(
      test::run("bash -c 'ulimit -f 1000; exec " + quantize + (folder / "deep/a/b").string() + "'")
          .code == 2);
  CHECK_FALSE(std::filesystem::exists(folder / "deep"));
}

TEST_CASE("a malformed configuration is refused with the key", "[program]") {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"architectures": 7})", "architectures"},
      {R"({"hidden_size": "many"})", "hidden_size"},
      {R"({"num_hidden_layers": 1000000})", "num_hidden_layers"},
      {R"({"num_hidden_layers": 3})", "model.layers.3."},
      {R"({"head_dim": 10000000})", "has the shape"},
      {R"({"tie_word_embeddings": false})", "has no tensor lm_head.weight"},
      {R"({"attention_bias": true})", "q_proj.bias"},
      {R"({"rope_scaling": "yarn"})", "rope_scaling"},
      {R"({"rope_scaling": {"rope_type": "mrope"}})", "mrope"},
      {R"({"partial_rotary_factor": 0.5})", "partial_rotary_factor"},
      {R"({"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "use_sliding_window": true,
           "sliding_window": 7, "max_window_layers": -1})",
       "max_window_layers"},
      {R"({"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "use_sliding_window": true,
           "sliding_window": 7, "layer_types": 5})",
       "layer_types"},
      {R"({"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"})", "q_proj.bias"},
  };
  for (const auto& [patch, says] : cases) {
    const DemoCopy model;
    model.edit_config(patch);
    INFO(patch);
    check_refused(model.path() + calibration(),
                  ContainsSubstring(model.path()) && ContainsSubstring(says));
  }
  const DemoCopy model;
  std::string deep = gptq::io::read_file(model.folder / "config.json");
  deep.insert(1, "\"x\": " + std::string(100000, '[') + std::string(100000, ']') + ", ");
  gptq::io::write_file(model.folder / "config.json", deep);
  check_refused(model.path() + calibration(), ContainsSubstring("nested deeper"));
}

TEST_CASE("a malformed tokenizer is refused with its file", "[program]") {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"model": {"vocab": {"a": -1}}})", "the token a has the id -1"},
      {R"({"model": {"vocab": {"a": 3.5}}})", "3.5"},
      {R"({"model": {"vocab": {"a": 4294967297}}})", "4294967297"},
      {R"({"model": {"vocab": [1, 2]}})", "not an object"},
      {R"({"added_tokens": [{"id": -3, "content": "<x>"}]})", "-3"},
      {R"({"normalizer": {"type": "Replace", "pattern": {"String": ""}, "content": "x"}})",
       "empty pattern"},
      {R"({"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated",
           "invert": false}})",
       "regular expression"},
      {R"({"model": 5})", "is malformed"},
  };
  for (const auto& [patch, says] : cases) {
    const DemoCopy model;
    auto json = nlohmann::json::parse(gptq::io::read_file(model.folder / "tokenizer.json"));
    json.merge_patch(nlohmann::json::parse(patch));
    gptq::io::write_file(model.folder / "tokenizer.json", json.dump());
    INFO(patch);
    check_refused(model.path() + calibration(),
                  ContainsSubstring("tokenizer.json: ") && ContainsSubstring(says));
  }
}

TEST_CASE("tensors copied unchanged are checked as well", "[program]") {
  const DemoCopy model;
  std::string bytes = gptq::io::read_file(model.folder / "model.safetensors");
  std::uint64_t header = 0;
  std::memcpy(&header, bytes.data(), 8);
  const auto offsets =
      nlohmann::json::parse(bytes.substr(8, header))["model.norm.weight"]["data_offsets"];
  bytes.replace(8 + header + offsets[0].get<std::size_t>() + 2 * 5, 2, "\xc0\x7f");
  gptq::io::write_file(model.folder / "model.safetensors", bytes);
  for (const std::string method : {"", " --method rtn"})
    check_refused(model.path() + (method.empty() ? calibration() : method),
                  ContainsSubstring("tensor model.norm.weight has nan at row 0, column 5"));
}

TEST_CASE("inspect lists what it cannot quantize", "[program]") {
  const DemoCopy model;
  model.edit_config(R"({"architectures": ["MambaForCausalLM"]})");
  const auto outcome = program("inspect " + model.path());
  CHECK(outcome.code == 0);
  CHECK_THAT(outcome.output, ContainsSubstring("MambaForCausalLM is not supported") &&
                                 ContainsSubstring("model.layers.3.mlp.down_proj.weight"));
}

TEST_CASE("damaged models are refused with file, tensor and value", "[program]") {
  const std::string name = "model.layers.2.mlp.up_proj.weight";
  SECTION("truncated") {
    const DemoCopy model;
    std::filesystem::resize_file(model.folder / "model.safetensors", 1000000);
    check_refused(model.path() + calibration(), ContainsSubstring("model.safetensors: tensor") &&
                                                    ContainsSubstring("lie outside"));
  }
  SECTION("a missing tensor") {
    const DemoCopy model;
    model.edit_config(R"({"num_hidden_layers": 5})");
    check_refused(model.path() + calibration(), ContainsSubstring("has no tensor model.layers.4."));
  }
  SECTION("a tensor of the wrong shape") {
    const DemoCopy model;
    model.edit_config(R"({"intermediate_size": 768})");
    check_refused(model.path() + calibration(),
                  ContainsSubstring("mlp.gate_proj.weight has the shape"));
  }
  SECTION("a wrong dtype") {
    const DemoCopy model;
    std::string bytes = gptq::io::read_file(model.folder / "model.safetensors");
    const std::size_t entry = bytes.find('"' + name + '"'), dtype = bytes.find("BF16", entry);
    bytes.replace(dtype, 4, "I16\"");
    bytes.erase(dtype + 4, 1);
    bytes.insert(bytes.find('}', dtype), " ");
    gptq::io::write_file(model.folder / "model.safetensors", bytes);
    check_refused(model.path() + calibration(),
                  ContainsSubstring("tensor " + name) && ContainsSubstring("dtype I16"));
  }
  SECTION("NaN in a weight") {
    const DemoCopy model;
    std::string bytes = gptq::io::read_file(model.folder / "model.safetensors");
    std::uint64_t header = 0;
    std::memcpy(&header, bytes.data(), 8);
    const auto offsets = nlohmann::json::parse(bytes.substr(8, header))[name]["data_offsets"];
    bytes.replace(8 + header + offsets[0].get<std::size_t>() + 2 * 300, 2, "\xc0\x7f");
    gptq::io::write_file(model.folder / "model.safetensors", bytes);
    check_refused(model.path() + calibration(),
                  ContainsSubstring("tensor " + name + " has nan at row 1, column 44"));
  }
  SECTION("an unknown architecture") {
    const DemoCopy model;
    model.edit_config(R"({"architectures": ["MambaForCausalLM"]})");
    check_refused(
        model.path() + calibration(),
        ContainsSubstring("config.json: the architecture MambaForCausalLM is not supported"));
  }
  SECTION("a missing shard") {
    const DemoCopy model;
    std::filesystem::remove(model.folder / "model.safetensors");
    gptq::io::write_file(model.folder / "model.safetensors.index.json",
                         R"({"weight_map": {"x": "model-00001-of-00002.safetensors"}})");
    check_refused(model.path() + calibration(),
                  ContainsSubstring("model-00001-of-00002.safetensors: the shard is missing"));
  }
  SECTION("no tokenizer") {
    const DemoCopy model;
    std::filesystem::remove(model.folder / "tokenizer.json");
    check_refused(model.path() + calibration(),
                  ContainsSubstring("has no tokenizer.json") && ContainsSubstring("--tokens FILE"));
    const TemporaryFolder folder;
    std::string ids;
    for (int i = 0; i < 1000; ++i) ids += std::to_string(i * 7 % 1500) + " ";
    gptq::io::write_file(folder / "ids.txt", ids);
    CHECK(program("quantize " + model.path() + " --quiet --out " + (folder / "out").string() +
                  " --sequence-length 128 --tokens " + (folder / "ids.txt").string())
              .code == 0);
  }
  SECTION("a GGUF file that is not one") {
    const TemporaryFolder folder;
    gptq::io::write_file(folder / "model.gguf", "GGUF\x03");
    check_refused((folder / "model.gguf").string() + calibration(),
                  ContainsSubstring("model.gguf: truncated"));
  }
}

TEST_CASE("activations that overflow are found where they appear", "[program]") {
  const DemoCopy model;
  std::string bytes = gptq::io::read_file(model.folder / "model.safetensors");
  std::uint64_t header = 0;
  std::memcpy(&header, bytes.data(), 8);
  const auto json = nlohmann::json::parse(bytes.substr(8, header));
  // Up and gate of one layer are so large that their product is infinite, though every weight is
  // finite.
  for (const char* name :
       {"model.layers.1.mlp.up_proj.weight", "model.layers.1.mlp.gate_proj.weight"}) {
    const auto offsets = json[name]["data_offsets"];
    for (std::size_t at = offsets[0]; at < offsets[1]; at += 2)
      bytes.replace(8 + header + at, 2, "\x00\x7e", 2);
  }
  gptq::io::write_file(model.folder / "model.safetensors", bytes);
  check_refused(model.path() + calibration(),
                ContainsSubstring("of model.layers.1.mlp.gate_proj") &&
                    ContainsSubstring("too large for scales of type fp16") &&
                    ContainsSubstring("--skip NAME"));
  check_refused(model.path() + calibration() + " --skip 're:.*layers\\.1\\.mlp\\.(gate|up)_proj'",
                ContainsSubstring("input of model.layers.1.mlp.down_proj") &&
                    ContainsSubstring("not finite"));
}

TEST_CASE("a full disk is found before any work and leaves nothing", "[program]") {
  const TemporaryFolder out;
  const auto outcome = test::run("bash -c 'trap \"\" XFSZ; ulimit -f 1000; exec " +
                                 std::string(GPTQ_PROGRAM) + " quantize " + demo.string() +
                                 " --out " + (out / "model").string() + calibration() + "'");
  INFO(outcome.output);
  CHECK(outcome.code == 2);
  CHECK_THAT(outcome.output, ContainsSubstring("cannot reserve"));
  CHECK(out.names().empty());
}

TEST_CASE("Ctrl-C ends the work with nothing half-written", "[program]") {
  const TemporaryFolder out;
  // In the foreground: otherwise timeout signals twice, and a second Ctrl-C ends the program at
  // once.
  const auto outcome = test::run("timeout --foreground --preserve-status --signal=INT 0.6 " +
                                 std::string(GPTQ_PROGRAM) + " quantize " + demo.string() +
                                 " --out " + (out / "model").string() +
                                 " --samples 400 --sequence-length 256 --threads 1 --calibration " +
                                 (demo / "calibration.txt").string());
  INFO(outcome.output);
  CHECK(outcome.code == 130);
  CHECK_THAT(outcome.output, ContainsSubstring("interrupted; nothing was written"));
  CHECK(out.names().empty());
}

TEST_CASE("progress is plain lines in a pipe and nothing when quiet", "[program]") {
  const TemporaryFolder folder;
  const auto loud =
      program("quantize " + demo.string() + " --out " + (folder / "a").string() + calibration());
  CHECK_THAT(loud.output, ContainsSubstring("layer 1/4") && !ContainsSubstring("\r"));
  const auto quiet = program("quantize " + demo.string() + " --quiet --out " +
                             (folder / "b").string() + calibration());
  CHECK_THAT(quiet.output, !ContainsSubstring("layer 1/4") && ContainsSubstring("written: "));
}
