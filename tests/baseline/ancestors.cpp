// SPDX-License-Identifier: MIT

// OBD, OBS, OBC and OBQ checked against each other and against brute force, and GPTQ against them.

#include "../support/catch.hpp"
#include "../support/layer.hpp"
#include "../support/paper.hpp"

#include <tuple>

using gptq::Index;
using gptq::MatrixView;
using gptq::Order;
using gptq::Params;
using gptq::baseline::Dense;
using gptq::scheme::Affine;
using test::damped;
using test::Layer;
using test::Matrix;
using Reference = gptq::backend::Reference;

namespace {

MatrixView<const double> view(const Matrix& m) { return {m.data.data(), m.rows, m.cols}; }

double loss_of(const Layer& layer, const Dense& changed, const Matrix& h) {
  Matrix d(layer.weight.rows, layer.weight.cols);
  for (Index r = 0; r < d.rows; ++r)
    for (Index c = 0; c < d.cols; ++c) d(r, c) = layer.weight(r, c) - changed(r, c);
  return test::quadratic_form(d, h);
}

Index zeros_of(const Dense& m, Index row) {
  Index count = 0;
  for (Index c = 0; c < m.cols(); ++c) count += m(row, c) == 0.0;
  return count;
}

}  // namespace

TEST_CASE("an inverse Hessian is one, and stays the inverse for the inputs that are left",
          "[baseline]") {
  const Layer layer = test::random_layer({.out = 1, .in = 12});
  const Matrix h = damped(layer);
  gptq::baseline::InverseHessian inverse(view(h));
  for (const Index q : {3, 8, 0}) inverse.fix(q);
  for (Index i = 0; i < 12; ++i)
    for (Index j = 0; j < 12; ++j) {
      if (!inverse.free(i) || !inverse.free(j)) continue;
      double product = 0;
      for (Index k = 0; k < 12; ++k)
        if (inverse.free(k)) product += h(i, k) * inverse(k, j);
      CHECK(product == Approx(i == j ? 1.0 : 0.0).margin(1e-10));
    }
  CHECK_THROWS_AS(gptq::baseline::InverseHessian(view(Matrix(3, 3))), gptq::NumericalError);
}

TEST_CASE("OBC makes the choices of OBS, and reports its actual loss", "[baseline]") {
  const Layer layer = test::random_layer({.out = 5, .in = 16, .tokens = 40});
  const Matrix h = damped(layer);
  for (const Index count : {0, 1, 6, 16}) {
    const auto obs = gptq::baseline::prune_obs(view(layer.weight), view(h), count);
    const auto obc = gptq::baseline::prune_obc(view(layer.weight), view(h), count);
    const auto obd = gptq::baseline::prune_obd(view(layer.weight), view(h), count);
    for (Index r = 0; r < 5; ++r) {
      for (Index c = 0; c < 16; ++c)
        CHECK(obc.weight(r, c) == Approx(obs.weight(r, c)).margin(1e-9));
      CHECK(zeros_of(obc.weight, r) == count);
      CHECK(zeros_of(obd.weight, r) == count);
    }
    CHECK(obc.loss == Approx(loss_of(layer, obc.weight, h)).margin(1e-12));
    CHECK(obs.loss == Approx(obc.loss).margin(1e-12));
    CHECK(obd.loss == Approx(loss_of(layer, obd.weight, h)).margin(1e-12));
    CHECK(obc.loss <= obd.loss * (1 + 1e-12));
  }
  CHECK_THROWS_AS(gptq::baseline::prune_obc(view(layer.weight), view(h), 17),
                  gptq::InvalidArgument);
}

TEST_CASE("OBC can keep an N:M pattern", "[baseline]") {
  const Layer layer = test::random_layer({.out = 6, .in = 24});
  const Matrix h = damped(layer);
  const auto pruned = gptq::baseline::prune_obc(view(layer.weight), view(h), 12, {2, 4});
  for (Index r = 0; r < 6; ++r)
    for (Index block = 0; block < 24; block += 4) {
      int zeros = 0;
      for (Index c = block; c < block + 4; ++c) zeros += pruned.weight(r, c) == 0.0;
      CHECK(zeros == 2);
    }
  CHECK(pruned.loss == Approx(loss_of(layer, pruned.weight, h)));
  CHECK(pruned.loss >= gptq::baseline::prune_obc(view(layer.weight), view(h), 12).loss * 0.999);
  CHECK_THROWS_AS(gptq::baseline::prune_obc(view(layer.weight), view(h), 13, {2, 4}),
                  gptq::InvalidArgument);
}

TEST_CASE("the ancestors refuse inputs that do not fit", "[baseline][errors]") {
  namespace gb = gptq::baseline;
  const Layer layer = test::random_layer({.out = 2, .in = 6, .tokens = 30});
  const Matrix h = damped(layer);
  const auto w = view(layer.weight), small = view(h).block(0, 0, 5, 5);
  const auto round = [](Index, Index, double x) { return std::round(x); };
  using Wrong = gptq::InvalidArgument;
  CHECK_THROWS_AS(gb::prune_obd(w, small, 1), Wrong);
  CHECK_THROWS_AS(gb::prune_obs(w, small, 1), Wrong);
  CHECK_THROWS_AS(gb::prune_obc(w, small, 1), Wrong);
  CHECK_THROWS_AS(gb::optimal_brain_quantize(w, small, round), Wrong);
  CHECK_THROWS_AS(gb::prune_obc(w, view(h), 2, {2, 4}), Wrong);  // 4 does not divide 6
  CHECK_THROWS_AS(gb::prune_obc(w, view(h), 2, {4, 3}), Wrong);
  CHECK_THROWS_AS(gb::prune_obc(w, view(h), 2, {-1, 3}), Wrong);
  const std::vector<Index> twice{0, 0, 1, 2, 3, 4}, beyond{0, 1, 2, 3, 4, 6};
  CHECK_THROWS_AS(gb::optimal_brain_quantize(w, view(h), round, twice), Wrong);
  CHECK_THROWS_AS(gb::optimal_brain_quantize(w, view(h), round, beyond), Wrong);
  CHECK_THROWS_AS(gb::round_to_nearest<gptq::scheme::Int4>(
                      gptq::MatrixView<const float>(layer.weight_f.data(), 2, 0),
                      gptq::Params{.group_size = -1}, Reference{}),
                  Wrong);
}

TEMPLATE_TEST_CASE("GPTQ is OBQ in a fixed order, for every order and in both forms",
                   "[baseline][oracle]", Affine<2>, Affine<4>, gptq::scheme::Asymmetric<3>,
                   gptq::scheme::NF4, gptq::scheme::Float4) {
  const Layer layer = test::random_layer({.out = 6, .in = 28, .tokens = 60});
  std::vector<std::tuple<gptq::Solver, gptq::Groups, Index>> settings;
  for (const auto solver : {gptq::Solver::left_looking, gptq::Solver::lazy_batch})
    for (const auto groups : {gptq::Groups::static_, gptq::Groups::dynamic})
      for (const Index block : {1, 3, 5, 8, 28}) settings.emplace_back(solver, groups, block);
  for (const Order order : {Order::natural, Order::act, Order::group_aware, Order::min_pivot})
    for (const auto& [solver, groups, block] : settings) {
      Params params{.group_size = 14, .order = order, .groups = groups, .block_size = block};
      params.solver = solver;
      const auto hessian = test::calibrate<Reference>(layer);
      const auto factor = gptq::factorize(hessian, params);
      const auto q = gptq::Quantizer<TestType, Reference>(params).quantize(layer.w(), hessian);
      const auto obq =
          gptq::baseline::optimal_brain_quantize(view(layer.weight), view(damped(layer)),
                                                 test::round_on_grids_of(q), factor.layout.order());
      for (Index r = 0; r < 6; ++r)
        for (Index c = 0; c < 28; ++c)
          CHECK(static_cast<double>(q(r, c)) == Approx(obq.weight(r, c)).margin(1e-6));
      CHECK(q.report().damped_loss == Approx(obq.loss).epsilon(1e-6));
    }
}

TEST_CASE("nothing beats brute force, and act order beats its opposite", "[baseline][oracle]") {
  using Scheme = Affine<2>;
  double greedy = 0, backwards = 0, best_of_all = 0, gptq_loss = 0;
  for (std::uint32_t seed = 1; seed <= 20; ++seed) {
    const Layer layer =
        test::random_layer({.out = 1, .in = 5, .tokens = 12, .seed = seed, .correlation = 0.9});
    const Matrix h = damped(layer);
    const auto hessian = test::calibrate<Reference>(layer);
    const auto q =
        gptq::Quantizer<Scheme, Reference>({.group_size = 5}).quantize(layer.w(), hessian);
    const gptq::scheme::Grid<double> grid{static_cast<double>(q.scales()(0, 0)),
                                          static_cast<double>(q.zeros()(0, 0))};
    const auto round = [&](Index, Index, double x) {
      return Scheme{}.decode(Scheme{}.encode(x, grid), grid);
    };
    double least = 1e300;
    Matrix d(1, 5);
    for (int codes = 0; codes < 1024; ++codes) {
      for (Index c = 0; c < 5; ++c)
        d(0, c) = layer.weight(0, c) - Scheme{}.decode(double(codes >> (2 * c) & 3), grid);
      least = std::min(least, test::quadratic_form(d, h));
    }
    const auto obq = gptq::baseline::optimal_brain_quantize(view(layer.weight), view(h), round);
    std::vector<Index> order = gptq::column_order(
        Order::act, std::vector<double>{h(0, 0), h(1, 1), h(2, 2), h(3, 3), h(4, 4)}, 5);
    std::reverse(order.begin(), order.end());
    const auto worst =
        gptq::baseline::optimal_brain_quantize(view(layer.weight), view(h), round, order);
    CHECK(q.report().damped_loss >= least * (1 - 1e-9));
    CHECK(obq.loss >= least * (1 - 1e-9));
    CHECK(worst.loss >= least * (1 - 1e-9));
    best_of_all += least / 20;
    greedy += obq.loss / 20;
    gptq_loss += q.report().damped_loss / 20;
    backwards += worst.loss / 20;
  }
  CHECK(greedy < 4 * best_of_all);
  CHECK(gptq_loss < backwards);
  CHECK(gptq_loss < 4 * best_of_all);
}

TEST_CASE("the ancestors name an element that is not finite", "[baseline][fault29]") {
  std::vector<double> w(8, 1.0), h(16, 0.0);
  for (std::size_t i = 0; i < 4; ++i) h[5 * i] = 2;
  const auto check = [&](const std::string& says) {
    const gptq::MatrixView<const double> weight(w.data(), 2, 4), hessian(h.data(), 4, 4);
    using namespace gptq::baseline;
    CHECK(error_of<gptq::NumericalError>([&] { prune_obd(weight, hessian, 2); }) == says);
    CHECK(error_of<gptq::NumericalError>([&] { prune_obs(weight, hessian, 2); }) == says);
    CHECK(error_of<gptq::NumericalError>([&] { prune_obc(weight, hessian, 2); }) == says);
    CHECK(error_of<gptq::NumericalError>([&] {
            optimal_brain_quantize(weight, hessian, [](Index, Index, double x) { return x; });
          }) == says);
  };
  w[6] = INFINITY;
  check("weight(1, 2) = inf is not finite");
  w[6] = 1;
  h[4] = -INFINITY;
  check("Hessian(1, 0) = -inf is not finite");
}
