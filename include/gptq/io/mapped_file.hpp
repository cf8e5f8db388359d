// SPDX-License-Identifier: MIT
#pragma once

// MappedFile: a file as read-only memory.

#include <gptq/core/error.hpp>

#include <cerrno>
#include <cstddef>
#include <cstring>  // std::strerror
#include <filesystem>
#include <span>
#include <string>
#include <utility>  // std::swap

#include <fcntl.h>     // open
#include <sys/mman.h>  // mmap
#include <sys/stat.h>  // fstat
#include <unistd.h>    // close

namespace gptq::io {

namespace detail {

using gptq::detail::message;
using gptq::detail::require;

/// \throws IoError  with the operating system's reason
[[noreturn]] inline void fail(const std::filesystem::path& path, const char* what) {
  throw IoError(message(path.string(), ": ", what, ": ", std::strerror(errno)));
}

}  // namespace detail

/// A file as read-only memory.
class MappedFile {
 public:
  MappedFile() = default;

  /// \throws IoError  the file cannot be opened or mapped
  explicit MappedFile(const std::filesystem::path& path) : path_(path) {
    const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (file < 0) detail::fail(path, "cannot open");
    struct stat status {};
    if (::fstat(file, &status) != 0 || !S_ISREG(status.st_mode)) {
      ::close(file);
      throw IoError(detail::message(path.string(), ": not a regular file"));
    }
    size_ = static_cast<std::size_t>(status.st_size);
    if (size_ > 0) {
      void* data = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file, 0);
      if (data == MAP_FAILED) {
        ::close(file);
        detail::fail(path, "cannot map into memory");
      }
      data_ = static_cast<const std::byte*>(data);
    }
    ::close(file);
  }

  MappedFile(MappedFile&& other) noexcept { *this = std::move(other); }
  MappedFile& operator=(MappedFile&& other) noexcept {
    std::swap(path_, other.path_);
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~MappedFile() {
    if (data_) ::munmap(const_cast<std::byte*>(data_), size_);
  }

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::filesystem::path& path() const { return path_; }

  /// Tells the system that these bytes will not be read again soon, so that reading a large model
  /// does not fill memory.
  void release(std::span<const std::byte> bytes) const {
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    const auto offset = static_cast<std::size_t>(bytes.data() - data_);
    const std::size_t begin = (offset + page - 1) / page * page,
                      end = (offset + bytes.size()) / page * page;
    if (end > begin) ::madvise(const_cast<std::byte*>(data_) + begin, end - begin, MADV_DONTNEED);
  }

 private:
  std::filesystem::path path_;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace gptq::io
