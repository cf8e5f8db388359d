// SPDX-License-Identifier: MIT

#include <gptq/core/half.hpp>

#include "../support/catch.hpp"
#include "../support/subnormals.hpp"

#include <cmath>
#include <cstring>
#include <limits>
#include <optional>

using gptq::bfloat16;
using gptq::float16;

namespace {

/// The value of a half, from its definition.
double half_value(std::uint16_t bits) {
  const double sign = bits & 0x8000 ? -1 : 1;
  const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
  if (exponent == 31)
    return mantissa ? std::numeric_limits<double>::quiet_NaN()
                    : sign * std::numeric_limits<double>::infinity();
  return sign * (exponent ? std::ldexp(1024 + mantissa, exponent - 25) : std::ldexp(mantissa, -24));
}

}  // namespace

TEST_CASE("every half converts to the float of its value and back to itself", "[half]") {
  std::optional<test::SubnormalsAsZero> mode;
  SECTION("as usual") {}
  SECTION("with subnormal floats taken for zero") { mode.emplace(); }
  for (unsigned bits = 0; bits < 65536; ++bits) {
    const float16 half{static_cast<std::uint16_t>(bits)};
    const float x = gptq::to_float(half);
    const double value = half_value(half.bits);
    if (std::isnan(value)) {
      REQUIRE(std::isnan(x));
      REQUIRE(std::isnan(gptq::to_float(gptq::to_float16(x))));
    } else {
      REQUIRE(static_cast<double>(x) == value);
      REQUIRE(gptq::to_float16(x) == half);
    }
  }
}

TEST_CASE("floats between two halves go to the nearer one and ties to the even one", "[half]") {
  for (unsigned bits = 0; bits < 0x7bff; ++bits) {
    const double low = half_value(static_cast<std::uint16_t>(bits)),
                 high = half_value(static_cast<std::uint16_t>(bits + 1));
    const auto middle = static_cast<float>((low + high) / 2);
    REQUIRE(gptq::to_float16(middle).bits == (bits % 2 ? bits + 1 : bits));
    REQUIRE(gptq::to_float16(std::nextafter(middle, 1e9f)).bits == bits + 1);
    REQUIRE(gptq::to_float16(std::nextafter(middle, -1e9f)).bits == bits);
    REQUIRE(gptq::to_float16(-middle).bits == (0x8000u | (bits % 2 ? bits + 1 : bits)));
  }
}

TEST_CASE("rounding to a half without storing it gives the same float", "[half]") {
  const auto same = [](float x) {
    const float rounded = gptq::round_to_float16(x), stored = gptq::to_float(gptq::to_float16(x));
    if (std::isnan(stored)) REQUIRE(std::isnan(rounded));
    else REQUIRE(std::bit_cast<std::uint32_t>(rounded) == std::bit_cast<std::uint32_t>(stored));
  };
  std::optional<test::SubnormalsAsZero> mode;
  SECTION("as usual") {}
  SECTION("with subnormal floats taken for zero") { mode.emplace(); }
  // All exponents and signs, and the mantissas around each rounding decision.
  for (std::uint32_t high = 0; high < 0x80000u; ++high)
    for (const std::uint32_t low : {0x0u, 0x1u, 0xfffu, 0x1000u, 0x1001u, 0x1fffu})
      same(std::bit_cast<float>((high << 13) | low));
}

TEST_CASE("numbers from 65520 on are too large for a half and become infinite", "[half]") {
  CHECK(gptq::to_float(gptq::to_float16(65519.9f)) == 65504.0f);
  CHECK(std::isinf(gptq::to_float(gptq::to_float16(65520.0f))));
  CHECK(std::isinf(gptq::to_float(gptq::to_float16(1e30f))));
  CHECK(gptq::to_float(gptq::to_float16(-1e30f)) < 0);
}

TEST_CASE("bfloat16 keeps the upper half of a float, rounded to even", "[half]") {
  CHECK(gptq::to_float(gptq::to_bfloat16(1.0f)) == 1.0f);
  CHECK(gptq::to_bfloat16(1.0f + 0x1p-8f).bits == gptq::to_bfloat16(1.0f).bits);  // tie, even below
  CHECK(gptq::to_bfloat16(1.0f + 3 * 0x1p-8f).bits ==
        gptq::to_bfloat16(1.0f).bits + 2);  // tie, even above
  CHECK(gptq::to_bfloat16(std::nextafter(1.0f + 0x1p-8f, 2.0f)).bits ==
        gptq::to_bfloat16(1.0f).bits + 1);
  CHECK(std::isnan(gptq::to_float(gptq::to_bfloat16(std::numeric_limits<float>::quiet_NaN()))));
  for (unsigned bits = 0; bits < 65536; ++bits) {
    const bfloat16 b{static_cast<std::uint16_t>(bits)};
    const float x = gptq::to_float(b);
    if (!std::isnan(x)) REQUIRE(gptq::to_bfloat16(x) == b);
  }
}
