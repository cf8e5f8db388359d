// SPDX-License-Identifier: MIT

#include <gptq/io/json.hpp>
#include <gptq/io/mapped_file.hpp>
#include <gptq/io/number.hpp>

#include "../support/catch.hpp"
#include "../support/files.hpp"

#include <cmath>
#include <fstream>

#include <sys/stat.h>

using gptq::io::MappedFile;
using test::TemporaryFolder;

TEST_CASE("writes to a file while it is being read are noticed", "[mapped_file][fault8]") {
  const TemporaryFolder folder;
  const auto path = folder / "a";
  gptq::io::write_file(path, "0123456789");
  const MappedFile file(path);
  CHECK_NOTHROW(file.require_unchanged());
  SECTION("truncated") {
    std::filesystem::resize_file(path, 4);
    CHECK_THAT(
        error_of<gptq::IoError>([&] { file.require_unchanged(); }),
        ContainsSubstring(path.string() +
                          ": changed while it was being read: it had 10 bytes and now has 4"));
  }
  SECTION("overwritten by as many bytes") {
    const auto later = std::filesystem::last_write_time(path) + std::chrono::nanoseconds(1000);
    std::fstream(path, std::ios::in | std::ios::out) << "x";
    std::filesystem::last_write_time(path, later);
    CHECK_THAT(error_of<gptq::IoError>([&] { file.require_unchanged(); }),
               ContainsSubstring(path.string() + ": was written to while it was being read"));
  }
  SECTION("replaced under its name: the opened file is still intact") {
    gptq::io::write_file(folder / "b", "something else");
    std::filesystem::rename(folder / "b", path);
    CHECK_NOTHROW(file.require_unchanged());
    CHECK(file.bytes().size() == 10);
  }
  SECTION("removed") {
    std::filesystem::remove(path);
    CHECK_NOTHROW(file.require_unchanged());
  }
}

TEST_CASE("a pipe or a device in place of a file is refused without waiting",
          "[mapped_file][fault24]") {
  const TemporaryFolder folder;
  REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
  for (const std::filesystem::path& path : {folder / "pipe", std::filesystem::path("/dev/zero")})
    CHECK_THAT(error_of<gptq::IoError>([&] { MappedFile{path}; }),
               ContainsSubstring(path.string() + ": not a regular file"));
}

TEST_CASE("numbers fit a type exactly or not at all", "[number][fault19]") {
  using gptq::io::number_as;
  CHECK(number_as<int>(2147483647.0) == 2147483647);
  CHECK(number_as<std::int64_t>(-0x1p63) == std::numeric_limits<std::int64_t>::min());
  CHECK(number_as<std::uint64_t>(std::nextafter(0x1p64, 0.0)).has_value());
  for (const double x : {0x1p63, 1e300, -1e300, 0.5, double(NAN), double(INFINITY)})
    CHECK_FALSE(number_as<std::int64_t>(x).has_value());
  CHECK_FALSE(number_as<int>(std::uint64_t(1) << 31).has_value());
  CHECK_FALSE(number_as<unsigned>(-1).has_value());
  CHECK_FALSE(number_as<float>(1e39).has_value());
  CHECK(std::isinf(*number_as<float>(double(INFINITY))));
  CHECK_FALSE(gptq::io::json_number_as<int>(nlohmann::json(true)).has_value());
}

TEST_CASE("NaN and Infinity are numbers in JSON, as Python writes it", "[json]") {
  const auto json = gptq::io::parse_json(
      R"({"a": NaN, "b": [Infinity, -Infinity, -1], "c": "NaN, \"Infinity", "NaN": 1})");
  CHECK(std::isnan(json["a"].get<double>()));
  CHECK(json["b"][0].get<double>() == INFINITY);
  CHECK(json["b"][1].get<double>() == -INFINITY);
  CHECK(json["b"][2] == -1);
  CHECK(json["c"] == "NaN, \"Infinity");
  CHECK(json["NaN"] == 1);
  CHECK_THROWS_AS(gptq::io::parse_json("{\"a\": NaNa}"), nlohmann::json::exception);
  CHECK_THROWS_AS(gptq::io::parse_json("{\"a\": nan}"), nlohmann::json::exception);
}
