// SPDX-License-Identifier: MIT

#include <gptq/scheme/affine.hpp>

#include "../support/catch.hpp"

#include <cmath>
#include <limits>

using gptq::ScaleType;
using gptq::scheme::Affine;
using gptq::scheme::Asymmetric;
using gptq::scheme::Grid;

template <class S>
static void check_codes(const Grid<float>& grid) {
  const S scheme;
  for (int code = 0; code <= S::max_code; ++code) {
    const float value = scheme.decode(static_cast<float>(code), grid);
    CHECK(scheme.encode(value, grid) == static_cast<float>(code));
    CHECK(scheme.decode(scheme.encode(value, grid), grid) == value);
  }
}

TEMPLATE_TEST_CASE("every code decodes to a number that encodes to it", "[affine]", Affine<2>,
                   Affine<3>, Affine<4>, Affine<5>, Affine<6>, Affine<7>, Affine<8>, Asymmetric<2>,
                   Asymmetric<3>, Asymmetric<4>, Asymmetric<8>) {
  for (const float scale : {0.25f, -0.25f, 1.0f / 3, 6.1035156e-5f, 1000.0f})
    for (int zero = 0; zero <= TestType::max_code; zero += 3)
      check_codes<TestType>({scale, static_cast<float>(zero)});
}

TEST_CASE("encoding is total: infinities and NaN become codes", "[affine]") {
  const Affine<4> scheme;
  const Grid<float> grid{0.5f, 8};
  const float inf = std::numeric_limits<float>::infinity();
  CHECK(scheme.encode(inf, grid) == 15);
  CHECK(scheme.encode(-inf, grid) == 0);
  const float nan_code = scheme.encode(std::numeric_limits<float>::quiet_NaN(), grid);
  CHECK((nan_code >= 0 && nan_code <= 15));
  CHECK(scheme.encode(1e30f, grid) == 15);
}

TEST_CASE("fitted grids are GPTQ's", "[affine]") {
  const auto symmetric = Affine<4>{}.fit(-1.0f, 3.0f, ScaleType::fp32);
  CHECK(symmetric.scale == 2 * 3.0f / 15);
  CHECK(symmetric.zero == 8);
  const auto asymmetric = Asymmetric<4>{}.fit(-1.0f, 2.0f, ScaleType::fp32);
  CHECK(asymmetric.scale == 3.0f / 15);
  CHECK(asymmetric.zero == 5);
  SECTION("a range that does not reach below zero has its zero point at code 0") {
    CHECK(Asymmetric<4>{}.fit(0.0f, 2.0f, ScaleType::fp32).zero == 0);
    CHECK(Asymmetric<4>{}.fit(-2.0f, 0.0f, ScaleType::fp32).zero == 15);
  }
  SECTION("a symmetric grid of positive weights uses its whole range") {
    // The paper's code scales by the one-sided range there and clips half of it.
    const Affine<4> scheme;
    const auto grid = scheme.fit(0.0f, 3.0f, ScaleType::fp32);
    CHECK(scheme.decode(scheme.encode(3.0f, grid), grid) == Approx(3.0f * 14 / 15));
  }
}

TEST_CASE("scales are rounded to the type they are stored in before they are used", "[affine]") {
  const auto fp16 = Affine<4>{}.fit(-0.1f, 0.3f, ScaleType::fp16);
  CHECK(fp16.scale == gptq::to_float(gptq::to_float16(2 * 0.3f / 15)));
  const auto bf16 = Affine<4>{}.fit(-0.1f, 0.3f, ScaleType::bf16);
  CHECK(bf16.scale == gptq::to_float(gptq::to_bfloat16(2 * 0.3f / 15)));
  SECTION("a scale that would vanish becomes the smallest one") {
    CHECK(Affine<4>{}.fit(-1e-9f, 1e-9f, ScaleType::fp16).scale == 0x1p-24f);
    CHECK(gptq::scheme::round_scale(-1e-9f, ScaleType::fp16) == -0x1p-24f);
  }
}

TEST_CASE("a negative scale mirrors the grid: the extra level moves to the other side",
          "[affine]") {
  const Affine<4> scheme;
  const auto mirrored = scheme.variant(scheme.fit(-1.0f, 1.0f, ScaleType::fp32), 1);
  CHECK(mirrored.scale < 0);
  CHECK(scheme.decode(0.0f, mirrored) == -scheme.decode(0.0f, scheme.variant(mirrored, 1)));
  CHECK(scheme.decode(0.0f, mirrored) > 0);  // code 0 is the largest now
}
