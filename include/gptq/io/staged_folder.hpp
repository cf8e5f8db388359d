// SPDX-License-Identifier: MIT
#pragma once

// StagedFolder: a set of files that appear in a folder together. Whenever the process ends, there
// is the old set or the new one; what a process that was killed left behind is put right by the
// next.

#include <gptq/io/output_file.hpp>

#include <functional>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <stdio.h>  // renameat2

namespace gptq::io {

/// Files wait in `.partial` inside the folder, on the same disk whatever the folder is (a link, a
/// mount point), under a lock that tells a running process from one that died.
///
/// `commit` moves new files into a folder that has no old ones, the last one last. Old ones are
/// replaced by exchanging the whole folder for a new one, which the system does in one step; other
/// files of the folder come along. Where it cannot (mount points, the working directory, folders
/// whose parent may not be written, some network disks), files are moved one by one, the last one's
/// predecessor away first: a kill between leaves nothing that looks complete, and the next run
/// moves the old files back.
class StagedFolder {
 public:
  using Belongs = std::function<bool(const std::string& name)>;

  /// \param overwrite  whether the folder may have files already
  /// \throws InvalidArgument  the path is no folder, a link to nothing, or not empty
  /// \throws IoError          another run is at work there, or the folder cannot be made
  StagedFolder(const std::filesystem::path& path, bool overwrite) : path_(resolve(path)) {
    finish_exchange();
    make_folders(path_);
    try {
      lock();
      recover();
      gptq::detail::require(overwrite || entries().empty(), path.string(),
                            " is not empty (--overwrite replaces the model in it)");
      remove_tree(files());
      remove_tree(replaced());
      for (const auto& folder : {files(), replaced()}) make_folder(folder);
    } catch (...) {
      remove();
      throw;
    }
  }
  StagedFolder(const StagedFolder&) = delete;
  StagedFolder& operator=(const StagedFolder&) = delete;
  ~StagedFolder() { remove(); }

  /// The folder, links resolved.
  const std::filesystem::path& path() const { return path_; }

  /// Where files wait for their names.
  std::filesystem::path files() const { return staging() / "new"; }

  /// What is in the folder beside the staging area.
  std::vector<std::string> entries() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(path_))
      if (const auto name = entry.path().filename().string(); name != staging_name)
        names.push_back(name);
    return names;
  }

  /// What the caller should say: leftovers that were removed, a commit that was not in one step.
  const std::vector<std::string>& notes() const { return notes_; }

  /// Gives all files in `files()` their names.
  /// \param belongs  which files of the folder go with the old set
  /// \param last     of the new files: the one without which nobody takes the others for complete
  /// \throws IoError  a file cannot be moved; everything is as it was
  void commit(const Belongs& belongs, const std::string& last) {
    sync_folder(files());
    std::set<std::string> names, old;
    for (const auto& entry : std::filesystem::directory_iterator(files()))
      names.insert(entry.path().filename().string());
    for (const std::string& name : entries())
      if (names.count(name) > 0 || belongs(name)) old.insert(name);
    if (old.empty() || !exchange(old)) move_one_by_one(names, old, last);
    made_.clear();
  }

 private:
  static constexpr const char* staging_name = ".partial";

  std::filesystem::path staging() const { return path_ / staging_name; }
  std::filesystem::path replaced() const { return staging() / "old"; }
  std::filesystem::path journal() const { return staging() / "moving"; }
  /// Where the folder itself goes when it is exchanged.
  std::filesystem::path aside() const {
    return path_.parent_path() / ("." + path_.filename().string() + ".replaced");
  }

  /// \throws InvalidArgument  nothing can be written there
  static std::filesystem::path resolve(const std::filesystem::path& path) {
    namespace fs = std::filesystem;
    using gptq::detail::require;
    require(!path.empty(), "the output folder has no name");
    std::error_code error;
    fs::path absolute = fs::absolute(path);
    if (!absolute.has_filename()) absolute = absolute.parent_path();
    require(!fs::is_symlink(absolute, error) || fs::exists(absolute, error), path.string(),
            " is a link to nothing");
    fs::path resolved = fs::weakly_canonical(absolute, error);
    require(!error, path.string(), ": cannot be resolved: ", error.message());
    if (!resolved.has_filename()) resolved = resolved.parent_path();
    require(!fs::exists(resolved) || fs::is_directory(resolved), path.string(),
            " exists and is not a folder");
    return resolved;
  }

  void make_folders(const std::filesystem::path& folder) {
    namespace fs = std::filesystem;
    if (fs::is_directory(folder)) return;
    if (folder.has_parent_path() && folder.parent_path() != folder)
      make_folders(folder.parent_path());
    if (make_folder(folder)) made_.insert(made_.begin(), folder);
  }

  /// \return  whether it was not there before
  static bool make_folder(const std::filesystem::path& folder) {
    std::error_code error;
    const bool made = std::filesystem::create_directory(folder, error);
    if (error)
      throw IoError(gptq::detail::message(folder.string(), ": cannot create: ", error.message()));
    return made;
  }

  /// \throws IoError  another run holds the lock, or `.partial` is somebody else's
  void lock() {
    namespace fs = std::filesystem;
    for (int attempt = 0;; ++attempt) {
      const bool made = make_folder(staging());
      if (!made && !fs::exists(staging() / "lock") && !fs::is_empty(staging()))
        throw IoError(gptq::detail::message(staging().string(),
                                            ": is there and was not made by gptq; move it away"));
      try {
        lock_ = open_exclusively(staging() / "lock");
        leftovers_ = !made;
        return;
      } catch (const IoError&) {
        // A run that just ended took the folder away between our two steps.
        if (fs::is_directory(staging()) || attempt == 100) throw;
      }
    }
  }

  /// Puts right what a run that was killed has left here.
  void recover() {
    namespace fs = std::filesystem;
    if (!leftovers_) return;
    // Killed before the folders were exchanged: the new one stands beside.
    if (fs::exists(staging() / "exchanging")) remove_tree(aside());
    if (fs::exists(journal())) {
      std::string rest = read_file(journal());
      std::vector<std::string> moved;
      bool all_moved = true;
      while (!rest.empty()) {
        const std::size_t end = (std::min)(rest.find('\n'), rest.size());
        const std::string name = rest.substr(0, end);
        rest.erase(0, end + 1);
        if (fs::exists(fs::symlink_status(files() / name))) all_moved = false;
        else moved.push_back(name);
      }
      if (!all_moved) {  // old files go first and come back last
        for (const std::string& name : moved) fs::remove(path_ / name);
        for (const auto& entry : fs::directory_iterator(replaced()))
          fs::rename(entry.path(), path_ / entry.path().filename());
        sync_folder(path_);
      }
      fs::remove(journal());
    }
    notes_.push_back(
        gptq::detail::message("removed what an interrupted run had left in ", staging().string()));
  }

  /// Puts right what a run left that was killed behind the exchange: the new folder is in its place
  /// and the old one beside it.
  void finish_exchange() {
    namespace fs = std::filesystem;
    const fs::path old = aside();
    if (!fs::exists(old / staging_name / "exchanging")) {
      remove_empty(old / staging_name);
      remove_empty(old);
      return;
    }
    const Descriptor lock = open_exclusively(old / staging_name / "lock");
    take_along(old);
    remove_aside();
    notes_.push_back(
        gptq::detail::message("removed what an interrupted run had left in ", old.string()));
  }

  /// Moves files out of the old folder that do not belong to what was replaced. Those that do are
  /// listed there.
  void take_along(const std::filesystem::path& old) const {
    namespace fs = std::filesystem;
    const std::string list = "\n" + read_file(old / staging_name / "exchanging");
    std::vector<fs::path> others;
    for (const auto& entry : fs::directory_iterator(old)) {
      const std::string name = entry.path().filename().string();
      if (name != staging_name && list.find("\n" + name + "\n") == std::string::npos)
        others.push_back(entry.path());
    }
    for (const auto& other : others) {
      const fs::path target = path_ / other.filename();
      std::error_code error;
      if (!fs::exists(fs::symlink_status(target))) fs::rename(other, target, error);
      if (error)
        throw IoError(gptq::detail::message(
            "the new files are in ", path_.string(), ", and ", other.string(),
            " could not follow them: ", error.message(), "; the next run there moves it"));
    }
  }

  /// Exchanges the folder for one with the new files and all that does not belong to the old ones.
  /// \return  whether the system could
  bool exchange(const std::set<std::string>& old) {
    namespace fs = std::filesystem;
    std::error_code error;
    if (fs::equivalent(path_, fs::current_path(error), error))
      return refuse("it is the working directory");
    if (fs::exists(fs::symlink_status(aside()))) return refuse(aside().string() + " is in the way");
    std::string list;
    for (const std::string& name : old) list += name + "\n";
    write_file(staging() / "exchanging", list);
    fs::rename(files(), aside(), error);
    if (error) return refuse(error.message());
    // Other files get a second name in the new folder; folders cannot and are moved afterwards.
    for (const std::string& name : entries())
      if (old.count(name) == 0 && !fs::is_directory(fs::symlink_status(path_ / name))) {
        std::error_code ignored;
        fs::create_hard_link(path_ / name, aside() / name, ignored);
      }
    sync_folder(aside());
    if (!keep_owner() ||
        ::renameat2(AT_FDCWD, aside().c_str(), AT_FDCWD, path_.c_str(), RENAME_EXCHANGE) != 0) {
      const std::string reason = std::strerror(errno);
      for (const std::string& name : entries())
        if (old.count(name) == 0) fs::remove(aside() / name, error);
      fs::rename(aside(), files());
      return refuse(reason);
    }
    sync_folder(path_.parent_path());
    take_along(aside());
    remove_aside();
    return true;
  }

  /// Gives the new folder owner and permissions of the old one.
  bool keep_owner() const {
    struct stat old {
    }, made{};
    if (::stat(path_.c_str(), &old) != 0 || ::stat(aside().c_str(), &made) != 0) return false;
    if ((old.st_uid != made.st_uid || old.st_gid != made.st_gid) &&
        ::chown(aside().c_str(), old.st_uid, old.st_gid) != 0)
      return false;
    return ::chmod(aside().c_str(), old.st_mode & 07777) == 0;
  }

  /// The old folder. The file that tells what it is goes last: where something stays, the next run
  /// tries again.
  void remove_aside() const noexcept {
    const auto staging = aside() / staging_name;
    if (!remove_all_but(aside(), staging_name) || !remove_all_but(staging, "exchanging")) return;
    std::error_code error;
    if (!std::filesystem::remove(staging / "exchanging", error)) return;
    remove_empty(staging);
    remove_empty(aside());
  }

  /// Only where nothing is in it.
  static void remove_empty(const std::filesystem::path& folder) noexcept {
    std::error_code ignored;
    if (std::filesystem::is_directory(std::filesystem::symlink_status(folder, ignored)))
      std::filesystem::remove(folder, ignored);
  }

  /// \return  whether all else is gone
  static bool remove_all_but(const std::filesystem::path& folder, const char* kept) noexcept {
    namespace fs = std::filesystem;
    std::error_code error;
    std::vector<fs::path> others;
    for (const auto& entry : fs::directory_iterator(folder, error))
      if (entry.path().filename() != kept) others.push_back(entry.path());
    for (const auto& other : others)
      if (!error) fs::remove_all(other, error);
    return !error;
  }

  bool refuse(const std::string& reason) {
    notes_.push_back(gptq::detail::message(
        path_.string(), ": its files were replaced one by one and not in one step, since ",
        reason));
    std::error_code ignored;
    std::filesystem::remove(staging() / "exchanging", ignored);
    return false;
  }

  void move_one_by_one(const std::set<std::string>& names, const std::set<std::string>& old,
                       const std::string& last) {
    namespace fs = std::filesystem;
    std::string list;
    for (const std::string& name : names) list += name + "\n";
    write_file(journal(), list);
    std::vector<std::pair<fs::path, fs::path>> moved;
    std::error_code error;
    const auto move = [&](const fs::path& from, const fs::path& to) {
      if (error) return;
      fs::rename(from, to, error);
      if (!error) moved.emplace_back(from, to);
    };
    const auto each = [](const std::set<std::string>& set, const auto& f) {
      for (const std::string& name : set) f(name);
    };
    if (old.count(last) > 0) move(path_ / last, replaced() / last);
    each(old, [&](const auto& n) {
      if (n != last) move(path_ / n, replaced() / n);
    });
    sync_folder(path_);
    each(names, [&](const auto& n) {
      if (n != last) move(files() / n, path_ / n);
    });
    sync_folder(path_);
    if (names.count(last) > 0) move(files() / last, path_ / last);
    sync_folder(path_);
    if (error) {
      const std::string reason = error.message();
      for (auto step = moved.rbegin(); step != moved.rend(); ++step)
        fs::rename(step->second, step->first, error);
      fs::remove(journal(), error);
      throw IoError(gptq::detail::message(path_.string(),
                                          ": cannot move the finished files there: ", reason));
    }
    fs::remove(journal(), error);
  }

  static void remove_tree(const std::filesystem::path& folder) noexcept {
    std::error_code ignored;
    std::filesystem::remove_all(folder, ignored);
  }

  /// The staging area, the lock last, and folders that were made for nothing.
  void remove() noexcept {
    if (lock_ && remove_all_but(staging(), "lock")) {
      std::error_code ignored;
      for (const auto& rest : {staging() / "lock", staging()})
        std::filesystem::remove(rest, ignored);
    }
    lock_.close();
    std::error_code ignored;
    for (const auto& folder : made_) std::filesystem::remove(folder, ignored);  // if empty
  }

  std::filesystem::path path_;
  std::vector<std::filesystem::path> made_;  // by us, the innermost first
  Descriptor lock_;
  bool leftovers_ = false;
  std::vector<std::string> notes_;
};

}  // namespace gptq::io
