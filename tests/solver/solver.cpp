// SPDX-License-Identifier: MIT

// The identities that tie the fast solver to the paper.

#include "../support/catch.hpp"
#include "../support/layer.hpp"
#include "../support/paper.hpp"

#include <map>

using gptq::Groups;
using gptq::Index;
using gptq::Order;
using gptq::Params;
using gptq::Range;
using gptq::ScaleType;
using gptq::scheme::Affine;
using gptq::scheme::Asymmetric;
using gptq::scheme::Int4;
using test::Layer;
using test::LayerOptions;
using test::Matrix;
using test::quantize;
using test::random_layer;
using Cpu = gptq::backend::Cpu;
using Reference = gptq::backend::Reference;

namespace {

Matrix damped_hessian(const Layer& layer, const Params& params) {
  const auto factor = gptq::factorize(test::calibrate<Reference>(layer), params);
  Matrix h = test::hessian_of(layer);
  for (Index p = 0; p < h.rows; ++p)
    h(factor.layout.column(p), factor.layout.column(p)) +=
        factor.added[static_cast<std::size_t>(p)];
  return h;
}

/// The oracle's weights on the grids that the library chose.
template <class S>
Matrix paper_weights(const Layer& layer, const Params& params, const gptq::QuantizedMatrix<S>& q) {
  const auto factor = gptq::factorize(test::calibrate<Reference>(layer), params);
  const auto order = factor.layout.order();
  return test::paper_gptq(layer.weight, damped_hessian(layer, params), {order.begin(), order.end()},
                          test::round_on_grids_of(q));
}

template <class S>
void require_same_as_paper(const LayerOptions& options, const Params& params) {
  const Layer layer = random_layer(options);
  const auto q = quantize<S, Reference>(layer, params);
  const Matrix expected = paper_weights(layer, params, q);
  Index different = 0;
  for (Index r = 0; r < expected.rows; ++r)
    for (Index c = 0; c < expected.cols; ++c)
      different += std::abs(expected(r, c) - static_cast<double>(q(r, c))) > 1e-6;
  CHECK(different == 0);
}

}  // namespace

TEMPLATE_TEST_CASE(
    "the solver rounds as the paper does: OBQ in a fixed order with an explicit inverse",
    "[solver][oracle]", Affine<2>, Affine<3>, Affine<4>, Asymmetric<2>, Asymmetric<4>, Affine<8>) {
  for (const Order order : {Order::natural, Order::act})
    for (const Range range : {Range::minmax, Range::weighted})
      for (const Index block : {1, 3, 8, 32}) {
        require_same_as_paper<TestType>(
            {.out = 6, .in = 32, .tokens = 80, .seed = 11},
            {.group_size = 16, .order = order, .range = range, .block_size = block});
        require_same_as_paper<TestType>({.out = 3, .in = 23, .tokens = 12, .seed = 5},
                                        {.group_size = 8,
                                         .allow_tail_group = true,
                                         .order = order,
                                         .range = range,
                                         .block_size = block});
      }
}

TEST_CASE("the losses of the columns add up to the loss of the layer", "[solver][identity]") {
  for (const Order order : {Order::natural, Order::act}) {
    const Params params{.group_size = 32, .order = order};
    const Layer layer = random_layer();
    const auto q = quantize<Int4, Reference>(layer, params);
    double sum = 0;
    for (const double loss : q.column_loss()) sum += loss;
    const Matrix d = test::error_of_weight(layer, q);
    CHECK(sum == Approx(test::quadratic_form(d, damped_hessian(layer, params))).epsilon(1e-10));
    CHECK(q.report().damped_loss == Approx(sum));
    CHECK(q.report().loss ==
          Approx(test::quadratic_form(d, test::hessian_of(layer))).epsilon(1e-10));
  }
}

TEST_CASE("the report's errors are those of the outputs", "[solver][report]") {
  const Layer layer = random_layer({.out = 40, .in = 128, .tokens = 300});
  const auto q = quantize<Int4, Cpu>(layer, {.group_size = 32});
  const Matrix h = test::hessian_of(layer);
  const double energy = test::quadratic_form(layer.weight, h);
  CHECK(q.report().relative_error ==
        Approx(test::quadratic_form(test::error_of_weight(layer, q), h) / energy).epsilon(1e-4));
  const auto rtn = gptq::baseline::round_to_nearest<Int4>(
      layer.w(), {.group_size = 32, .range = Range::minmax}, Cpu{});
  CHECK(q.report().rtn_relative_error ==
        Approx(test::quadratic_form(test::error_of_weight(layer, rtn), h) / energy).epsilon(1e-4));
  CHECK(q.report().snr_db() == Approx(-10 * std::log10(q.report().relative_error)));
  CHECK(q.report().tokens == 300);
  CHECK(q.report().seconds.total > 0);
}

TEST_CASE("GPTQ beats round to nearest, and the search beats min-max", "[solver]") {
  const Layer layer = random_layer({.out = 64, .in = 256, .tokens = 1000, .correlation = 0.8});
  const auto minmax =
      quantize<Int4, Cpu>(layer, {.group_size = 64, .range = Range::minmax}).report();
  const auto weighted = quantize<Int4, Cpu>(layer, {.group_size = 64}).report();
  CHECK(minmax.relative_error < 0.7 * minmax.rtn_relative_error);
  CHECK(weighted.relative_error < 0.8 * minmax.relative_error);
}

TEST_CASE("with uncorrelated inputs GPTQ is exactly round to nearest", "[solver][identity]") {
  const Index n = 64;
  const Layer layer = random_layer({.out = 16, .in = n, .tokens = n});
  // H = 8·I and damping of the same size: all pivots are 16, whose root is exact.
  const auto check = [&](const auto& scheme, Params params, auto backend) {
    using S = std::remove_cvref_t<decltype(scheme)>;
    using B = decltype(backend);
    std::vector<float> sum(static_cast<std::size_t>(n * n), 0.0f);
    for (Index i = 0; i < n; ++i) sum[static_cast<std::size_t>(i * n + i)] = 8;
    params.group_size = 16;
    params.damping = 1;
    const auto exact =
        gptq::Hessian<B>::from_sum(gptq::MatrixView<const float>(sum.data(), n, n), 1, 1, backend);
    const auto rtn = gptq::baseline::round_to_nearest<S>(layer.w(), params, backend);
    const auto q = gptq::Quantizer<S, B>(params).quantize(layer.w(), exact);
    // Every order is the natural one here, as all inputs are equal; so groups are the same too.
    CHECK(test::code_differences(q, rtn) == 0);
    for (Index r = 0; r < 16; ++r)
      for (Index c = 0; c < n; ++c) REQUIRE(q(r, c) == rtn(r, c));
  };
  for (const auto order : {Order::natural, Order::act, Order::group_aware, Order::min_pivot})
    for (const auto groups : {Groups::static_, Groups::dynamic})
      for (const auto solver : {gptq::Solver::left_looking, gptq::Solver::lazy_batch})
        for (const auto range : {Range::minmax, Range::mse, Range::weighted}) {
          INFO("order " << static_cast<int>(order) << ", groups " << static_cast<int>(groups)
                        << ", solver " << static_cast<int>(solver) << ", range "
                        << static_cast<int>(range));
          const Params params{.order = order, .groups = groups, .range = range, .solver = solver};
          check(Int4{}, params, Cpu{});
          check(Int4{}, params, Reference{});
          check(gptq::scheme::Asymmetric<3>{}, params, Cpu{});
          check(gptq::scheme::NF4{}, params, Cpu{});
          Params paper = params;
          paper.parity = {.dead_inputs = gptq::DeadInputs::unit,
                          .stale_group_scales =
                              solver == gptq::Solver::lazy_batch && groups == gptq::Groups::dynamic,
                          .one_sided_range = true,
                          .round_with_zero = true,
                          .narrow_range = true};
          check(Int4{}, paper, Cpu{});
        }
}

TEST_CASE("the block size does not change the codes", "[solver][identity]") {
  const Layer layer = random_layer({.out = 20, .in = 160, .tokens = 400});
  for (const auto groups : {Groups::static_, Groups::dynamic}) {
    const auto with = [&](Index block) {
      return quantize<Int4, Reference>(
          layer,
          {.group_size = 32, .order = Order::natural, .groups = groups, .block_size = block});
    };
    const auto expected = with(160);
    for (const Index block : {1, 5, 16, 32, 64, 1000})
      CHECK(test::code_differences(with(block), expected) == 0);
  }
}

TEST_CASE("in single precision neither the block size nor the form changes more than a few codes",
          "[solver][identity]") {
  const Layer layer = random_layer({.out = 96, .in = 320, .tokens = 900, .correlation = 0.7});
  for (const auto groups : {Groups::static_, Groups::dynamic}) {
    const auto with = [&](Index block, gptq::Solver solver) {
      Params params{.group_size = 64, .groups = groups, .block_size = block};
      params.solver = solver;
      return quantize<Int4, Cpu>(layer, params);
    };
    const auto expected = with(128, gptq::Solver::left_looking);
    for (const auto solver : {gptq::Solver::left_looking, gptq::Solver::lazy_batch})
      for (const Index block : {16, 50, 64, 320}) {
        const auto q = with(block, solver);
        CHECK(test::code_differences(q, expected) <= 96 * 320 / 1000);
        CHECK(q.report().loss == Approx(expected.report().loss).epsilon(1e-3));
      }
  }
}

TEST_CASE("single precision on the CPU agrees with double precision loops except for a few ties",
          "[solver]") {
  for (const auto groups : {Groups::static_, Groups::dynamic}) {
    const Layer layer = random_layer({.out = 70, .in = 320, .tokens = 900});
    const Params params{.group_size = 64,
                        .order = groups == Groups::static_ ? Order::act : Order::natural,
                        .groups = groups};
    const auto cpu = quantize<Int4, Cpu>(layer, params);
    const auto reference = quantize<Int4, Reference>(layer, params);
    CHECK(test::code_differences(cpu, reference) < 70 * 320 / 200);
    CHECK(cpu.report().loss == Approx(reference.report().loss).epsilon(5e-3));
    CHECK(cpu.report().rtn_relative_error ==
          Approx(reference.report().rtn_relative_error).epsilon(1e-3));
  }
}

TEST_CASE("codes have the same bits for any number of threads", "[solver][determinism]") {
  const Layer layer = random_layer({.out = 300, .in = 192, .tokens = 500});
  const auto with = [&](int threads) {
    return quantize<Int4, Cpu>(layer, {.group_size = 64}, Cpu(gptq::exec::Threads(threads)));
  };
  const auto expected = with(1);
  for (const int threads : {2, 3, 8}) {
    const auto q = with(threads);
    CHECK(test::code_differences(q, expected) == 0);
    CHECK(q.report().loss == expected.report().loss);
    CHECK(q.report().relative_error == expected.report().relative_error);
    for (Index r = 0; r < q.rows(); ++r) CHECK(q.scales()(r, 1) == expected.scales()(r, 1));
  }
}

namespace {

/// Dead: input 9, input 50 with weights a thousand times as large as the others, and all inputs of
/// the last group. In row 3 all live weights of the first group are zero.
Layer layer_with_dead_inputs() {
  Layer layer = random_layer({.out = 40, .in = 96, .tokens = 150});
  const auto kill = [&](Index c) {
    for (Index t = 0; t < 150; ++t) layer.activations(t, c) = 0;
  };
  kill(9);
  kill(50);
  for (Index c = 64; c < 96; ++c) kill(c);
  for (Index r = 0; r < 40; ++r) layer.weight(r, 50) *= 1000;
  for (Index c = 0; c < 32; ++c)
    if (c != 9) layer.weight(3, c) = 0;
  test::round_to_float(layer);
  return layer;
}

template <class S, class B>
void require_dead_weights_rounded(const Layer& layer, const Params& params) {
  const auto kept = quantize<S, B>(layer, params);
  Params zeroing = params;
  zeroing.parity.zero_dead_weights = true;
  const auto zeroed = quantize<S, B>(layer, zeroing);
  CHECK(kept.report().damping.dead_columns == 34);
  CHECK(kept.report().loss == zeroed.report().loss);
  CHECK(kept.report().damped_loss == zeroed.report().damped_loss);
  CHECK(kept.report().relative_error == zeroed.report().relative_error);
  CHECK(kept.report().rtn_relative_error == zeroed.report().rtn_relative_error);
  const auto is_dead = [](Index c) { return c == 9 || c == 50 || c >= 64; };
  double missed = 0, all = 0;
  for (Index c = 0; c < kept.cols(); ++c)
    for (Index r = 0; r < kept.rows(); ++r) {
      const auto g = kept.group_index()[static_cast<std::size_t>(c)];
      const bool own_grid = g != zeroed.group_index()[63] && c >= 64;
      if (!is_dead(c)) {  // live inputs are as before
        REQUIRE(kept(r, c) == zeroed(r, c));
        if (r != 3) REQUIRE(kept.codes()(r, c) == zeroed.codes()(r, c));
        continue;
      }
      REQUIRE(kept.column_loss()[static_cast<std::size_t>(c)] == 0);
      const auto w = static_cast<float>(layer.weight(r, c));
      const gptq::scheme::Grid<float> grid{kept.scales()(r, g), kept.zeros()(r, g)};
      REQUIRE(static_cast<float>(kept.codes()(r, c)) == kept.scheme().encode(w, grid));
      if (!own_grid && !(r == 3 && c == 9)) continue;
      missed += std::pow(layer.weight(r, c) - static_cast<double>(kept(r, c)), 2);
      all += layer.weight(r, c) * layer.weight(r, c);
    }
  CHECK(missed < 0.03 * all);
}

}  // namespace

TEST_CASE("weights of dead inputs are rounded to nearest, and live ones are not affected",
          "[solver][dead]") {
  const Layer layer = layer_with_dead_inputs();
  for (const Order order : {Order::natural, Order::act, Order::group_aware, Order::min_pivot})
    for (const Groups groups : {Groups::static_, Groups::dynamic})
      for (const auto solver : {gptq::Solver::left_looking, gptq::Solver::lazy_batch})
        for (const Range range : {Range::minmax, Range::mse, Range::weighted}) {
          INFO(int(order) << int(groups) << int(solver) << int(range));
          const Params params{
              .group_size = 32, .order = order, .groups = groups, .range = range, .solver = solver};
          if (groups == Groups::dynamic && gptq::needs_group_index(params)) continue;
          require_dead_weights_rounded<Int4, Cpu>(layer, params);
          require_dead_weights_rounded<Asymmetric<4>, Cpu>(layer, params);
        }
  const Params params{.group_size = 32};
  require_dead_weights_rounded<gptq::scheme::Float4, Cpu>(layer, params);
  require_dead_weights_rounded<gptq::scheme::Int8, Reference>(layer, params);
  require_dead_weights_rounded<gptq::scheme::NF4, Cpu>(layer, params);
}

namespace {

/// Levels at ±½ and ±1½ of a scale: no zero.
struct HalfSteps {
  static constexpr int bits = 2, max_code = 3;

  template <class T>
  GPTQ_HD T encode(const T& x, const gptq::scheme::Grid<T>& grid) const {
    using gptq::lane::clamp, gptq::lane::round_even;
    return clamp<T>(round_even(x / grid.scale + T(1.5f)), T(0), T(3));
  }
  template <class T>
  GPTQ_HD T decode(const T& code, const gptq::scheme::Grid<T>& grid) const {
    return grid.scale * (code - T(1.5f));
  }
  template <class T>
  GPTQ_HD gptq::scheme::Grid<T> fit(const T& low, const T& high,
                                    const gptq::scheme::ScaleRounding& rounding) const {
    return {gptq::scheme::round_scale(gptq::lane::max(-low, high) / T(1.5f), rounding), T(0)};
  }
};

}  // namespace

TEST_CASE("on a grid without zero, dead inputs count in no loss", "[solver][dead]") {
  for (const Index out : {5, 40}) {  // also in partly filled lanes
    Layer layer = layer_with_dead_inputs();
    layer.weight.rows = out;
    layer.weight.data.resize(static_cast<std::size_t>(out * 96));
    test::round_to_float(layer);
    const Matrix h = test::hessian_of(layer);
    const double energy = test::quadratic_form(layer.weight, h);
    Layer used = layer;  // without the dead weights, which grids ignore
    for (Index r = 0; r < out; ++r)
      for (Index c = 0; c < 96; ++c)
        if (h(c, c) == 0) used.weight(r, c) = 0;
    test::round_to_float(used);
    const double rtn_loss = test::quadratic_form(
        test::error_of_weight(used,
                              gptq::baseline::round_to_nearest<HalfSteps>(
                                  used.w(), {.group_size = 32, .range = Range::minmax}, Cpu{})),
        h);
    const auto check = [&](auto backend, const Params& params, double tolerance) {
      using B = decltype(backend);
      const auto q = quantize<HalfSteps, B>(layer, params);
      const double truth = test::quadratic_form(test::error_of_weight(layer, q), h);
      CHECK(q.report().loss == Approx(truth).epsilon(tolerance));
      CHECK(q.report().relative_error == Approx(truth / energy).epsilon(tolerance));
      CHECK(q.column_loss()[9] == 0);
      CHECK(q.report().rtn_relative_error == Approx(rtn_loss / energy).epsilon(1e-4));
      if (!params.parity.zero_dead_weights) return;
      for (Index r = 0; r < out; ++r)  // the level nearest to zero
        CHECK(std::abs(q(r, 9)) == 0.5f * std::abs(q.scales()(r, q.group_index()[9])));
    };
    for (const auto solver : {gptq::Solver::left_looking, gptq::Solver::lazy_batch})
      for (const auto dead : {gptq::DeadInputs::mean_last, gptq::DeadInputs::unit})
        for (const bool zero : {false, true}) {
          Params params{.group_size = 32, .solver = solver};
          params.parity.dead_inputs = dead;
          params.parity.zero_dead_weights = zero;
          check(Reference{}, params, 1e-10);
          check(Cpu{}, params, 1e-4);
        }
  }
}

TEST_CASE("the times of the stages add up to at most the total, and a factor counts once",
          "[solver][report]") {
  const Layer layer = random_layer({.out = 96, .in = 256, .tokens = 64});
  const gptq::backend::Cpu backend(gptq::exec::Threads(4));
  gptq::Hessian hessian(256, backend);
  hessian.add(layer.x());
  const gptq::Quantizer<Int4, Cpu> quantizer({.group_size = 32});
  const auto sum = [](const gptq::Timings& t) { return t.factorize + t.fit + t.solve + t.measure; };
  const auto whole = quantizer.quantize(layer.w(), hessian).report().seconds;
  CHECK(whole.factorize > 0);
  CHECK(whole.fit > 0);
  CHECK(sum(whole) <= whole.total);
  const auto factor = quantizer.factorize(hessian);
  CHECK(factor.seconds > 0);
  const gptq::MatrixView<const float> views[] = {layer.w(), layer.w(), layer.w()};
  for (const auto& q :
       quantizer.quantize(std::span<const gptq::MatrixView<const float>>(views), factor)) {
    CHECK(q.report().seconds.factorize == 0);
    CHECK(sum(q.report().seconds) <= q.report().seconds.total);
  }
}

TEST_CASE("sparsity patterns zero dead inputs first, and parity presets make them zero",
          "[solver][dead]") {
  const Layer layer = layer_with_dead_inputs();
  Params sparse{.group_size = 32, .order = Order::natural, .sparsity = {2, 4}};
  const auto q = quantize<Int4, Cpu>(layer, sparse);
  for (const Params& habit :
       {gptq::parity::paper(), gptq::parity::msmodelslim(), gptq::parity::llm_compressor()})
    CHECK(habit.parity.zero_dead_weights);
  const auto paper = quantize<Int4, Cpu>(layer, gptq::parity::paper());
  for (Index r = 0; r < 40; ++r)
    for (const Index c : {9, 50, 64, 95}) {
      CHECK(q(r, c) == 0);
      CHECK(paper(r, c) == 0);
    }
}

TEST_CASE("shapes at the edges work: one row, one column, tails, one group per row",
          "[solver][shapes]") {
  struct Case {
    Index out, in, tokens, group;
  };
  for (const auto& [out, in, tokens, group] :
       {Case{1, 64, 100, 32}, Case{5, 1, 20, -1}, Case{17, 33, 50, 32}, Case{3, 100, 7, -1},
        Case{257, 48, 64, 1000}, Case{2, 130, 10, 128}}) {
    const Layer layer = random_layer({.out = out, .in = in, .tokens = tokens});
    const Params params{.group_size = group, .allow_tail_group = true};
    const auto cpu = quantize<Int4, Cpu>(layer, params);
    CHECK(cpu.groups() == (group == -1 || group >= in ? 1 : (in + group - 1) / group));
    CHECK(std::isfinite(cpu.report().loss));
    CHECK(cpu.report().loss <= cpu.report().damped_loss);
    CHECK(test::code_differences(cpu, quantize<Int4, Reference>(layer, params)) <= out * in / 50);
  }
}
