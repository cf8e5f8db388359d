// SPDX-License-Identifier: MIT
#pragma once

// StagingArea: the folder `.partial` inside another one, where files wait until they are complete.
// Its lock tells a live run from a dead one.

#include <gptq/io/output_file.hpp>

#include <algorithm>  // std::find
#include <filesystem>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace gptq::io {

/// It contains `lock`, held by the running process; `new`, the files that wait; `old`, files being
/// replaced; `moving` and `exchanging`, which record how far that has got. Nothing else in it is
/// ever deleted.
class StagingArea {
 public:
  static constexpr const char* folder_name = ".partial";

  /// Creates nothing yet.
  explicit StagingArea(const std::filesystem::path& folder) : path_(folder / folder_name) {}
  StagingArea(const StagingArea&) = delete;
  StagingArea& operator=(const StagingArea&) = delete;
  ~StagingArea() { remove(); }

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path files() const { return path_ / "new"; }
  std::filesystem::path replaced() const { return path_ / "old"; }
  /// A list of new files being moved one by one.
  std::filesystem::path moving() const { return path_ / "moving"; }
  /// A list of the old files of a folder being exchanged as a whole.
  std::filesystem::path exchanging() const { return path_ / "exchanging"; }

  /// Creates the folder if necessary and takes the lock.
  /// \return  whether a dead run has left something here
  /// \throws IoError  another run holds the lock, or something else has the folder's name
  bool lock() {
    for (int attempt = 0;; ++attempt) {
      try {
        const bool made = make_folder(path_);
        if (!made) require_own();
        lock_ = open_exclusively(lock_file(), path_);
        lock_.write_at(0, std::as_bytes(std::span(signature)), lock_file());
        return !made;
      } catch (const IoError&) {
        // A run that just ended removed the folder between our steps.
        if (std::filesystem::exists(std::filesystem::symlink_status(path_)) || attempt == 100)
          throw;
      }
    }
  }

  /// Releases the lock and leaves everything in place.
  void release() noexcept { lock_.close(); }

  /// Tells the area that the folder around it was renamed.
  void moved_to(const std::filesystem::path& folder) { path_ = folder / folder_name; }

  /// Makes empty folders for new files and for old ones.
  void clear() const {
    for (const auto& folder : {files(), replaced()}) {
      std::error_code error;
      std::filesystem::remove_all(folder, error);
      make_folder(folder);
    }
  }

  /// Deletes it, the lock last. Does nothing without the lock, or if another folder has taken its
  /// place. Whatever cannot be deleted now is deleted by the next run.
  void remove() noexcept {
    try {
      std::error_code error;
      if (lock_ && lock_.is_at(lock_file())) {
        for (const auto& file : contents())
          if (!error) std::filesystem::remove_all(file, error);
        if (!error) std::filesystem::remove(path_, error);  // if empty
      }
    } catch (const std::exception&) {}  // out of memory for a path
    release();
  }

  /// Writes a list of file names.
  static void write_list(const std::filesystem::path& path, const std::set<std::string>& names) {
    std::string text;
    for (const std::string& name : names) text += name + '\0';
    write_file(path, text);
  }

  /// \throws IoError  not a list of file names
  static std::set<std::string> read_list(const std::filesystem::path& path) {
    const std::string text = read_file(path);
    std::set<std::string> names;
    for (std::size_t begin = 0, end; begin < text.size(); begin = end + 1) {
      end = text.find('\0', begin);
      const std::string name = text.substr(begin, end - begin);
      if (end == std::string::npos || name.empty() || name == "." || name == ".." ||
          name.find('/') != std::string::npos)
        throw IoError(gptq::detail::message(path.string(), ": is damaged"));
      names.insert(name);
    }
    return names;
  }

  /// \return  whether it did not exist before
  static bool make_folder(const std::filesystem::path& folder) {
    std::error_code error;
    const bool made = std::filesystem::create_directory(folder, error);
    if (error)
      throw IoError(gptq::detail::message(folder.string(), ": cannot create: ", error.message()));
    return made;
  }

 private:
  static constexpr std::string_view signature = "gptq writes files here\n";

  std::filesystem::path lock_file() const { return path_ / "lock"; }

  /// Everything that is ever deleted, in this order.
  std::vector<std::filesystem::path> contents() const {
    return {files(),      replaced(),
            moving(),     OutputFile::temporary(moving()),
            exchanging(), OutputFile::temporary(exchanging()),
            lock_file()};
  }

  /// \throws IoError  the folder was not created by this library
  void require_own() const {
    namespace fs = std::filesystem;
    std::error_code error;
    bool own = !fs::is_symlink(path_) && fs::is_directory(path_);
    // A run killed right at its start leaves an empty lock file, or an empty folder.
    if (const auto size = fs::file_size(lock_file(), error); !error && size > 0)
      own = own && size == signature.size() && read_file(lock_file()) == signature;
    else if (own)
      for (const auto& entry : fs::directory_iterator(path_)) {
        const auto known = contents();
        own = own && !error && std::find(known.begin(), known.end(), entry.path()) != known.end();
      }
    if (!own)
      throw IoError(gptq::detail::message(path_.string(),
                                          ": exists and was not created by gptq; move it away"));
  }

  std::filesystem::path path_;
  Descriptor lock_;
};

}  // namespace gptq::io
