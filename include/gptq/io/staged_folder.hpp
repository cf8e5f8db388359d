// SPDX-License-Identifier: MIT
#pragma once

// StagedFolder: a set of files that appear in a folder together. Whenever the process dies, either
// the old set or the new one is there; the next run cleans up after one that was killed.

#include <gptq/io/staging_area.hpp>

#include <algorithm>  // std::any_of, std::sort
#include <functional>
#include <set>
#include <string>
#include <utility>  // std::move
#include <vector>

#include <stdio.h>  // renameat2

namespace gptq::io {

/// Files wait in a StagingArea inside the folder, on the same disk whatever the folder is (a link,
/// a mount point).
///
/// If there are no old files, `commit` moves the new ones in, the one called `last` last. Old files
/// are replaced by exchanging the whole folder for a new one, which the system does in one step;
/// unrelated files of the folder are carried over. Where that is impossible (mount points, the
/// working directory, folders whose parent is not writable, some network file systems), files are
/// moved one by one. The old version of `last` is moved out first, so that a kill in between leaves
/// nothing that looks complete, and the next run moves the old files back.
class StagedFolder {
 public:
  using Belongs = std::function<bool(const std::string& name)>;

  /// \param overwrite  whether the folder may already contain files
  /// \throws InvalidArgument  the path is not a folder, a broken link, or not empty
  /// \throws IoError          another run is writing there, or the folder cannot be created
  StagedFolder(const std::filesystem::path& path, bool overwrite)
      : path_(resolve(path)), area_(path_) {
    try {
      make_folders(path_);
      finish_exchange();
      if (area_.lock()) recover();
      const auto names = entries();
      gptq::detail::require(overwrite || names.empty(), path.string(), " is not empty (it has ",
                            names.empty() ? "" : names.front(),
                            "; --overwrite replaces the model in it)");
      area_.clear();
    } catch (...) {
      remove();
      throw;
    }
  }
  StagedFolder(const StagedFolder&) = delete;
  StagedFolder& operator=(const StagedFolder&) = delete;
  ~StagedFolder() { remove(); }

  /// The folder, with links resolved.
  const std::filesystem::path& path() const { return path_; }

  /// Where files wait until `commit`.
  std::filesystem::path files() const { return area_.files(); }

  /// What is in the folder besides the staging area.
  std::vector<std::string> entries() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(path_))
      if (auto name = entry.path().filename().string(); name != StagingArea::folder_name)
        names.push_back(std::move(name));
    std::sort(names.begin(), names.end());
    return names;
  }

  /// What to tell the user: leftovers removed, a commit that was not a single step.
  const std::vector<std::string>& notes() const { return notes_; }

  /// Moves all files in `files()` into the folder.
  /// \param belongs  which files of the folder belong to the old set
  /// \param last     the new file without which the others do not look complete
  /// \throws IoError  a file cannot be moved; everything is left as it was
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
  /// Where the old folder goes when it is exchanged.
  std::filesystem::path aside() const {
    return path_.parent_path() / gptq::detail::message(".", path_.filename().string(), ".replaced");
  }

  /// Whether the name is taken, if only by a broken link.
  static bool is_present(const std::filesystem::path& path) {
    return std::filesystem::exists(std::filesystem::symlink_status(path));
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
            " is a broken link");
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
    if (StagingArea::make_folder(folder)) made_.insert(made_.begin(), folder);
  }

  /// Cleans up what a killed run has left in the folder.
  /// \throws IoError  it cannot; nothing is lost
  void recover() {
    namespace fs = std::filesystem;
    try {
      // Killed before the folders were exchanged: the new one is still beside the old.
      if (fs::exists(area_.exchanging())) fs::remove_all(aside());
      if (fs::exists(area_.moving())) move_back();
    } catch (const std::exception& error) {
      area_.release();
      throw IoError(gptq::detail::message(
          path_.string(),
          ": a run was killed while replacing the files here, and they cannot be "
          "put back from ",
          area_.replaced().string(), ": ", error.what()));
    }
    note_leftovers(area_.path());
  }

  /// Old files come back unless all new ones are in place.
  void move_back() const {
    namespace fs = std::filesystem;
    const auto waits = [&](const std::string& name) { return is_present(area_.files() / name); };
    const auto names = StagingArea::read_list(area_.moving());
    if (std::any_of(names.begin(), names.end(), waits)) {
      // Old files left first, so they come back last.
      for (const std::string& name : names)
        if (!waits(name)) fs::remove(path_ / name);
      for (const auto& entry : fs::directory_iterator(area_.replaced()))
        fs::rename(entry.path(), path_ / entry.path().filename());
      sync_folder(path_);
    }
    fs::remove(area_.moving());
  }

  /// Cleans up after a run that was killed after the exchange: the new folder is in place and the
  /// old one beside it.
  void finish_exchange() {
    namespace fs = std::filesystem;
    if (fs::is_directory(fs::symlink_status(aside() / StagingArea::folder_name))) {
      StagingArea old(aside());
      old.lock();
      if (fs::exists(old.exchanging())) follow(old);
      note_leftovers(aside());
    }
    remove_empty(aside());
  }

  void note_leftovers(const std::filesystem::path& where) {
    notes_.push_back(
        gptq::detail::message("removed what an interrupted run left in ", where.string()));
  }

  /// Moves everything but the old files out of the old folder, then deletes it, the list of old
  /// files last: if something cannot be moved, the next run tries again.
  /// \param area  of the old folder, locked
  void follow(StagingArea& area) {
    namespace fs = std::filesystem;
    const auto old = StagingArea::read_list(area.exchanging());
    std::vector<fs::path> all;
    for (const auto& entry : fs::directory_iterator(aside()))
      if (entry.path() != area.path()) all.push_back(entry.path());
    for (const auto& file : all) {
      const fs::path target = path_ / file.filename();
      std::error_code error;
      if (old.count(file.filename().string()) > 0 || is_same_file(file, target))
        fs::remove_all(file, error);
      else if (is_present(target))
        notes_.push_back(gptq::detail::message(file.string(), " stays there, because ",
                                               target.string(), " was created in the meantime"));
      else fs::rename(file, target, error);
      if (!error) continue;
      area.release();
      throw IoError(gptq::detail::message(
          "the new files are in ", path_.string(), ", but ", file.string(),
          " could not be moved or removed: ", error.message(), "; the next run there tries again"));
    }
    area.remove();
    remove_empty(aside());
  }

  /// Exchanges the folder for one with the new files and everything that is not an old one.
  /// \return  whether the system was able to
  bool exchange(const std::set<std::string>& old) {
    namespace fs = std::filesystem;
    std::error_code error;
    if (fs::equivalent(path_, fs::current_path(error), error))
      return refuse("it is the working directory");
    if (is_present(aside())) return refuse(aside().string() + " is in the way");
    StagingArea::write_list(area_.exchanging(), old);
    fs::rename(files(), aside(), error);
    if (error) return refuse(error.message());
    // Other files are hard-linked into the new folder; folders cannot be and are moved afterwards.
    std::vector<std::string> linked;
    for (const std::string& name : entries())
      if (old.count(name) == 0 && !fs::is_directory(fs::symlink_status(path_ / name))) {
        std::error_code refused;
        fs::create_hard_link(path_ / name, aside() / name, refused);
        if (!refused) linked.push_back(name);
      }
    sync_folder(aside());
    if (!keep_owner() ||
        ::renameat2(AT_FDCWD, aside().c_str(), AT_FDCWD, path_.c_str(), RENAME_EXCHANGE) != 0) {
      const std::string reason = std::strerror(errno);
      for (const std::string& name : linked) fs::remove(aside() / name, error);
      fs::rename(aside(), files(), error);
      if (!error) return refuse(reason);
      area_.release();
      throw IoError(gptq::detail::message(path_.string(), ": cannot be replaced: ", reason,
                                          "; the next run there removes ", aside().string()));
    }
    sync_folder(path_.parent_path());
    area_.moved_to(aside());
    follow(area_);
    return true;
  }

  /// Gives the new folder the owner and permissions of the old one.
  bool keep_owner() const {
    struct stat old {
    }, made{};
    if (::stat(path_.c_str(), &old) != 0 || ::stat(aside().c_str(), &made) != 0) return false;
    if ((old.st_uid != made.st_uid || old.st_gid != made.st_gid) &&
        ::chown(aside().c_str(), old.st_uid, old.st_gid) != 0)
      return false;
    return ::chmod(aside().c_str(), old.st_mode & 07777) == 0;
  }

  /// Does nothing if the folder is not empty.
  static void remove_empty(const std::filesystem::path& folder) noexcept {
    std::error_code ignored;
    if (std::filesystem::is_directory(std::filesystem::symlink_status(folder, ignored)))
      std::filesystem::remove(folder, ignored);
  }

  bool refuse(const std::string& reason) {
    notes_.push_back(gptq::detail::message(
        path_.string(), ": its files were replaced one by one and not in a single step, because ",
        reason));
    std::error_code ignored;
    std::filesystem::remove(area_.exchanging(), ignored);
    return false;
  }

  void move_one_by_one(const std::set<std::string>& names, const std::set<std::string>& old,
                       const std::string& last) {
    namespace fs = std::filesystem;
    StagingArea::write_list(area_.moving(), names);
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
    if (old.count(last) > 0) move(path_ / last, area_.replaced() / last);
    each(old, [&](const auto& n) {
      if (n != last) move(path_ / n, area_.replaced() / n);
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
      fs::remove(area_.moving(), error);
      throw IoError(gptq::detail::message(path_.string(),
                                          ": cannot move the finished files there: ", reason));
    }
    fs::remove(area_.moving(), error);
  }

  /// Removes the staging area, and folders that were created in vain.
  void remove() noexcept {
    area_.remove();
    std::error_code ignored;
    for (const auto& folder : made_) std::filesystem::remove(folder, ignored);  // if empty
  }

  std::filesystem::path path_;
  StagingArea area_;
  std::vector<std::filesystem::path> made_;  // created by us, innermost first
  std::vector<std::string> notes_;
};

}  // namespace gptq::io
