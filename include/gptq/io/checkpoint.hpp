// SPDX-License-Identifier: MIT
#pragma once

// TensorSource: the tensors of a model by their Hugging Face names, whatever file they are in.
// Folder: the sharded safetensors of a model folder.

#include <gptq/io/output_file.hpp>
#include <gptq/io/safetensors.hpp>
#include <gptq/io/tensor.hpp>

#include <nlohmann/json.hpp>

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace gptq::io {

/// Where a model's tensors come from.
class TensorSource {
 public:
  virtual ~TensorSource() = default;

  /// All names, sorted.
  virtual std::vector<std::string> names() const = 0;
  virtual bool contains(const std::string& name) const = 0;
  virtual Shape shape(const std::string& name) const = 0;

  /// How the tensor is stored: a dtype or a GGUF block type.
  virtual std::string type_name(const std::string& name) const = 0;
  virtual std::uint64_t stored_bytes(const std::string& name) const = 0;

  /// The numbers of a floating-point or block-quantized tensor.
  /// \throws FormatError  the type is neither, or `out` has another size
  virtual void read(const std::string& name, std::span<float> out) const = 0;

  /// The type in which the tensor is passed on where it is not quantized.
  virtual DType output_type(const std::string& name) const = 0;

  /// Its bytes in that type.
  /// \throws NumericalError  a number is not finite, or does not fit the type
  virtual std::vector<std::byte> output_bytes(const std::string& name) const = 0;

  /// The file it is in, for messages.
  virtual std::string where(const std::string& name) const = 0;
};

/// Checks a shape before anything is read.
/// \throws FormatError  the tensor is missing or has another shape
inline void require_shape(const TensorSource& source, const std::string& name,
                          const Shape& expected) {
  gptq::detail::require<FormatError>(source.contains(name), source.where(name), ": has no tensor ",
                                     name);
  const Shape shape = source.shape(name);
  gptq::detail::require<FormatError>(shape == expected, source.where(name), ": tensor ", name,
                                     " has the shape ", to_string(shape), ", ", to_string(expected),
                                     " expected");
}

/// \throws FormatError  not valid JSON
template <class Json = nlohmann::json>
Json read_json(const std::filesystem::path& path) {
  try {
    return parse_json<Json>(read_file(path));
  } catch (const nlohmann::json::exception& error) {
    throw FormatError(gptq::detail::message(path.string(), ": not valid JSON: ", error.what()));
  } catch (const FormatError& error) {
    throw FormatError(gptq::detail::message(path.string(), ": ", error.what()));
  }
}

/// `model.safetensors`, or the shards that `model.safetensors.index.json` names.
class FolderSource : public TensorSource {
 public:
  /// \throws IoError      a file is missing
  /// \throws FormatError  a file is damaged, or the index and the shards disagree
  explicit FolderSource(const std::filesystem::path& folder) : folder_(folder) {
    const auto index = folder / "model.safetensors.index.json";
    if (std::filesystem::exists(index)) {
      open_shards(index);
    } else {
      open(single_file(folder));
    }
  }

  std::vector<std::string> names() const override {
    std::vector<std::string> names;
    for (const auto& [name, file] : places_) names.push_back(name);
    return names;
  }
  bool contains(const std::string& name) const override { return places_.count(name) > 0; }
  Shape shape(const std::string& name) const override { return tensor(name).shape; }
  std::string type_name(const std::string& name) const override {
    return std::string(io::name(tensor(name).dtype));
  }
  std::uint64_t stored_bytes(const std::string& name) const override {
    return tensor(name).bytes.size();
  }
  DType output_type(const std::string& name) const override { return tensor(name).dtype; }
  std::string where(const std::string& name) const override {
    return contains(name) ? places_.at(name)->path().string() : folder_.string();
  }

  void read(const std::string& name, std::span<float> out) const override {
    const SafeTensor& t = tensor(name);
    try {
      to_floats(t.dtype, t.bytes, out);
    } catch (const FormatError& error) {
      throw FormatError(gptq::detail::message(where(name), ": tensor ", name, ": ", error.what()));
    }
    places_.at(name)->file().release(t.bytes);
  }

  std::vector<std::byte> output_bytes(const std::string& name) const override {
    const SafeTensor& t = tensor(name);
    const auto at = find_non_finite(t.dtype, t.bytes);
    gptq::detail::require<NumericalError>(at < 0, where(name), ": tensor ", name, ": element ", at,
                                          " of ", to_string(t.shape), " is not finite");
    return {t.bytes.begin(), t.bytes.end()};
  }

  const SafeTensor& tensor(const std::string& name) const {
    const auto found = places_.find(name);
    gptq::detail::require<FormatError>(found != places_.end(), folder_.string(), ": has no tensor ",
                                       name);
    return found->second->at(name);
  }

 private:
  /// `model.safetensors`; else the only other file of tensors, as AutoGPTQ names its own after bits
  /// and group size.
  static std::filesystem::path single_file(const std::filesystem::path& folder) {
    if (const auto usual = folder / "model.safetensors"; std::filesystem::exists(usual))
      return usual;
    std::vector<std::filesystem::path> found;
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(folder, error))
      if (entry.path().extension() == ".safetensors") found.push_back(entry.path());
    if (found.size() != 1)
      throw IoError(gptq::detail::message(
          folder.string(), ": has neither model.safetensors nor model.safetensors.index.json, and ",
          found.size(), " other .safetensors files where one could be taken"));
    return found.front();
  }

  void open_shards(const std::filesystem::path& index) {
    const nlohmann::json json = read_json(index);
    gptq::detail::require<FormatError>(
        json.contains("weight_map") && json["weight_map"].is_object(), index.string(),
        ": has no weight_map");
    std::map<std::string, std::string> files;  // by tensor
    for (const auto& [name, file] : json["weight_map"].items()) {
      gptq::detail::require<FormatError>(file.is_string(), index.string(), ": the file of ", name,
                                         " is ", file.dump());
      const auto text = file.get<std::string>();
      gptq::detail::require<FormatError>(
          !text.empty() && text.find('/') == std::string::npos && text != "..", index.string(),
          ": the file of ", name, ", \"", text, "\", is not a plain file name");
      files[name] = text;
    }
    std::map<std::string, bool> opened;
    for (const auto& [name, file] : files)
      if (!opened[file]) {
        if (!std::filesystem::exists(folder_ / file))
          throw IoError(gptq::detail::message((folder_ / file).string(), ": the shard is missing; ",
                                              index.filename().string(), " expects ", name,
                                              " in it"));
        open(folder_ / file);
        opened[file] = true;
      }
    for (const auto& [name, file] : files)
      gptq::detail::require<FormatError>(
          contains(name) && places_.at(name)->path().filename() == file, index.string(),
          ": tensor ", name, " is not in ", file);
  }

  void open(const std::filesystem::path& path) {
    files_.push_back(std::make_unique<Safetensors>(path));
    for (const auto& [name, t] : files_.back()->tensors())
      gptq::detail::require<FormatError>(places_.emplace(name, files_.back().get()).second,
                                         path.string(), ": tensor ", name,
                                         " is in another shard too");
  }

  std::filesystem::path folder_;
  std::vector<std::unique_ptr<Safetensors>> files_;
  std::map<std::string, const Safetensors*> places_;
};

}  // namespace gptq::io
