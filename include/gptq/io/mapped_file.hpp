// SPDX-License-Identifier: MIT
#pragma once

// MappedFile: a file as read-only memory.

#include <gptq/io/descriptor.hpp>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <system_error>
#include <utility>  // std::swap

#include <sys/mman.h>  // mmap
#include <sys/stat.h>  // stat
#include <unistd.h>    // sysconf

namespace gptq::io {

/// Whether a path exists. One that cannot be examined counts as existing: opening it will say why.
inline bool is_there(const std::filesystem::path& path) {
  std::error_code error;
  return std::filesystem::exists(path, error) || error;
}

/// A file as read-only memory.
class MappedFile {
 public:
  MappedFile() = default;

  /// \throws IoError  the file cannot be opened or mapped, or is not a regular file
  explicit MappedFile(const std::filesystem::path& path) : path_(path) {
    const Descriptor file(path, O_RDONLY, "cannot open");
    const struct stat status = file.regular_status(path);
    identity_ = Identity(status);
    size_ = static_cast<std::size_t>(status.st_size);
    if (size_ > 0) {
      void* data = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.number(), 0);
      if (data == MAP_FAILED) detail::fail(path, "cannot map into memory");
      data_ = static_cast<const std::byte*>(data);
    }
  }

  MappedFile(MappedFile&& other) noexcept { *this = std::move(other); }
  MappedFile& operator=(MappedFile&& other) noexcept {
    std::swap(path_, other.path_);
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(identity_, other.identity_);
    return *this;
  }
  ~MappedFile() {
    if (data_) ::munmap(const_cast<std::byte*>(data_), size_);
  }

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::filesystem::path& path() const { return path_; }

  /// Tells the system that these bytes will not be needed again soon, so that reading a large model
  /// does not fill memory.
  void release(std::span<const std::byte> bytes) const {
    if (bytes.empty()) return;
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    const auto offset = static_cast<std::size_t>(bytes.data() - data_);
    const std::size_t begin = (offset + page - 1) / page * page,
                      end = (offset + bytes.size()) / page * page;
    if (end > begin) ::madvise(const_cast<std::byte*>(data_) + begin, end - begin, MADV_DONTNEED);
  }

  /// Checks that the file has not changed since it was opened. A file that was deleted, or replaced
  /// by another of the same name, is still mapped in full.
  /// \throws IoError  the file was written to or truncated in the meantime
  void require_unchanged() const {
    struct stat status {};
    if (path_.empty() || ::stat(path_.c_str(), &status) != 0) return;
    const Identity now(status);
    if (!now.same_file(identity_)) return;
    if (now.size != identity_.size)
      throw IoError(detail::message(path_.string(), ": changed while it was being read: it had ",
                                    identity_.size, " bytes and now has ", now.size));
    if (!now.same_time(identity_))
      throw IoError(detail::message(path_.string(), ": was written to while it was being read"));
  }

 private:
  /// Which file it is, and in what state.
  struct Identity {
    std::uint64_t device = 0, inode = 0;
    std::int64_t size = 0, seconds = 0, nanoseconds = 0;  ///< time of last modification

    Identity() = default;
    explicit Identity(const struct stat& status)
        : device(static_cast<std::uint64_t>(status.st_dev)),
          inode(static_cast<std::uint64_t>(status.st_ino)),
          size(status.st_size),
          seconds(status.st_mtim.tv_sec),
          nanoseconds(status.st_mtim.tv_nsec) {}
    bool same_file(const Identity& other) const {
      return device == other.device && inode == other.inode;
    }
    bool same_time(const Identity& other) const {
      return seconds == other.seconds && nanoseconds == other.nanoseconds;
    }
  };

  std::filesystem::path path_;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  Identity identity_;
};

}  // namespace gptq::io
