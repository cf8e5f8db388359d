// SPDX-License-Identifier: MIT
#pragma once

// QuantizedFolder: the Hugging Face folder for a quantized model. Its files appear when all of them
// are complete.

#include <gptq/io/safetensors_writer.hpp>
#include <gptq/io/staged_folder.hpp>
#include <gptq/model/decoder_tensors.hpp>
#include <gptq/model/model_files.hpp>
#include <gptq/model/pipeline_options.hpp>
#include <gptq/model/quantized_module.hpp>

#include <algorithm>  // std::find
#include <filesystem>
#include <iterator>  // std::begin
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>  // std::move
#include <vector>

namespace gptq::model {

/// Writes a folder with quantized modules in some format.
class QuantizedFolder {
 public:
  /// Plans all files, writes those already known, and reserves disk space for the others. Nothing
  /// appears in `path` before `commit`.
  /// \param overwrite  whether the files of a model already in `path` may be replaced
  /// \throws InvalidArgument  `path` is not empty and may not be overwritten, holds files of the
  ///                          model itself, or has folders under the names of files
  /// \throws IoError          not enough disk space, or another run is writing there
  QuantizedFolder(const ModelFiles& model, const PipelineOptions& options,
                  const std::filesystem::path& path, std::uint64_t max_shard_size, bool overwrite)
      : folder_(checked(path, model), overwrite), format_(options.format) {
    const Format& format = *format_;
    writer_.emplace(folder_.files(), plan(model, options.settings, format), max_shard_size);
    nlohmann::ordered_json config = model.config_json;
    const auto quantization = format.config(model.description, options.settings, options.params,
                                            options.sequential == Sequential::sublayer);
    for (const char* key : quantization_keys) config.erase(key);
    if (!quantization.is_null()) config[std::string(format.config_key())] = quantization;
    std::map<std::string, std::string> texts = model.companions;
    texts[config_name] = config.dump(2) + "\n";
    if (const std::string file = format.config_file(); !file.empty())
      texts[file] = quantization.dump(2) + "\n";
    for (const std::string& name : writer_->file_names()) reserve_name(name);
    for (const auto& [name, content] : texts) {
      reserve_name(name);
      io::write_file(folder_.files() / name, content);
    }
    shards_ = shards_of(folder_.path());
    for (const std::string& name : folder_.entries()) {
      if (names_.count(name) > 0) continue;
      if (is_model_file(name)) removed_.push_back(name);
      else require_no_weights(name);
    }
    if (!std::filesystem::is_directory(model.path)) require_stays(model.path, "it is the model");
  }

  /// Files of the replaced model that are removed and have no new version.
  const std::vector<std::string>& removed() const { return removed_; }

  /// What to tell the user, see io::StagedFolder::notes.
  const std::vector<std::string>& notes() const { return folder_.notes(); }

  /// Whether `file` would be in this folder, with links resolved.
  /// \throws InvalidArgument  it would be in the staging area, which is deleted at the end
  bool contains(const std::filesystem::path& file) const {
    std::error_code error;
    auto parent =
        std::filesystem::weakly_canonical(std::filesystem::absolute(file).parent_path(), error);
    if (parent == folder_.path()) return true;
    for (; parent.has_relative_path(); parent = parent.parent_path())
      gptq::detail::require(parent != folder_.path() / io::StagingArea::folder_name, file.string(),
                            " would be deleted: that is the staging area");
    return false;
  }

  /// \param why  why the file is needed, for the message
  /// \throws InvalidArgument  `file` is in this folder and would be replaced or deleted
  void require_stays(const std::filesystem::path& file, const char* why) const {
    std::error_code error;
    const auto canonical = std::filesystem::canonical(file, error);
    const std::string name = canonical.filename().string();
    gptq::detail::require(error || canonical.parent_path() != folder_.path() ||
                              (names_.count(name) == 0 && !is_model_file(name)),
                          canonical.string(), " would be replaced or deleted, and ", why,
                          "; choose another folder");
  }

  /// Adds a file of the caller's, which appears with the others.
  /// \throws InvalidArgument  the model has a file of that name
  io::OutputFile add_file(const std::string& name, std::uint64_t size) {
    gptq::detail::require(!is_model_file(name) && names_.count(name) == 0,
                          (folder_.path() / name).string(), ": a file of the model has that name");
    reserve_name(name);
    return io::OutputFile(folder_.files() / name, size);
  }

  void write(const std::string& name, const QuantizedModule& module) {
    for (const Part& part : module.parts) writer_->write(name + part.suffix, part.bytes);
    first_rows_[name] = module.first_row;
  }

  /// Whether a tensor of the model is not quantized but copied unchanged.
  bool passes_on(const std::string& name) const { return rest_.count(name) > 0; }

  /// Copies the tensors that are not quantized.
  void write_rest(const ModelFiles& model) {
    for (const std::string& name : rest_) writer_->write(name, model.tensors->output_bytes(name));
  }

  /// Reads the new model as anybody else would, and puts all files in place, replacing those of an
  /// earlier model.
  /// \throws FormatError  a tensor of the decoder is missing or has another shape
  /// \throws IoError      a file cannot be written or moved, or a module reads back as other
  ///                      numbers; the old model stays untouched
  template <class Executor = exec::Serial>
  void commit(const Executor& executor = {}) {
    writer_->commit();
    require_readable(executor);
    folder_.commit([&](const std::string& name) { return is_model_file(name); }, config_name);
  }

  std::uint64_t tensor_bytes() const { return writer_->total_bytes(); }

 private:
  static constexpr const char* config_name = "config.json";

  /// Layer by layer, so that no more is in memory than while they were quantized.
  template <class Executor>
  void require_readable(const Executor& executor) const {
    const ModelFiles written = open_model(folder_.files());
    require_decoder_tensors(written);
    for (const Block& layer : written.description.layers)
      executor.parallel_for(static_cast<Index>(layer.linears().size()), [&](Index i) {
        require_reads_back(written, layer.linears()[std::size_t(i)]);
      });
  }

  void require_reads_back(const ModelFiles& written, const LinearSpec& linear) const {
    const auto found = first_rows_.find(linear.name);
    if (found == first_rows_.end()) return;
    const auto row = first_row_of(written, linear);
    for (std::size_t c = 0; c < row.size(); ++c)
      gptq::detail::require<IoError>(
          row[c] == format_->stored(found->second[c]),
          written.tensors->where(linear.name + format_->suffixes().front()), ": ", linear.name,
          " reads back as other numbers than were written: ", row[c], " at row 0, column ", c,
          ", not ", found->second[c]);
  }

  void reserve_name(const std::string& name) {
    std::error_code error;
    gptq::detail::require(!std::filesystem::is_directory(folder_.path() / name, error),
                          (folder_.path() / name).string(),
                          " is a folder, but a file of the model has that name");
    names_.insert(name);
  }

  /// \throws InvalidArgument  the model is read from files in `path`
  static const std::filesystem::path& checked(const std::filesystem::path& path,
                                              const ModelFiles& model) {
    namespace fs = std::filesystem;
    std::error_code error;
    if (!fs::is_directory(path, error)) return path;
    gptq::detail::require(!fs::equivalent(path, model.path, error), path.string(),
                          " is the model itself: it would be overwritten while it is read");
    if (!fs::is_directory(model.path)) return path;
    const fs::path destination = fs::canonical(path);
    for (const auto& entry : fs::directory_iterator(model.path)) {
      const fs::path file = fs::canonical(entry.path(), error);
      gptq::detail::require(error || file.parent_path() != destination, path.string(), " holds ",
                            file.filename().string(), ", to which the model's ",
                            entry.path().string(),
                            " is a link: it would be overwritten while it is read");
    }
    return path;
  }

  /// Files listed in the folder's index, if there is one.
  static std::set<std::string> shards_of(const std::filesystem::path& folder) {
    std::set<std::string> shards;
    const auto index = folder / io::safetensors_index;
    if (!std::filesystem::is_regular_file(index)) return shards;
    const auto json = nlohmann::json::parse(io::read_file(index), nullptr, false);
    const auto map = json.is_object() ? json.find("weight_map") : json.end();
    if (map == json.end() || !map->is_object()) return shards;
    for (const auto& file : *map)
      if (file.is_string()) shards.insert(file.get<std::string>());
    return shards;
  }

  /// Loaders take every safetensors file in a folder for part of the model, but we cannot know
  /// whose it is.
  void require_no_weights(const std::string& name) const {
    gptq::detail::require(
        name.starts_with("adapter_") || !name.ends_with(".safetensors"),
        (folder_.path() / name).string(),
        " is not known to belong to the model in that folder, but loaders would take it for part "
        "of the new one; move it away");
  }

  /// Files that make up a model and do not belong with another one.
  bool is_model_file(const std::string& name) const {
    if (shards_.count(name) > 0) return true;
    for (const char* beginning : {"model", "gptq_model", "pytorch_model"})
      for (const char* ending : {".safetensors", ".bin", ".index.json"})
        if (name.starts_with(beginning) && name.ends_with(ending)) return true;
    if (name == config_name || name == "quantize_config.json" || name == "quant_config.json")
      return true;
    return std::find(std::begin(companion_names), std::end(companion_names), name) !=
           std::end(companion_names);
  }

  /// All tensors of the folder, grouped by module, layers in order.
  std::vector<io::TensorPlan> plan(const ModelFiles& model, const SettingsTable& table,
                                   const Format& format) {
    std::vector<io::TensorPlan> tensors;
    std::set<std::string> replaced, modules;
    for_each_quantized(
        model.description, table, [&](const LinearSpec& linear, const ModuleSettings& settings) {
          const std::string& name = linear.name;
          for (PartPlan& part : format.plan(linear, settings))
            tensors.push_back({name + part.suffix, part.type, std::move(part.shape), name});
          for (const std::string& part : stored_parts(model.format(), *model.tensors, name))
            replaced.insert(name + part);
          modules.insert(name);
        });
    for (const std::string& name : model.tensors->names()) {
      if (replaced.count(name)) continue;
      rest_.insert(name);
      io::TensorPlan rest{name, model.tensors->output_type(name), model.tensors->shape(name), {}};
      const auto module = name.substr(0, name.rfind('.'));
      if (modules.count(module) > 0) rest.keep_with = module;  // its bias
      tensors.push_back(std::move(rest));
    }
    // A module and its bias stay in one shard.
    std::map<std::string, std::size_t> place;
    for (const io::TensorPlan& tensor : tensors) place.emplace(tensor.keep_with, place.size());
    std::stable_sort(tensors.begin(), tensors.end(),
                     [&](const io::TensorPlan& a, const io::TensorPlan& b) {
                       return place.at(a.keep_with) < place.at(b.keep_with);
                     });
    return tensors;
  }

  io::StagedFolder folder_;
  std::shared_ptr<const Format> format_;
  std::optional<io::SafetensorsWriter> writer_;
  std::map<std::string, std::vector<float>> first_rows_;  // of the modules that were written
  std::set<std::string> names_;                           // of all files that are written
  std::set<std::string> shards_;                          // of the old model, from its index
  std::vector<std::string> removed_;                      // of the old model, without replacement
  std::set<std::string> rest_;                            // tensors that are not quantized
};

}  // namespace gptq::model
