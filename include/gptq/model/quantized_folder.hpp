// SPDX-License-Identifier: MIT
#pragma once

// QuantizedFolder: the Hugging Face folder that a quantized model becomes. Written beside its place and moved there
// when it is complete.

#include <gptq/io/safetensors_writer.hpp>
#include <gptq/model/model_files.hpp>
#include <gptq/model/module_quantizer.hpp>
#include <gptq/version.hpp>

#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <utility>  // std::move
#include <vector>

namespace gptq::model {

/// The quantization_config of a folder: the keys that GPTQModel, AutoGPTQ, optimum, transformers, vLLM and SGLang read.
inline nlohmann::ordered_json quantization_config(const SettingsTable& table, const Params& params) {
  const std::string format(pack::checkpoint_format(table.base.symmetric ? pack::GptqFormat::v1 : pack::GptqFormat::v2));
  nlohmann::ordered_json config{{"bits", table.base.bits},
                                {"group_size", table.base.group_size},
                                {"desc_act", false},  // groups keep their columns: no reader needs the group index
                                {"sym", table.base.symmetric},
                                {"lm_head", false},
                                {"quant_method", "gptq"},
                                {"method", "gptq"},
                                {"checkpoint_format", format},
                                {"format", format},
                                {"pack_dtype", "int32"},
                                {"damp_percent", params.damping},
                                {"true_sequential", true},
                                {"static_groups", false},
                                {"model_name_or_path", nullptr},
                                {"model_file_base_name", "model"},
                                {"meta", {{"quantizer", {gptq::detail::message("gptq:", version.major, ".", version.minor, ".", version.patch)}}}}};
  nlohmann::ordered_json dynamic = nlohmann::ordered_json::object();
  for (const NamePattern& skip : table.skips) dynamic["-:" + skip.expression()] = nlohmann::ordered_json::object();
  for (const Override& rule : table.overrides) {
    auto& entry = dynamic["+:" + rule.pattern.expression()];
    entry = nlohmann::ordered_json::object();
    if (rule.bits) entry["bits"] = *rule.bits;
    if (rule.group_size) entry["group_size"] = *rule.group_size;
    if (rule.symmetric) entry["sym"] = *rule.symmetric;
  }
  if (!dynamic.empty()) config["dynamic"] = dynamic;
  return config;
}

/// Which readers will refuse a folder that follows the format's own rules, a sentence each.
inline std::vector<std::string> reader_notes(const ModelConfig& config, const SettingsTable& table) {
  std::set<std::string> notes;
  for (Index layer = 0; layer < config.layers; ++layer) {
    std::optional<ModuleSettings> settings[module_count];
    for (int m = 0; m < module_count; ++m) {
      const auto module = static_cast<Module>(m);
      settings[m] = table.find(full_name(layer, module));
      if (!settings[m]) continue;
      const auto [out, in] = module_shape(config, module);
      const Index group = settings[m]->group_size;
      if (settings[m]->bits != 4 && settings[m]->bits != 8)
        notes.insert(gptq::detail::message(settings[m]->bits, " bits will not load in recent vLLM (4 and 8 do) or ExLlamaV2 (4 does); GPTQModel, transformers and SGLang read them"));
      if (!settings[m]->symmetric) notes.insert("asymmetric grids will not load in recent vLLM; GPTQModel, transformers and SGLang read them");
      if (group != -1 && group != 32 && group != 64 && group != 128)
        notes.insert(gptq::detail::message("groups of ", group, " will not load in vLLM (32, 64, 128 and one per row do)"));
      if (group != -1 && in % group != 0) notes.insert(gptq::detail::message("a short last group (", in, " inputs in groups of ", group, ") will not load in vLLM, SGLang or ExLlamaV2"));
      if (out % 64 != 0 || in % 128 != 0)
        notes.insert(gptq::detail::message("a layer of ", out, " x ", in, " is not a multiple of 64 x 128: the fast Marlin kernels pad it or refuse it"));
    }
    const auto fused = [&](std::initializer_list<Module> modules, const char* what) {
      const auto& first = settings[static_cast<int>(*modules.begin())];
      for (const Module module : modules) {
        const auto& other = settings[static_cast<int>(module)];
        const bool same = first.has_value() == other.has_value() &&
                          (!first || (first->bits == other->bits && first->symmetric == other->symmetric && first->group_size == other->group_size));
        if (!same) notes.insert(std::string(what) + " differ in their settings, which will not load in vLLM or SGLang: they fuse them");
      }
    };
    fused({Module::q, Module::k, Module::v}, "q, k and v");
    fused({Module::gate, Module::up}, "gate and up");
  }
  return {notes.begin(), notes.end()};
}

class QuantizedFolder {
 public:
  /// Settles all files and reserves their space. Nothing is in `path` before `commit`.
  /// \param overwrite  whether files of a model that is already in `path` may be replaced
  /// \throws InvalidArgument  `path` is not empty and may not be overwritten
  /// \throws IoError          the disk has not enough room
  QuantizedFolder(const ModelFiles& model, const SettingsTable& table, const Params& params, const std::filesystem::path& path, std::uint64_t max_shard_size,
                  bool overwrite)
      : path_(std::filesystem::absolute(path).lexically_normal()), staging_(make_staging(path_, overwrite)) {
    writer_.emplace(staging_.path, plan(model, table), max_shard_size);
    nlohmann::ordered_json config = model.config_json;
    config["quantization_config"] = quantization_config(table, params);
    files_ = model.companions;
    files_["config.json"] = config.dump(2) + "\n";
    files_["quantize_config.json"] = quantization_config(table, params).dump(2) + "\n";
  }

  void write(const std::string& name, const QuantizedModule& module) {
    const pack::GptqTensors& t = module.tensors;
    writer_->write(name + ".qweight", std::as_bytes(std::span(t.qweight)));
    writer_->write(name + ".qzeros", std::as_bytes(std::span(t.qzeros)));
    std::vector<float16> scales(t.scales.size());
    for (std::size_t i = 0; i < scales.size(); ++i) scales[i] = to_float16(t.scales[i]);
    writer_->write(name + ".scales", std::as_bytes(std::span(scales)));
    writer_->write(name + ".g_idx", std::as_bytes(std::span(t.g_idx)));
  }

  /// Writes what is not quantized, as it is.
  void write_rest(const ModelFiles& model) {
    for (const std::string& name : rest_) writer_->write(name, model.tensors->output_bytes(name));
  }

  /// Moves the folder to its place. Files of a model that was there before and is replaced are removed.
  void commit() {
    std::set<std::string> names;
    for (const std::string& name : writer_->commit()) names.insert(name);
    for (const auto& [name, content] : files_) {
      io::write_file(staging_.path / name, content);
      names.insert(name);
    }
    std::error_code error;
    if (!std::filesystem::exists(path_) || std::filesystem::is_empty(path_)) {
      std::filesystem::remove(path_, error);
      std::filesystem::rename(staging_.path, path_, error);
    } else {
      for (const auto& entry : std::filesystem::directory_iterator(path_))
        if (const auto name = entry.path().filename().string(); is_model_file(name) && names.count(name) == 0) std::filesystem::remove(entry.path(), error);
      for (const std::string& name : names) {
        std::filesystem::rename(staging_.path / name, path_ / name, error);
        if (error) break;
      }
    }
    if (error) throw IoError(gptq::detail::message(path_.string(), ": cannot move the finished files there: ", error.message()));
  }

  std::uint64_t tensor_bytes() const { return writer_->total_bytes(); }

 private:
  /// The folder under its temporary name, gone if it is not moved away.
  struct Staging {
    std::filesystem::path path;
    explicit Staging(std::filesystem::path p) : path(std::move(p)) {}
    Staging(const Staging&) = delete;
    Staging& operator=(const Staging&) = delete;
    ~Staging() {
      std::error_code ignored;
      std::filesystem::remove_all(path, ignored);
    }
  };

  static std::filesystem::path make_staging(const std::filesystem::path& path, bool overwrite) {
    namespace fs = std::filesystem;
    if (fs::exists(path)) {
      gptq::detail::require(fs::is_directory(path), path.string(), " exists and is not a folder");
      gptq::detail::require(overwrite || fs::is_empty(path), path.string(), " is not empty (--overwrite replaces the model in it)");
    }
    fs::path parent = path;
    if (!parent.has_filename()) parent = parent.parent_path();
    const fs::path staging = parent.string() + ".partial-" + std::to_string(::getpid());
    std::error_code error;
    fs::create_directories(staging, error);
    if (error) throw IoError(gptq::detail::message(staging.string(), ": cannot create: ", error.message()));
    return staging;
  }

  /// Files that belong to a model and not to the user: shards and their index.
  static bool is_model_file(const std::string& name) {
    return name == io::SafetensorsWriter::index_name || (name.rfind("model", 0) == 0 && name.size() > 12 && name.substr(name.size() - 12) == ".safetensors");
  }

  /// All tensors of the folder, modules together, layers in order.
  std::vector<io::TensorPlan> plan(const ModelFiles& model, const SettingsTable& table) {
    const ModelConfig& config = model.config;
    std::vector<io::TensorPlan> tensors;
    std::set<std::string> replaced;
    for (Index layer = 0; layer < config.layers; ++layer)
      for (int m = 0; m < module_count; ++m) {
        const auto module = static_cast<Module>(m);
        const std::string name = full_name(layer, module);
        const auto settings = table.find(name);
        if (!settings) continue;
        const auto [out, in] = module_shape(config, module);
        const Index group_size = settings->group_size == -1 ? in : settings->group_size, groups = (in + group_size - 1) / group_size;
        const auto add = [&, name = name](const char* part, io::DType type, io::Shape shape) { tensors.push_back({name + "." + part, type, std::move(shape), name}); };
        add("qweight", io::DType::I32, {pack::word_count(in, settings->bits), out});
        add("qzeros", io::DType::I32, {groups, pack::word_count(out, settings->bits)});
        add("scales", io::DType::F16, {groups, out});
        add("g_idx", io::DType::I32, {in});
        replaced.insert(name + ".weight");
      }
    for (const std::string& name : model.tensors->names()) {
      if (replaced.count(name)) continue;
      rest_.push_back(name);
      tensors.push_back({name, model.tensors->output_type(name), model.tensors->shape(name), {}});
    }
    return tensors;
  }

  std::filesystem::path path_;
  Staging staging_;
  std::optional<io::SafetensorsWriter> writer_;
  std::map<std::string, std::string> files_;  // name -> content
  std::vector<std::string> rest_;             // tensors that are not quantized
};

}  // namespace gptq::model
