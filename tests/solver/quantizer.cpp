// SPDX-License-Identifier: MIT

#include "../support/catch.hpp"
#include "../support/layer.hpp"
#include "../support/subnormals.hpp"

#include <algorithm>
#include <cmath>
#include <concepts>
#include <limits>
#include <stdexcept>
#include <string>

using gptq::Index;
using gptq::Params;
using gptq::Quantizer;
using gptq::scheme::Int4;
using test::random_layer;
using Cpu = gptq::backend::Cpu;

TEST_CASE("a weight that cannot be quantized is refused with the reason", "[quantizer]") {
  auto layer = random_layer({.out = 8, .in = 96, .tokens = 50});
  const auto hessian = test::calibrate<Cpu>(layer);
  const Quantizer<Int4, Cpu> quantizer({.group_size = 32});
  SECTION("parameters") {
    CHECK_THROWS_AS((Quantizer<Int4, Cpu>({.group_size = 0})), gptq::InvalidArgument);
    for (const double damping : {0.0, -1.0, 1e4, 1e38, std::nan("")})
      CHECK_THROWS_WITH((Quantizer<Int4, Cpu>({.damping = damping})),
                        ContainsSubstring("damping = "));
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
        ContainsSubstring("row 0, group 0 of q_proj, up to") && ContainsSubstring("scale_type"));
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

TEST_CASE("one factor serves all weights that read the same input", "[quantizer]") {
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

TEST_CASE("weights with a factor each get the codes that they get alone", "[quantizer]") {
  std::vector<test::Layer> layers;
  std::vector<gptq::Hessian<Cpu>> hessians;
  for (std::uint32_t seed = 1; seed <= 3; ++seed) {
    layers.push_back(test::random_layer({.out = 10, .in = 32, .tokens = 60, .seed = seed}));
    hessians.push_back(test::calibrate<Cpu>(layers.back()));
  }
  std::vector<const gptq::Hessian<Cpu>*> pointers;
  std::vector<gptq::MatrixView<const float>> weights;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    pointers.push_back(&hessians[i]);
    weights.push_back(layers[i].w());
  }
  for (const auto form : {gptq::Solver::left_looking, gptq::Solver::lazy_batch}) {
    const Params params{.group_size = 16, .solver = form};
    const Quantizer<Int4, Cpu> quantizer(params);
    const gptq::Factors<Cpu> factors(pointers, params);
    const auto all = quantizer.quantize(weights, factors);
    REQUIRE(all.size() == 3);
    for (std::size_t i = 0; i < all.size(); ++i) {
      CHECK(test::code_differences(all[i], quantizer.quantize(weights[i], hessians[i])) == 0);
      CHECK(all[i].report().apart == "the backend takes one weight at a time");
    }
    weights.pop_back();
    CHECK_THAT(error_of<gptq::InvalidArgument>([&] { quantizer.quantize(weights, factors); }),
               ContainsSubstring("2 weights and 3 factors"));
    weights.push_back(layers[2].w());
  }
}

TEST_CASE("weights of any layout, also in 16 bits, get the codes of the same numbers in float",
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

TEST_CASE("the stored weight is the one that was rounded", "[quantizer]") {
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

TEST_CASE("a factor is refused for settings that it was not made with", "[quantizer]") {
  const auto layer = random_layer({.out = 12, .in = 64, .tokens = 80});
  const auto hessian = test::calibrate<Cpu>(layer);
  using gptq::Groups, gptq::Order;
  const auto factor = gptq::Quantizer<Int4, Cpu>({.group_size = 16}).factorize(hessian);
  const auto refused = [&](const char* what, const gptq::Params& params) {
    const gptq::Quantizer<Int4, Cpu> quantizer(params);
    CHECK_THAT(
        error_of<gptq::InvalidArgument>([&] { (void)quantizer.quantize(layer.w(), factor); }),
        ContainsSubstring("the factor was made with another " + std::string(what)));
  };
  refused("kind of groups", {.group_size = 16, .groups = Groups::dynamic});
  refused("order", {.group_size = 16, .order = Order::natural});
  refused("order", {.group_size = 16, .order = Order::natural, .sparsity = {2, 4}});
  refused("damping", {.group_size = 16, .damping = 0.02});
  refused("damping_rule", {.group_size = 16, .damping_rule = gptq::DampingRule::own_diagonal});
  refused("factor_in_double", {.group_size = 16, .factor_in_double = true});
  refused("estimate_condition", {.group_size = 16, .estimate_condition = true});
  refused("parity.samples",
          {.group_size = 16, .parity = {.samples = gptq::SampleCount::twice_tokens}});
  refused("parity.dead_inputs",
          {.group_size = 16, .parity = {.dead_inputs = gptq::DeadInputs::unit}});
  const auto rows = gptq::Quantizer<Int4, Cpu>({.group_size = -1}).factorize(hessian);
  CHECK(gptq::Quantizer<Int4, Cpu>({.group_size = -1, .groups = Groups::dynamic})
            .quantize(layer.w(), rows)
            .groups() == 1);
}

TEST_CASE("a callback that has cancelled or thrown is not called again", "[quantizer]") {
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
    asked = 0;
    CHECK_THROWS_AS(quantizer.quantize(layer.w(), hessian, "w",
                                       [&](std::string_view stage, double, double) -> bool {
                                         asked += stage == "quantize";
                                         if (stage == "quantize") throw std::logic_error("mine");
                                         return true;
                                       }),
                    std::logic_error);
    CHECK(asked == 1);
  }
}

namespace {

/// A scheme with state: a width that only its creator knows.
struct Stateful {
  static constexpr int bits = 3, max_code = 7;
  explicit Stateful(float width) : width_(width) {}
  template <class T>
  GPTQ_HD T encode(T x, const gptq::scheme::Grid<T>& grid) const {
    return Inner{}.encode(x, grid);
  }
  template <class T>
  GPTQ_HD T decode(T code, const gptq::scheme::Grid<T>& grid) const {
    return Inner{}.decode(code, grid);
  }
  template <class T>
  GPTQ_HD gptq::scheme::Grid<T> fit(T low, T high,
                                    const gptq::scheme::ScaleRounding& rounding) const {
    return Inner{}.fit(low * T(width_), high * T(width_), rounding);
  }

 private:
  using Inner = gptq::scheme::Asymmetric<3>;
  float width_;
};
static_assert(gptq::scheme::Scheme<Stateful> && !std::default_initializable<Stateful>);

}  // namespace

TEST_CASE("a scheme with state keeps the state that it was passed with", "[quantizer]") {
  const auto layer = random_layer({.out = 12, .in = 64, .tokens = 80});
  const auto hessian = test::calibrate<Cpu>(layer);
  for (const auto type : {gptq::ScaleType::fp32, gptq::ScaleType::fp8_e4m3}) {
    const gptq::Params params{.group_size = 16, .range = gptq::Range::minmax, .scale_type = type};
    const auto narrow = Quantizer<Stateful, Cpu>(params, Stateful(1)).quantize(layer.w(), hessian),
               wide = Quantizer<Stateful, Cpu>(params, Stateful(2)).quantize(layer.w(), hessian);
    CHECK(wide.scales()(3, 2) == Approx(2 * narrow.scales()(3, 2)).epsilon(0.1));
    CHECK(wide.scale_unit() == (type == gptq::ScaleType::fp32 ? 1.0f : 2 * narrow.scale_unit()));
    CHECK(gptq::baseline::round_to_nearest<Stateful>(layer.w(), params, Cpu{}, Stateful(2))
              .scale_unit() == wide.scale_unit());
  }
}

TEST_CASE(
    "only weights beyond the ends of the grid count as clipped, whatever the sign of the scale",
    "[quantizer][report]") {
  // Each token activates one input: no compensation, so weights are rounded as they are.
  constexpr Index n = 8;
  gptq::Hessian<Cpu> hessian(n);
  std::vector<float> unit(n * n, 0.0f);
  for (Index i = 0; i < n; ++i) unit[std::size_t(i * n + i)] = 1;
  hessian.add(gptq::MatrixView<const float>(unit.data(), n, n));
  const auto clipped = [&](auto scheme, const std::vector<float>& row, gptq::Params params) {
    params.group_size = n;
    params.scale_type = gptq::ScaleType::fp32;
    const auto q = Quantizer<decltype(scheme), Cpu>(params, scheme)
                       .quantize(gptq::MatrixView<const float>(row.data(), 1, n), hessian);
    return q.report().clipped * n;
  };
  const gptq::Params minmax{.range = gptq::Range::minmax};
  // A grid that starts at 0 with codes 0 .. 7: small weights are inside.
  CHECK(clipped(gptq::scheme::Asymmetric<3>{}, {0.1f, 0.2f, 0.3f, 1, 2, 3, 5, 7}, minmax) == 0);
  CHECK(clipped(gptq::scheme::Asymmetric<3>{}, {-0.1f, -0.2f, -0.3f, -1, -2, -3, -5, -7}, minmax) ==
        0);
  // A symmetric 3-bit grid is -4s .. 3s with s = 2/7 of the largest weight, so 3.5 s is beyond.
  CHECK(clipped(gptq::scheme::Affine<3>{}, {7, 0, 0, 0, 0, 0, 0, 1}, minmax) == 1);
  CHECK(clipped(gptq::scheme::Affine<3>{}, {-7, 0, 0, 0, 0, 0, 0, 1}, minmax) == 0);
  // With a negative scale it is -3s .. 4s.
  gptq::Params turned;
  turned.order = gptq::Order::natural;
  CHECK(clipped(gptq::scheme::Affine<3>{}, {4, 3, 2, 1, 0, -1, -2, -3}, turned) == 0);
  CHECK(clipped(gptq::scheme::Affine<3>{}, {-4, -3, -2, -1, 0, 1, 2, 3}, turned) == 0);
}

TEST_CASE("every field of Params changes something, or is refused", "[quantizer]") {
  auto layer = random_layer({.out = 16, .in = 64, .tokens = 100, .outlier = 30});
  for (Index t = 0; t < 100; ++t) layer.activations(t, 9) = 0;  // a dead input
  for (Index c = 0; c < 64; ++c) layer.weight(3, c) = std::abs(layer.weight(3, c));
  layer.weight(5, 9) = 50;  // which counts where dead weights do
  test::round_to_float(layer);
  const auto hessian = test::calibrate<Cpu>(layer);
  const auto fingerprint = [&](const gptq::Params& params) {
    const auto q = Quantizer<gptq::scheme::Affine<3>, Cpu>(params).quantize(layer.w(), hessian);
    std::vector<double> all;
    for (Index r = 0; r < q.rows(); ++r)
      for (Index c = 0; c < q.cols(); ++c) all.push_back(static_cast<double>(q(r, c)));
    const auto& report = q.report();
    for (const double x : {report.damped_loss, report.relative_error, report.damping.condition})
      all.push_back(std::isnan(x) ? -1 : x);
    return all;
  };
  const auto changes = [&](const char* field, const gptq::Params& base, const auto& change) {
    INFO(field);
    gptq::Params changed = base;
    change(changed);
    CHECK(fingerprint(base) != fingerprint(changed));
  };
  using P = gptq::Params;
  const P base{.group_size = 16};
  P lazy = base;
  lazy.solver = gptq::Solver::lazy_batch;
  P rows = base;
  rows.group_size = -1;
  rows.groups = gptq::Groups::dynamic;
  changes("group_size", base, [](P& p) { p.group_size = 32; });
  changes("order", base, [](P& p) { p.order = gptq::Order::natural; });
  changes("groups", base, [](P& p) { p.groups = gptq::Groups::dynamic; });
  changes("damping", base, [](P& p) { p.damping = 0.1; });
  changes("damping_rule", base, [](P& p) { p.damping_rule = gptq::DampingRule::own_diagonal; });
  changes("factor_in_double", base, [](P& p) { p.factor_in_double = true; });
  changes("estimate_condition", base, [](P& p) { p.estimate_condition = true; });
  changes("range", base, [](P& p) { p.range = gptq::Range::minmax; });
  changes("signed_scales", base, [](P& p) { p.signed_scales = false; });
  changes("scale_type", base, [](P& p) { p.scale_type = gptq::ScaleType::bf16; });
  changes("solver", base, [](P& p) { p.solver = gptq::Solver::lazy_batch; });
  changes("block_size", base, [](P& p) { p.block_size = 16; });  // by rounding, in the losses
  changes("measure", base, [](P& p) { p.measure = gptq::Measure::none; });
  changes("parity.samples", base, [](P& p) { p.parity.samples = gptq::SampleCount::twice_tokens; });
  changes("parity.dead_inputs", base, [](P& p) { p.parity.dead_inputs = gptq::DeadInputs::unit; });
  changes("parity.one_sided_range", base, [](P& p) {
    p.range = gptq::Range::minmax;
    p.signed_scales = false;
    p.parity.one_sided_range = true;
  });
  changes("parity.narrow_range", base, [](P& p) { p.parity.narrow_range = true; });
  changes("parity.dead_weights_in_range", rows,
          [](P& p) { p.parity.dead_weights_in_range = true; });
  changes("parity.zero_dead_weights", base, [](P& p) { p.parity.zero_dead_weights = true; });
  P stale = lazy;
  stale.groups = gptq::Groups::dynamic;
  changes("parity.stale_group_scales", stale, [](P& p) { p.parity.stale_group_scales = true; });
  // parity.round_with_zero changes ties: parity.cpp
  changes("sparsity", P{.group_size = 16, .order = gptq::Order::natural}, [](P& p) {
    p.sparsity = {2, 4};
  });
  changes("allow_tail_group", P{.group_size = 48, .allow_tail_group = true},
          [](P& p) { p.group_size = 64; });
  CHECK_THROWS_AS(fingerprint({.group_size = 48}), gptq::InvalidArgument);
}

TEST_CASE("tokens that come twice leave the errors as they are, and a weight too", "[quantizer]") {
  const auto layer = random_layer({.out = 16, .in = 64, .tokens = 100});
  auto once = test::calibrate<Cpu>(layer), twice = test::calibrate<Cpu>(layer);
  twice.add(layer.x());
  const Quantizer<Int4, Cpu> quantizer({.group_size = 16});
  const std::vector<float> before = layer.weight_f;
  const auto a = quantizer.quantize(layer.w(), once), b = quantizer.quantize(layer.w(), twice);
  CHECK(b.report().loss == Approx(a.report().loss).epsilon(1e-4));
  CHECK(b.report().damped_loss == Approx(a.report().damped_loss).epsilon(1e-4));
  CHECK(b.report().relative_error == Approx(a.report().relative_error).epsilon(1e-4));
  CHECK(layer.weight_f == before);
  CHECK(test::code_differences(a, quantizer.quantize(layer.w(), once)) == 0);
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
      test::quantize<Int4, Cpu>(layer, {.group_size = 16, .measure = gptq::Measure::none});
  CHECK(test::code_differences(with, without) == 0);
  CHECK(without.report().loss == with.report().loss);
  CHECK(std::isnan(without.report().relative_error));
}

TEST_CASE("a process that takes subnormal numbers for zero gets the same", "[quantizer]") {
  test::Layer layer = test::random_layer({.out = 16, .in = 64, .tokens = 128});
  for (Index r = 0; r < 16; ++r)  // down to scales that are subnormal halves
    for (Index c = 0; c < 64; ++c) layer.weight(r, c) *= std::pow(0.5, r);
  test::round_to_float(layer);
  const auto quantize = [&] {
    const gptq::backend::Cpu backend(gptq::exec::Threads(2));
    gptq::Hessian hessian(64, backend);
    hessian.add(layer.x());
    gptq::Params params;
    params.group_size = 16;
    params.damping = 0.01;
    return gptq::Quantizer<gptq::scheme::Int4, gptq::backend::Cpu>(params).quantize(layer.w(),
                                                                                    hessian);
  };
  const auto usual = quantize();
  CHECK(usual.report().subnormal_scales > 0);
  const test::SubnormalsAsZero mode;
  const auto other = quantize();
  for (Index r = 0; r < 16; ++r) {
    for (Index c = 0; c < 64; ++c) REQUIRE(usual.codes()(r, c) == other.codes()(r, c));
    for (Index g = 0; g < usual.groups(); ++g)
      REQUIRE(usual.scales()(r, g) == other.scales()(r, g));
  }
  CHECK(usual.report().loss == other.report().loss);
  CHECK(usual.report().relative_error == other.report().relative_error);
}

TEST_CASE("dequantized matrices have the weights that one asks for one by one", "[quantizer]") {
  for (const auto& [rows, cols, group] : {std::tuple<Index, Index, Index>{1, 1, 1},
                                          {64, 64, 64},
                                          {65, 130, 48},
                                          {130, 63, 5},
                                          {200, 256, 128}}) {
    gptq::QuantizedMatrix<Int4> q(rows, cols, group);
    for (Index r = 0; r < rows; ++r) {
      for (Index c = 0; c < cols; ++c)
        q.codes()(r, c) = static_cast<std::uint8_t>((7 * r + c) % 16);
      for (Index g = 0; g < q.groups(); ++g) {
        q.scales()(r, g) = 0.25f * static_cast<float>(1 + (r + g) % 5);
        q.zeros()(r, g) = static_cast<float>((r + 3 * g) % 16);
      }
    }
    if (cols > 8)
      std::swap(q.group_index()[3], q.group_index()[static_cast<std::size_t>(cols - 1)]);
    // Row by row, column by column, and with room between.
    for (const auto& [row_stride, col_stride] :
         {std::pair<Index, Index>{cols, 1}, {1, rows}, {2 * cols + 1, 2}}) {
      std::vector<float> numbers(static_cast<std::size_t>(2 * (rows + 1) * (2 * cols + 1)), -77.0f);
      const gptq::MatrixView<float> out(numbers.data(), rows, cols, row_stride, col_stride);
      const auto check = [&] {
        Index wrong = 0;
        for (Index r = 0; r < rows; ++r)
          for (Index c = 0; c < cols; ++c) wrong += out(r, c) != q(r, c);
        CHECK(wrong == 0);
        CHECK(std::count(numbers.begin(), numbers.end(), -77.0f) ==
              static_cast<Index>(numbers.size()) - rows * cols);
      };
      q.dequantize(out);
      check();
      std::fill(numbers.begin(), numbers.end(), -77.0f);
      q.dequantize(out, Cpu(gptq::exec::Threads(3)));
      check();
    }
  }
  const gptq::QuantizedMatrix<Int4> q(4, 32, 32);
  std::vector<float> few(64);
  CHECK_THROWS_AS(q.dequantize({few.data(), 2, 32}), gptq::InvalidArgument);
  CHECK_THROWS_AS(q.dequantize({few.data(), 2, 32}, Cpu()), gptq::InvalidArgument);
}
