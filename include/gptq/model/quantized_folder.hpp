// SPDX-License-Identifier: MIT
#pragma once

// QuantizedFolder: the Hugging Face folder that a quantized model becomes. Its files get their
// names when all of them are complete.

#include <gptq/io/safetensors_writer.hpp>
#include <gptq/model/model_files.hpp>
#include <gptq/model/module_quantizer.hpp>
#include <gptq/version.hpp>

#include <algorithm>  // std::find
#include <filesystem>
#include <iterator>  // std::begin
#include <optional>
#include <set>
#include <string>
#include <utility>  // std::move
#include <vector>

namespace gptq::model {

/// The quantization_config of a folder: the keys that GPTQModel, AutoGPTQ, optimum, transformers,
/// vLLM and SGLang read.
inline nlohmann::ordered_json quantization_config(const SettingsTable& table, const Params& params,
                                                  bool true_sequential) {
  const std::string format(
      pack::checkpoint_format(table.base.symmetric ? pack::GptqFormat::v1 : pack::GptqFormat::v2));
  nlohmann::ordered_json config{
      {"bits", table.base.bits},
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
      {"true_sequential", true_sequential},
      {"static_groups", false},
      {"model_name_or_path", nullptr},
      {"model_file_base_name", "model"},
      {"meta",
       {{"quantizer",
         {gptq::detail::message("gptq:", version.major, ".", version.minor, ".",
                                version.patch)}}}}};
  nlohmann::ordered_json dynamic = nlohmann::ordered_json::object();
  for (const NamePattern& skip : table.skips)
    dynamic["-:" + skip.expression()] = nlohmann::ordered_json::object();
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
inline std::vector<std::string> reader_notes(const ModelConfig& config,
                                             const SettingsTable& table) {
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
        notes.insert(
            gptq::detail::message(settings[m]->bits,
                                  " bits will not load in recent vLLM (4 and 8 do) or ExLlamaV2 (4 "
                                  "does); GPTQModel, transformers and SGLang read them"));
      if (!settings[m]->symmetric)
        notes.insert(
            "asymmetric grids will not load in recent vLLM; GPTQModel, transformers and SGLang "
            "read them");
      if (group != -1 && group != 32 && group != 64 && group != 128)
        notes.insert(gptq::detail::message(
            "groups of ", group, " will not load in vLLM (32, 64, 128 and one per row do)"));
      if (group != -1 && in % group != 0)
        notes.insert(gptq::detail::message("a short last group (", in, " inputs in groups of ",
                                           group, ") will not load in vLLM, SGLang or ExLlamaV2"));
      if (out % 64 != 0 || in % 128 != 0)
        notes.insert(gptq::detail::message(
            "a layer of ", out, " x ", in,
            " is not a multiple of 64 x 128: the fast Marlin kernels pad it or refuse it"));
    }
    const auto fused = [&](std::initializer_list<Module> modules, const char* what) {
      const auto& first = settings[static_cast<int>(*modules.begin())];
      for (const Module module : modules) {
        const auto& other = settings[static_cast<int>(module)];
        const bool same =
            first.has_value() == other.has_value() &&
            (!first || (first->bits == other->bits && first->symmetric == other->symmetric &&
                        first->group_size == other->group_size));
        if (!same)
          notes.insert(
              std::string(what) +
              " differ in their settings, which will not load in vLLM or SGLang: they fuse them");
      }
    };
    fused({Module::q, Module::k, Module::v}, "q, k and v");
    fused({Module::gate, Module::up}, "gate and up");
  }
  return {notes.begin(), notes.end()};
}

/// Writes a folder that readers of the GPTQ format load.
class QuantizedFolder {
 public:
  /// Settles all files and reserves their space. No file has its name in `path` before `commit`.
  /// \param overwrite  whether files of a model that is already in `path` may be replaced
  /// \throws InvalidArgument  `path` is not empty and may not be overwritten, holds the model
  /// itself,
  ///                         or has folders under the names of files
  /// \throws IoError          the disk has not enough room
  QuantizedFolder(const ModelFiles& model, const SettingsTable& table, const Params& params,
                  const std::filesystem::path& path, std::uint64_t max_shard_size, bool overwrite,
                  bool true_sequential = true)
      : path_(destination(path, model, overwrite)), staging_(path_) {
    writer_.emplace(staging_.files(), plan(model, table), max_shard_size);
    nlohmann::ordered_json config = model.config_json;
    const auto quantization = quantization_config(table, params, true_sequential);
    config["quantization_config"] = quantization;
    files_ = model.companions;
    files_["config.json"] = config.dump(2) + "\n";
    files_["quantize_config.json"] = quantization.dump(2) + "\n";
    for (const std::string& name : writer_->file_names()) names_.insert(name);
    for (const auto& [name, content] : files_) names_.insert(name);
    for (const std::string& name : names_)
      gptq::detail::require(!std::filesystem::is_directory(path_ / name), (path_ / name).string(),
                            " is a folder, and a file of the model has that name");
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

  /// Gives all files their names. Those of a model that was there before are moved aside first and
  /// deleted last, so a failure on the way leaves the old model as it was.
  /// \throws IoError  a file cannot be written or moved
  void commit() {
    writer_->commit();
    for (const auto& [name, content] : files_) io::write_file(staging_.files() / name, content);
    std::vector<std::pair<std::filesystem::path, std::filesystem::path>> moved;
    std::error_code error;
    const auto move = [&](const std::filesystem::path& from, const std::filesystem::path& to) {
      if (error) return;
      std::filesystem::rename(from, to, error);
      if (!error) moved.emplace_back(from, to);
    };
    std::vector<std::string> old;
    for (const auto& entry : std::filesystem::directory_iterator(path_))
      if (const auto name = entry.path().filename().string();
          names_.count(name) > 0 || is_model_file(name))
        old.push_back(name);
    for (const std::string& name : old) move(path_ / name, staging_.replaced() / name);
    for (const std::string& name : names_) move(staging_.files() / name, path_ / name);
    if (error) {
      const std::string reason = error.message();
      for (auto step = moved.rbegin(); step != moved.rend(); ++step)
        std::filesystem::rename(step->second, step->first, error);
      throw IoError(gptq::detail::message(path_.string(),
                                          ": cannot move the finished files there: ", reason));
    }
    staging_.keep_folder();
  }

  std::uint64_t tensor_bytes() const { return writer_->total_bytes(); }

 private:
  /// A folder inside the destination, on the same disk whatever the destination is (a link, a mount
  /// point), where files wait for their names. Gone at the end, with all folders that were made for
  /// nothing.
  class Staging {
   public:
    explicit Staging(const std::filesystem::path& destination) {
      namespace fs = std::filesystem;
      root_ = destination / (".partial-" + std::to_string(::getpid()));
      for (fs::path p = destination; !p.empty() && !fs::exists(p); p = p.parent_path())
        made_.push_back(p);
      std::error_code error;
      fs::create_directories(files(), error);
      if (!error) fs::create_directories(replaced(), error);
      if (error) {
        remove();
        throw IoError(gptq::detail::message(root_.string(), ": cannot create: ", error.message()));
      }
    }
    Staging(const Staging&) = delete;
    Staging& operator=(const Staging&) = delete;
    ~Staging() { remove(); }

    std::filesystem::path files() const { return root_ / "new"; }
    std::filesystem::path replaced() const { return root_ / "old"; }
    void keep_folder() { made_.clear(); }

   private:
    void remove() noexcept {
      std::error_code ignored;
      std::filesystem::remove_all(root_, ignored);
      for (const auto& folder : made_) std::filesystem::remove(folder, ignored);  // if empty
    }

    std::filesystem::path root_;
    std::vector<std::filesystem::path> made_;  // the innermost first
  };

  /// \throws InvalidArgument  files cannot be written there
  static std::filesystem::path destination(const std::filesystem::path& path,
                                           const ModelFiles& model, bool overwrite) {
    namespace fs = std::filesystem;
    using gptq::detail::require;
    require(!path.empty(), "the output folder has no name");
    std::error_code error;
    fs::path resolved = fs::weakly_canonical(fs::absolute(path), error);
    require(!error, path.string(), ": cannot be resolved: ", error.message());
    if (!resolved.has_filename()) resolved = resolved.parent_path();
    if (fs::exists(resolved)) {
      require(fs::is_directory(resolved), path.string(), " exists and is not a folder");
      require(!fs::equivalent(resolved, model.path, error), path.string(),
              " is the model itself: it would be overwritten while it is read");
      require(overwrite || fs::is_empty(resolved), path.string(),
              " is not empty (--overwrite replaces the model in it)");
    }
    return resolved;
  }

  /// Files that make up a model and would be wrong beside another one.
  static bool is_model_file(const std::string& name) {
    static const Regex shard("model(-\\d+-of-\\d+)?\\.safetensors(\\.index\\.json)?$");
    return shard.matches_start(name) ||
           std::find(std::begin(companion_names), std::end(companion_names), name) !=
               std::end(companion_names);
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
        const Index group_size = settings->group_size == -1 ? in : settings->group_size,
                    groups = (in + group_size - 1) / group_size;
        const auto add = [&, name = name](const char* part, io::DType type, io::Shape shape) {
          tensors.push_back({name + "." + part, type, std::move(shape), name});
        };
        add("qweight", io::DType::I32, {pack::word_count(in, settings->bits), out});
        add("qzeros", io::DType::I32, {groups, pack::word_count(out, settings->bits)});
        add("scales", io::DType::F16, {groups, out});
        add("g_idx", io::DType::I32, {in});
        replaced.insert(name + ".weight");
      }
    for (const std::string& name : model.tensors->names()) {
      if (replaced.count(name)) continue;
      rest_.push_back(name);
      io::TensorPlan rest{name, model.tensors->output_type(name), model.tensors->shape(name), {}};
      const auto module = name.substr(0, name.rfind('.'));
      if (replaced.count(module + ".weight") > 0) rest.keep_with = module;  // its bias
      tensors.push_back(std::move(rest));
    }
    // A module stays in one shard, its bias with it.
    std::map<std::string, std::size_t> place;
    for (const io::TensorPlan& tensor : tensors) place.emplace(tensor.keep_with, place.size());
    std::stable_sort(tensors.begin(), tensors.end(),
                     [&](const io::TensorPlan& a, const io::TensorPlan& b) {
                       return place.at(a.keep_with) < place.at(b.keep_with);
                     });
    return tensors;
  }

  std::filesystem::path path_;
  Staging staging_;
  std::optional<io::SafetensorsWriter> writer_;
  std::map<std::string, std::string> files_;  // name -> content
  std::set<std::string> names_;               // of all files
  std::vector<std::string> rest_;             // tensors that are not quantized
};

}  // namespace gptq::model
