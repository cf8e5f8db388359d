// SPDX-License-Identifier: MIT

// Known faults of other implementations, each shown to be absent here. Tested elsewhere:
//
// - symmetric groups without negative weights that use half of their codes, scales taken from a
//   weight that lacks its block's corrections, and dead inputs that come first in the order or
//   count in the damping: parity.cpp
// - updates applied twice: solver.cpp and baseline/ancestors.cpp, the oracles
// - an order that changes from run to run on ties: calibration/order.cpp
// - a Hessian that a solve destroys, and a second run that quantizes the result of the first:
//   quantizer.cpp
// - zero points of zero in format v1: pack/gptq.cpp
// - losses counted twice: solver.cpp, "the report's errors are those of the outputs", and
//   quantizer.cpp, duplicated tokens
// - options that do nothing: quantizer.cpp, every field of Params; program/layer.cpp, and
//   program/program.cpp, skips and overrides that match no module

#include "../support/catch.hpp"
#include "../support/layer.hpp"

#include <cmath>

using gptq::Groups;
using gptq::Index;
using gptq::Order;
using gptq::Params;
using gptq::scheme::Int4;
using gptq::scheme::Int8;
using test::Layer;
using test::quantize;
using test::random_layer;
using Cpu = gptq::backend::Cpu;

TEST_CASE("static groups under any order use the grid of the column's own group",
          "[solver][defects]") {
  // Groups of very different magnitude: a column on another group's grid would be all error.
  Layer layer = random_layer({.out = 16, .in = 128, .tokens = 400});
  for (Index r = 0; r < 16; ++r)
    for (Index c = 0; c < 128; ++c)
      layer.weight(r, c) *= std::pow(8.0, static_cast<double>(c / 32));
  test::round_to_float(layer);
  for (const Order order : {Order::act, Order::group_aware, Order::min_pivot}) {
    const auto q = quantize<Int8, Cpu>(layer, {.group_size = 32, .order = order});
    CHECK(q.report().relative_error < 1e-4);
    for (Index r = 0; r < 16; ++r)
      for (Index c = 0; c < 128; ++c) {
        const double s = std::abs(static_cast<double>(q.scales()(r, c / 32)));
        REQUIRE(std::abs(static_cast<double>(q(r, c))) <= 128.5 * s);
      }
  }
}

TEST_CASE("scales out of their type's range are an error, those that lose precision are counted",
          "[solver][defects]") {
  Layer layer = random_layer({.out = 6, .in = 64, .tokens = 100});
  const auto hessian = test::calibrate<Cpu>(layer);
  const auto scaled = [&](float factor) {
    std::vector<float> w = layer.weight_f;
    for (float& x : w) x *= factor;
    return w;
  };
  const auto run = [&](float factor, gptq::ScaleType type) {
    const auto w = scaled(factor);
    Params params{.group_size = 32, .scale_type = type};
    return gptq::Quantizer<Int4, Cpu>(params).quantize(
        gptq::MatrixView<const float>(w.data(), 6, 64), hessian);
  };
  using enum gptq::ScaleType;
  CHECK(run(1, fp16).report().subnormal_scales == 0);
  CHECK_THROWS_AS(run(1e8f, fp16), gptq::NumericalError);
  CHECK(run(1e8f, bf16).report().subnormal_scales == 0);
  // Weights near 1e-5 have scales near 1e-6, which fp16 stores with four bits.
  const auto coarse = run(2e-4f, fp16);
  CHECK(coarse.report().subnormal_scales == 12);
  // They were rounded with those scales, so only the lower precision costs; and where even the
  // smallest scale is too large, that is an error instead of weights that become zero.
  CHECK(coarse.report().relative_error < 2 * run(1, fp16).report().relative_error);
  CHECK(coarse.report().vanished_groups == 0);
  CHECK_THROWS_AS(run(1e-12f, fp16), gptq::ScaleError);
}

TEST_CASE("one group per row goes with every order and every kind of group", "[solver][defects]") {
  const Layer layer = random_layer({.out = 4, .in = 48});
  for (const Order order : {Order::natural, Order::act, Order::group_aware, Order::min_pivot})
    for (const Groups groups : {Groups::static_, Groups::dynamic}) {
      const auto q =
          quantize<Int4, Cpu>(layer, {.group_size = -1, .order = order, .groups = groups});
      CHECK(q.groups() == 1);
      CHECK(q.report().relative_error < q.report().rtn_relative_error);
    }
}

TEST_CASE("16-bit weights are solved at least in single precision", "[solver][defects]") {
  Layer layer = random_layer({.out = 16, .in = 128, .tokens = 500, .correlation = 0.9});
  std::vector<gptq::bfloat16> half;
  for (float& w : layer.weight_f) {
    half.push_back(gptq::to_bfloat16(w));
    w = gptq::to_float(half.back());
  }
  layer.weight.data.assign(layer.weight_f.begin(), layer.weight_f.end());
  const Params params{.group_size = 32};
  const auto from_half = gptq::Quantizer<Int4, Cpu>(params).quantize(
      gptq::MatrixView<const gptq::bfloat16>(half.data(), 16, 128), test::calibrate<Cpu>(layer));
  const auto exact = quantize<Int4, gptq::backend::Reference>(layer, params);
  CHECK(test::code_differences(from_half, exact) <= 2);
}
