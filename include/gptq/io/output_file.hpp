// SPDX-License-Identifier: MIT
#pragma once

// OutputFile: a file that appears under its name only when it is complete.

#include <gptq/io/mapped_file.hpp>

#include <cstdint>
#include <string_view>

namespace gptq::io {

/// Written under a temporary name beside its own and renamed by `commit`; without it nothing stays
/// behind.
class OutputFile {
 public:
  /// \param size  reserved on disk at once where it is known, so that a full disk is found before
  /// the work, not after \throws IoError  the file cannot be made, or the disk is full
  explicit OutputFile(const std::filesystem::path& path, std::uint64_t size = 0)
      : path_(path), temporary_(path.string() + ".partial-" + std::to_string(::getpid())) {
    file_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (file_ < 0) detail::fail(temporary_, "cannot create");
    if (size > 0) {
      if (const int error = ::posix_fallocate(file_, 0, static_cast<off_t>(size)); error != 0) {
        discard();
        errno = error;
        detail::fail(path_, gptq::detail::message("cannot reserve ", size, " bytes").c_str());
      }
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

  /// \throws IoError  the disk is full or failed
  void write_at(std::uint64_t offset, std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const ssize_t written =
          ::pwrite(file_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) detail::fail(path_, "cannot write");
      offset += static_cast<std::uint64_t>(written);
      bytes = bytes.subspan(static_cast<std::size_t>(written));
    }
  }

  void write_at(std::uint64_t offset, std::string_view text) {
    write_at(offset, std::as_bytes(std::span(text.data(), text.size())));
  }

  /// Gives the file its name.
  void commit() {
    if (::fsync(file_) != 0 || ::close(std::exchange(file_, -1)) != 0)
      detail::fail(path_, "cannot write");
    if (::rename(temporary_.c_str(), path_.c_str()) != 0)
      detail::fail(path_, "cannot rename the finished file");
    temporary_.clear();
  }

 private:
  void discard() noexcept {
    if (file_ >= 0) ::close(std::exchange(file_, -1));
    if (!temporary_.empty()) ::unlink(temporary_.c_str());
    temporary_.clear();
  }

  std::filesystem::path path_, temporary_;
  int file_ = -1;
};

/// A small file in one go.
inline void write_file(const std::filesystem::path& path, std::string_view text) {
  OutputFile file(path);
  file.write_at(0, text);
  file.commit();
}

/// \throws IoError  the file cannot be read
inline std::string read_file(const std::filesystem::path& path) {
  const MappedFile file(path);
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

}  // namespace gptq::io
