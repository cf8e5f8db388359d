// SPDX-License-Identifier: MIT
#pragma once

// Descriptor: an open file that closes itself, and files that only one process at a time may write.

#include <gptq/core/error.hpp>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>  // std::strerror
#include <filesystem>
#include <span>
#include <string>
#include <utility>  // std::exchange

#include <fcntl.h>     // open
#include <sys/file.h>  // flock
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

/// Does not follow links.
inline bool is_same_file(const struct stat& a, const std::filesystem::path& path) noexcept {
  struct stat b {};
  return ::lstat(path.c_str(), &b) == 0 && a.st_ino == b.st_ino && a.st_dev == b.st_dev;
}

}  // namespace detail

/// Whether two names refer to the same file, or to the same link.
inline bool is_same_file(const std::filesystem::path& a, const std::filesystem::path& b) noexcept {
  struct stat status {};
  return ::lstat(a.c_str(), &status) == 0 && detail::is_same_file(status, b);
}

/// An open file. Never one of the descriptors 0 to 2, even if the process was started without them:
/// what it prints could end up in the file.
class Descriptor {
 public:
  Descriptor() = default;
  /// If the path is a pipe, does not wait for the other end.
  /// \param shown  the path for messages, if users know the file by another name
  /// \throws IoError  the file cannot be opened; `what` is in the message
  Descriptor(const std::filesystem::path& path, int flags, const char* what,
             const std::filesystem::path& shown = {})
      : number_(::open(path.c_str(), flags | O_CLOEXEC | O_NONBLOCK, 0666)) {
    if (number_ >= 0 && number_ <= STDERR_FILENO) {
      const int above = ::fcntl(number_, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
      ::close(std::exchange(number_, above));
    }
    if (number_ < 0) detail::fail(shown.empty() ? path : shown, what);
  }

  Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }
  ~Descriptor() { close(); }

  int number() const { return number_; }
  explicit operator bool() const { return number_ >= 0; }

  /// \return  whether it succeeded
  bool close() noexcept { return number_ < 0 || ::close(std::exchange(number_, -1)) == 0; }

  /// \param path  for messages, here and below
  /// \throws IoError  not a regular file
  struct stat regular_status(const std::filesystem::path& path) const {
    struct stat result {};
    if (::fstat(number_, &result) != 0) detail::fail(path, "cannot get its status");
    if (!S_ISREG(result.st_mode))
      throw IoError(detail::message(path.string(), ": not a regular file"));
    return result;
  }

  /// \throws IoError  the file cannot be read, or ends too early
  void read_at(std::uint64_t offset, std::span<std::byte> out,
               const std::filesystem::path& path) const {
    while (!out.empty()) {
      const ssize_t count = ::pread(number_, out.data(), out.size(), static_cast<off_t>(offset));
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) detail::fail(path, "cannot read");
      if (count == 0)
        throw IoError(detail::message(path.string(),
                                      ": was cut short while it was being read: it ends at ",
                                      offset, ", ", out.size(), " bytes before it should"));
      offset += static_cast<std::uint64_t>(count);
      out = out.subspan(static_cast<std::size_t>(count));
    }
  }

  /// \throws IoError  the disk is full or failed
  void write_at(std::uint64_t offset, std::span<const std::byte> bytes,
                const std::filesystem::path& path) const {
    while (!bytes.empty()) {
      const ssize_t written =
          ::pwrite(number_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) detail::fail(path, "cannot write");
      offset += static_cast<std::uint64_t>(written);
      bytes = bytes.subspan(static_cast<std::size_t>(written));
    }
  }

  /// Whether `path` still names this file: others may have renamed or deleted it.
  bool is_at(const std::filesystem::path& path) const noexcept {
    struct stat ours {};
    return ::fstat(number_, &ours) == 0 && detail::is_same_file(ours, path);
  }

 private:
  int number_ = -1;
};

/// Opens a file, creating it if necessary, that only the caller may write until it is closed or the
/// process dies. On file systems without locks, nobody is kept out.
/// \param shown  the path for messages
/// \throws IoError  another process is writing it, or it cannot be opened
inline Descriptor open_exclusively(const std::filesystem::path& path,
                                   const std::filesystem::path& shown) {
  for (int attempt = 0;; ++attempt) {
    Descriptor file(path, O_RDWR | O_CREAT | O_NOFOLLOW, "cannot create", shown);
    file.regular_status(shown);
    if (::flock(file.number(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
      throw IoError(detail::message(shown.string(), ": another run is writing here right now"));
    // The previous holder may have renamed or deleted the file between our two calls.
    if (file.is_at(path)) return file;
    if (attempt == 100)
      throw IoError(detail::message(shown.string(), ": other processes keep replacing it"));
  }
}

/// Makes renames in a folder survive a power failure, where the file system supports that.
inline void sync_folder(const std::filesystem::path& folder) noexcept {
  const int number = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (number < 0) return;
  ::fsync(number);
  ::close(number);
}

}  // namespace gptq::io
