// SPDX-License-Identifier: MIT

#include <gptq/io/safetensors.hpp>
#include <gptq/pack/gguf_blocks.hpp>

#include "../support/catch.hpp"
#include "../support/files.hpp"

using gptq::pack::GgmlType;

namespace {

std::vector<float> dequantize(GgmlType type, const std::string& bytes) {
  const auto* info = gptq::pack::find_ggml_type(static_cast<std::uint32_t>(type));
  std::vector<float> out(bytes.size() / static_cast<std::size_t>(info->bytes) *
                         static_cast<std::size_t>(info->elements));
  gptq::pack::dequantize_ggml(*info, std::as_bytes(std::span(bytes.data(), bytes.size())), out);
  return out;
}

std::vector<float> dequantize(GgmlType type, const char* hex) {
  return dequantize(type, test::from_hex(hex));
}

}  // namespace

TEST_CASE("published blocks give the published numbers", "[gguf_blocks]") {
  const auto q4_0 = dequantize(GgmlType::Q4_0, "0038 f0e1d2c3b4a5968778695a4b3c2d1e0f");
  const auto q4_1 = dequantize(GgmlType::Q4_1, "0034 00be f0e1d2c3b4a5968778695a4b3c2d1e0f");
  const auto q5_0 = dequantize(GgmlType::Q5_0, "0034 f8fff8ff ddeeff00112233445566778899aabbcc");
  const auto q5_1 =
      dequantize(GgmlType::Q5_1, "0038 00c4 0000ffff 00112233445566778899aabbccddeeff");
  const auto q8_0 = dequantize(
      GgmlType::Q8_0, "0030 80889098a0a8b0b8c0c8d0d8e0e8f0f8 00081018202830384048505860687078");
  for (int j = 0; j < 32; ++j) {
    const auto at = static_cast<std::size_t>(j);
    const float code = static_cast<float>(j < 16 ? j : 31 - j);
    CHECK(q4_0[at] == 0.5f * (code - 8));
    CHECK(q4_1[at] == 0.25f * code - 1.5f);
    CHECK(q5_0[at] == 0.25f * static_cast<float>(j % 16 - 3));
    CHECK(q5_1[at] == 0.5f * static_cast<float>(j) - 4);
    CHECK(q8_0[at] == 0.125f * static_cast<float>(8 * j - 128));
  }
}

TEST_CASE("random blocks of every type give the numbers of gguf-py", "[gguf_blocks]") {
  const gptq::io::Safetensors file(test::data_folder() / "ggml_blocks.safetensors");
  int types = 0;
  for (const auto& info : gptq::pack::ggml_types) {
    if (info.elements == 1) continue;
    const std::string name(info.name);
    const auto raw = file.at(name + ".raw").bytes;
    std::vector<float> expected(file.at(name + ".values").bytes.size() / 4),
        values(expected.size());
    std::memcpy(expected.data(), file.at(name + ".values").bytes.data(), expected.size() * 4);
    gptq::pack::dequantize_ggml(info, raw, values);
    INFO(name);
    for (std::size_t i = 0; i < values.size(); ++i)
      REQUIRE(values[i] == Approx(expected[i]).epsilon(1e-6).margin(1e-6));
    ++types;
  }
  CHECK(types == 10);
}

TEST_CASE("unpacked numbers are read as they are", "[gguf_blocks]") {
  CHECK(dequantize(GgmlType::F32, "0000803f 000000c0") == std::vector<float>{1, -2});
  CHECK(dequantize(GgmlType::F16, "003c 00c0") == std::vector<float>{1, -2});
  CHECK(dequantize(GgmlType::BF16, "803f 00c0") == std::vector<float>{1, -2});
}

TEST_CASE("sizes that do not match are refused", "[gguf_blocks]") {
  const auto* info = gptq::pack::find_ggml_type(2);
  const std::string bytes(18, '\0');
  std::vector<float> out(31);
  CHECK_THROWS_AS(
      gptq::pack::dequantize_ggml(*info, std::as_bytes(std::span(bytes.data(), bytes.size())), out),
      gptq::FormatError);
  CHECK(gptq::pack::find_ggml_type(99) == nullptr);
}
