// SPDX-License-Identifier: MIT

// What a caller can supply in place of the library's own: an order, grids, a range search, a form
// of the solver, an observer.

#include "../support/catch.hpp"
#include "../support/layer.hpp"

#include <mutex>
#include <set>

using Catch::Matchers::Contains;
using gptq::Index;
using gptq::MatrixView;
using gptq::Params;
using gptq::backend::Cpu;
using gptq::backend::Reference;
using gptq::scheme::Asymmetric;
using gptq::scheme::Int4;
using test::random_layer;

namespace {

template <class S>
void require_same(const gptq::QuantizedMatrix<S>& a, const gptq::QuantizedMatrix<S>& b) {
  for (Index r = 0; r < a.rows(); ++r) {
    for (Index c = 0; c < a.cols(); ++c) REQUIRE(a.codes()(r, c) == b.codes()(r, c));
    for (Index g = 0; g < a.groups(); ++g) {
      REQUIRE(a.scales()(r, g) == b.scales()(r, g));
      REQUIRE(a.zeros()(r, g) == b.zeros()(r, g));
    }
  }
  CHECK(a.report().loss == b.report().loss);
}

const std::vector<Params> both_forms{
    {.group_size = 32, .block_size = 24},
    {.group_size = 32, .solver = gptq::Solver::lazy_batch, .block_size = 24}};

}  // namespace

TEST_CASE("a given order is the one used", "[doors]") {
  const auto layer = random_layer({.out = 37, .in = 96});
  const auto hessian = test::calibrate<Cpu>(layer);
  for (Params params : both_forms)
    for (const auto groups : {gptq::Groups::static_, gptq::Groups::dynamic}) {
      params.groups = groups;
      params.order = gptq::Order::act;
      const gptq::Quantizer<Int4, Cpu> by_act(params);
      const auto act = by_act.factorize(hessian);
      const std::vector<Index> order(act.layout.order().begin(), act.layout.order().end());
      params.order = gptq::Order::natural;
      const gptq::Quantizer<Int4, Cpu> quantizer(params);
      const auto result = quantizer.quantize(layer.w(), quantizer.factorize(hessian, order));
      const auto expected = by_act.quantize(layer.w(), act);
      require_same(result, expected);
      for (std::size_t c = 0; c < 96; ++c)
        CHECK(result.group_index()[c] == expected.group_index()[c]);
    }
}

TEST_CASE("an order that is not a permutation is refused with the position and the value",
          "[doors]") {
  const auto layer = random_layer({.in = 8});
  const auto hessian = test::calibrate<Cpu>(layer);
  const gptq::Quantizer<Int4, Cpu> quantizer({.group_size = 8});
  const auto refused = [&](std::vector<Index> order) {
    return error_of<gptq::InvalidArgument>([&] { quantizer.factorize(hessian, order); });
  };
  CHECK_THAT(refused({0, 1, 2}), Contains("the order has 3 columns, the Hessian 8 inputs"));
  CHECK_THAT(refused({0, 1, 2, 3, 4, 5, 6, 8}),
             Contains("order[7] = 8 is not one of the 8 inputs"));
  CHECK_THAT(refused({0, 1, 2, 3, 4, 5, 6, -1}), Contains("order[7] = -1"));
  CHECK_THAT(refused({0, 1, 2, 3, 4, 5, 6, 3}), Contains("order[7] = 3 is a repeat"));
}

TEST_CASE("given grids are the ones stored", "[doors]") {
  auto layer = random_layer({.out = 37, .in = 96});
  for (Index t = 0; t < layer.activations.rows; ++t) layer.activations(t, 5) = 0;  // dead
  test::round_to_float(layer);
  const auto hessian = test::calibrate<Cpu>(layer);
  for (Params params : both_forms) {
    const gptq::Quantizer<Asymmetric<4>, Cpu> quantizer(params);
    const auto factor = quantizer.factorize(hessian);
    const auto own = quantizer.quantize(layer.w(), factor);
    require_same(quantizer.quantize(layer.w(), factor, gptq::Grids{own.scales(), own.zeros()}),
                 own);

    // Other grids: any fp16 scale, any zero point; the loss is that of the codes on them.
    test::Matrix scales(37, 3), zeros(37, 3);
    std::vector<float> s, z;
    for (int i = 0; i < 37 * 3; ++i) {
      s.push_back(0.03125f * static_cast<float>(1 + i % 5));
      z.push_back(static_cast<float>(i % 16));
    }
    const gptq::Grids grids{{s.data(), 37, 3}, {z.data(), 37, 3}};
    for (const auto groups : {gptq::Groups::static_, gptq::Groups::dynamic}) {
      params.groups = groups;
      params.order = gptq::Order::natural;
      const gptq::Quantizer<Asymmetric<4>, Cpu> other(params);
      const auto result = other.quantize(layer.w(), other.factorize(hessian), grids);
      for (Index r = 0; r < 37; ++r)
        for (Index g = 0; g < 3; ++g) {
          REQUIRE(result.scales()(r, g) == grids.scales(r, g));
          REQUIRE(result.zeros()(r, g) == grids.zeros(r, g));
        }
      const auto d = test::error_of_weight(layer, result);
      CHECK(result.report().loss ==
            Approx(test::quadratic_form(d, test::hessian_of(layer))).epsilon(1e-3));
    }
  }
}

TEST_CASE("grids that the scheme or the scale type cannot represent are refused by name",
          "[doors]") {
  const auto layer = random_layer({.out = 2, .in = 8});
  const auto hessian = test::calibrate<Cpu>(layer);
  const gptq::Quantizer<Asymmetric<4>, Cpu> quantizer({.group_size = 8});
  const auto factor = quantizer.factorize(hessian);
  const auto refused = [&](std::vector<float> scales, std::vector<float> zeros) {
    return error_of<gptq::InvalidArgument>([&] {
      const auto rows = static_cast<Index>(scales.size());
      quantizer.quantize(layer.w(), factor,
                         gptq::Grids{{scales.data(), rows, 1}, {zeros.data(), rows, 1}}, "up");
    });
  };
  CHECK_THAT(refused({1}, {1}), Contains("up: the grids are 1 x 1, the weight has 2 rows of 1"));
  CHECK_THAT(refused({1, 0}, {1, 1}), Contains("the scale 0 of row 1, group 0"));
  CHECK_THAT(refused({1, 0.1f}, {1, 1}), Contains("of row 1, group 0 is not a number of fp16"));
  CHECK_THAT(refused({NAN, 1}, {1, 1}), Contains("of row 0"));
  CHECK_THAT(refused({1, 1}, {1, 16}), Contains("the zero point 16 of row 1"));
  CHECK_THAT(refused({1, 1}, {1.5f, 1}), Contains("the zero point 1.5 of row 0"));
}

TEST_CASE("an observer sees every weight as it was rounded, with any backend", "[doors]") {
  const auto layer = random_layer({.out = 70, .in = 96});
  const auto exact = test::calibrate<Reference>(layer);
  const auto look = [&](const auto& hessian, const Params& params) {
    using B = std::remove_cvref_t<decltype(hessian.backend())>;
    const gptq::Quantizer<Int4, B> quantizer(params);
    const auto factor = quantizer.factorize(hessian);
    std::mutex mutex;
    test::Matrix targets(70, 96);
    std::set<std::pair<Index, Index>> seen;
    std::vector<std::pair<Index, Index>> others;  // codes that differ from the result
    test::Matrix codes(70, 96);
    const auto watch = [&](const gptq::SolvedBlock<typename B::Scalar>& block) {
      const std::lock_guard lock(mutex);
      for (Index p = 0; p < block.targets.rows(); ++p)
        for (Index r = 0; r < block.targets.cols(); ++r) {
          const Index row = block.first_row + r, column = block.columns[std::size_t(p)];
          targets(row, column) = static_cast<double>(block.targets(p, r)) * block.weight_unit;
          codes(row, column) = block.codes(p, r);
          seen.insert({row, column});
          // The code is the nearest one on the grid that the observer sees.
          const Index g = block.groups[std::size_t(p)];
          const gptq::scheme::Grid<typename B::Scalar> grid{block.scales(g, r), block.zeros(g, r)};
          CHECK(Int4{}.encode(block.targets(p, r), grid) ==
                static_cast<typename B::Scalar>(block.codes(p, r)));
        }
    };
    const auto result = quantizer.quantize(layer.w(), factor, "w", {}, {.observer = watch});
    require_same(result, quantizer.quantize(layer.w(), factor));
    CHECK(seen.size() == 70 * 96);
    for (Index r = 0; r < 70; ++r)
      for (Index c = 0; c < 96; ++c) REQUIRE(codes(r, c) == result.codes()(r, c));
    return targets;
  };
  for (Params params : both_forms)
    for (const auto groups : {gptq::Groups::static_, gptq::Groups::dynamic}) {
      params.groups = groups;
      const auto fast = look(test::calibrate<Cpu>(layer), params), slow = look(exact, params);
      Index close = 0;
      for (std::size_t i = 0; i < fast.data.size(); ++i)
        close += std::abs(fast.data[i] - slow.data[i]) < 1e-4;
      CHECK(close > 70 * 96 * 95 / 100);  // except where a tie was rounded the other way
    }
}

namespace {

/// Compensates for nothing.
struct Alone : gptq::solver::LeftLooking {
  struct Step : gptq::kernel::LeftLooking {
    template <class T, class Scalar>
    static T target(const T& weight, const T&, Scalar) {
      return weight;
    }
  };
};

}  // namespace

TEST_CASE("a custom form of the solver does the rounding", "[doors]") {
  const auto layer = random_layer({.out = 37, .in = 96});
  const auto hessian = test::calibrate<Cpu>(layer);
  const Params params{.group_size = 32, .range = gptq::Range::minmax};
  const auto mine = gptq::Quantizer<Int4, Cpu, Alone>(params).quantize(layer.w(), hessian);
  const auto nearest = gptq::baseline::round_to_nearest<Int4>(layer.w(), params, Cpu{});
  for (Index r = 0; r < 37; ++r)
    for (Index c = 0; c < 96; ++c) REQUIRE(mine.codes()(r, c) == nearest.codes()(r, c));
}

TEST_CASE("the report says what was rounded together, or why it was not", "[doors]") {
  const auto layer = random_layer({.out = 40, .in = 32});
  const auto hessian = test::calibrate<Cpu>(layer);
  const gptq::Quantizer<Int4, Cpu> quantizer({.group_size = 32});
  const auto factor = quantizer.factorize(hessian);
  const auto one = quantizer.quantize(layer.w(), factor);
  CHECK(one.report().together == 1);
  CHECK(one.report().apart.empty());
  const std::vector<MatrixView<const float>> halves{layer.w().middle_rows(0, 20),
                                                    layer.w().middle_rows(20, 20)};
  for (const auto& half : quantizer.quantize(halves, factor)) {
    CHECK(half.report().together == 1);
    CHECK(half.report().apart == "the backend takes one weight at a time");
  }
}

TEST_CASE("relative errors are measured on a sketch, exactly, or not at all", "[doors]") {
  for (const std::uint32_t seed : {1u, 2u, 3u}) {
    const auto layer = random_layer({.out = 200, .in = 512, .tokens = 700, .seed = seed});
    const auto hessian = test::calibrate<Cpu>(layer);
    const auto measured = [&](gptq::Measure measure) {
      return gptq::Quantizer<Int4, Cpu>({.group_size = 32, .measure = measure})
          .quantize(layer.w(), hessian);
    };
    const auto none = measured(gptq::Measure::none), sampled = measured(gptq::Measure::sampled),
               full = measured(gptq::Measure::full);
    for (Index r = 0; r < 200; ++r)
      for (Index c = 0; c < 512; ++c) {
        REQUIRE(none.codes()(r, c) == full.codes()(r, c));
        REQUIRE(sampled.codes()(r, c) == full.codes()(r, c));
      }
    CHECK(std::isnan(none.report().relative_error));
    CHECK(std::isnan(none.report().rtn_relative_error));
    CHECK(none.report().measured == gptq::Measure::none);
    CHECK(none.report().loss == full.report().loss);
    CHECK(full.report().measured == gptq::Measure::full);
    CHECK(sampled.report().measured == gptq::Measure::sampled);
    CHECK(sampled.report().relative_error == Approx(full.report().relative_error).epsilon(0.05));
    CHECK(sampled.report().rtn_relative_error ==
          Approx(full.report().rtn_relative_error).epsilon(0.05));
    CHECK(measured(gptq::Measure::sampled).report().relative_error ==
          sampled.report().relative_error);
  }
}
