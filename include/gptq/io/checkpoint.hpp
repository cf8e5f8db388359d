// SPDX-License-Identifier: MIT
#pragma once

// TensorSource: the tensors of a model by their Hugging Face names, whatever file they are in.
// Folder: the sharded safetensors of a model folder.

#include <gptq/io/json.hpp>
#include <gptq/io/safetensors.hpp>
#include <gptq/io/tensor.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>  // std::sort
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace gptq::io {

/// A number in a tensor that cannot be used.
struct UnfitNumber {
  Index element = 0;  ///< in file order
  double value = 0;
};

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

  /// The bytes exactly as stored in the file.
  virtual std::span<const std::byte> raw_bytes(const std::string& name) const = 0;

  /// Tells that these bytes will not be needed again soon, so that they do not fill memory.
  virtual void done_with(const std::string&) const {}

  /// Checks from its type alone that `read` can read the tensor.
  /// \throws FormatError  it cannot; the message names file, tensor and type
  virtual void require_readable(const std::string& name) const = 0;

  /// The first of the elements [first, last) that is infinite or NaN or, with `passed_on`, does not
  /// fit `output_type`. Integer tensors have none.
  /// \param first, last  multiples of 256, or the element count
  virtual std::optional<UnfitNumber> find_unfit(const std::string& name, Index first, Index last,
                                                bool passed_on) const = 0;

  /// The numbers of a floating-point or block-quantized tensor.
  /// \throws FormatError  the tensor is of another type, or `out` has the wrong size
  virtual void read(const std::string& name, std::span<float> out) const = 0;

  /// The type a tensor that is not quantized is written in.
  virtual DType output_type(const std::string& name) const = 0;

  /// The tensor's bytes in that type.
  /// \throws NumericalError  a number is not finite, or does not fit the type
  virtual std::vector<std::byte> output_bytes(const std::string& name) const = 0;

  /// The file it is in, for messages.
  virtual std::string where(const std::string& name) const = 0;

  /// \throws IoError  one of the files has changed since it was opened (see MappedFile)
  virtual void require_unchanged() const = 0;
};

/// The shape of a tensor that must be there.
/// \throws FormatError  the tensor is missing
inline Shape shape_of(const TensorSource& source, const std::string& name) {
  gptq::detail::require<FormatError>(source.contains(name), source.where(name), ": has no tensor ",
                                     name);
  return source.shape(name);
}

/// Checks a tensor's shape before anything is read.
/// \throws FormatError  the tensor is missing or has another shape
inline void require_shape(const TensorSource& source, const std::string& name,
                          const Shape& expected) {
  const Shape shape = shape_of(source, name);
  gptq::detail::require<FormatError>(shape == expected, source.where(name), ": tensor ", name,
                                     " has the shape ", to_string(shape), "; expected ",
                                     to_string(expected));
}

/// Checks numbers that were read.
/// \param cols  of a row of the tensor, for the message
/// \throws NumericalError  names the first number that is infinite or NaN
inline void require_finite(const TensorSource& source, const std::string& name,
                           std::span<const float> numbers, Index cols) {
  if (const std::ptrdiff_t at = find_non_finite(DType::F32, std::as_bytes(numbers)); at >= 0)
    throw NumericalError(gptq::detail::message(source.where(name), ": tensor ", name, " has ",
                                               numbers[std::size_t(at)], " at row ", at / cols,
                                               ", column ", at % cols));
}

/// `model.safetensors`, or the shards that `model.safetensors.index.json` names.
class FolderSource : public TensorSource {
 public:
  /// \throws IoError      a file is missing
  /// \throws FormatError  a file is damaged, or the index and the shards disagree
  explicit FolderSource(const std::filesystem::path& folder) : folder_(folder) {
    const auto index = folder / safetensors_index, single = folder / "model.safetensors";
    const bool has_index = is_there(index);
    if (has_index && is_there(single))
      notes_.push_back(
          gptq::detail::message(folder.string(),
                                ": has both model.safetensors and model.safetensors.index.json: "
                                "reading model.safetensors, as "
                                "transformers does; vLLM reads the files in the index"));
    if (has_index && !is_there(single)) {
      open_shards(index);
    } else {
      open(single_file(folder));
    }
  }

  /// Decisions made on the caller's behalf, one sentence each.
  const std::vector<std::string>& notes() const { return notes_; }

  /// Drops a tensor, as if the files did not have it.
  void leave_out(const std::string& name) { places_.erase(name); }

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
  std::span<const std::byte> raw_bytes(const std::string& name) const override {
    return tensor(name).bytes;
  }
  void done_with(const std::string& name) const override {
    places_.at(name)->file().release(tensor(name).bytes);
  }
  DType output_type(const std::string& name) const override { return tensor(name).dtype; }
  std::string where(const std::string& name) const override {
    return contains(name) ? places_.at(name)->path().string() : folder_.string();
  }

  void require_readable(const std::string& name) const override {
    const DType type = tensor(name).dtype;
    gptq::detail::require<FormatError>(is_float(type), where(name), ": tensor ", name,
                                       " has the dtype ", io::name(type),
                                       ", which is not supported (F64, F32, F16, BF16 and F8 are)");
  }

  std::optional<UnfitNumber> find_unfit(const std::string& name, Index first, Index last,
                                        bool /*passed_on*/) const override {
    const SafeTensor& t = tensor(name);
    if (!is_float(t.dtype) || first >= last) return std::nullopt;
    const auto size = static_cast<std::size_t>(bits(t.dtype) / 8);
    const auto bytes = t.bytes.subspan(static_cast<std::size_t>(first) * size,
                                       static_cast<std::size_t>(last - first) * size);
    const auto at = find_non_finite(t.dtype, bytes);
    std::optional<UnfitNumber> found;
    if (at >= 0) {
      float value = 0;
      to_floats(t.dtype, bytes.subspan(static_cast<std::size_t>(at) * size, size), {&value, 1});
      found = {first + at, value};
    }
    places_.at(name)->file().release(bytes);
    return found;
  }

  void read(const std::string& name, std::span<float> out) const override {
    const SafeTensor& t = tensor(name);
    require_readable(name);
    try {
      to_floats(t.dtype, t.bytes, out);
    } catch (const FormatError& error) {
      throw FormatError(gptq::detail::message(where(name), ": tensor ", name, ": ", error.what()));
    }
    done_with(name);
  }

  std::vector<std::byte> output_bytes(const std::string& name) const override {
    const SafeTensor& t = tensor(name);
    const auto at = find_non_finite(t.dtype, t.bytes);
    gptq::detail::require<NumericalError>(at < 0, where(name), ": tensor ", name, ": element ", at,
                                          " of ", to_string(t.shape), " is not finite");
    return {t.bytes.begin(), t.bytes.end()};
  }

  void require_unchanged() const override {
    for (const auto& file : files_) file->file().require_unchanged();
  }

  const SafeTensor& tensor(const std::string& name) const {
    const auto found = places_.find(name);
    gptq::detail::require<FormatError>(found != places_.end(), folder_.string(), ": has no tensor ",
                                       name);
    return found->second->at(name);
  }

 private:
  /// `model.safetensors`, or else the only other .safetensors file: AutoGPTQ names its file after
  /// bits and group size.
  std::filesystem::path single_file(const std::filesystem::path& folder) {
    if (const auto usual = folder / "model.safetensors"; is_there(usual)) return usual;
    std::vector<std::filesystem::path> found, others;
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
      const auto extension = entry.path().extension();
      const auto name = entry.path().filename().string();
      if (extension == ".safetensors") found.push_back(entry.path());
      else if (extension == ".gguf" || extension == ".pth" || extension == ".pt" ||
               extension == ".h5" || extension == ".msgpack" || extension == ".onnx" ||
               (extension == ".bin" && name.find("model") != std::string::npos))
        others.push_back(entry.path().filename());
    }
    std::sort(others.begin(), others.end());
    if (found.empty() && !others.empty()) {
      const auto& other = others.front();
      if (other.extension() == ".gguf")
        throw IoError(gptq::detail::message(folder.string(), ": has no model.safetensors; ",
                                            (folder / other).string(),
                                            " is a model in itself: pass that file"));
      throw IoError(gptq::detail::message(
          folder.string(), ": has ", other.string(),
          ", which is not supported, and no model.safetensors; convert it first: python -c \"from "
          "transformers import AutoModelForCausalLM as M; M.from_pretrained('",
          folder.string(), "', dtype='auto').save_pretrained('", folder.string(),
          "-safetensors')\""));
    }
    if (found.size() != 1)
      throw IoError(gptq::detail::message(
          folder.string(), ": has neither model.safetensors nor model.safetensors.index.json, and ",
          found.size(), " other .safetensors files, where exactly one could be used"));
    notes_.push_back(gptq::detail::message(folder.string(), ": has no model.safetensors; ",
                                           found.front().filename().string(), " is read"));
    return found.front();
  }

  void open_shards(const std::filesystem::path& index) {
    const nlohmann::json json = read_json(index);
    gptq::detail::require<FormatError>(
        json.is_object() && json.contains("weight_map") && json["weight_map"].is_object(),
        index.string(), ": has no weight_map");
    std::map<std::string, std::string> files;  // by tensor
    for (const auto& [name, file] : json["weight_map"].items()) {
      if (!file.is_string())
        throw FormatError(gptq::detail::message(index.string(), ": the entry for ", name, " is ",
                                                file.dump().substr(0, 200)));
      const auto text = file.get<std::string>();
      gptq::detail::require<FormatError>(
          !text.empty() && text.find('/') == std::string::npos && text != "..", index.string(),
          ": the entry for ", name, ", \"", text, "\", is not a plain file name");
      files[name] = text;
    }
    std::map<std::string, bool> opened;
    for (const auto& [name, file] : files)
      if (!opened[file]) {
        if (!is_there(folder_ / file))
          throw IoError(gptq::detail::message((folder_ / file).string(), ": the shard is missing; ",
                                              index.filename().string(), " expects ", name,
                                              " in it"));
        open(folder_ / file);
        opened[file] = true;
      }
    std::vector<std::string> missing, elsewhere;
    for (const auto& [name, file] : files) {
      // Some indexes list a tied head that was never written. A tensor that is really needed is
      // reported as missing by the code that needs it.
      if (!contains(name)) missing.push_back(name);
      else if (places_.at(name)->path().filename() != file) elsewhere.push_back(name);
    }
    if (!missing.empty())
      notes_.push_back(gptq::detail::message(index.string(), ": lists ", some_of(missing),
                                             ", which no shard contains"));
    if (!elsewhere.empty())
      notes_.push_back(gptq::detail::message(index.string(), ": lists the wrong files for ",
                                             some_of(elsewhere)));
  }

  void open(const std::filesystem::path& path) {
    files_.push_back(std::make_unique<Safetensors>(path));
    for (const auto& [name, t] : files_.back()->tensors())
      gptq::detail::require<FormatError>(places_.emplace(name, files_.back().get()).second,
                                         path.string(), ": tensor ", name,
                                         " is also in another shard");
  }

  std::filesystem::path folder_;
  std::vector<std::unique_ptr<Safetensors>> files_;
  std::map<std::string, const Safetensors*> places_;
  std::vector<std::string> notes_;
};

}  // namespace gptq::io
