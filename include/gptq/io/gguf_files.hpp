// SPDX-License-Identifier: MIT
#pragma once

// GgufFiles: a model in one GGUF file, or in several that llama-gguf-split made of one: the first
// has the metadata, each some of the tensors.

#include <gptq/io/gguf.hpp>

#include <cstdio>  // std::snprintf
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <system_error>
#include <vector>

namespace gptq::io {

/// A GGUF file, or all parts of one that was split, as one.
class GgufFiles {
 public:
  /// \param path  a file, or any of the files of a split model: NAME-00001-of-00003.gguf, ...
  /// \throws IoError      a file cannot be opened, or is missing
  /// \throws FormatError  a file is damaged, or the files do not belong together
  explicit GgufFiles(const std::filesystem::path& path) {
    files_.push_back(std::make_unique<const Gguf>(path));
    const auto parts = files_[0]->get_or<std::uint64_t>("split.count", 1);
    if (parts > 1) open_parts(path, parts);
    for (const auto& file : files_)
      for (const auto& [name, tensor] : file->tensors())
        if (const auto [at, is_new] = homes_.emplace(name, file.get()); !is_new)
          fail(*file, "has the tensor ", name, ", which ", at->second->path().string(),
               " has, too");
    if (parts <= 1) return;
    for (const auto& file : files_)
      if (file->has("split.tensors.count") &&
          file->get<std::uint64_t>("split.tensors.count") != homes_.size())
        fail(*file, "split.tensors.count = ", file->get<std::uint64_t>("split.tensors.count"),
             ", but the ", parts, " files have ", homes_.size(), " tensors");
  }

  /// The file with the metadata.
  const Gguf& first() const { return *files_[0]; }
  const std::filesystem::path& path() const { return first().path(); }
  const std::map<std::string, GgufValue>& metadata() const { return first().metadata(); }
  bool has(const std::string& key) const { return first().has(key); }
  template <class T>
  T get(const std::string& key) const {
    return first().get<T>(key);
  }
  template <class T>
  T get_or(const std::string& key, T otherwise) const {
    return first().get_or<T>(key, otherwise);
  }

  std::vector<std::string> names() const {
    std::vector<std::string> all;
    for (const auto& [name, file] : homes_) all.push_back(name);
    return all;
  }
  bool contains(const std::string& name) const { return homes_.count(name) > 0; }

  /// The file that has the tensor. \throws FormatError  there is no such tensor
  const Gguf& home(const std::string& name) const {
    const auto found = homes_.find(name);
    if (found == homes_.end()) fail(first(), "has no tensor ", name);
    return *found->second;
  }
  const GgufTensor& at(const std::string& name) const { return home(name).at(name); }
  void read(const std::string& name, std::span<float> out) const { home(name).read(name, out); }

  void require_unchanged() const {
    for (const auto& file : files_) file->file().require_unchanged();
  }

 private:
  template <class... Parts>
  [[noreturn]] static void fail(const Gguf& file, const Parts&... parts) {
    throw FormatError(gptq::detail::message(file.path().string(), ": ", parts...));
  }

  /// "-00002-of-00003.gguf"
  static std::string ending(std::uint64_t part, std::uint64_t parts) {
    char text[64];
    std::snprintf(text, sizeof text, "-%05llu-of-%05llu.gguf",
                  static_cast<unsigned long long>(part), static_cast<unsigned long long>(parts));
    return text;
  }

  /// Opens all files of a split model, of which one is open.
  void open_parts(const std::filesystem::path& path, std::uint64_t parts) {
    const Gguf& given = *files_[0];
    const auto number = given.get_or<std::uint64_t>("split.no", 0) + 1;
    const std::string name = path.filename().string(), end = ending(number, parts);
    if (number > parts || parts > 99999)
      fail(given, "split.no = ", number - 1, " and split.count = ", parts);
    if (!name.ends_with(end))
      fail(given, "is part ", number, " of ", parts,
           " of a split model (split.no, split.count), but its name does not end in \"", end,
           "\", so that the other parts cannot be found");
    const std::string begin = name.substr(0, name.size() - end.size());
    std::vector<std::unique_ptr<const Gguf>> all;
    for (std::uint64_t part = 1; part <= parts; ++part) {
      if (part == number) {
        all.push_back(std::move(files_[0]));
        continue;
      }
      const auto other = path.parent_path() / (begin + ending(part, parts));
      std::error_code error;
      if (!std::filesystem::exists(other, error))
        throw IoError(gptq::detail::message(other.string(), ": part ", part, " of ", parts,
                                            " of a split model is missing (", path.string(),
                                            " is part ", number, ")"));
      all.push_back(std::make_unique<const Gguf>(other));
      const auto count = all.back()->get_or<std::uint64_t>("split.count", 1),
                 no = all.back()->get_or<std::uint64_t>("split.no", 0);
      if (count != parts)
        fail(*all.back(), "split.count = ", count, ", but ", path.string(), " says ", parts);
      if (no + 1 != part) fail(*all.back(), "split.no = ", no, "; expected ", part - 1);
    }
    files_ = std::move(all);
  }

  std::vector<std::unique_ptr<const Gguf>> files_;  // in order
  std::map<std::string, const Gguf*> homes_;        // by tensor
};

}  // namespace gptq::io
