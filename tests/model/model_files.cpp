// SPDX-License-Identifier: MIT

// Model folders: what is in them, what is missing, and what is decided without being asked for.

#include <gptq/exec/threads.hpp>
#include <gptq/model/decoder_tensors.hpp>

#include "../support/catch.hpp"
#include "../support/files.hpp"

#include <limits>

using gptq::FormatError;

namespace {

/// A copy of a small model that a test may damage.
struct Copy {
  test::TemporaryFolder folder;
  explicit Copy(const std::string& name) {
    for (const char* file : {"config.json", "model.safetensors"})
      std::filesystem::copy_file(test::data_folder() / "models" / name / file, folder / file);
  }

  void configure(const std::string& changes) const {
    auto json = gptq::io::read_json(folder / "config.json");
    json.merge_patch(nlohmann::json::parse(changes));
    gptq::io::write_file(folder / "config.json", json.dump());
  }

  /// Adds a float tensor to model.safetensors.
  void add(const std::string& name, const std::string& shape,
           const std::vector<float>& numbers) const {
    std::string bytes;
    for (const float x : numbers) bytes += test::bytes_of(x);
    add(name, "F32", shape, bytes);
  }

  /// Adds a tensor of any type.
  void add(const std::string& name, const std::string& type, const std::string& shape,
           const std::string& numbers) const {
    change([&](std::string& header, std::string& data) {
      header.resize(header.rfind('}'));
      const std::size_t begin = data.size();
      data += numbers;
      header += ",\"" + name + "\":{\"dtype\":\"" + type + "\",\"shape\":" + shape +
                ",\"data_offsets\":[" + std::to_string(begin) + "," + std::to_string(data.size()) +
                "]}}";
    });
  }

  void rename(const std::string& from, const std::string& to) const {
    change([&](std::string& header, std::string&) {
      header.replace(header.find("\"" + from + "\"") + 1, from.size(), to);
    });
  }

  /// Calls f(header, data) on model.safetensors.
  template <class F>
  void change(const F& f) const {
    const std::string bytes = gptq::io::read_file(folder / "model.safetensors");
    std::uint64_t length = 0;
    std::memcpy(&length, bytes.data(), 8);
    std::string header = bytes.substr(8, length), data = bytes.substr(8 + length);
    f(header, data);
    gptq::io::write_file(folder / "model.safetensors",
                         test::bytes_of(std::uint64_t(header.size())) + header + data);
  }

  gptq::model::ModelFiles open() const { return gptq::model::open_model(folder.path()); }
};

/// The only note of a model.
std::string note_of(const gptq::model::ModelFiles& model) {
  REQUIRE(model.notes.size() == 1);
  return model.notes[0];
}

}  // namespace

TEST_CASE("a folder that lacks something is refused with what is missing", "[model_files]") {
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
               ContainsSubstring(name + " has the shape [64, 32]; expected [32, 64]"));
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
  CHECK(with(R"({"quant_method": "awq", "bits": 4})")->method == "awq");
  const auto v2 = with(
      R"({"quant_method": "gptq", "bits": 4, "group_size": 64, "sym": false, "checkpoint_format": "gptq_v2"})");
  CHECK(v2->variant == "gptq_v2");
  CHECK(v2->group_size == 64);
  CHECK(with(R"({"bits": 4})")->variant == "gptq");
  CHECK_THAT(error_of<FormatError>(
                 [&] { with(R"({"bits": 4, "format": "gptq", "checkpoint_format": "gptq_v2"})"); }),
             ContainsSubstring("checkpoint_format is \"gptq_v2\" and format is \"gptq\""));
  CHECK_THAT(error_of<FormatError>([&] { with(R"({"bits": 4, "format": "marlin"})"); }),
             ContainsSubstring("the format \"marlin\" is not supported"));
}

TEST_CASE("8-bit floats have a scale for all, for each row or for each block", "[model_files]") {
  const std::string module = "model.layers.0.self_attn.o_proj", weight = module + ".weight";
  const auto element = [&](const std::string& ending, const std::string& shape,
                           const std::vector<float>& scales, int row, int column) {
    const Copy copy("llama");
    copy.rename(weight, "model.layers.0.rotary_emb.inv_freq");
    copy.add(weight, "F8_E4M3", "[32,32]", std::string(1024, '\x38'));  // ones
    copy.add(module + ending, shape, scales);
    copy.add(module + ".input_scale", "[]", {7});
    copy.configure(
        R"({"quantization_config": {"quant_method": "fp8", "weight_block_size": [16, 24]}})");
    const auto model = copy.open();
    gptq::model::require_decoder_tensors(model);
    std::vector<float> numbers(1024);
    model.tensors->read(weight, numbers);
    CHECK_FALSE(model.tensors->contains(module + ".input_scale"));
    return numbers[std::size_t(32 * row + column)];
  };
  std::vector<float> rows;
  for (int r = 0; r < 32; ++r) rows.push_back(float(r));
  for (const std::string ending : {".weight_scale", ".weight_scale_inv"}) {
    INFO(ending);
    CHECK(element(ending, "[]", {0.5f}, 31, 31) == 0.5f);
    CHECK(element(ending, "[1]", {0.5f}, 0, 1) == 0.5f);
    CHECK(element(ending, "[32]", rows, 17, 31) == 17);
    CHECK(element(ending, "[32,1]", rows, 30, 0) == 30);
    CHECK(element(ending, "[2,2]", {1, 2, 3, 4}, 15, 24) == 2);
    CHECK(element(ending, "[2,2]", {1, 2, 3, 4}, 16, 23) == 3);
    for (const std::string shape : {"[3]", "[4]", "[4,1]"})
      CHECK_THAT(error_of<FormatError>([&] {
                   element(ending, shape, std::vector<float>(shape == "[3]" ? 3 : 4), 0, 0);
                 }),
                 ContainsSubstring(module + ending + " has the shape ") &&
                     ContainsSubstring("; expected [2, 2]"));
  }
}

TEST_CASE("NaN in any tensor of the decoder is found before any work", "[layer_weights][fault7]") {
  const Copy copy("llama");
  std::string bytes = gptq::io::read_file(copy.folder / "model.safetensors");
  std::size_t offset = 0;
  {
    const gptq::io::Safetensors file(copy.folder / "model.safetensors");
    offset = static_cast<std::size_t>(file.at("lm_head.weight").bytes.data() -
                                      file.file().bytes().data());
  }
  const std::uint16_t infinity = 0xff80;  // bfloat16, negative
  std::memcpy(bytes.data() + offset + 2 * (79 * 32 + 31), &infinity, 2);
  gptq::io::write_file(copy.folder / "model.safetensors", bytes);
  const auto model = copy.open();
  CHECK_NOTHROW(gptq::model::require_decoder_tensors(model));
  for (const int threads : {1, 3})
    CHECK_THAT(error_of<gptq::NumericalError>([&] {
                 gptq::model::require_finite_tensors(model, gptq::exec::Threads(threads));
               }),
               ContainsSubstring("model.safetensors: tensor lm_head.weight has -inf at row 79, "
                                 "column 31"));
  CHECK_THROWS_AS(gptq::model::require_finite_tensors(model, gptq::exec::Serial{},
                                                      [](auto, double, double) { return false; }),
                  gptq::Cancelled);
}

TEST_CASE("unsupported types are found from the headers", "[layer_weights][fault7]") {
  const Copy copy("llama3_rope");
  std::string bytes = gptq::io::read_file(copy.folder / "model.safetensors");
  const std::string name = "model.layers.1.mlp.down_proj.weight";
  const std::size_t entry = bytes.find("{", bytes.find(name)), at = bytes.find("F32", entry);
  REQUIRE(at < bytes.find("}", entry));
  bytes.replace(at, 3, "I32");
  gptq::io::write_file(copy.folder / "model.safetensors", bytes);
  CHECK_THAT(error_of<FormatError>([&] { gptq::model::require_decoder_tensors(copy.open()); }),
             ContainsSubstring("tensor " + name + " has the dtype I32, which is not supported"));
}

TEST_CASE("buffers that no layer uses do not stop the work", "[model_files]") {
  const float inf = std::numeric_limits<float>::infinity();
  const auto with = [&](const std::string& name, const std::string& shape,
                        const std::vector<float>& numbers) {
    const Copy copy("llama3_rope");
    copy.add(name, shape, numbers);
    auto model = copy.open();
    gptq::model::require_decoder_tensors(model);
    gptq::model::require_finite_tensors(model, gptq::exec::Serial{});
    return std::pair(note_of(model), model.tensors->contains(name));
  };
  for (const char* name :
       {"model.layers.0.self_attn.rotary_emb.inv_freq", "model.layers.0.self_attn.masked_bias",
        "model.causal_mask", "model.layers.1.self_attn.bias"}) {
    const auto [note, kept] = with(name, "[1,2]", {0, -inf});
    CHECK_FALSE(kept);
    CHECK_THAT(note, ContainsSubstring("no layer uses " + std::string(name) + "; left out"));
  }
  const auto [odd, odd_kept] = with("odd", "[2]", {0, -inf});
  CHECK_FALSE(odd_kept);
  CHECK_THAT(odd, ContainsSubstring("uses odd, which has non-finite numbers; left out"));
  const auto [value_head, kept] = with("v_head.weight", "[2]", {0, 1});
  CHECK(kept);
  CHECK_THAT(value_head, ContainsSubstring("v_head.weight; copied unchanged"));
}

TEST_CASE("tensors of another kind of decoder are refused by name, zeros and other heads are not",
          "[model_files]") {
  const auto opened = [](const std::string& model, const std::string& name,
                         const std::vector<float>& numbers) {
    const Copy copy(model);
    copy.add(name, "[" + std::to_string(numbers.size()) + "]", numbers);
    auto files = copy.open();
    gptq::model::require_decoder_tensors(files);
    return files;
  };
  for (const char* name :
       {"lm_head.bias", "lm_head.scale", "lm_head.weight_scale", "lm_head.scales",
        "lm_head.qweight", "model.norm.bias", "model.norm.scale", "model.embed_norm.weight",
        "model.embed_tokens.bias", "model.embed_tokens.scale", "model.embed_positions.weight",
        "model.project_in.weight", "model.odd", "final_norm.weight", "logit_scale", "embed_scale",
        "final_logits_bias"})
    CHECK_THAT(error_of<FormatError>([&] {
                 opened("llama", name, {0, 1});
               }),
               ContainsSubstring("model.safetensors: tensor " + std::string(name) +
                                 " belongs to another kind of decoder"));
  for (const char* name :
       {"self_attn.q_proj.scale", "self_attn.q_proj.bias", "mlp.down_proj.g",
        "input_layernorm.bias", "self_attn.rotary_emb.scale", "self_attn.sinks", "mlp.gate.weight"})
    CHECK_THAT(
        error_of<FormatError>([&] {
          opened("llama", "model.layers.1." + std::string(name), {0, 1});
        }),
        ContainsSubstring("tensor model.layers.1." + std::string(name) + " does not belong") &&
            ContainsSubstring("as its config.json describes it"));
  // A tied head has no tensors.
  CHECK_THAT(error_of<FormatError>([&] {
               opened("llama3_rope", "lm_head.bias", {0, 1});
             }),
             ContainsSubstring("tensor lm_head.bias"));
  for (const char* name : {"lm_head.bias", "model.norm.bias"}) {
    const auto zeros = opened("llama", name, std::vector<float>(80));
    CHECK_FALSE(zeros.tensors->contains(name));
    CHECK_THAT(note_of(zeros), ContainsSubstring("no layer uses " + std::string(name)));
  }
  for (const char* name : {"v_head.summary.bias", "score.weight", "value_head.scale"})
    CHECK(opened("llama", name, {0, 1}).tensors->contains(name));
}

TEST_CASE("contradictory tokenizer files are noted, or refused if there is text to tokenize",
          "[model_files]") {
  const auto with = [](const std::string& tokenizer, const nlohmann::json& config) {
    const Copy copy("llama");
    std::filesystem::copy_file(test::data_folder() / "tokenizers" / (tokenizer + ".json"),
                               copy.folder / "tokenizer.json");
    gptq::io::write_file(copy.folder / "tokenizer_config.json", config.dump());
    return copy.open();
  };
  const auto notes = [&](const std::string& tokenizer, const nlohmann::json& config) {
    const auto model = with(tokenizer, config);
    CHECK_NOTHROW(gptq::model::load_tokenizer(model));
    std::string all;
    for (const auto& note : model.notes) all += note + "\n";
    return all;
  };
  const auto refused = [&](const std::string& tokenizer, const nlohmann::json& config) {
    const auto model = with(tokenizer, config);  // can still be quantized with --tokens
    return error_of<FormatError>([&] { gptq::model::load_tokenizer(model); });
  };
  const char *llama = "LlamaTokenizer", *fast = "PreTrainedTokenizerFast", *qwen = "Qwen2Tokenizer";
  // As in real models.
  CHECK(notes("llama2", {{"tokenizer_class", llama},
                         {"add_bos_token", true},
                         {"add_eos_token", false},
                         {"legacy", false},
                         {"clean_up_tokenization_spaces", false},
                         {"model_max_length", 1e30},
                         {"padding_side", "right"},
                         {"sp_model_kwargs", nlohmann::json::object()},
                         {"use_default_system_prompt", false}})
            .empty());
  CHECK(notes("mistral", {{"tokenizer_class", llama}, {"add_prefix_space", true}}).empty());
  CHECK(notes("llama3", {{"tokenizer_class", fast}}).empty());
  CHECK(notes("qwen", {{"tokenizer_class", qwen},
                       {"add_bos_token", false},
                       {"add_prefix_space", false},
                       {"errors", "replace"},
                       {"split_special_tokens", false}})
            .empty());
  CHECK(notes("gpt2", {{"tokenizer_class", "GPT2Tokenizer"}, {"add_prefix_space", false}}).empty());
  // transformers 4 and 5 differ.
  CHECK_THAT(notes("llama2", {{"tokenizer_class", llama}, {"add_bos_token", false}}),
             ContainsSubstring("tokenizer_config.json: \"add_bos_token\" is false, but "
                               "tokenizer.json puts <s> before a text: tokenizer.json is used"));
  CHECK_THAT(notes("llama2", {{"tokenizer_class", fast}, {"add_eos_token", true}}),
             ContainsSubstring("\"add_eos_token\" is true, but tokenizer.json puts nothing after"));
  CHECK_THAT(notes("qwen", {{"tokenizer_class", llama}}),
             ContainsSubstring("\"add_bos_token\" is missing, which means true in a Llama"));
  CHECK_THAT(notes("qwen", {{"tokenizer_class", qwen}, {"add_prefix_space", true}}),
             ContainsSubstring("\"add_prefix_space\" is true, but tokenizer.json puts no space"));
  CHECK_THAT(notes("gpt2", {{"do_lower_case", 1}}), ContainsSubstring("\"do_lower_case\""));
  CHECK_THAT(notes("gpt2", nlohmann::json::array()), ContainsSubstring("is not a JSON object"));
  // Here they agree, and do not use tokenizer.json.
  CHECK_THAT(
      refused("llama2", {{"split_special_tokens", true}}),
      ContainsSubstring("\"split_special_tokens\" is true") && ContainsSubstring("--tokens FILE"));
  CHECK_THAT(refused("llama2", {{"tokenizer_class", llama}, {"add_prefix_space", false}}),
             ContainsSubstring("\"add_prefix_space\" is false, but tokenizer.json puts a space"));
  CHECK_THAT(refused("gpt2", {{"tokenizer_class", "GPT2Tokenizer"}, {"add_prefix_space", true}}),
             ContainsSubstring("\"add_prefix_space\" is true, but tokenizer.json puts no space"));
}

TEST_CASE("a tied model with a different head is refused, with an equal one it is read",
          "[layer_weights]") {
  const Copy same("llama3_rope"), other("llama3_rope");
  std::vector<float> numbers(80 * 32);
  same.open().tensors->read("model.embed_tokens.weight", numbers);
  same.add("lm_head.weight", "[80,32]", numbers);
  CHECK_NOTHROW(gptq::model::require_decoder_tensors(same.open()));
  numbers[5] += 1;
  other.add("lm_head.weight", "[80,32]", numbers);
  CHECK_THAT(
      error_of<FormatError>([&] { gptq::model::require_decoder_tensors(other.open()); }),
      ContainsSubstring("tie_word_embeddings is true") && ContainsSubstring("lm_head.weight"));
}

TEST_CASE("a folder with model.safetensors and an index says which one is read", "[model_files]") {
  const Copy copy("llama");
  gptq::io::write_file(copy.folder / "model.safetensors.index.json",
                       R"({"weight_map": {"a": "model-00001-of-00002.safetensors"}})");
  CHECK_THAT(note_of(copy.open()),
             ContainsSubstring("reading model.safetensors, as transformers does"));
}

TEST_CASE("an index that lists a head that was never written is accepted", "[model_files]") {
  const Copy copy("llama3_rope");
  const std::string shard = "model-00001-of-00001.safetensors";
  std::filesystem::rename(copy.folder / "model.safetensors", copy.folder / shard);
  nlohmann::json map{{"lm_head.weight", shard}};
  {
    const gptq::io::Safetensors file(copy.folder / shard);
    for (const auto& [name, tensor] : file.tensors()) map[name] = shard;
  }
  gptq::io::write_file(copy.folder / "model.safetensors.index.json",
                       nlohmann::json{{"weight_map", map}}.dump());
  const auto model = copy.open();
  CHECK_NOTHROW(gptq::model::require_decoder_tensors(model));
  CHECK_THAT(note_of(model), ContainsSubstring("lists lm_head.weight, which no shard contains"));
}

TEST_CASE("unsupported folders are named, with a way to convert them", "[model_files]") {
  const auto refused = [](const Copy& copy) { return error_of<gptq::Error>([&] { copy.open(); }); };
  const Copy adapter("llama"), torch("llama"), gguf("llama");
  gptq::io::write_file(adapter.folder / "adapter_config.json", "{}");
  CHECK_THAT(refused(adapter),
             ContainsSubstring("is a LoRA adapter") && ContainsSubstring("merge"));
  for (const Copy* copy : {&torch, &gguf})
    std::filesystem::remove(copy->folder / "model.safetensors");
  gptq::io::write_file(torch.folder / "pytorch_model.bin", "PK");
  CHECK_THAT(refused(torch), ContainsSubstring("has pytorch_model.bin, which is not supported") &&
                                 ContainsSubstring("save_pretrained"));
  gptq::io::write_file(gguf.folder / "m-Q4_0.gguf", "GGUF");
  CHECK_THAT(refused(gguf), ContainsSubstring("m-Q4_0.gguf is a model in itself"));
  const Copy pointer("llama"), twice("llama");
  gptq::io::write_file(pointer.folder / "config.json",
                       "version https://git-lfs.github.com/spec/v1");
  CHECK_THAT(refused(pointer), ContainsSubstring("config.json: is a Git LFS pointer"));
  gptq::io::write_file(twice.folder / "config.json", R"({"rope_theta": 1, "rope_theta": 2})");
  CHECK_THAT(refused(twice), ContainsSubstring("config.json: has the key \"rope_theta\" twice"));
}

TEST_CASE("unsupported quantizations are refused by name", "[model_files]") {
  const auto checked = [](const std::string& quantization) {
    const Copy copy("llama");
    copy.configure("{\"quantization_config\": " + quantization + "}");
    gptq::model::require_decoder_tensors(copy.open());
  };
  CHECK_THAT(error_of<FormatError>([&] { checked(R"({"load_in_4bit": true})"); }),
             ContainsSubstring("is quantized with \"bitsandbytes\", which is not supported"));
  CHECK_THAT(error_of<FormatError>([&] { checked(R"({"quant_method": "eetq", "bits": 4})"); }),
             ContainsSubstring("is quantized with \"eetq\""));
  CHECK_THAT(error_of<FormatError>([&] { checked(R"({"activation_scheme": "dynamic"})"); }),
             ContainsSubstring("has neither \"quant_method\" nor \"bits\""));
  CHECK_THAT(error_of<FormatError>([&] { checked(R"({"bits": 4, "group_size": 1e300})"); }),
             ContainsSubstring("\"group_size\" has the value 1e+300"));
  CHECK_THAT(error_of<FormatError>([&] { checked(R"({"bits": 4, "is_marlin_format": true})"); }),
             ContainsSubstring("\"is_marlin_format\" = true"));
}

TEST_CASE(
    "links out of a model folder are followed to files of the same name and to a cache's blobs",
    "[model_files][fault24]") {
  const test::TemporaryFolder outside;
  gptq::io::write_file(outside / "secret", "secret");
  gptq::io::write_file(outside / "merges.txt", "a b");
  const auto cache = outside / "models--a--b", snapshot = cache / "snapshots" / "1";
  std::filesystem::create_directories(cache / "blobs");
  std::filesystem::create_directories(snapshot);
  for (const char* file : {"config.json", "model.safetensors"}) {
    const auto blob = "blob-" + std::string(file);
    std::filesystem::copy_file(test::data_folder() / "models" / "llama" / file,
                               cache / "blobs" / blob);
    std::filesystem::create_symlink("../../blobs/" + blob, snapshot / file);
  }
  gptq::io::write_file(cache / "blobs" / "0123", "{}");
  std::filesystem::create_symlink("../../blobs/0123", snapshot / "generation_config.json");
  std::filesystem::create_symlink(outside / "secret", snapshot / "tokenizer.model");
  std::filesystem::create_symlink(outside / "merges.txt", snapshot / "merges.txt");
  std::filesystem::create_symlink(outside / "gone", snapshot / "vocab.json");
  const auto model = gptq::model::open_model(snapshot);
  CHECK(model.companions.size() == 2);
  CHECK(model.companions.at("generation_config.json") == "{}");
  CHECK(model.companions.at("merges.txt") == "a b");
  REQUIRE(model.notes.size() == 2);
  CHECK_THAT(model.notes[0], ContainsSubstring("tokenizer.model: is a link to") &&
                                 ContainsSubstring("not part of the model; left out"));
  CHECK_THAT(model.notes[1], ContainsSubstring("vocab.json: is a link to") &&
                                 ContainsSubstring("does not exist; left out"));
}

TEST_CASE("NaN in an unused key of config.json is noted", "[model_files]") {
  const Copy copy("llama");
  std::string text = gptq::io::read_file(copy.folder / "config.json");
  const std::size_t at = text.find("0.02");
  REQUIRE(at != std::string::npos);
  text.replace(at, 4, "NaN");
  gptq::io::write_file(copy.folder / "config.json", text);
  CHECK_THAT(note_of(copy.open()), ContainsSubstring("\"initializer_range\" is nan"));
}

TEST_CASE("a model whose file is written to while being read is not used",
          "[model_files][fault8]") {
  const Copy copy("llama");
  const auto model = copy.open();
  CHECK_NOTHROW(model.tensors->require_unchanged());
  std::filesystem::resize_file(copy.folder / "model.safetensors", 4096);
  CHECK_THROWS_AS(model.tensors->require_unchanged(), gptq::IoError);
}
