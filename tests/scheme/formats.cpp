// SPDX-License-Identifier: MIT

// Schemes other than integers: codebooks, small floats, and the scales that are stored with them.

#include "../support/catch.hpp"
#include "../support/layer.hpp"

using gptq::Float4E2M1;
using gptq::Float8E4M3;
using gptq::Index;
using gptq::Params;
using gptq::ScaleType;
using gptq::scheme::Float4;
using gptq::scheme::Float8;
using gptq::scheme::Grid;
using gptq::scheme::Int4;
using gptq::scheme::NF4;
using gptq::scheme::ScaleRounding;
using Cpu = gptq::backend::Cpu;

TEST_CASE("small floats have the numbers of their formats", "[scheme]") {
  const float fp4[] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
  for (int i = 0; i < 8; ++i) CHECK(Float4E2M1::value(i) == fp4[i]);
  CHECK(Float8E4M3::max() == 448.0f);
  CHECK(Float8E4M3::value(1) == 0x1p-9f);  // the smallest
  CHECK(Float8E4M3::value(8) == 0x1p-6f);  // the smallest normal one
  CHECK(Float8E4M3::value(0x38) == 1.0f);
  CHECK(Float8E4M3::value(0x7d) == 416.0f);
}

TEMPLATE_TEST_CASE("rounding to a small float finds the nearest one, ties to even", "[scheme]",
                   Float4E2M1, Float8E4M3) {
  for (int i = 0; i <= TestType::max_ordinal; ++i) {
    const float x = TestType::value(i);
    CHECK(TestType::ordinal(x) == i);
    if (i == TestType::max_ordinal) break;
    const float middle = 0.5f * (x + TestType::value(i + 1));
    CHECK(TestType::ordinal(middle) == (i % 2 == 0 ? i : i + 1));
    CHECK(TestType::ordinal(std::nextafter(middle, 0.0f)) == i);
    CHECK(TestType::ordinal(std::nextafter(middle, 1e9f)) == i + 1);
  }
  CHECK(TestType::ordinal(1e30f) == TestType::max_ordinal);
}

TEMPLATE_TEST_CASE("every code of a table decodes to a number that encodes to it", "[scheme]", NF4,
                   Float4, Float8) {
  const TestType scheme;
  for (const float scale : {1.0f, 0.037f}) {
    const Grid<float> grid{scale, 0};
    float last = -1e30f;
    for (int code = 0; code <= TestType::max_code; ++code) {
      const float x = scheme.decode(static_cast<float>(code), grid);
      CHECK(x > last);
      CHECK(scheme.encode(x, grid) == static_cast<float>(code));
      last = x;
    }
    CHECK(scheme.encode(-1e9f, grid) == 0.0f);
    CHECK(scheme.encode(1e9f, grid) == static_cast<float>(TestType::max_code));
    CHECK(scheme.decode(scheme.encode(0.0f, grid), grid) == 0.0f);
  }
}

namespace {

template <int... Eighths>
struct Table {
  static constexpr std::array<float, sizeof...(Eighths)> values{(Eighths / 8.0f)...};
};
template <int... Eighths>
using Levels = gptq::scheme::Codebook<Table<Eighths...>>;

using Ternary = Levels<-8, 0, 8>;
using Lopsided = Levels<-2, 0, 1, 4, 24>;
using Upwards = Levels<0, 1, 3, 8>;
using Downwards = Levels<-16, -8, -4, -2>;
using Binary = Levels<-8, 8>;

}  // namespace

TEMPLATE_TEST_CASE(
    "any sorted table is a codebook: codes are those of the nearest level, found by a plain loop",
    "[scheme]", Ternary, Lopsided, Upwards, Downwards, Binary) {
  const TestType scheme;
  static_assert(gptq::scheme::Scheme<TestType>);
  constexpr int size = TestType::max_code + 1;
  for (const float scale : {0.5f, -0.5f})
    for (float x = -2; x < 2; x += 0.013f) {
      const Grid<float> grid{scale, 0};
      float best = 1e9f;
      for (int code = 0; code < size; ++code)
        best = std::min(best, std::abs(x - scheme.decode(static_cast<float>(code), grid)));
      CHECK(std::abs(x - scheme.decode(scheme.encode(x, grid), grid)) == Approx(best).margin(1e-6));
    }
  // A fitted grid reaches the largest magnitude of the weights.
  const auto grid = scheme.fit(-1.0f, 2.0f, ScaleRounding(ScaleType::fp32));
  const float ends[] = {scheme.decode(0.0f, grid), scheme.decode(size - 1.0f, grid)};
  CHECK(std::max(std::abs(ends[0]), std::abs(ends[1])) >= 2);
  // In the solver: with compensation the error is smaller than without.
  const auto layer = test::random_layer({.out = 24, .in = 64, .tokens = 300, .correlation = 0.8});
  const auto q = test::quantize<TestType, Cpu>(layer, {.group_size = 16});
  CHECK(q.report().relative_error < q.report().rtn_relative_error);
  CHECK(q.report().loss ==
        Approx(test::quadratic_form(test::error_of_weight(layer, q), test::hessian_of(layer)))
            .epsilon(1e-3));
}

TEST_CASE("a table on one side of zero serves weights on either side", "[scheme]") {
  auto layer = test::random_layer({.out = 8, .in = 64, .tokens = 300});
  for (Index r = 0; r < 8; ++r)
    for (Index c = 0; c < 64; ++c)
      layer.weight(r, c) = std::abs(layer.weight(r, c)) * (r % 2 ? 1 : -1);
  test::round_to_float(layer);
  const auto q = test::quantize<Upwards, Cpu>(layer, {.group_size = 32});
  CHECK(q.report().relative_error < 0.2);
  for (Index r = 0; r < 8; ++r) CHECK((q.scales()(r, 0) < 0) == (r % 2 == 0));
}

TEST_CASE("a code's pattern is what files store", "[scheme]") {
  CHECK(Float4::pattern(7) == 0x0);   // 0
  CHECK(Float4::pattern(14) == 0x7);  // 6
  CHECK(Float4::pattern(0) == 0xf);   // -6
  CHECK(Float4::pattern(5) == 0xa);   // -1
  CHECK(Float8::pattern(0) == 0xfe);
  CHECK(Float8::pattern(252) == 0x7e);
}

TEST_CASE("scales take the type that they are stored in", "[scheme]") {
  const auto rounded = [](float x, const ScaleRounding& r) {
    return gptq::scheme::round_scale(x, r);
  };
  CHECK(rounded(0.3f, ScaleType::power_of_two) == 0.25f);
  CHECK(rounded(0.4f, ScaleType::power_of_two) == 0.5f);
  CHECK(rounded(1.0f, ScaleType::power_of_two) == 1.0f);
  CHECK(rounded(0.3f, {ScaleType::fp8_e4m3, 1.0f}) == 0.3125f);
  CHECK(rounded(0.03f, {ScaleType::fp8_e4m3, 0.1f}) == 0.3125f * 0.1f);
  CHECK(rounded(1e-30f, {ScaleType::fp8_e4m3, 1.0f}) == 0x1p-9f);
  CHECK(rounded(-0.3f, ScaleType::fp16) == -rounded(0.3f, ScaleType::fp16));
  CHECK(rounded(1e-30f, ScaleType::fp16) == 0x1p-24f);
}

TEST_CASE("NVFP4 and MXFP4 get scales that their formats can store", "[scheme]") {
  const test::Layer layer = test::random_layer({.out = 20, .in = 128});
  Params nvfp4{.group_size = 16, .scale_type = ScaleType::fp8_e4m3};
  const auto nv = test::quantize<Float4, Cpu>(layer, nvfp4);
  CHECK(nv.scale_unit() < 1);
  Params mxfp4{.group_size = 32, .scale_type = ScaleType::power_of_two};
  const auto mx = test::quantize<Float4, Cpu>(layer, mxfp4);
  CHECK(mx.scale_unit() == 1.0f);
  for (Index r = 0; r < 20; ++r) {
    for (Index g = 0; g < nv.groups(); ++g) {
      const float share = nv.scales()(r, g) / nv.scale_unit();
      CHECK(share > 0);
      CHECK(Float8E4M3::value(Float8E4M3::ordinal(share)) == Approx(share).epsilon(1e-6));
    }
    for (Index g = 0; g < mx.groups(); ++g) {
      int exponent = 0;
      CHECK(std::frexp(mx.scales()(r, g), &exponent) == 0.5f);
    }
  }
  CHECK(nv.report().relative_error < nv.report().rtn_relative_error);
  CHECK(nv.report().relative_error < mx.report().relative_error);
}

TEST_CASE("normally distributed weights lose less with NF4 than with equal steps", "[scheme]") {
  const test::Layer layer = test::random_layer({.out = 64, .in = 128});
  const Params params{.group_size = 64, .range = gptq::Range::minmax};
  CHECK(test::quantize<NF4, Cpu>(layer, params).report().relative_error <
        test::quantize<Int4, Cpu>(layer, params).report().relative_error);
}
