// SPDX-License-Identifier: MIT

#include <gptq/io/gguf.hpp>

#include "../support/catch.hpp"
#include "../support/files.hpp"
#include "../support/gguf_builder.hpp"

#include <algorithm>
#include <limits>
#include <random>

using gptq::FormatError;
using gptq::io::Gguf;
using test::bytes_of;
using test::GgufBuilder;
using test::TemporaryFolder;

namespace {

// The smallest file that ggml's own reader accepts with two tensors.
const char* const minimal =
    "4747554603000000020000000000000002000000000000001400000000000000"
    "67656e6572616c2e617263686974656374757265080000000500000000000000"
    "6c6c616d61110000000000000067656e6572616c2e616c69676e6d656e740400"
    "0000200000000100000000000000610100000002000000000000000000000000"
    "0000000000000001000000000000007702000000200000000000000001000000"
    "0000000002000000200000000000000000000000000000000000000000000000"
    "0000803f00000040000000000000000000000000000000000000000000000000"
    "0038f0e1d2c3b4a5968778695a4b3c2d1e0f0000000000000000000000000000";

std::string refused_gguf(const std::string& bytes) {
  const TemporaryFolder folder;
  gptq::io::write_file(folder / "bad.gguf", bytes);
  const auto text = error_of<FormatError>([&] { Gguf{folder / "bad.gguf"}; });
  CHECK_THAT(text, ContainsSubstring("bad.gguf: "));
  return text;
}

std::string replaced(std::string bytes, std::size_t at, const std::string& with) {
  return bytes.replace(at, with.size(), with);
}

}  // namespace

TEST_CASE("a minimal GGUF file is read", "[gguf]") {
  const TemporaryFolder folder;
  gptq::io::write_file(folder / "m.gguf", test::from_hex(minimal));
  const Gguf file(folder / "m.gguf");
  CHECK(file.get<std::string>("general.architecture") == "llama");
  CHECK(file.get<int>("general.alignment") == 32);
  std::vector<float> a(2), w(32);
  file.read("a", a);
  file.read("w", w);
  CHECK(a == std::vector<float>{1, 2});
  CHECK(w[0] == -4.0f);
  CHECK(file.tensors().at("w").shape == gptq::io::Shape{1, 32});
  CHECK_THAT(error_of<FormatError>([&] { file.get<int>("general.architecture"); }),
             ContainsSubstring("general.architecture") && ContainsSubstring("\"llama\""));
  CHECK_THAT(error_of<FormatError>([&] { file.get<int>("nothing"); }),
             ContainsSubstring("has no metadata key nothing"));
}

TEST_CASE("all kinds of metadata are read, in version 2 too", "[gguf]") {
  const TemporaryFolder folder;
  GgufBuilder builder;
  builder.text("s", "hello")
      .number<std::uint32_t>("u", 7)
      .number<float>("f", 0.5f)
      .flag("b", true)
      .texts("list", {"x", "yy", ""})
      .numbers<std::int32_t>("ids", {1, -2});
  builder.tensor("t", {3, 2}, {1, 2, 3, 4, 5, 6});
  for (const std::uint32_t version : {2u, 3u}) {
    gptq::io::write_file(folder / "m.gguf", builder.bytes(version));
    const Gguf file(folder / "m.gguf");
    CHECK(file.get<std::string>("s") == "hello");
    CHECK(file.get<int>("u") == 7);
    CHECK(file.get<float>("f") == 0.5f);
    CHECK(file.get<bool>("b"));
    CHECK(file.get<std::vector<std::string>>("list") == std::vector<std::string>{"x", "yy", ""});
    CHECK(file.get<std::vector<int>>("ids") == std::vector<int>{1, -2});
    CHECK(file.tensors().at("t").shape == gptq::io::Shape{3, 2});
  }
}

TEST_CASE("numbers of the wrong type are refused, never truncated", "[gguf][fault19]") {
  const TemporaryFolder folder;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  GgufBuilder builder;
  builder.number<double>("huge", 1e300)
      .number<double>("fraction", 1.9)
      .number<double>("whole", 12.0)
      .number<std::int32_t>("negative", -1)
      .number<std::uint64_t>("large", std::uint64_t(1) << 63)
      .flag("flag", true)
      .numbers<float>("types", {1.0f, 2.5f})
      .numbers<float>("nan", {nan})
      .numbers<double>("doubles", {1, 2, 1e300});
  gptq::io::write_file(folder / "m.gguf", builder.bytes());
  const Gguf file(folder / "m.gguf");
  CHECK(file.get<std::uint64_t>("whole") == 12);
  CHECK(file.get<double>("negative") == -1.0);
  CHECK(file.get<std::vector<double>>("doubles") == std::vector<double>{1, 2, 1e300});
  for (const char* key : {"huge", "fraction", "negative", "flag"})
    CHECK_THAT(
        error_of<FormatError>([&] { file.get<std::uint64_t>(key); }),
        ContainsSubstring("m.gguf: the metadata key " + std::string(key) + " has the value"));
  CHECK_THROWS_AS(file.get<std::int64_t>("large"), FormatError);
  CHECK_THROWS_AS(file.get<float>("huge"), FormatError);
  CHECK_THROWS_AS(file.get<std::vector<int>>("types"), FormatError);
  CHECK_THROWS_AS(file.get<std::vector<int>>("nan"), FormatError);
  CHECK_THROWS_AS(file.get<std::vector<int>>("doubles"), FormatError);
  CHECK_THROWS_AS(file.get<bool>("whole"), FormatError);
}

TEST_CASE("arrays of a GGUF file stay in the file", "[gguf][fault15]") {
  const TemporaryFolder folder;
  GgufBuilder builder;
  builder.numbers<float>("scores", std::vector<float>(100'000, 0.5f))
      .texts("tokens", std::vector<std::string>(50'000, "ab"));
  gptq::io::write_file(folder / "m.gguf", builder.bytes());
  const Gguf file(folder / "m.gguf");
  const auto inside = [&](const char* key) {
    const auto* array = file.metadata().at(key).array();
    return array != nullptr && array->bytes.data() >= file.file().bytes().data() &&
           array->bytes.data() + array->bytes.size() <=
               file.file().bytes().data() + file.file().bytes().size();
  };
  CHECK(inside("scores"));
  CHECK(inside("tokens"));
  CHECK(file.metadata().at("tokens").array()->count == 50'000);
  CHECK(file.get<std::vector<std::string>>("tokens").back() == "ab");
  const auto text = file.metadata().at("tokens").text();
  CHECK_THAT(text, ContainsSubstring("[\"ab\", \"ab\"") && ContainsSubstring("... 50000 in all]"));
  CHECK(text.size() < 200);
}

TEST_CASE("a tensor of every supported type is found and read", "[gguf]") {
  const TemporaryFolder folder;
  GgufBuilder builder;
  for (const auto& type : gptq::pack::ggml_types)
    builder.tensor(std::string(type.name), {3, 2 * type.elements},
                   static_cast<std::uint32_t>(type.type),
                   std::string(static_cast<std::size_t>(6 * type.bytes), '\x11'));
  gptq::io::write_file(folder / "m.gguf", builder.bytes());
  const Gguf file(folder / "m.gguf");
  for (const auto& type : gptq::pack::ggml_types) {
    INFO(type.name);
    std::vector<float> out(static_cast<std::size_t>(6 * type.elements)), block(out.size() / 6);
    file.read(std::string(type.name), out);
    gptq::pack::dequantize_ggml(
        type, file.at(std::string(type.name)).bytes.first(static_cast<std::size_t>(type.bytes)),
        block);
    CHECK(std::equal(block.begin(), block.end(), out.end() - type.elements));
  }
}

TEST_CASE("a tensor of an unsupported type may claim any shape and costs nothing",
          "[gguf][fault27]") {
  const TemporaryFolder folder;
  GgufBuilder builder;
  builder.tensor("huge", {std::int64_t(1) << 50, 32}, 41, std::string(32, '\0'));
  gptq::io::write_file(folder / "m.gguf", builder.bytes());
  const Gguf file(folder / "m.gguf");
  std::vector<float> out(4);
  CHECK_THAT(error_of<FormatError>([&] { file.read("huge", out); }),
             ContainsSubstring("tensor huge has the ggml type Q1_0, which is not supported") &&
                 ContainsSubstring("TQ1_0 and TQ2_0 are"));
  CHECK_THAT(error_of<FormatError>([&] { file.read("nothing", out); }),
             ContainsSubstring("has no tensor nothing"));
}

TEST_CASE("GGUF files that lie are refused with file, key or tensor, and value", "[gguf]") {
  const std::string good = test::from_hex(minimal);
  const std::uint64_t huge = std::uint64_t(1) << 60;
  CHECK_THAT(refused_gguf("GGUX" + good.substr(4)),
             ContainsSubstring("does not start with \"GGUF\""));
  CHECK_THAT(refused_gguf("version https://git-lfs.github.com/spec/v1\n"),
             ContainsSubstring("is a Git LFS pointer"));
  CHECK_THAT(refused_gguf(replaced(good, 4, bytes_of(1u))), ContainsSubstring("GGUF version 1"));
  CHECK_THAT(refused_gguf(replaced(good, 4, test::from_hex("00000003"))),
             ContainsSubstring("big-endian"));
  CHECK_THAT(refused_gguf(replaced(good, 8, bytes_of(huge))),
             ContainsSubstring("claims 1152921504606846976 tensors"));
  CHECK_THAT(refused_gguf(replaced(good, 16, bytes_of(huge))),
             ContainsSubstring("claims 1152921504606846976 metadata keys"));
  CHECK_THAT(refused_gguf(replaced(good, 24, bytes_of(huge))),
             ContainsSubstring("truncated at a metadata key: 1152921504606846976 bytes needed"));
  CHECK_THAT(refused_gguf(replaced(good, 0x34, bytes_of(99u))),
             ContainsSubstring("general.architecture has the unknown type 99"));
  CHECK_THAT(refused_gguf(replaced(good, 0x38, bytes_of(huge))),
             ContainsSubstring("truncated at general.architecture"));
  CHECK_THAT(refused_gguf(replaced(good, 0x62, bytes_of(33u))),
             ContainsSubstring("general.alignment = 33 is not a power of two"));
  CHECK_THAT(refused_gguf(replaced(good, 0x6f, bytes_of(9u))),
             ContainsSubstring("tensor a has 9 dimensions"));
  CHECK_THAT(refused_gguf(replaced(good, 0x73, bytes_of(huge))), ContainsSubstring("tensor a"));
  CHECK_THAT(
      refused_gguf(replaced(good, 0x7f, bytes_of(std::uint64_t(4096)))),
      ContainsSubstring("tensor a: its data should start at 0 but is said to start at 4096"));
  CHECK_THAT(refused_gguf(replaced(good, 0x94, bytes_of(std::uint64_t(33)))),
             ContainsSubstring("tensor w: its rows of 33 are not whole blocks of Q4_0"));
  CHECK_THAT(refused_gguf(replaced(good, 0x94, bytes_of(std::uint64_t(32000)))),
             ContainsSubstring("tensor w: 18000 bytes at offset 32 extend past"));
  CHECK_THAT(refused_gguf(replaced(good, 0x8f, "a")), ContainsSubstring("the tensor a twice"));
  GgufBuilder twice;
  twice.text("k", "1").text("k", "2");
  CHECK_THAT(refused_gguf(twice.bytes()), ContainsSubstring("the metadata key k twice"));
  GgufBuilder array;
  array.numbers<std::int32_t>("ids", {1, 2, 3});
  std::string bytes = array.bytes();
  const std::size_t at = bytes.find("ids") + 3 + 4 + 4;
  CHECK_THAT(refused_gguf(replaced(bytes, at, bytes_of(huge))),
             ContainsSubstring("ids claims 1152921504606846976 elements"));
}

TEST_CASE("a GGUF file truncated or damaged anywhere is refused or read, nothing worse",
          "[gguf][fuzz]") {
  const TemporaryFolder folder;
  const std::string good = test::from_hex(minimal);
  // The padding after the last tensor may be missing.
  for (std::size_t length = 0; length < 0xe0 + 18; ++length) {
    gptq::io::write_file(folder / "cut", good.substr(0, length));
    REQUIRE_THROWS_AS(Gguf(folder / "cut"), FormatError);
  }
  std::mt19937 random(3);
  for (int round = 0; round < 3000; ++round) {
    std::string bad = good;
    for (int i = 0; i < 1 + round % 3; ++i) bad[random() % 0xb0] = static_cast<char>(random());
    gptq::io::write_file(folder / "damaged", bad);
    try {
      const Gguf file(folder / "damaged");
      for (const auto& [name, t] : file.tensors())
        if (t.type) {
          std::vector<float> out(static_cast<std::size_t>(gptq::io::element_count(t.shape)));
          file.read(name, out);
        }
    } catch (const FormatError&) {}
  }
}
