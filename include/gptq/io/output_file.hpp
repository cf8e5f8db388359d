// SPDX-License-Identifier: MIT
#pragma once

// OutputFile: a file that appears under its name only when it is complete.

#include <gptq/io/descriptor.hpp>

#include <algorithm>  // std::min
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace gptq::io {

/// Written under another name, see `temporary`, and renamed by `commit`; without `commit` nothing
/// is left behind. Leftovers of a killed run under that name are overwritten.
class OutputFile {
 public:
  /// \param size  if known, reserved on disk at once, so that a full disk is noticed before the
  ///              work, not after
  /// \throws IoError  the file cannot be created, another process is writing it, or the disk is
  /// full
  explicit OutputFile(const std::filesystem::path& path, std::uint64_t size = 0)
      : path_(path), temporary_(temporary(path)), file_(open_exclusively(temporary_, path)) {
    try {
      resize(0);
      if (size > 0) reserve(size);
    } catch (...) {
      discard();
      throw;
    }
  }

  OutputFile(OutputFile&& other) noexcept { *this = std::move(other); }
  OutputFile& operator=(OutputFile&& other) noexcept {
    std::swap(path_, other.path_);
    std::swap(temporary_, other.temporary_);
    std::swap(file_, other.file_);
    return *this;
  }
  ~OutputFile() { discard(); }

  const std::filesystem::path& path() const { return path_; }

  /// The file's name until it is complete; not one that a user would choose.
  static std::filesystem::path temporary(const std::filesystem::path& path) {
    return path.parent_path() /
           gptq::detail::message(".", path.filename().string(), ".gptq-partial");
  }

  /// \throws IoError  the disk is full or failed
  void write_at(std::uint64_t offset, std::span<const std::byte> bytes) {
    file_.write_at(offset, bytes, path_);
  }

  void write_at(std::uint64_t offset, std::string_view text) {
    write_at(offset, std::as_bytes(std::span(text.data(), text.size())));
  }

  /// Reserves disk space.
  /// \throws IoError  there is not enough space
  void reserve(std::uint64_t size) {
    if (const int error = ::posix_fallocate(file_.number(), 0, static_cast<off_t>(size));
        error != 0) {
      errno = error;
      detail::fail(path_, gptq::detail::message("cannot reserve ", size, " bytes").c_str());
    }
  }

  /// Truncates the file if less was written than had been reserved.
  void resize(std::uint64_t size) {
    if (::ftruncate(file_.number(), static_cast<off_t>(size)) != 0)
      detail::fail(path_, "cannot write");
  }

  /// Gives the file its name.
  void commit() {
    if (::fsync(file_.number()) != 0) detail::fail(path_, "cannot write");
    // Renamed while still open and locked, so that no other process takes it for a leftover.
    if (::rename(temporary_.c_str(), path_.c_str()) != 0)
      detail::fail(path_, "cannot rename the finished file");
    temporary_.clear();
    if (!file_.close()) detail::fail(path_, "cannot write");
    sync_folder(path_.has_parent_path() ? path_.parent_path() : ".");
  }

 private:
  void discard() noexcept {
    if (!temporary_.empty()) ::unlink(temporary_.c_str());
    temporary_.clear();
    file_.close();
  }

  std::filesystem::path path_, temporary_;
  Descriptor file_;
};

/// Writes a small file in one go.
inline void write_file(const std::filesystem::path& path, std::string_view text) {
  OutputFile file(path, text.size());
  file.write_at(0, text);
  file.commit();
}

/// Reads a small file in one go. Not mapped, so that being truncated meanwhile is an ordinary
/// error.
/// \throws IoError  the file cannot be read
inline std::string read_file(const std::filesystem::path& path) {
  const Descriptor file(path, O_RDONLY, "cannot open");
  std::string text(static_cast<std::size_t>(file.regular_status(path).st_size), '\0');
  file.read_at(0, std::as_writable_bytes(std::span(text.data(), text.size())), path);
  return text;
}

}  // namespace gptq::io
