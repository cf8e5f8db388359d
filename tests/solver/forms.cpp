// SPDX-License-Identifier: MIT

// The two forms of the solver, with all orders and kinds of groups.

#include "../support/catch.hpp"
#include "../support/layer.hpp"

#include <set>

using gptq::DampingRule;
using gptq::Groups;
using gptq::Index;
using gptq::Order;
using gptq::Params;
using gptq::Range;
using gptq::Solver;
using gptq::scheme::Asymmetric;
using gptq::scheme::Int3;
using gptq::scheme::Int4;
using gptq::scheme::NF4;
using test::Layer;
using test::quantize;
using test::random_layer;
using Cpu = gptq::backend::Cpu;
using Reference = gptq::backend::Reference;

namespace {

constexpr Order all_orders[] = {Order::natural, Order::act, Order::group_aware, Order::min_pivot};

Params params_of(Order order, Groups groups) {
  return {.group_size = 32, .allow_tail_group = true, .order = order, .groups = groups};
}

}  // namespace

TEMPLATE_TEST_CASE("both forms give the same codes in double precision, nearly so in single",
                   "[solver][forms]", Int4, Asymmetric<3>, NF4) {
  const Layer layer = random_layer({.out = 48, .in = 208, .tokens = 600, .correlation = 0.7});
  for (const Order order : all_orders)
    for (const Groups groups : {Groups::static_, Groups::dynamic}) {
      INFO("order " << static_cast<int>(order) << ", groups " << static_cast<int>(groups));
      Params left = params_of(order, groups), lazy = left;
      lazy.solver = Solver::lazy_batch;
      for (const Index block : {7, 64}) {
        left.block_size = lazy.block_size = block;
        CHECK(test::code_differences(quantize<TestType, Reference>(layer, left),
                                     quantize<TestType, Reference>(layer, lazy)) == 0);
      }
      const auto a = quantize<TestType, Cpu>(layer, left), b = quantize<TestType, Cpu>(layer, lazy);
      CHECK(test::code_differences(a, b) <= a.rows() * a.cols() / 1000);
      CHECK(a.report().loss == Approx(b.report().loss).epsilon(2e-3));
    }
}

TEST_CASE("losses are measured the same with every order, form and kind of group",
          "[solver][forms]") {
  const Layer layer = random_layer({.out = 16, .in = 96});
  const auto h = test::hessian_of(layer);
  for (const Order order : all_orders)
    for (const Groups groups : {Groups::static_, Groups::dynamic})
      for (const Solver solver : {Solver::left_looking, Solver::lazy_batch}) {
        Params params = params_of(order, groups);
        params.solver = solver;
        const auto q = quantize<Int4, Reference>(layer, params);
        CHECK(q.report().loss ==
              Approx(test::quadratic_form(test::error_of_weight(layer, q), h)).epsilon(1e-9));
      }
}

TEST_CASE("only groups along a permuted order need a group index", "[solver][forms]") {
  const Layer layer = random_layer({.out = 8, .in = 100});
  for (const Order order : all_orders)
    for (const Groups groups : {Groups::static_, Groups::dynamic}) {
      const Params params = params_of(order, groups);
      const auto q = quantize<Int4, Cpu>(layer, params);
      bool plain = true;
      std::vector<int> members(static_cast<std::size_t>(q.groups()));
      for (Index c = 0; c < q.cols(); ++c) {
        const auto group = q.group_index()[static_cast<std::size_t>(c)];
        plain = plain && group == c / 32;
        ++members[static_cast<std::size_t>(group)];
      }
      CHECK(plain == !gptq::needs_group_index(params));
      CHECK(members == std::vector<int>{32, 32, 32, 4});
    }
}

TEST_CASE("group-aware order sorts inside groups and sorts the groups", "[order]") {
  const std::vector<double> diagonal{1, 9, 4, 2, 8, 3, 7, 5, 12, 1};
  CHECK(gptq::column_order(Order::group_aware, diagonal, 4) ==
        std::vector<Index>{8, 9, 1, 2, 3, 0, 4, 6, 7, 5});
}

TEST_CASE("min-pivot puts the smallest pivot last, step by step", "[order]") {
  const Layer layer = random_layer({.out = 4, .in = 150, .tokens = 300, .correlation = 0.9});
  const Params params{.group_size = 50, .order = Order::min_pivot};
  const auto blocked = gptq::factorize(test::calibrate<Cpu>(layer), params);
  const auto plain = gptq::factorize(test::calibrate<Reference>(layer), params);
  const std::vector<Index> order(plain.layout.order().begin(), plain.layout.order().end());
  CHECK(std::vector<Index>(blocked.layout.order().begin(), blocked.layout.order().end()) == order);
  CHECK(std::set<Index>(order.begin(), order.end()).size() == 150);

  // At every step, from the last position on, no remaining column has a smaller pivot: the
  // reciprocal of its diagonal element in the inverse over that column and those already picked.
  const auto added = plain.added;
  const auto dense = test::hessian_of(layer);
  for (const std::size_t step :
       {std::size_t{1}, std::size_t{2}, std::size_t{20}, std::size_t{90}}) {
    const auto pivot_with = [&](Index candidate) {
      std::vector<Index> picked(order.end() - static_cast<std::ptrdiff_t>(step), order.end());
      picked.insert(picked.begin(), candidate);
      const auto size = static_cast<Index>(picked.size());
      test::Matrix block(size, size);
      for (Index i = 0; i < size; ++i)
        for (Index j = 0; j < size; ++j)
          block(i, j) = dense(picked[std::size_t(i)], picked[std::size_t(j)]) + (i == j) * added[0];
      const gptq::baseline::InverseHessian inverse(
          gptq::MatrixView<const double>(block.data.data(), size, size));
      return 1 / inverse(0, 0);
    };
    const double chosen = pivot_with(order[150 - step - 1]);
    for (std::size_t p = 0; p < 150 - step; ++p) CHECK(pivot_with(order[p]) >= chosen * (1 - 1e-9));
  }

  // Every other choice of the last column has a larger pivot.
  const auto natural = gptq::factorize(test::calibrate<Reference>(layer),
                                       {.group_size = 50, .order = Order::natural});
  const auto h = test::hessian_of(layer);
  for (Index c = 0; c < 150; ++c)
    CHECK(h(order.back(), order.back()) + natural.added[0] <= h(c, c) + natural.added[0]);
  const auto pivots = plain.layout.pivots();
  CHECK(pivots.back() == Approx(h(order.back(), order.back()) + natural.added[0]));
}

TEST_CASE("orders based on the Hessian beat the natural one", "[order]") {
  double loss[4] = {};
  for (std::uint32_t seed = 1; seed <= 4; ++seed) {
    const Layer layer =
        random_layer({.out = 32, .in = 256, .tokens = 800, .seed = seed, .correlation = 0.9});
    for (const Order order : all_orders)
      loss[static_cast<int>(order)] +=
          quantize<Int4, Cpu>(layer, {.group_size = 64, .order = order}).report().relative_error;
  }
  CHECK(loss[1] < 0.9 * loss[0]);
  CHECK(loss[2] < 0.98 * loss[0]);
  CHECK(loss[3] < 0.9 * loss[0]);
}

TEST_CASE("the codes do not change with the scale of the Hessian", "[solver][identity]") {
  Layer layer = random_layer({.out = 12, .in = 64});
  const auto expected = quantize<Int3, Reference>(layer, {.group_size = 32});
  for (double& x : layer.activations.data) x *= 1024;
  test::round_to_float(layer);
  CHECK(test::code_differences(quantize<Int3, Reference>(layer, {.group_size = 32}), expected) ==
        0);
}

TEST_CASE("damping by each input's own diagonal does not depend on the scale of an input",
          "[damping][identity]") {
  const Layer layer = random_layer({.out = 10, .in = 48});
  Layer scaled = layer;
  for (Index t = 0; t < scaled.activations.rows; ++t) scaled.activations(t, 7) /= 16;
  for (Index r = 0; r < scaled.weight.rows; ++r) scaled.weight(r, 7) *= 16;
  test::round_to_float(scaled);
  // One group per input, so that grids scale with the weights.
  for (const auto rule : {DampingRule::own_diagonal, DampingRule::mean_diagonal}) {
    const Params params{.group_size = 1,
                        .order = Order::natural,
                        .damping = 0.1,
                        .damping_rule = rule,
                        .range = Range::minmax};
    const double a = quantize<Int3, Reference>(layer, params).report().loss;
    const double b = quantize<Int3, Reference>(scaled, params).report().loss;
    if (rule == DampingRule::own_diagonal) CHECK(a == Approx(b).epsilon(1e-9));
    else CHECK(a != Approx(b).epsilon(1e-6));
  }
}

TEST_CASE("the condition number of the damped Hessian is estimated", "[damping]") {
  const Index n = 64;
  Layer layer = random_layer({.out = 4, .in = n, .tokens = n});
  for (Index t = 0; t < n; ++t)
    for (Index j = 0; j < n; ++j) layer.activations(t, j) = t == j ? (j == 9 ? 100 : 1) * 8.0 : 0;
  test::round_to_float(layer);
  const Params params{.group_size = -1, .damping = 1e-6, .estimate_condition = true};
  const double mean = (10000.0 + 63) / 64, lambda = 1e-6 * mean;
  CHECK(quantize<Int4, Cpu>(layer, params).report().damping.condition ==
        Approx((10000 + lambda) / (1 + lambda)).epsilon(0.02));
  CHECK(std::isnan(quantize<Int4, Cpu>(layer, {.group_size = -1}).report().damping.condition));
}

TEST_CASE("a factorization in double precision makes a better factor", "[damping]") {
  const Layer layer =
      random_layer({.out = 4, .in = 200, .tokens = 150, .correlation = 0.999, .outlier = 300});
  // From the same sum, so that only the factorization differs.
  const auto sum = test::calibrate<Cpu>(layer);
  const auto same_sum = gptq::Hessian<Reference>::from_sum(sum.sum().view(), sum.tokens());
  const auto error = [&](bool in_double) {
    Params params{.group_size = -1, .order = Order::natural, .damping = 1e-6};
    params.factor_in_double = in_double;
    const auto factor = gptq::factorize(sum, params);
    const auto exact = gptq::factorize(same_sum, params);
    double worst = 0;
    for (std::size_t p = 0; p < 200; ++p)
      worst = std::max(worst, std::abs(factor.layout.pivots()[p] / exact.layout.pivots()[p] - 1));
    return worst;
  };
  CHECK(error(true) < 1e-5);
  CHECK(error(false) > 10 * error(true));
}

TEST_CASE("a factor made for the other form is refused", "[solver]") {
  const Layer layer = random_layer({.out = 4, .in = 32});
  const auto hessian = test::calibrate<Cpu>(layer);
  const gptq::Quantizer<Int4, Cpu> left({.group_size = 32}),
      lazy({.group_size = 32, .solver = Solver::lazy_batch});
  CHECK_THROWS_WITH(lazy.quantize(layer.w(), left.factorize(hessian)),
                    ContainsSubstring("Solver::lazy_batch"));
  CHECK(test::code_differences(left.quantize(layer.w(), lazy.factorize(hessian)),
                               left.quantize(layer.w(), hessian)) == 0);
}
