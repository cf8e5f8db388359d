// SPDX-License-Identifier: MIT

// Weights for which the scale type has no scale: they never become zero or infinite silently.

#include "../support/catch.hpp"
#include "../support/layer.hpp"

#include <cmath>
#include <limits>

using gptq::Index;
using gptq::MatrixView;
using gptq::Params;
using gptq::Range;
using gptq::ScaleError;
using gptq::ScaleType;
using gptq::scheme::Affine;
using gptq::scheme::Asymmetric;
using gptq::scheme::Float4;
using gptq::scheme::Int4;
using test::Layer;
using Cpu = gptq::backend::Cpu;

namespace {

Layer scaled_layer(double factor) {
  Layer layer = test::random_layer({.out = 20, .in = 64, .tokens = 120});
  for (double& w : layer.weight.data) w *= factor;
  test::round_to_float(layer);
  return layer;
}

/// The error of each way to a quantized matrix, "" if there is none.
template <class S>
std::vector<std::string> said_by_all(const Layer& layer, const Params& params) {
  std::vector<std::string> said;
  const auto hear = [&](const auto& f) {
    try {
      f();
      said.emplace_back();
    } catch (const ScaleError& error) {
      said.emplace_back(error.what());
    }
  };
  hear([&] {
    gptq::scheme::require_scales_fit(gptq::exec::Threads(2), layer.w(), S{}, params.group_size,
                                     params.scale_type, "W");
  });
  hear([&] { gptq::baseline::round_to_nearest<S>(layer.w(), params, Cpu{}, S{}, "W"); });
  const auto hessian = test::calibrate<Cpu>(layer);
  hear([&] { gptq::Quantizer<S, Cpu>(params).quantize(layer.w(), hessian, "W"); });
  const std::vector<MatrixView<const float>> several{layer.w(), layer.w()};
  const std::vector<std::string> names{"W", "W"};
  hear([&] {
    const gptq::Quantizer<S, Cpu> quantizer(params);
    quantizer.quantize(std::span<const MatrixView<const float>>(several),
                       quantizer.factorize(hessian), std::span<const std::string>(names));
  });
  return said;
}

template <class S>
void require_all_say(const Layer& layer, const Params& params, const std::string& what) {
  for (const std::string& said : said_by_all<S>(layer, params)) {
    CHECK_THAT(said, ContainsSubstring(what));
    if (what.empty()) CHECK(said.empty());
    else CHECK_THAT(said, ContainsSubstring("of W, up to") && ContainsSubstring("scale_type"));
  }
}

}  // namespace

TEST_CASE("weights that vanish even with the smallest scale are an error, in every way to a matrix",
          "[scales][fault18]") {
  const auto check = [](double factor, ScaleType type, const std::string& what) {
    const Layer layer = scaled_layer(factor);
    INFO("factor " << factor << ", " << gptq::name(type));
    for (const Range range : {Range::weighted, Range::minmax, Range::mse}) {
      const Params params{.group_size = 32, .range = range, .scale_type = type};
      require_all_say<Int4>(layer, params, what);
      require_all_say<Asymmetric<2>>(layer, params, what);
      require_all_say<Affine<8>>(layer, params, what);
    }
    Params sparse{.group_size = 32, .order = gptq::Order::natural, .scale_type = type};
    sparse.sparsity = {2, 4};
    require_all_say<Int4>(layer, sparse, what);
    Params paper = gptq::parity::paper();
    paper.scale_type = type;
    require_all_say<Int4>(layer, paper, what);
  };
  check(1, ScaleType::fp16, "");
  check(1e-4, ScaleType::fp16, "");
  check(1e-8, ScaleType::fp16,
        "too small for scales of type fp16 (the smallest is 5.96046e-08) and would become zero");
  check(1e-20, ScaleType::fp16, "too small");
  check(1e-20, ScaleType::bf16, "");
  check(1e-38, ScaleType::bf16, "too small for scales of type bf16");
  check(1e-38, ScaleType::fp32, "too small for scales of type fp32");
  check(1e8, ScaleType::fp16, "too large for scales of type fp16");
  check(1e8, ScaleType::bf16, "");
}

TEST_CASE("a few small groups beside large ones are counted and are not an error",
          "[scales][fault18]") {
  Layer layer = scaled_layer(1);
  const auto shrink = [&](double factor) {
    for (Index c = 0; c < 32; ++c) layer.weight(7, c) *= factor;
    test::round_to_float(layer);
  };
  shrink(1e-9);
  const auto q = test::quantize<Int4, Cpu>(layer, {.group_size = 32});
  CHECK(q.report().vanished_groups == 1);
  CHECK(q.report().subnormal_scales == 1);
  CHECK(gptq::baseline::round_to_nearest<Int4>(layer.w(), {.group_size = 32}, Cpu{})
            .report()
            .vanished_groups == 1);
  CHECK_NOTHROW(gptq::scheme::require_scales_fit(gptq::exec::Serial{}, layer.w(), 4, true, 32,
                                                 ScaleType::fp16, "W"));
  // NVFP4 has a number per weight that scales multiply, and MXFP4 a wide range.
  Params nvfp4{.group_size = 16, .scale_type = ScaleType::fp8_e4m3};
  CHECK(test::quantize<Float4, Cpu>(layer, nvfp4).report().vanished_groups == 2);
  Params mxfp4{.group_size = 32, .scale_type = ScaleType::power_of_two};
  CHECK(test::quantize<Float4, Cpu>(layer, mxfp4).report().vanished_groups == 0);
  const Layer all = scaled_layer(1e-12);  // scale_unit adapts
  CHECK(test::quantize<Float4, Cpu>(all, nvfp4).report().vanished_groups == 0);
}

TEST_CASE("a weight that a loader would read as infinite is an error", "[scales][fault29]") {
  Layer layer = scaled_layer(1);
  double largest = 0;
  for (const double w : layer.weight.data) largest = std::max(largest, std::abs(w));
  for (double& w : layer.weight.data) w *= 3e38 / largest;
  test::round_to_float(layer);
  for (const Index group_size : {8, 32, -1})
    for (const Range range : {Range::minmax, Range::mse, Range::weighted}) {
      const Params params{.group_size = group_size, .range = range, .scale_type = ScaleType::fp32};
      const auto finite_or_refused = [&](auto scheme) {
        try {
          const auto q = test::quantize<decltype(scheme), Cpu>(layer, params);
          for (Index r = 0; r < q.rows(); ++r)
            for (Index c = 0; c < q.cols(); ++c) REQUIRE(std::isfinite(q(r, c)));
          CHECK(q.report().relative_error < 0.6);
        } catch (const ScaleError& error) {
          CHECK_THAT(error.what(), ContainsSubstring("would be infinite"));
        }
      };
      finite_or_refused(Asymmetric<2>{});
      finite_or_refused(Int4{});
      finite_or_refused(Asymmetric<8>{});
    }
}

TEST_CASE("the check before any work names the first element that is not finite",
          "[scales][fault18]") {
  Layer layer = scaled_layer(1);
  const auto check = [&](float bad, const std::string& says) {
    layer.weight_f[64 * 17 + 5] = bad;
    layer.weight_f[64 * 18 + 1] = NAN;
    for (const int bits : {2, 3, 4, 5, 6, 7, 8})
      for (const bool symmetric : {true, false})
        CHECK(error_of<gptq::NumericalError>([&] {
                gptq::scheme::require_scales_fit(gptq::exec::Threads(3), layer.w(), bits, symmetric,
                                                 -1, ScaleType::fp16, "q_proj");
              }) == says);
  };
  check(-NAN, "q_proj(17, 5) = nan is not finite");
  check(INFINITY, "q_proj(17, 5) = inf is not finite");
  check(-INFINITY, "q_proj(17, 5) = -inf is not finite");
  CHECK_THAT(error_of<gptq::InvalidArgument>([&] {
               gptq::scheme::require_scales_fit(gptq::exec::Serial{}, layer.w(), 9, true, -1,
                                                ScaleType::fp16, "q_proj");
             }),
             ContainsSubstring("bits = 9"));
}

TEST_CASE("the check before any work finds the same for all layouts and element types of a weight",
          "[scales][fault18]") {
  const Layer layer = scaled_layer(1e-8);
  const std::string expected = error_of<ScaleError>([&] {
    gptq::scheme::require_scales_fit(gptq::exec::Serial{}, layer.w(), Int4{}, 32, ScaleType::fp16,
                                     "W");
  });
  std::vector<float> turned(layer.weight_f.size());
  const MatrixView<float> columns(turned.data(), 20, 64, 1, 20);
  for (Index r = 0; r < 20; ++r)
    for (Index c = 0; c < 64; ++c) columns(r, c) = layer.w()(r, c);
  for (const int threads : {1, 2, 7})
    CHECK(error_of<ScaleError>([&] {
            gptq::scheme::require_scales_fit(gptq::exec::Threads(threads),
                                             MatrixView<const float>(columns), Int4{}, 32,
                                             ScaleType::fp16, "W");
          }) == expected);
  std::vector<gptq::bfloat16> halves;
  for (const float w : layer.weight_f) halves.push_back(gptq::to_bfloat16(w));
  CHECK_THROWS_AS(gptq::scheme::require_scales_fit(
                      gptq::exec::Serial{}, MatrixView<const gptq::bfloat16>(halves.data(), 20, 64),
                      Int4{}, 32, ScaleType::fp16, "W"),
                  ScaleError);
}
