// SPDX-License-Identifier: MIT

// The source tree is as docs/developing.md describes it: headers include only lower floors, and
// every header is listed.

#include "../support/catch.hpp"
#include "../support/files.hpp"

#include <map>
#include <regex>
#include <set>

namespace {

const std::filesystem::path root = GPTQ_SOURCE_DIR;

/// Floors from the ground up, files before their folders; 20: backends and executors, which see
/// floors 0-5; 30 and more: what builds on the core.
int floor_of(const std::string& header) {
  static const std::pair<const char*, int> floors[] = {{"io/descriptor.hpp", 1},
                                                       {"io/output_file.hpp", 1},
                                                       {"gptq.hpp", 100},
                                                       {"version.hpp", 0},
                                                       {"config.hpp", 0},
                                                       {"core/", 1},
                                                       {"lane/", 2},
                                                       {"scheme/", 3},
                                                       {"kernel/", 4},
                                                       {"exec/concept.hpp", 5},
                                                       {"backend/concept.hpp", 5},
                                                       {"exec/", 20},
                                                       {"backend/", 20},
                                                       {"parity.hpp", 6},
                                                       {"quantized_matrix.hpp", 6},
                                                       {"calibration/", 7},
                                                       {"factor/", 8},
                                                       {"solver/", 9},
                                                       {"baseline/", 10},
                                                       {"quantizer.hpp", 10},
                                                       {"pack/", 30},
                                                       {"io/", 31},
                                                       {"model/", 32},
                                                       {"eigen.hpp", 30},
                                                       {"testing/", 40},
                                                       {"compiled.hpp", 30}};
  for (const auto& [prefix, floor] : floors)
    if (header.rfind(prefix, 0) == 0) return floor;
  FAIL("no floor is known for " << header);
  return -1;
}

bool may_include(const std::string& from, const std::string& to) {
  const int a = floor_of(from), b = floor_of(to);
  if (a == 100) return true;  // the umbrella
  if (b == 100) return false;
  if (a == 20) return b <= 5 || b == 20;  // backends and executors
  if (a >= 30) return b <= a;             // extensions: the core and extensions below them
  return b <= a && b != 20;               // the core never names a backend
}

/// From each header to those that it includes.
using Graph = std::map<std::string, std::set<std::string>>;

Graph includes() {
  Graph all;
  const std::regex pattern("(?:^|\n)#include <gptq/([^>]+)>");
  for (const auto& entry : std::filesystem::recursive_directory_iterator(root / "include/gptq")) {
    const auto kind = entry.path().extension();
    if (kind != ".hpp" && kind != ".cuh" && kind != ".cu") continue;
    const std::string text = gptq::io::read_file(entry.path());
    auto& list = all[std::filesystem::relative(entry.path(), root / "include/gptq").string()];
    for (std::sregex_iterator i(text.begin(), text.end(), pattern), end; i != end; ++i)
      list.insert((*i)[1]);
  }
  return all;
}

/// Checks that nothing leads back to itself.
void require_no_circles(const Graph& graph) {
  for (const auto& [start, list] : graph) {
    std::set<std::string> seen;
    std::vector<std::string> open(list.begin(), list.end());
    while (!open.empty()) {
      const std::string next = open.back();
      open.pop_back();
      const auto found = graph.find(next);
      if (!seen.insert(next).second || found == graph.end()) continue;
      open.insert(open.end(), found->second.begin(), found->second.end());
    }
    INFO(start);
    CHECK(seen.count(start) == 0);
  }
}

}  // namespace

TEST_CASE("headers include only floors below them", "[house]") {
  const auto all = includes();
  CHECK(all.size() > 50);
  for (const auto& [header, list] : all)
    for (const std::string& included : list) {
      INFO(header << " includes " << included);
      CHECK(all.count(included) == 1);
      CHECK(may_include(header, included));
    }
}

TEST_CASE("no header includes itself, not even indirectly", "[house]") {
  require_no_circles(includes());
}

TEST_CASE("no folder includes itself through another one", "[house]") {
  // A header outside the folders counts as a folder of its own.
  const auto room = [](const std::string& header) {
    return header.substr(0, (std::min)(header.find('/'), header.size()));
  };
  Graph rooms;
  for (const auto& [header, list] : includes()) {
    if (header == "gptq.hpp" || floor_of(header) >= 31) continue;
    for (const std::string& included : list)
      // The contracts and the operating system's files count as folders of their own.
      if (room(included) != room(header) && !included.ends_with("/concept.hpp") &&
          floor_of(included) > 1)
        rooms[room(header)].insert(room(included));
  }
  CHECK(rooms.size() > 8);
  require_no_circles(rooms);
}

TEST_CASE("the core needs no JSON, no tokenizer and no program library", "[house]") {
  for (const auto& [header, list] : includes()) {
    if (floor_of(header) >= 31) continue;
    const std::string text = gptq::io::read_file(root / "include/gptq" / header);
    INFO(header);
    for (const char* foreign : {"nlohmann", "oniguruma", "utf8proc", "fmt/", "CLI/"})
      CHECK(text.find(std::string("#include <") + foreign) == std::string::npos);
  }
}

TEST_CASE("every header is in CMake's lists and nothing else is", "[house]") {
  const std::string lists = gptq::io::read_file(root / "cmake/gptqHeaders.cmake");
  std::set<std::string> listed;
  const std::regex pattern("include/gptq/(\\S+\\.hpp)");
  for (std::sregex_iterator i(lists.begin(), lists.end(), pattern), end; i != end; ++i)
    listed.insert((*i)[1]);
  std::set<std::string> present;
  for (const auto& [header, list] : includes())
    if (header.ends_with(".hpp")) present.insert(header);
  CHECK(listed == present);
}

TEST_CASE("every test file is compiled", "[house]") {
  const std::string lists = gptq::io::read_file(root / "tests/CMakeLists.txt");
  for (const auto& entry : std::filesystem::recursive_directory_iterator(root / "tests")) {
    const auto name = std::filesystem::relative(entry.path(), root / "tests").string();
    if (entry.path().extension() != ".cpp" || name.rfind("package/", 0) == 0) continue;
    INFO(name);
    CHECK(lists.find(name) != std::string::npos);
  }
}

TEST_CASE("headers start with the licence, say what they are for, and stay short", "[house]") {
  for (const auto& [header, list] : includes()) {
    const std::string text = gptq::io::read_file(root / "include/gptq" / header);
    INFO(header);
    const std::string start = header.ends_with(".cu") ? "\n// " : "#pragma once\n\n// ";
    CHECK(text.starts_with("// SPDX-License-Identifier: MIT\n" + start));
    CHECK(std::count(text.begin(), text.end(), '\n') <= 400);
  }
}
