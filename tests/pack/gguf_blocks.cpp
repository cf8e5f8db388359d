// SPDX-License-Identifier: MIT

#include <gptq/pack/gguf_blocks.hpp>

#include "../support/catch.hpp"
#include "../support/files.hpp"
#include "../support/tensors.hpp"

#include <cmath>

using gptq::pack::GgmlType;

namespace {

std::vector<float> dequantize(GgmlType type, const std::string& bytes) {
  const auto* info = gptq::pack::find_ggml_type(static_cast<std::uint32_t>(type));
  std::vector<float> out(bytes.size() / static_cast<std::size_t>(info->bytes) *
                         static_cast<std::size_t>(info->elements));
  gptq::pack::dequantize_ggml(*info, std::as_bytes(std::span(bytes.data(), bytes.size())), out);
  return out;
}

std::vector<float> from_hex(GgmlType type, std::string_view hex) {
  return dequantize(type, test::from_hex(hex));
}

}  // namespace

TEST_CASE("published blocks give the published numbers", "[gguf_blocks]") {
  const auto q4_0 = from_hex(GgmlType::Q4_0, "0038 f0e1d2c3b4a5968778695a4b3c2d1e0f");
  const auto q4_1 = from_hex(GgmlType::Q4_1, "0034 00be f0e1d2c3b4a5968778695a4b3c2d1e0f");
  const auto q5_0 = from_hex(GgmlType::Q5_0, "0034 f8fff8ff ddeeff00112233445566778899aabbcc");
  const auto q5_1 = from_hex(GgmlType::Q5_1, "0038 00c4 0000ffff 00112233445566778899aabbccddeeff");
  const auto q8_0 = from_hex(
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
    INFO(name);
    const auto expected = test::numbers<float>(file, name + ".values");
    std::vector<float> values(expected.size());
    gptq::pack::dequantize_ggml(info, file.at(name + ".raw").bytes, values);
    // A compiler may fuse the product and the sum of types with offsets.
    const bool offset = name == "Q4_1" || name == "Q5_1" || name.ends_with("_K");
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (offset) REQUIRE(values[i] == Approx(expected[i]).epsilon(1e-6).margin(1e-6));
      else REQUIRE(values[i] == expected[i]);
    }
    ++types;
  }
  CHECK(types == 24);
}

TEST_CASE("the grids are those of gguf-py", "[gguf_blocks]") {
  const gptq::io::Safetensors file(test::data_folder() / "ggml_blocks.safetensors");
  const auto check = [&](const char* name, const auto& grid, auto&& decode) {
    const auto expected = test::numbers<std::int8_t>(file, std::string(name) + ".grid");
    const std::size_t entries = std::size(grid), width = expected.size() / entries;
    REQUIRE(expected.size() == entries * width);
    std::vector<float> numbers(width);
    std::size_t different = 0;
    for (std::size_t i = 0; i < entries; ++i) {
      decode(grid[i], numbers.data());
      for (std::size_t j = 0; j < width; ++j) different += numbers[j] != expected[width * i + j];
    }
    INFO(name);
    CHECK(different == 0);
  };
  using namespace gptq::pack::detail;
  const auto two_bits = [](std::uint32_t entry, float* out) {
    signed_entry<2, 8>(entry, iq2_magnitudes, 0, 1, out);
  };
  check("IQ2_XXS", iq2_xxs_grid, two_bits);
  check("IQ2_XS", iq2_xs_grid, two_bits);
  check("IQ2_S", iq2_s_grid, two_bits);
  check("IQ3_XXS", iq3_xxs_grid, [](std::uint32_t entry, float* out) {
    signed_entry<4, 4>(entry, iq3_xxs_magnitudes, 0, 1, out);
  });
  check("IQ3_S", iq3_s_grid, [](std::uint32_t entry, float* out) {
    signed_entry<4, 4>(entry, iq3_s_magnitudes, 0, 1, out);
  });
  check("IQ1_S", iq1_grid, [](std::uint32_t entry, float* out) {
    iq1_entry(entry, false, 1, out);
    for (int j = 0; j < 8; ++j) out[j] -= 0.125f;
  });
}

TEST_CASE("a scale of IQ1_M in four parts is found if it is not finite", "[gguf_blocks]") {
  const auto* type = gptq::pack::find_ggml_type(static_cast<std::uint32_t>(GgmlType::IQ1_M));
  const auto first_bad = [&](const char* scales) {
    const std::string bytes = std::string(56 + 48, '\x11') + test::from_hex(scales);
    return gptq::pack::find_non_finite_block(*type,
                                             std::as_bytes(std::span(bytes.data(), bytes.size())));
  };
  CHECK(first_bad("ff0f ff0f ff0f ff7f") == -1);  // d = 0x7000
  CHECK(first_bad("ffff ffff ffbf ff7f") == -1);  // 0x7bff, the largest half
  CHECK(first_bad("0000 0000 00c0 0070") == 1);   // 0x7c00, infinity
  CHECK(first_bad("0010 0000 00c0 00f0") == 1);   // a NaN
}

TEST_CASE("scales of MXFP4 are powers of two, the last is NaN", "[gguf_blocks]") {
  const auto* type = gptq::pack::find_ggml_type(static_cast<std::uint32_t>(GgmlType::MXFP4));
  const auto block = [](int scale, int codes) {
    return static_cast<char>(scale) + std::string(16, static_cast<char>(codes));
  };
  const auto first_bad = [&](const std::string& bytes) {
    return gptq::pack::find_non_finite_block(*type,
                                             std::as_bytes(std::span(bytes.data(), bytes.size())));
  };
  const auto value = [&](int scale, int codes) {
    return dequantize(GgmlType::MXFP4, block(scale, codes))[0];
  };
  CHECK(value(0, 2) == 0x1p-127f);
  CHECK(value(1, 2) == 0x1p-126f);
  CHECK(value(127, 0xf) == -6);
  CHECK(value(252, 7) == 0x1.8p127f);
  CHECK(std::isnan(value(255, 0)));
  CHECK(first_bad(block(127, 0x77) + block(252, 0xff)) == -1);
  CHECK(first_bad(block(127, 0x77) + block(253, 0x75)) == 1);  // 6 · 2¹²⁶
  CHECK(first_bad(block(253, 0x55) + block(254, 0x33)) == -1);
  CHECK(first_bad(block(254, 0x33) + block(254, 0xc3)) == 1);
  CHECK(first_bad(block(127, 0x77) + block(255, 0x00)) == 1);
}

TEST_CASE("codes of Q2_0 stand for -1 to 2, four a byte", "[gguf_blocks]") {
  const auto values = from_hex(GgmlType::Q2_0, "0038 e4" + std::string(28, '0') + "1b");
  for (std::size_t j = 0; j < 4; ++j) {
    CHECK(values[j] == 0.5f * (static_cast<float>(j) - 1));
    CHECK(values[60 + j] == 0.5f * (2 - static_cast<float>(j)));
  }
  for (std::size_t j = 4; j < 60; ++j) CHECK(values[j] == -0.5f);
}

TEST_CASE("unpacked numbers are read as they are", "[gguf_blocks]") {
  CHECK(from_hex(GgmlType::F32, "0000803f 000000c0") == std::vector<float>{1, -2});
  CHECK(from_hex(GgmlType::F16, "003c 00c0") == std::vector<float>{1, -2});
  CHECK(from_hex(GgmlType::BF16, "803f 00c0") == std::vector<float>{1, -2});
}

TEST_CASE("sizes that do not match are refused", "[gguf_blocks]") {
  for (const auto& info : gptq::pack::ggml_types) {
    const std::vector<std::byte> bytes(static_cast<std::size_t>(2 * info.bytes));
    std::vector<float> out(static_cast<std::size_t>(2 * info.elements + 1));
    const auto refused = [&](std::size_t taken, std::size_t count) {
      return error_of<gptq::FormatError>([&] {
        gptq::pack::dequantize_ggml(info, std::span(bytes).first(taken),
                                    std::span(out).first(count));
      });
    };
    CHECK_THAT(refused(bytes.size(), out.size()),
               ContainsSubstring(" bytes of " + std::string(info.name) + " for "));
    CHECK_THAT(refused(bytes.size(), out.size() - 2), ContainsSubstring(" elements"));
    CHECK_THAT(refused(bytes.size() - 1, out.size() - 1), ContainsSubstring(" elements"));
  }
  CHECK(gptq::pack::find_ggml_type(99) == nullptr);
}

TEST_CASE("types have the names that ggml gives their numbers", "[gguf_blocks]") {
  for (const auto& info : gptq::pack::ggml_types)
    CHECK(gptq::pack::ggml_type_name(static_cast<std::uint32_t>(info.type)) == info.name);
}
