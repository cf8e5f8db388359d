// SPDX-License-Identifier: MIT

// The quirks of other implementations, each switched on and off.

#include "../support/catch.hpp"
#include "../support/layer.hpp"
#include "../support/paper.hpp"

#include <numeric>

using gptq::DeadInputs;
using gptq::Groups;
using gptq::Index;
using gptq::Order;
using gptq::Params;
using gptq::Range;
using gptq::SampleCount;
using gptq::scheme::Asymmetric;
using gptq::scheme::Int4;
using gptq::scheme::Int8;
using gptq::scheme::NF4;
using test::Layer;
using test::quantize;
using test::random_layer;
using Cpu = gptq::backend::Cpu;
using Reference = gptq::backend::Reference;

TEST_CASE("parity: stale scales depend on the block size, fresh ones do not", "[parity]") {
  const Layer layer = random_layer({.out = 24, .in = 128});
  const auto with = [&](Index block, bool stale) {
    Params params = gptq::parity::paper(32);
    params.block_size = block;
    params.parity.stale_group_scales = stale;
    return quantize<Int4, Reference>(layer, params);
  };
  CHECK(test::code_differences(with(32, true), with(128, true)) > 0);
  CHECK(test::code_differences(with(32, false), with(128, false)) == 0);
  CHECK(test::code_differences(with(24, false), with(128, false)) == 0);
  CHECK(test::code_differences(with(16, true), with(32, false)) == 0);  // blocks inside groups
  Params left;
  left.parity.stale_group_scales = true;
  CHECK_THROWS_WITH((gptq::Quantizer<Int4, Cpu>(left)), ContainsSubstring("stale_group_scales"));
}

TEST_CASE("parity: a group without negative weights uses all codes unless asked otherwise",
          "[parity]") {
  Layer layer = random_layer({.out = 6, .in = 32});
  for (double& w : layer.weight.data) w = std::abs(w);
  test::round_to_float(layer);
  Params params{.group_size = -1,
                .order = Order::natural,
                .range = Range::minmax,
                .scale_type = gptq::ScaleType::fp32};
  const auto full = quantize<Int4, Cpu>(layer, params);
  params.parity.one_sided_range = true;
  const auto half = quantize<Int4, Cpu>(layer, params);
  for (Index r = 0; r < 6; ++r) CHECK(full.scales()(r, 0) == 2 * half.scales()(r, 0));
  CHECK(full.report().clipped < 0.1);
  CHECK(half.report().clipped > 0.3);
  CHECK(full.report().loss < half.report().loss);
}

TEST_CASE("parity: rounding after adding the zero point differs only at ties", "[parity]") {
  gptq::Parity parity;
  parity.round_with_zero = true;
  const gptq::scheme::Grid<float> odd{1.0f, 3.0f}, even{1.0f, 4.0f};
  const Asymmetric<4> outside, inside = outside.with(parity);
  CHECK(outside.encode(0.5f, odd) == 3.0f);
  CHECK(inside.encode(0.5f, odd) == 4.0f);
  CHECK(inside.encode(0.5f, even) == outside.encode(0.5f, even));
  for (float x = -2.95f; x < 11; x += 0.1f) CHECK(inside.encode(x, odd) == outside.encode(x, odd));
  Params params;
  params.parity = parity;
  CHECK_THROWS_WITH((gptq::Quantizer<NF4, Cpu>(params)), ContainsSubstring("affine"));
}

TEST_CASE("parity: a dead input's position and diagonal are those of each implementation",
          "[parity]") {
  Layer layer = random_layer({.out = 4, .in = 24});
  for (Index t = 0; t < layer.activations.rows; ++t) layer.activations(t, 5) = 0;
  for (double& x : layer.activations.data) x *= 1e-3;
  test::round_to_float(layer);
  double sum = 0;
  const test::Matrix h = test::hessian_of(layer);
  for (Index i = 0; i < 24; ++i) sum += h(i, i);
  const auto check = [&](DeadInputs habit, Index place, double mean, double own) {
    Params params;
    params.parity.dead_inputs = habit;
    const auto factor = gptq::factorize(test::calibrate<Cpu>(layer), params);
    const auto order = factor.layout.order();
    const auto at = std::find(order.begin(), order.end(), Index{5}) - order.begin();
    CHECK(at == place);
    CHECK(factor.damping.lambda == Approx(0.01 * mean));
    CHECK(factor.layout.pivots()[std::size_t(at)] == Approx(own + 0.01 * mean));
  };
  check(DeadInputs::mean_last, 23, sum / 23, sum / 23);
  check(DeadInputs::unit, 0, (sum + 1) / 24, 1);
  check(DeadInputs::unit_last, 23, (sum + 1) / 24, 1);
}

TEST_CASE("parity: how tokens are counted scales losses and changes no code", "[parity]") {
  const Layer layer = random_layer({.out = 24, .in = 96, .tokens = 240});
  Params params{.group_size = 32, .order = Order::act};
  const auto by_tokens = quantize<Int4, Reference>(layer, params);
  params.parity.samples = SampleCount::twice_tokens;
  const auto twice = quantize<Int4, Reference>(layer, params);
  CHECK(test::code_differences(twice, by_tokens) == 0);
  CHECK(twice.report().loss == Approx(by_tokens.report().loss * 2));
  CHECK(twice.report().paper_error == Approx(by_tokens.report().paper_error));
  for (const Index sequences : {1, 4}) {
    gptq::Hessian<Reference> hessian(96);
    const Index length = 240 / sequences;
    for (Index s = 0; s < sequences; ++s) hessian.add(layer.x().middle_rows(s * length, length));
    params.parity.samples = SampleCount::twice_sequences;
    const auto q = gptq::Quantizer<Int4, Reference>(params).quantize(layer.w(), hessian);
    CHECK(test::code_differences(q, by_tokens) == 0);
    CHECK(q.report().loss ==
          Approx(by_tokens.report().loss * 2 * 240 / static_cast<double>(sequences)));
  }
}

TEST_CASE("parity: stale scales change nothing if no group begins inside a block", "[parity]") {
  const Layer layer = random_layer({.out = 24, .in = 128});
  for (const Groups groups : {Groups::static_, Groups::dynamic}) {
    Params params = gptq::parity::paper(groups == Groups::static_ ? 32 : -1, groups);
    const auto with = [&](Index block) {
      params.block_size = block;
      return quantize<Int4, Reference>(layer, params);
    };
    const auto expected = with(128);
    for (const Index block : {1, 24, 32, 100})
      CHECK(test::code_differences(with(block), expected) == 0);
  }
}

TEST_CASE("parity: a narrow-range grid has levels for the largest weight of either sign",
          "[parity]") {
  gptq::Parity parity;
  parity.narrow_range = true;
  const auto narrow = Int8{}.with(parity);
  for (const float largest : {1.0f, -1.0f}) {
    const auto grid = narrow.fit((std::min)(largest, -0.5f), (std::max)(largest, 0.5f), {});
    const auto exact =
        narrow.fit((std::min)(largest, -0.5f), (std::max)(largest, 0.5f), gptq::ScaleType::fp32);
    CHECK(exact.scale == 1.0f / 127);
    CHECK(grid.zero == 128);
    CHECK(narrow.encode(1.0f, exact) == 255);
    CHECK(narrow.encode(-1.0f, exact) == 1);
    CHECK(narrow.encode(-1.01f, exact) == 0);  // the lowest code is for weights that moved beyond
  }
  CHECK(Int4{}.with(parity).fit(-1.0f, 1.0f, gptq::ScaleType::fp32).scale == 1.0f / 7);
  CHECK(Asymmetric<4>{}.with(parity).fit(-1.0f, 2.0f, gptq::ScaleType::fp32).scale == 3.0f / 15);
}

TEMPLATE_TEST_CASE("parity: msModelSlim's int8 per channel and per group, by plain loops",
                   "[parity]", Int8, Asymmetric<8>) {
  const Layer layer = random_layer({.out = 12, .in = 64, .tokens = 200});
  std::vector<Index> order(64);
  std::iota(order.begin(), order.end(), Index{0});
  for (const Index group_size : {-1, 16}) {
    Params params = gptq::parity::msmodelslim();
    params.group_size = group_size;
    params.block_size = 16;
    const auto q = quantize<TestType, Reference>(layer, params);
    const Index size = group_size == -1 ? 64 : group_size;
    // Grids are chosen when the first column of a group is reached, from the weight as compensated
    // by then.
    std::vector<double> scale(12), offset(12);
    const auto rounded = test::paper_gptq_in_view(
        layer.weight, test::damped(layer), order,
        [&](const test::Matrix& weight, Index r, Index c, double x) {
          const auto at = static_cast<std::size_t>(r);
          if (c % size == 0) {
            double low = 0, high = 0;
            for (Index j = c; j < c + size; ++j)
              low = std::min(low, weight(r, j)), high = std::max(high, weight(r, j));
            scale[at] = TestType::symmetric ? std::max(-low, high) / 127 : (high - low) / 255;
            scale[at] = static_cast<double>(static_cast<float>(scale[at]));
            offset[at] = TestType::symmetric ? 0 : std::nearbyint(-low / scale[at]) - 128;
          }
          const double code = std::clamp(std::nearbyint(x / scale[at] + offset[at]), -128.0, 127.0);
          return scale[at] * (code - offset[at]);
        });
    for (Index r = 0; r < 12; ++r)
      for (Index c = 0; c < 64; ++c)
        CHECK(static_cast<double>(q(r, c)) == Approx(rounded(r, c)).margin(1e-7));
  }
}

TEMPLATE_TEST_CASE(
    "parity: llm-compressor's groups of columns in their original order, by plain loops",
    "[parity]", Int4, Asymmetric<4>) {
  Layer layer = random_layer({.out = 12, .in = 64, .tokens = 200});
  for (const Index dead : {3, 40})
    for (Index t = 0; t < layer.activations.rows; ++t) layer.activations(t, dead) = 0;
  test::round_to_float(layer);
  Params params = gptq::parity::llm_compressor();
  params.group_size = 16;
  params.block_size = 24;
  const auto q = quantize<TestType, Reference>(layer, params);

  // First sorted by the diagonal, then dead inputs get 1, then the damping is computed.
  test::Matrix h = test::hessian_of(layer);
  for (double& x : h.data) x *= 2.0 * 200;  // one sequence
  std::vector<Index> order(64);
  std::iota(order.begin(), order.end(), Index{0});
  std::stable_sort(order.begin(), order.end(), [&](Index a, Index b) { return h(a, a) > h(b, b); });
  for (const Index dead : {3, 40}) h(dead, dead) = 1;
  double mean = 0;
  for (Index i = 0; i < 64; ++i) mean += h(i, i) / 64;
  for (Index i = 0; i < 64; ++i) h(i, i) += 0.01 * mean;
  test::Matrix weight = layer.weight;
  for (Index r = 0; r < 12; ++r) weight(r, 3) = weight(r, 40) = 0;

  // Grids of the original weight, signed codes from -8 to 7.
  const auto rounded = test::paper_gptq(weight, h, order, [&](Index r, Index c, double x) {
    double low = 0, high = 0;
    for (Index j = c / 16 * 16; j < c / 16 * 16 + 16; ++j)
      low = std::min(low, weight(r, j)), high = std::max(high, weight(r, j));
    const auto stored = gptq::to_bfloat16(
        static_cast<float>(TestType::symmetric ? std::max(-low, high) / 7.5 : (high - low) / 15));
    const auto scale = static_cast<double>(gptq::to_float(stored));
    const double zero = TestType::symmetric ? 0 : std::nearbyint(-8 - low / scale);
    return scale * (std::clamp(std::nearbyint(x / scale + zero), -8.0, 7.0) - zero);
  });
  for (Index r = 0; r < 12; ++r)
    for (Index c = 0; c < 64; ++c)
      CHECK(static_cast<double>(q(r, c)) == Approx(rounded(r, c)).margin(1e-7));
}

TEST_CASE("parity: weights of dead inputs count in the range of their row only if asked to",
          "[parity]") {
  Layer layer = random_layer({.out = 20, .in = 48});
  for (Index t = 0; t < layer.activations.rows; ++t) layer.activations(t, 7) = 0;
  for (Index r = 0; r < 20; ++r) layer.weight(r, 7) = r % 2 == 0 ? 3.0 : 1e-3;
  test::round_to_float(layer);
  const auto check = [&](auto backend) {
    Params params = gptq::parity::paper();
    const auto with = quantize<Int4, decltype(backend)>(layer, params, backend);
    params.parity.dead_weights_in_range = false;
    const auto without = quantize<Int4, decltype(backend)>(layer, params, backend);
    for (Index r = 0; r < 20; ++r) {
      CHECK(with(r, 7) == 0);
      if (r % 2 == 0) CHECK(with.scales()(r, 0) == 6.0f / 15);
      else CHECK(with.scales()(r, 0) == without.scales()(r, 0));
      CHECK(without.scales()(r, 0) < 0.1f);
    }
    params.group_size = 48;  // fitted during the solve, without the dead weights
    CHECK(test::code_differences(quantize<Int4, decltype(backend)>(layer, params, backend),
                                 without) == 0);
  };
  check(Cpu{});
  check(Reference{});
}
