// SPDX-License-Identifier: MIT

// Equations that the solver must satisfy exactly, and its results on tokens that it was not
// calibrated on. More of this kind: losses and oracles in solver.cpp, baseline/ancestors.cpp.

#include "../support/catch.hpp"
#include "../support/layer.hpp"
#include "../support/paper.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <vector>

using gptq::Index;
using gptq::Order;
using gptq::Params;
using gptq::Range;
using gptq::scheme::Int4;
using gptq::scheme::Int8;
using test::Layer;
using test::Matrix;
using test::quantize;
using test::random_layer;
using Cpu = gptq::backend::Cpu;
using Reference = gptq::backend::Reference;

TEST_CASE("leading blocks of the factor are those of Schur complements", "[solver][identity]") {
  const Layer layer = random_layer({.in = 24, .tokens = 60});
  Params params{.group_size = -1, .order = Order::natural};
  params.solver = gptq::Solver::lazy_batch;
  const auto factor = gptq::factorize(test::calibrate<Reference>(layer), params);
  Matrix h = test::hessian_of(layer);
  for (Index i = 0; i < 24; ++i) h(i, i) += factor.added[static_cast<std::size_t>(i)];
  const auto square = [&](Index first, Index last, Index i, Index j) {  // (R·Rᵀ)(i, j) of a block
    double x = 0;
    for (Index k = std::max({first, i, j}); k < last; ++k) x += factor.r(i, k) * factor.r(j, k);
    return x;
  };
  for (const Index cut : {1, 7, 23}) {
    Matrix trailing(24 - cut, 24 - cut);
    for (Index i = cut; i < 24; ++i)
      for (Index j = cut; j < 24; ++j) {
        trailing(i - cut, j - cut) = h(i, j);
        CHECK(square(cut, 24, i, j) == Approx(h(i, j)).epsilon(1e-10).margin(1e-12));
      }
    const Matrix inverse = test::inverse(trailing);
    for (Index i = 0; i < cut; ++i)
      for (Index j = 0; j < cut; ++j) {
        double schur = h(i, j);
        for (Index k = cut; k < 24; ++k)
          for (Index l = cut; l < 24; ++l) schur -= h(i, k) * inverse(k - cut, l - cut) * h(l, j);
        CHECK(square(0, cut, i, j) == Approx(schur).epsilon(1e-10).margin(1e-10));
      }
  }
  for (Index i = 0; i < 24; ++i)
    for (Index j = i; j < 24; ++j) {
      double x = 0;
      for (Index k = i; k <= j; ++k) x += factor.inverse(i, k) * factor.r(k, j);
      CHECK(x == Approx(i == j ? 1.0 : 0.0).epsilon(1e-10).margin(1e-10));
    }
  // U = R⁻¹ is the paper's factor: UᵀU = H⁻¹.
  const Matrix inverse = test::inverse(h);
  for (Index i = 0; i < 24; ++i)
    for (Index j = 0; j < 24; ++j) {
      double x = 0;
      for (Index k = 0; k <= std::min(i, j); ++k) x += factor.inverse(k, i) * factor.inverse(k, j);
      CHECK(x == Approx(inverse(i, j)).epsilon(1e-10).margin(1e-10));
    }
}

TEST_CASE("rows of the paper's factor over their diagonals invert the LDL factor",
          "[solver][identity]") {
  const Index n = 24;
  const Layer layer = random_layer({.in = n, .tokens = 60});
  Params params{.group_size = -1, .order = Order::natural};
  params.solver = gptq::Solver::lazy_batch;
  const auto factor = gptq::factorize(test::calibrate<Reference>(layer), params);
  Matrix h = test::hessian_of(layer);
  for (Index i = 0; i < n; ++i) h(i, i) += factor.added[static_cast<std::size_t>(i)];
  // H = L̃·D·L̃ᵀ, L̃ upper triangular with ones on its diagonal, from the last column on.
  Matrix l(n, n);
  for (Index k = n - 1; k >= 0; --k) {
    for (Index i = 0; i <= k; ++i) l(i, k) = h(i, k) / h(k, k);
    for (Index i = 0; i < k; ++i)
      for (Index j = 0; j < k; ++j) h(i, j) -= l(i, k) * l(j, k) * h(k, k);
    CHECK(h(k, k) == Approx(factor.layout.pivots()[static_cast<std::size_t>(k)]).epsilon(1e-10));
  }
  for (Index i = 0; i < n; ++i)
    for (Index j = 0; j < n; ++j) {
      double x = 0;
      for (Index k = i; k <= j; ++k) x += factor.inverse(i, k) / factor.inverse(i, i) * l(k, j);
      CHECK(x == Approx(i == j ? 1.0 : 0.0).epsilon(1e-10).margin(1e-10));
    }
}

TEST_CASE("two inputs: the second compensates for the first as the closed form says",
          "[solver][identity]") {
  for (std::uint32_t seed = 1; seed <= 30; ++seed) {
    const Layer layer =
        random_layer({.out = 5, .in = 2, .tokens = 20, .seed = seed, .correlation = 0.8});
    const Matrix h = test::damped(layer);
    const auto q = quantize<Int4, Reference>(layer, {.group_size = -1, .order = Order::natural});
    const auto nearest = test::round_on_grids_of(q);
    for (Index r = 0; r < 5; ++r) {
      const double first = nearest(r, 0, layer.weight(r, 0));
      const double second =
          nearest(r, 1, layer.weight(r, 1) + (layer.weight(r, 0) - first) * h(0, 1) / h(1, 1));
      CHECK(static_cast<double>(q(r, 0)) == Approx(first).margin(1e-9));
      CHECK(static_cast<double>(q(r, 1)) == Approx(second).margin(1e-9));
    }
  }
}

TEST_CASE("permuting the inputs permutes the result", "[solver][identity]") {
  const Layer layer = random_layer({.out = 9, .in = 40, .tokens = 120});
  std::vector<Index> shuffled(40);
  std::iota(shuffled.begin(), shuffled.end(), Index{0});
  std::shuffle(shuffled.begin(), shuffled.end(), std::mt19937(3));
  Layer moved = layer;
  for (Index c = 0; c < 40; ++c) {
    const Index from = shuffled[static_cast<std::size_t>(c)];
    for (Index r = 0; r < 9; ++r) moved.weight(r, c) = layer.weight(r, from);
    for (Index t = 0; t < 120; ++t) moved.activations(t, c) = layer.activations(t, from);
  }
  test::round_to_float(moved);
  for (const Order order : {Order::act, Order::min_pivot}) {
    const Params params{.group_size = -1, .order = order};
    const auto a = quantize<Int4, Reference>(layer, params),
               b = quantize<Int4, Reference>(moved, params);
    CHECK(a.report().loss == Approx(b.report().loss).epsilon(1e-9));
    for (Index r = 0; r < 9; ++r)
      for (Index c = 0; c < 40; ++c)
        CHECK(a.codes()(r, shuffled[static_cast<std::size_t>(c)]) == b.codes()(r, c));
  }
}

TEST_CASE("choices that lower the loss also lower it on unseen tokens", "[solver][identity]") {
  constexpr Index n = 96;
  for (const double share : {0.75, 2.0, 16.0}) {  // tokens per input
    INFO(share << " tokens per input");
    const auto tokens = static_cast<Index>(share * n);
    // One layer, one source of activations: the first tokens calibrate, the others evaluate.
    Layer layer = random_layer({.out = 48, .in = n, .tokens = tokens + 2000, .correlation = 0.8});
    Layer judge = layer;
    judge.activations = Matrix(2000, n);
    std::copy(layer.activations.data.begin() + tokens * n, layer.activations.data.end(),
              judge.activations.data.begin());
    layer.activations.data.resize(static_cast<std::size_t>(tokens * n));
    layer.activations.rows = tokens;
    test::round_to_float(layer);
    const Matrix h = test::hessian_of(judge);
    const auto loss = [&](const auto& q) {
      return test::quadratic_form(test::error_of_weight(layer, q), h);
    };
    Params plain{.group_size = 32, .order = Order::natural, .range = Range::minmax};
    plain.signed_scales = false;
    const double nearest = loss(gptq::baseline::round_to_nearest<Int4>(layer.w(), plain, Cpu{}));
    const double minmax = loss(quantize<Int4, Cpu>(layer, plain));
    const double ours = loss(quantize<Int4, Cpu>(layer, {.group_size = 32}));
    CHECK(minmax < nearest);
    CHECK(ours < minmax);
  }
}
