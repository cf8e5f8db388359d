// SPDX-License-Identifier: MIT

#include <gptq/io/safetensors.hpp>
#include <gptq/io/safetensors_writer.hpp>

#include "../support/catch.hpp"
#include "../support/files.hpp"

#include <csignal>
#include <random>

#include <sys/resource.h>

using gptq::FormatError;
using gptq::io::DType;
using gptq::io::Safetensors;
using gptq::io::SafetensorsWriter;
using gptq::io::TensorPlan;
using test::bytes_of;
using test::TemporaryFolder;

namespace {

std::string file_of(std::string header, const std::string& data) {
  return bytes_of(std::uint64_t(header.size())) + header + data;
}

/// The message with which a file of these bytes is refused.
std::string refused_file(const std::string& bytes) {
  const TemporaryFolder folder;
  gptq::io::write_file(folder / "bad.safetensors", bytes);
  const auto text = error_of<FormatError>([&] { Safetensors{folder / "bad.safetensors"}; });
  CHECK_THAT(text, ContainsSubstring("bad.safetensors: "));
  return text;
}

std::vector<std::byte> some_bytes(std::size_t count, int seed) {
  std::mt19937 random(static_cast<unsigned>(seed));
  std::vector<std::byte> out(count);
  for (auto& b : out) b = static_cast<std::byte>(random());
  return out;
}

}  // namespace

TEST_CASE("the reference implementation's own test file is read", "[safetensors]") {
  const TemporaryFolder folder;
  std::string data;
  for (int i = 0; i < 6; ++i) data += bytes_of(static_cast<float>(i));
  gptq::io::write_file(
      folder / "a.safetensors",
      file_of(R"({"attn0":{"dtype":"F32","shape":[1,1,2,3],"data_offsets":[0,24]}}       )", data));
  const Safetensors file(folder / "a.safetensors");
  const auto& t = file.at("attn0");
  CHECK(t.dtype == DType::F32);
  CHECK(t.shape == gptq::io::Shape{1, 1, 2, 3});
  std::vector<float> numbers(6);
  gptq::io::to_floats(t.dtype, t.bytes, numbers);
  CHECK(numbers == std::vector<float>{0, 1, 2, 3, 4, 5});
  CHECK_THAT(error_of<FormatError>([&] { file.at("attn1"); }),
             ContainsSubstring("has no tensor attn1"));
}

TEST_CASE("files that lie are refused with file, tensor and value", "[safetensors]") {
  const std::string four(4, '\0');
  CHECK_THAT(refused_file(
                 file_of(R"({"test":{"dtype":"I32","shape":[2,2],"data_offsets":[0, 4]}} )", four)),
             ContainsSubstring("tensor test: I32 [2, 2] needs 16 bytes, but data_offsets span 4"));
  CHECK_THAT(refused_file("abc"), ContainsSubstring("truncated: 3 bytes"));
  CHECK_THAT(refused_file(bytes_of(std::uint64_t(1) << 40) + "{}"),
             ContainsSubstring("claims 1099511627776 bytes"));
  CHECK_THAT(refused_file(bytes_of(std::uint64_t(100)) + "{}"),
             ContainsSubstring("truncated: the header claims 100 bytes, but only 2 follow"));
  CHECK_THAT(refused_file(file_of(" {}", "")), ContainsSubstring("does not start with '{'"));
  CHECK_THAT(refused_file(file_of("{\"a\":", "")), ContainsSubstring("not valid JSON"));
  CHECK_THAT(refused_file(file_of("{\"\xff\":1}", "")), ContainsSubstring("not valid JSON"));
  CHECK_THAT(
      refused_file(file_of(R"({"a":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}})", four)),
      ContainsSubstring("tensor a: unknown dtype \"F99\""));
  CHECK_THAT(
      refused_file(file_of(R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", four)),
      ContainsSubstring("tensor a: -1 in shape is not a size"));
  CHECK_THAT(
      refused_file(file_of(
          R"({"a":{"dtype":"F32","shape":[4611686018427387904,8],"data_offsets":[0,4]}})", four)),
      ContainsSubstring("overflows"));
  CHECK_THAT(
      refused_file(file_of(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,8]}})", four)),
      ContainsSubstring("[0, 8] lie outside the file's 4 bytes"));
  CHECK_THAT(
      refused_file(file_of(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", four)),
      ContainsSubstring("lie outside"));
  CHECK_THAT(refused_file(
                 file_of(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", four + "x")),
             ContainsSubstring("the tensors end at 4, but the data at 5"));
  CHECK_THAT(
      refused_file(file_of(
          R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
          "abc")),
      ContainsSubstring("tensor b: its data starts at 1 and overlaps"));
  CHECK_THAT(
      refused_file(file_of(
          R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}})",
          "abc")),
      ContainsSubstring("tensor b: its data starts at 2, leaving a hole after 1"));
  CHECK_THAT(
      refused_file(file_of(
          R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
          "a")),
      ContainsSubstring("the key \"a\" twice"));
  CHECK_THAT(refused_file(file_of(R"({"__metadata__":{"format":1}})", "")),
             ContainsSubstring("__metadata__[\"format\"] is not a string"));
  CHECK_THAT(refused_file(file_of(R"({"a":7})", "")),
             ContainsSubstring("tensor a: the entry needs dtype, shape and data_offsets"));
  CHECK_THAT(
      refused_file(file_of(R"({"a":{"dtype":"F4","shape":[3],"data_offsets":[0,2]}})", "ab")),
      ContainsSubstring("F4 [3] needs 2 bytes"));
}

TEST_CASE("a tensor of very many dimensions is refused at once", "[safetensors][fault9]") {
  std::string shape = "1";
  for (int i = 1; i < 1'000'000; ++i) shape += ",1";
  const auto refused = [&](const std::string& dimensions) {
    return refused_file(file_of(
        "{\"a\":{\"dtype\":\"U8\",\"shape\":[" + dimensions + "],\"data_offsets\":[0,1]}}", "x"));
  };
  CHECK_THAT(refused(shape), ContainsSubstring("tensor a has more than 64 dimensions"));
  CHECK_THAT(refused(shape.substr(0, 2 * 100 - 1)),
             ContainsSubstring("tensor a has 100 dimensions; at most 64 are supported"));
  CHECK(gptq::io::element_count(gptq::io::Shape(1'000'000, 1)) == 1);
}

TEST_CASE("files of other kinds are recognized", "[safetensors]") {
  CHECK_THAT(refused_file("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7\n"),
             ContainsSubstring("is a Git LFS pointer") && ContainsSubstring("git lfs pull"));
  CHECK_THAT(refused_file("<!DOCTYPE html><html><body>Not found"), ContainsSubstring("a web page"));
  CHECK_THAT(refused_file("\x1f\x8b\x08 and so on"), ContainsSubstring("compressed with gzip"));
  CHECK_THAT(refused_file("PK\x03\x04 archive/data.pkl"), ContainsSubstring("a zip archive"));
  CHECK_THAT(refused_file("\x80\x02}q"), ContainsSubstring("a Python pickle"));
  CHECK_THAT(refused_file("GGUF and so on"), ContainsSubstring("a GGUF file"));
  CHECK_THAT(refused_file(""), ContainsSubstring("is empty"));
}

TEST_CASE("a file truncated or damaged anywhere is refused or read, nothing worse",
          "[safetensors][fuzz]") {
  const TemporaryFolder folder;
  {
    SafetensorsWriter writer(folder.path(),
                             {{"a", DType::F32, {2, 3}, {}}, {"b", DType::U8, {5}, {}}}, 1000);
    writer.write("a", some_bytes(24, 1));
    writer.write("b", some_bytes(5, 2));
    writer.commit();
  }
  const std::string good = gptq::io::read_file(folder / "model.safetensors");
  for (std::size_t length = 0; length < good.size(); ++length) {
    gptq::io::write_file(folder / "cut", good.substr(0, length));
    REQUIRE_THROWS_AS(Safetensors(folder / "cut"), FormatError);
  }
  std::mt19937 random(3);
  for (int round = 0; round < 2000; ++round) {
    std::string bad = good;
    for (int i = 0; i < 1 + round % 3; ++i)
      bad[random() % bad.size()] = static_cast<char>(random());
    gptq::io::write_file(folder / "damaged", bad);
    try {
      const Safetensors file(folder / "damaged");
      for (const auto& [name, t] : file.tensors()) REQUIRE(t.bytes.size() <= 64);
    } catch (const FormatError&) {}
  }
}

TEST_CASE(
    "the reader reads what the writer writes: aligned, with metadata, in shards that keep modules "
    "whole",
    "[safetensors]") {
  const TemporaryFolder folder;
  std::vector<TensorPlan> plan{
      {"m0.qweight", DType::I32, {5}, "m0"}, {"m0.scales", DType::F16, {3}, "m0"},
      {"norm", DType::BF16, {2}, {}},        {"m1.qweight", DType::I32, {7}, "m1"},
      {"m1.scales", DType::F16, {1}, "m1"},  {"empty", DType::F32, {0, 4}, {}}};
  const auto write_all = [&](std::uint64_t shard) {
    SafetensorsWriter writer(folder.path(), plan, shard);
    for (std::size_t i = plan.size(); i-- > 0;)
      writer.write(plan[i].name, some_bytes(plan[i].bytes(), static_cast<int>(i)));
    writer.commit();
    return writer.file_names();
  };
  SECTION("one file") {
    CHECK(write_all(1'000'000) == std::vector<std::string>{"model.safetensors"});
    const Safetensors file(folder / "model.safetensors");
    CHECK(file.metadata().at("format") == "pt");
    for (std::size_t i = 0; i < plan.size(); ++i) {
      const auto expected = some_bytes(plan[i].bytes(), static_cast<int>(i));
      const auto& t = file.at(plan[i].name);
      CHECK(std::vector<std::byte>(t.bytes.begin(), t.bytes.end()) == expected);
      if (!t.bytes.empty())
        CHECK(reinterpret_cast<std::uintptr_t>(t.bytes.data()) %
                  static_cast<std::size_t>(gptq::io::bits(t.dtype) / 8) ==
              0);
    }
    CHECK(folder.names().size() == 1);
  }
  SECTION("shards") {
    const auto files = write_all(32);
    REQUIRE(files.size() == 3);
    CHECK(files[0] == "model-00001-of-00002.safetensors");
    CHECK(files[2] == "model.safetensors.index.json");
    const auto index = nlohmann::json::parse(gptq::io::read_file(folder / files[2]));
    CHECK(index["metadata"]["total_size"] == 20 + 6 + 4 + 28 + 2);
    CHECK(index["weight_map"].size() == 6);
    CHECK(index["weight_map"]["m0.qweight"] == index["weight_map"]["m0.scales"]);
    CHECK(index["weight_map"]["m1.qweight"] == index["weight_map"]["m1.scales"]);
    CHECK(Safetensors(folder / files[0]).tensors().size() +
              Safetensors(folder / files[1]).tensors().size() ==
          6);
  }
}

TEST_CASE("an unfinished file leaves nothing behind", "[safetensors]") {
  const TemporaryFolder folder;
  {
    SafetensorsWriter writer(folder.path(),
                             {{"a", DType::F32, {2}, {}}, {"b", DType::F32, {2}, {}}}, 1000);
    writer.write("a", some_bytes(8, 1));
    CHECK(folder.names().size() == 1);
    CHECK_THAT(error_of<gptq::InvalidArgument>([&] { writer.commit(); }),
               ContainsSubstring("tensor b was declared but never written"));
    CHECK_THAT(error_of<gptq::InvalidArgument>([&] { writer.write("c", some_bytes(8, 1)); }),
               ContainsSubstring("tensor c was not declared"));
    CHECK_THAT(error_of<gptq::InvalidArgument>([&] { writer.write("b", some_bytes(7, 1)); }),
               ContainsSubstring("tensor b has 7 bytes, but 8 were declared"));
  }
  CHECK(folder.names().empty());
}

TEST_CASE("a full disk is found before any work", "[safetensors]") {
  const TemporaryFolder folder;
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{4096, before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  std::string text;
  try {
    SafetensorsWriter writer(folder.path(), {{"a", DType::F32, {100000}, {}}}, 1'000'000);
  } catch (const gptq::IoError& error) {
    text = error.what();
  }
  setrlimit(RLIMIT_FSIZE, &before);
  CHECK_THAT(text,
             ContainsSubstring("model.safetensors") && ContainsSubstring("cannot reserve 400"));
  CHECK(folder.names().empty());
}
