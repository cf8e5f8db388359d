// SPDX-License-Identifier: MIT
#pragma once

// Descriptor: an open file that closes itself, and files that one process at a time may write.

#include <gptq/io/mapped_file.hpp>

#include <cerrno>
#include <filesystem>
#include <utility>  // std::exchange

#include <fcntl.h>     // open
#include <sys/file.h>  // flock
#include <sys/stat.h>  // fstat
#include <unistd.h>    // close

namespace gptq::io {

/// An open file. Never one of the descriptors 0 to 2, even where a caller was started without
/// them: what the process prints could end up in the file.
class Descriptor {
 public:
  Descriptor() = default;
  /// \throws IoError  says what could not be done
  Descriptor(const std::filesystem::path& path, int flags, const char* what)
      : number_(::open(path.c_str(), flags | O_CLOEXEC | O_NONBLOCK, 0666)) {
    if (number_ >= 0 && number_ <= STDERR_FILENO) {
      const int above = ::fcntl(number_, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
      ::close(std::exchange(number_, above));
    }
    if (number_ < 0) detail::fail(path, what);
  }

  Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }
  ~Descriptor() { close(); }

  int number() const { return number_; }
  explicit operator bool() const { return number_ >= 0; }

  /// \return  whether all went well
  bool close() noexcept { return number_ < 0 || ::close(std::exchange(number_, -1)) == 0; }

  /// \throws IoError  the operating system does not tell
  struct stat status(const std::filesystem::path& path) const {
    struct stat result {};
    if (::fstat(number_, &result) != 0) detail::fail(path, "cannot be examined");
    return result;
  }

 private:
  int number_ = -1;
};

/// Opens a file, made where there is none, that only the caller may write until it is closed; a
/// process that dies lets go of it. File systems without locks let everybody in.
/// \throws IoError  somebody else is writing it, or it cannot be opened
inline Descriptor open_exclusively(const std::filesystem::path& path) {
  for (int attempt = 0;; ++attempt) {
    Descriptor file(path, O_RDWR | O_CREAT | O_NOFOLLOW, "cannot create");
    const struct stat ours = file.status(path);
    if (!S_ISREG(ours.st_mode))
      throw IoError(detail::message(path.string(), ": not a regular file"));
    if (::flock(file.number(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
      throw IoError(detail::message(path.string(), ": another run is writing here at this moment"));
    // Whoever had the file before may have renamed or deleted it between our two calls.
    struct stat there {};
    if (::lstat(path.c_str(), &there) == 0 && there.st_ino == ours.st_ino &&
        there.st_dev == ours.st_dev)
      return file;
    if (attempt == 100)
      throw IoError(detail::message(path.string(), ": is replaced all the time by others"));
  }
}

/// Makes renames in a folder survive a loss of power. Not every file system can.
inline void sync_folder(const std::filesystem::path& folder) noexcept {
  const int number = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (number < 0) return;
  ::fsync(number);
  ::close(number);
}

}  // namespace gptq::io
