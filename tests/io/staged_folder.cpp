// SPDX-License-Identifier: MIT

// Folders whose files appear together, killed at every step that changes a folder.

#include <gptq/io/staged_folder.hpp>

#include "../support/catch.hpp"
#include "../support/files.hpp"

#include <memory>

#include <fcntl.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

using gptq::InvalidArgument;
using gptq::IoError;
using gptq::io::StagedFolder;
namespace fs = std::filesystem;

namespace {

/// Steps until the process ends as if it were killed; negative: never.
int steps_left = -1;

/// 0, or the error that the step is to fail with.
int failing_step = -1;

bool counted_step() {
  if (steps_left > 0 && --steps_left == 0) ::_exit(99);
  if (failing_step > 0 && --failing_step == 0) {
    errno = EIO;
    return false;
  }
  return true;
}

int outcome(long result) { return static_cast<int>(result); }

}  // namespace

// In place of the C library's, for this program and for libstdc++.
extern "C" {
int rename(const char* from, const char* to) noexcept {
  return counted_step() ? outcome(syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0)) : -1;
}
int renameat2(int from_folder, const char* from, int to_folder, const char* to,
              unsigned flags) noexcept {
  if (!counted_step()) return -1;
  return outcome(syscall(SYS_renameat2, from_folder, from, to_folder, to, flags));
}
int link(const char* from, const char* to) noexcept {
  return counted_step() ? outcome(syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0)) : -1;
}
int unlinkat(int folder, const char* path, int flags) noexcept {
  return counted_step() ? outcome(syscall(SYS_unlinkat, folder, path, flags)) : -1;
}
int unlink(const char* path) noexcept { return unlinkat(AT_FDCWD, path, 0); }
int fsync(int) { return 0; }  // hundreds of them
int rmdir(const char* path) noexcept { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }
int remove(const char* path) noexcept {
  const int result = unlinkat(AT_FDCWD, path, 0);
  return result != 0 && errno == EISDIR ? rmdir(path) : result;
}
}

namespace {

bool belongs(const std::string& name) { return name != "notes.txt" && name != "sub"; }

/// The files of a model in a folder, with contents: "config.json=old weights=old ".
std::string model_in(const fs::path& folder) {
  std::set<std::string> found;
  for (const auto& entry : fs::directory_iterator(folder))
    if (const auto name = entry.path().filename().string(); belongs(name) && name != ".partial")
      found.insert(name + "=" + gptq::io::read_file(entry.path()) + " ");
  std::string text;
  for (const auto& file : found) text += file;
  return text;
}

const std::string old_model = "config.json=old vocabulary=old weights=old ",
                  new_model = "config.json=new tokens=new weights=new ";

struct Place {
  test::TemporaryFolder folder;
  fs::path out = folder / "out";

  /// A model next to someone else's files.
  explicit Place(bool with_model = true) {
    if (!with_model) return;
    fs::create_directories(out / "sub");
    for (const char* name : {"config.json", "weights", "vocabulary"})
      gptq::io::write_file(out / name, "old");
    gptq::io::write_file(out / "notes.txt", "mine");
    gptq::io::write_file(out / "sub" / "inner.txt", "mine");
  }

  void replace() const {
    StagedFolder staged(out, true);
    for (const char* name : {"config.json", "weights", "tokens"})
      gptq::io::write_file(staged.files() / name, "new");
    staged.commit(belongs, "config.json");
  }

  void check_others() const {
    CHECK(gptq::io::read_file(out / "notes.txt") == "mine");
    CHECK(gptq::io::read_file(out / "sub" / "inner.txt") == "mine");
  }

  /// Nothing but the model, and the other files if there were any.
  void check_no_leftovers() const {
    for (const auto& entry : fs::directory_iterator(folder.path()))
      CHECK(entry.path().filename() == "out");
    CHECK_FALSE(fs::exists(out / ".partial"));
  }
};

/// f in a process of its own that is killed at its n-th step.
/// \return  whether it came to its end before
template <class F>
bool survives(int n, const F& f) {
  const pid_t child = ::fork();
  if (child == 0) {
    steps_left = n;
    try {
      f();
    } catch (...) {
      ::_exit(1);
    }
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  REQUIRE(WIFEXITED(status));
  REQUIRE((WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 99));
  return WEXITSTATUS(status) == 0;
}

}  // namespace

TEST_CASE("a kill at any step leaves the whole old model or the whole new one",
          "[staged_folder][fault6][fault13]") {
  int kills = 0, old_ones = 0;
  for (bool done = false; !done;) {
    const Place place;
    done = survives(++kills, [&] { place.replace(); });
    INFO("killed at step " << kills);
    const std::string left = model_in(place.out);
    CHECK((left == old_model || left == new_model));
    old_ones += left == old_model;

    // The same command works, and removes the leftovers.
    place.replace();
    CHECK(model_in(place.out) == new_model);
    place.check_others();
    place.check_no_leftovers();
  }
  CHECK(kills > 15);
  CHECK((old_ones > 5 && kills - old_ones > 5));
}

TEST_CASE("if a folder cannot be exchanged, a kill leaves nothing that looks complete",
          "[staged_folder][fault13]") {
  const fs::path before = fs::current_path();
  int kills = 0;
  for (bool done = false; !done;) {
    const Place place;
    fs::current_path(place.out);  // the working directory must not be exchanged
    done = survives(++kills, [&] { place.replace(); });
    INFO("killed at step " << kills);
    const std::string left = model_in(place.out);
    const bool complete = left.find("config.json") != std::string::npos;
    CHECK((!complete || left == old_model || left == new_model));

    // The next run cleans up, even if it ends early.
    { const StagedFolder staged(place.out, true); }
    const std::string then = model_in(place.out);
    CHECK((then == old_model || then == new_model));
    place.check_others();
    place.check_no_leftovers();
    fs::current_path(before);
  }
  CHECK(kills > 15);
}

TEST_CASE("a kill in a new folder leaves nothing in the way", "[staged_folder][fault6]") {
  int kills = 0;
  for (bool done = false; !done;) {
    const Place place(false);
    done = survives(++kills, [&] { place.replace(); });
    INFO("killed at step " << kills);
    const bool complete = fs::exists(place.out / "config.json");
    CHECK((!complete || model_in(place.out) == new_model));
    if (complete) {
      CHECK_THROWS_AS(StagedFolder(place.out, false), InvalidArgument);
    } else {
      { const StagedFolder staged(place.out, false); }
      if (fs::exists(place.out)) CHECK(fs::is_empty(place.out));
    }
  }
  CHECK(kills > 5);
}

TEST_CASE("a rename that fails leaves the old model or has written the new one",
          "[staged_folder][fault13]") {
  for (const bool exchange : {true, false}) {
    const fs::path before = fs::current_path();
    int failures = 0;
    for (bool failed = true; failed;) {
      const Place place;
      if (!exchange) fs::current_path(place.out);
      failing_step = ++failures;
      try {
        place.replace();
      } catch (const gptq::Error&) {
      } catch (const fs::filesystem_error&) {}
      failed = failing_step == 0;
      failing_step = -1;
      INFO("step " << failures << " failed, exchange " << exchange);
      const std::string left = model_in(place.out);
      CHECK((left == old_model || left == new_model));
      fs::current_path(before);
      { const StagedFolder next(place.out, true); }
      place.check_others();
      place.check_no_leftovers();
    }
    CHECK(failures > 10);
  }
}

TEST_CASE("of two runs into the same folder, the second is refused", "[staged_folder][fault14]") {
  const Place place;
  {
    const StagedFolder first(place.out, true);
    CHECK_THAT(error_of<IoError>([&] { StagedFolder second(place.out, true); }),
               ContainsSubstring("another run is writing here"));
    CHECK(fs::exists(place.out / ".partial"));
  }
  CHECK_NOTHROW(StagedFolder(place.out, true));

  const auto path = place.folder / "report.json";
  const gptq::io::OutputFile file(path);
  CHECK_THAT(error_of<IoError>([&] { gptq::io::OutputFile other(path); }),
             ContainsSubstring("report.json: another run is writing here"));
}

TEST_CASE("a run that ends leaves the next one's files alone", "[staged_folder][fault14]") {
  const Place place;
  auto first = std::make_unique<StagedFolder>(place.out, true);
  SECTION("after an exchange") {
    gptq::io::write_file(first->files() / "config.json", "new");
    first->commit(belongs, "config.json");
  }
  SECTION("in a folder that somebody has deleted") { fs::remove_all(place.out); }
  const StagedFolder second(place.out, true);
  gptq::io::write_file(second.files() / "config.json", "newer");
  first.reset();
  CHECK(gptq::io::read_file(second.files() / "config.json") == "newer");
  CHECK_THROWS_AS(StagedFolder(place.out, true), IoError);
}

TEST_CASE("what cannot be repaired is left for somebody who can", "[staged_folder][fault13]") {
  for (const std::string list : {"config.json", "../notes.txt", "..", "a/b", ""}) {
    const Place place;
    { const StagedFolder staged(place.out, true); }
    // A run that was killed between its renames.
    const auto area = place.out / ".partial";
    fs::create_directories(area / "new");
    fs::create_directories(area / "old");
    gptq::io::write_file(area / "lock", "gptq writes files here\n");
    gptq::io::write_file(area / "new" / "config.json", "new");
    gptq::io::write_file(area / "old" / "weights", "precious");
    gptq::io::write_file(area / "moving", list + (list == "config.json" ? "" : std::string(1, 0)));
    CHECK_THAT(error_of<IoError>([&] { StagedFolder(place.out, true); }),
               ContainsSubstring((area / "moving").string() + ": is damaged") &&
                   ContainsSubstring((area / "old").string()));
    CHECK(gptq::io::read_file(area / "old" / "weights") == "precious");
    place.check_others();
  }
}

TEST_CASE("files created during an exchange are kept", "[staged_folder][fault22]") {
  const Place place;
  const auto aside = place.folder / ".out.replaced";
  int step = 0;
  do {
    place.check_others();
    REQUIRE_FALSE(survives(++step, [&] { place.replace(); }));
  } while (!fs::exists(aside / ".partial" / "exchanging"));
  fs::create_directories(place.out / "sub");
  gptq::io::write_file(place.out / "sub" / "inner.txt", "newer");
  std::string notes;
  {
    const StagedFolder next(place.out, true);
    for (const auto& note : next.notes()) notes += note;
  }
  CHECK_THAT(notes, ContainsSubstring((aside / "sub").string() + " stays there"));
  CHECK(gptq::io::read_file(aside / "sub" / "inner.txt") == "mine");
  CHECK(gptq::io::read_file(place.out / "sub" / "inner.txt") == "newer");
}

TEST_CASE("what we did not create is not removed", "[staged_folder][fault22]") {
  const Place place;
  fs::create_symlink("nowhere", place.folder / "link");
  CHECK_THAT(error_of<InvalidArgument>([&] { StagedFolder(place.folder / "link", true); }),
             ContainsSubstring("is a broken link"));
  CHECK(fs::is_symlink(place.folder / "link"));

  const auto area = place.out / ".partial";
  fs::create_directory(area);
  gptq::io::write_file(area / "photo", "mine");
  const auto refuses = [&] {
    CHECK_THAT(error_of<IoError>([&] { StagedFolder(place.out, true); }),
               ContainsSubstring("was not created by gptq"));
    CHECK(gptq::io::read_file(area / "photo") == "mine");
  };
  refuses();
  for (const char* lock : {"", "mine", "gptq writes files her"}) {
    gptq::io::write_file(area / "lock", lock);
    refuses();
    CHECK(gptq::io::read_file(area / "lock") == lock);
  }
  fs::rename(area, place.folder / "elsewhere");
  gptq::io::write_file(place.folder / "elsewhere" / "lock", "gptq writes files here\n");
  fs::create_directory_symlink(place.folder / "elsewhere", area);
  refuses();
  fs::remove(area);
  fs::rename(place.folder / "elsewhere", area);
  { const StagedFolder staged(place.out, true); }
  CHECK(gptq::io::read_file(area / "photo") == "mine");
  fs::remove_all(area);

  CHECK_THROWS_AS(StagedFolder(place.out / "notes.txt", true), InvalidArgument);
  CHECK_THROWS_AS(StagedFolder(place.out, false), InvalidArgument);
}

TEST_CASE("a replaced folder keeps its permissions", "[staged_folder]") {
  const Place place;
  fs::permissions(place.out, fs::perms::owner_all | fs::perms::group_read);
  place.replace();
  CHECK(fs::status(place.out).permissions() == (fs::perms::owner_all | fs::perms::group_read));
}

TEST_CASE("no file gets the descriptor of a standard stream", "[staged_folder][fault1]") {
  const test::TemporaryFolder folder;
  const pid_t child = ::fork();
  if (child == 0) {
    for (const int stream : {0, 1, 2}) ::close(stream);
    {
      gptq::io::OutputFile file(folder / "model");
      file.write_at(0, std::string_view("weights"));
      if (::write(2, "progress", 8) == 8) ::_exit(1);
      file.commit();
    }
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  CHECK((WIFEXITED(status) && WEXITSTATUS(status) == 0));
  CHECK(gptq::io::read_file(folder / "model") == "weights");
}
