// SPDX-License-Identifier: MIT

#include "../support/catch.hpp"
#include "../support/layer.hpp"

#include <limits>

using gptq::Index;
using gptq::Params;
using gptq::Quantizer;
using gptq::scheme::Int4;
using test::random_layer;
using Cpu = gptq::backend::Cpu;

TEST_CASE("what cannot be quantized is refused with the reason", "[quantizer]") {
  auto layer = random_layer({.out = 8, .in = 96, .tokens = 50});
  const auto hessian = test::calibrate<Cpu>(layer);
  const Quantizer<Int4, Cpu> quantizer({.group_size = 32});
  SECTION("parameters") {
    CHECK_THROWS_AS((Quantizer<Int4, Cpu>({.group_size = 0})), gptq::InvalidArgument);
  }
  SECTION("shapes that do not fit") {
    CHECK_THAT(error_of<gptq::InvalidArgument>(
                   [&] { quantizer.quantize(layer.w().middle_cols(0, 64), hessian, "q_proj"); }),
               ContainsSubstring("q_proj has 64 inputs, the Hessian 96"));
    CHECK_THROWS_AS(quantizer.quantize(layer.w().middle_rows(0, 0), hessian),
                    gptq::InvalidArgument);
  }
  SECTION("a group size that does not divide") {
    CHECK_THAT(error_of<gptq::InvalidArgument>([&] {
                 Quantizer<Int4, Cpu>({.group_size = 64}).quantize(layer.w(), hessian, "q_proj");
               }),
               ContainsSubstring("group_size = 64 does not divide in_features = 96 of q_proj"));
  }
  SECTION("weights that are not finite") {
    layer.weight_f[3 * 96 + 11] = std::numeric_limits<float>::infinity();
    CHECK_THAT(
        error_of<gptq::NumericalError>([&] { quantizer.quantize(layer.w(), hessian, "q_proj"); }),
        ContainsSubstring("q_proj(3, 11) = inf is not finite"));
  }
  SECTION("scales that do not fit fp16") {
    for (float& w : layer.weight_f) w *= 1e8f;
    CHECK_THAT(
        error_of<gptq::NumericalError>([&] { quantizer.quantize(layer.w(), hessian, "q_proj"); }),
        ContainsSubstring("scale of row 0, group 0 of q_proj") && ContainsSubstring("scale_type"));
    CHECK_NOTHROW((Quantizer<Int4, Cpu>({.group_size = 32, .scale_type = gptq::ScaleType::fp32})
                       .quantize(layer.w(), hessian)));
  }
}

TEST_CASE("a Hessian serves any number of weights and settings and is not changed", "[quantizer]") {
  const auto layer = random_layer({.out = 16, .in = 64, .tokens = 100});
  const auto hessian = test::calibrate<Cpu>(layer);
  const auto sum = [&] {
    std::vector<float> numbers(64 * 64);
    hessian.backend().download(hessian.sum(), gptq::MatrixView<float>(numbers.data(), 64, 64));
    return numbers;
  };
  const auto before = sum();
  const auto first = Quantizer<Int4, Cpu>({.group_size = 32}).quantize(layer.w(), hessian);
  const auto other =
      Quantizer<gptq::scheme::Int2, Cpu>({.group_size = 16, .order = gptq::Order::natural})
          .quantize(layer.w(), hessian);
  const auto again = Quantizer<Int4, Cpu>({.group_size = 32}).quantize(layer.w(), hessian);
  CHECK(test::code_differences(first, again) == 0);
  CHECK(sum() == before);
  CHECK(other.report().relative_error > first.report().relative_error);
}

TEST_CASE("one factor serves all weights that read the input", "[quantizer]") {
  const auto layer = random_layer({.out = 30, .in = 64, .tokens = 100});
  const auto hessian = test::calibrate<Cpu>(layer);
  const Quantizer<Int4, Cpu> quantizer({.group_size = 32});
  const auto factor = quantizer.factorize(hessian);
  const auto whole = quantizer.quantize(layer.w(), hessian);
  const auto top = quantizer.quantize(layer.w().middle_rows(0, 10), factor),
             rest = quantizer.quantize(layer.w().middle_rows(10, 20), factor);
  for (Index r = 0; r < 30; ++r)
    for (Index c = 0; c < 64; ++c)
      CHECK(whole.codes()(r, c) == (r < 10 ? top.codes()(r, c) : rest.codes()(r - 10, c)));
  CHECK_THAT(error_of<gptq::InvalidArgument>(
                 [&] { Quantizer<Int4, Cpu>({.group_size = 16}).quantize(layer.w(), factor); }),
             ContainsSubstring("groups of 32"));
}

TEST_CASE("weights of any layout and of 16 bits give the codes of the same numbers in float",
          "[quantizer]") {
  auto layer = random_layer({.out = 20, .in = 64, .tokens = 100});
  std::vector<gptq::bfloat16> bf16;
  for (float& w : layer.weight_f) {
    bf16.push_back(gptq::to_bfloat16(w));
    w = gptq::to_float(bf16.back());
  }
  const auto hessian = test::calibrate<Cpu>(layer);
  const Quantizer<Int4, Cpu> quantizer({.group_size = 32});
  const auto expected = quantizer.quantize(layer.w(), hessian);
  CHECK(
      test::code_differences(
          quantizer.quantize(gptq::MatrixView<const gptq::bfloat16>(bf16.data(), 20, 64), hessian),
          expected) == 0);
  std::vector<float> columns(20 * 64);
  for (Index r = 0; r < 20; ++r)
    for (Index c = 0; c < 64; ++c) columns[static_cast<std::size_t>(c * 20 + r)] = layer.w()(r, c);
  CHECK(
      test::code_differences(
          quantizer.quantize(gptq::MatrixView<const float>(columns.data(), 20, 64, 1, 20), hessian),
          expected) == 0);
}

TEST_CASE("what is stored is what was rounded", "[quantizer]") {
  const auto layer = random_layer({.out = 12, .in = 64, .tokens = 80});
  const auto q = test::quantize<Int4, Cpu>(layer, {.group_size = 16});
  const Eigen::MatrixXf restored = gptq::to_eigen(q);
  for (Index r = 0; r < 12; ++r)
    for (Index c = 0; c < 64; ++c) {
      const float scale = q.scales()(r, c / 16);
      CHECK(gptq::to_float(gptq::to_float16(scale)) == scale);
      CHECK(restored(r, c) == scale * (static_cast<float>(q.codes()(r, c)) - 8));
      CHECK(q(r, c) == restored(r, c));
    }
  std::vector<float> small(10);
  CHECK_THROWS_AS(q.dequantize({small.data(), 2, 5}), gptq::InvalidArgument);
}

TEST_CASE("a factor serves only what it was made for", "[quantizer]") {
  const auto layer = random_layer({.out = 12, .in = 64, .tokens = 80});
  const auto hessian = test::calibrate<Cpu>(layer);
  using gptq::Groups, gptq::Order;
  const auto factor = gptq::Quantizer<Int4, Cpu>({.group_size = 16}).factorize(hessian);
  const auto refused = [&](const gptq::Params& params) {
    const gptq::Quantizer<Int4, Cpu> quantizer(params);
    CHECK_THAT(
        error_of<gptq::InvalidArgument>([&] { (void)quantizer.quantize(layer.w(), factor); }),
        ContainsSubstring("another order or another kind of groups"));
  };
  refused({.group_size = 16, .groups = Groups::dynamic});
  refused({.group_size = 16, .order = Order::natural});
  refused({.group_size = 16, .order = Order::natural, .sparsity = {2, 4}});
  const auto rows = gptq::Quantizer<Int4, Cpu>({.group_size = -1}).factorize(hessian);
  CHECK(gptq::Quantizer<Int4, Cpu>({.group_size = -1, .groups = Groups::dynamic})
            .quantize(layer.w(), rows)
            .groups() == 1);
}

TEST_CASE("who has had enough is asked no more, and little more is done", "[quantizer]") {
  const auto layer = random_layer({.out = 4000, .in = 64, .tokens = 80});
  for (const int threads : {1, 2, 8}) {
    const auto hessian = test::calibrate(layer, Cpu(gptq::exec::Threads(threads)));
    const gptq::Quantizer<Int4, Cpu> quantizer({.group_size = 16});
    int asked = 0;
    CHECK_THROWS_AS(quantizer.quantize(layer.w(), hessian, "w",
                                       [&](std::string_view stage, double, double) {
                                         asked += stage == "quantize";
                                         return stage != "quantize";
                                       }),
                    gptq::Cancelled);
    CHECK(asked == 1);
  }
}

TEST_CASE("decibels, by hand", "[quantizer][report]") {
  gptq::Report report;
  CHECK(std::isnan(report.snr_db()));
  report.relative_error = 0.01;
  CHECK(report.snr_db() == Approx(20));
  report.relative_error = 0.5;
  CHECK(report.snr_db() == Approx(3.0103).epsilon(1e-5));
}

TEST_CASE("without the baseline the solve is the same and the relative errors are unknown",
          "[quantizer]") {
  const auto layer = random_layer({.out = 12, .in = 64, .tokens = 80});
  const auto with = test::quantize<Int4, Cpu>(layer, {.group_size = 16});
  const auto without =
      test::quantize<Int4, Cpu>(layer, {.group_size = 16, .measure_baseline = false});
  CHECK(test::code_differences(with, without) == 0);
  CHECK(without.report().loss == with.report().loss);
  CHECK(std::isnan(without.report().relative_error));
}
