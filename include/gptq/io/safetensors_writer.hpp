// SPDX-License-Identifier: MIT
#pragma once

// Writing safetensors: all tensors are declared first, so that the header, the shards and the disk
// space are settled before any work begins; then they are written in any order.

#include <gptq/io/output_file.hpp>
#include <gptq/io/tensor.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>  // std::stable_sort
#include <cstdio>     // std::snprintf
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace gptq::io {

/// A tensor to be written.
struct TensorPlan {
  std::string name;
  DType dtype;
  Shape shape;
  std::string keep_with;  ///< the module's name: its tensors stay in one shard

  std::uint64_t bytes() const {
    return static_cast<std::uint64_t>(element_count(shape)) *
           static_cast<std::uint64_t>(bits(dtype)) / 8;
  }
};

/// The layout of a safetensors file.
struct SafetensorsLayout {
  std::string header;  ///< including the length before it
  std::map<std::string, std::uint64_t> offsets;
  std::uint64_t size = 0;

  /// \throws InvalidArgument  duplicate tensor name
  explicit SafetensorsLayout(std::vector<TensorPlan> tensors) {
    // Widest first, then by name, as the reference writer does: every tensor is then aligned to its
    // element size.
    std::stable_sort(tensors.begin(), tensors.end(), [](const TensorPlan& a, const TensorPlan& b) {
      return std::tie(a.dtype, a.name) < std::tie(b.dtype, b.name);
    });
    // As text: a tree of JSON needs memory even while it is taken down, when there may be none.
    std::string text = R"({"__metadata__":{"format":"pt"})";  // transformers refuses a file without
    std::uint64_t offset = 0;
    for (const TensorPlan& tensor : tensors) {
      gptq::detail::require(offsets.emplace(tensor.name, offset).second, "tensor ", tensor.name,
                            " was declared twice");
      text.append(",").append(nlohmann::json(tensor.name).dump());
      text.append(R"(:{"dtype":")").append(io::name(tensor.dtype)).append(R"(","shape":[)");
      for (std::size_t i = 0; i < tensor.shape.size(); ++i)
        text.append(i > 0 ? "," : "").append(std::to_string(tensor.shape[i]));
      text.append(R"(],"data_offsets":[)").append(std::to_string(offset)).append(",");
      text.append(std::to_string(offset + tensor.bytes())).append("]}");
      offset += tensor.bytes();
    }
    text += '}';
    text.resize((text.size() + 7) / 8 * 8, ' ');
    const std::uint64_t length = text.size();
    header.assign(reinterpret_cast<const char*>(&length), sizeof(length));
    header += text;
    for (auto& [name, at] : offsets) at += header.size();
    size = header.size() + offset;
  }
};

/// A tensor in memory on its way to a file.
struct TensorBytes {
  std::string name;
  DType dtype;
  Shape shape;
  std::span<const std::byte> bytes;
};

/// Writes a whole file and commits it.
/// \throws InvalidArgument  the bytes do not match the shape
/// \throws IoError          the file cannot be written
inline void write_safetensors(OutputFile file, const std::vector<TensorBytes>& tensors) {
  std::vector<TensorPlan> plan;
  for (const TensorBytes& t : tensors) {
    plan.push_back({t.name, t.dtype, t.shape, {}});
    gptq::detail::require(plan.back().bytes() == t.bytes.size(), "tensor ", t.name, " ",
                          to_string(t.shape), " has ", t.bytes.size(), " bytes");
  }
  const SafetensorsLayout layout(std::move(plan));
  file.reserve(layout.size);
  file.write_at(0, layout.header);
  for (const TensorBytes& t : tensors) file.write_at(layout.offsets.at(t.name), t.bytes);
  file.commit();
}

inline void write_safetensors(const std::filesystem::path& path,
                              const std::vector<TensorBytes>& tensors) {
  write_safetensors(OutputFile(path), tensors);
}

/// `model.safetensors`, or shards `model-00001-of-0000N.safetensors` with their index, in one
/// folder.
class SafetensorsWriter {
 public:
  /// \param max_shard_size  tensor bytes per file; a larger module gets a file of its own
  /// \throws IoError  a file cannot be created, or the disk does not have enough space
  SafetensorsWriter(const std::filesystem::path& folder, std::vector<TensorPlan> tensors,
                    std::uint64_t max_shard_size)
      : folder_(folder) {
    const auto shards = cut(std::move(tensors), max_shard_size);
    for (std::size_t i = 0; i < shards.size(); ++i) {
      std::string name = "model.safetensors";
      if (shards.size() > 1) {
        char text[64];
        std::snprintf(text, sizeof text, "model-%05zu-of-%05zu.safetensors", i + 1, shards.size());
        name = text;
      }
      open_shard(name, shards[i]);
    }
    if (files_.size() > 1) write_index();
  }

  /// Each tensor must be written once, with as many bytes as its plan declared.
  void write(const std::string& name, std::span<const std::byte> bytes) {
    const auto found = places_.find(name);
    gptq::detail::require(found != places_.end(), "tensor ", name, " was not declared");
    gptq::detail::require(bytes.size() == found->second.size, "tensor ", name, " has ",
                          bytes.size(), " bytes, but ", found->second.size, " were declared");
    files_[found->second.file].write_at(found->second.offset, bytes);
    found->second.written = true;
  }

  /// The files that make up the model, in order.
  std::vector<std::string> file_names() const {
    std::vector<std::string> names;
    for (const OutputFile& file : files_) names.push_back(file.path().filename().string());
    if (names.size() > 1) names.emplace_back(safetensors_index);
    return names;
  }

  /// Gives all files their final names, the index last.
  void commit() {
    for (const auto& [name, place] : places_)
      gptq::detail::require(place.written, "tensor ", name, " was declared but never written");
    for (OutputFile& file : files_) file.commit();
    if (index_) index_->commit();
  }

  std::uint64_t total_bytes() const { return total_bytes_; }

 private:
  struct Place {
    std::size_t file;
    std::uint64_t offset, size;
    bool written = false;
  };

  /// Fills shards one after the other with modules in the given order.
  static std::vector<std::vector<TensorPlan>> cut(std::vector<TensorPlan> tensors,
                                                  std::uint64_t limit) {
    std::vector<std::vector<TensorPlan>> shards(1);
    std::uint64_t used = 0;
    for (std::size_t begin = 0; begin < tensors.size();) {
      std::size_t end = begin + 1;
      std::uint64_t size = tensors[begin].bytes();
      while (end < tensors.size() && !tensors[begin].keep_with.empty() &&
             tensors[end].keep_with == tensors[begin].keep_with)
        size += tensors[end++].bytes();
      if (used > 0 && used + size > limit) {
        shards.emplace_back();
        used = 0;
      }
      used += size;
      for (; begin < end; ++begin) shards.back().push_back(std::move(tensors[begin]));
    }
    return shards;
  }

  void write_index() {
    const auto names = file_names();
    nlohmann::ordered_json index;
    index["metadata"]["total_size"] = total_bytes_;
    for (const auto& [name, place] : places_) index["weight_map"][name] = names[place.file];
    const std::string text = index.dump(2) + "\n";
    index_.emplace(folder_ / safetensors_index, text.size());
    index_->write_at(0, text);
  }

  void open_shard(const std::string& name, std::vector<TensorPlan> tensors) {
    const SafetensorsLayout layout(tensors);
    for (const TensorPlan& tensor : tensors) {
      const Place place{files_.size(), layout.offsets.at(tensor.name), tensor.bytes()};
      gptq::detail::require(places_.emplace(tensor.name, place).second, "tensor ", tensor.name,
                            " was declared twice");
      total_bytes_ += tensor.bytes();
    }
    OutputFile file(folder_ / name, layout.size);
    file.write_at(0, layout.header);
    files_.push_back(std::move(file));
  }

  std::filesystem::path folder_;
  std::vector<OutputFile> files_;
  std::optional<OutputFile> index_;
  std::map<std::string, Place> places_;
  std::uint64_t total_bytes_ = 0;
};

}  // namespace gptq::io
