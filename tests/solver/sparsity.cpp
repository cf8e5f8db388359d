// SPDX-License-Identifier: MIT

// N:M sparsity, chosen in the loop that rounds (SparseGPT).

#include "../support/catch.hpp"
#include "../support/layer.hpp"
#include "../support/paper.hpp"

#include <algorithm>
#include <numeric>
#include <vector>

using gptq::Index;
using gptq::Order;
using gptq::Params;
using gptq::Solver;
using gptq::Sparsity;
using gptq::scheme::Asymmetric;
using gptq::scheme::Float4;
using gptq::scheme::Int4;
using gptq::scheme::Int8;
using gptq::scheme::NF4;
using test::Layer;
using test::Matrix;
using test::quantize;
using test::random_layer;
using Cpu = gptq::backend::Cpu;
using Reference = gptq::backend::Reference;

namespace {

Params sparse(Sparsity sparsity, Solver solver = Solver::left_looking) {
  Params params{.group_size = 32, .allow_tail_group = true, .order = Order::natural};
  params.solver = solver;
  params.sparsity = sparsity;
  params.block_size = 48;
  return params;
}

/// The paper's loop with an inverse at every step; at the start of each pattern, the columns with
/// the smallest w²/[H⁻¹]_jj, w as compensated by then, become zeros. [H⁻¹]_jj is that of the
/// columns from j on.
template <class Round>
Matrix sparse_gptq(Matrix weight, const Matrix& damped, Sparsity sparsity, const Round& round) {
  const Index n = weight.cols, rows = weight.rows;
  Matrix out(rows, n), zero(rows, n);
  const auto inverse_from = [&](Index j) {
    Matrix rest(n - j, n - j);
    for (Index a = j; a < n; ++a)
      for (Index b = j; b < n; ++b) rest(a - j, b - j) = damped(a, b);
    return test::inverse(rest);
  };
  for (Index j = 0; j < n; ++j) {
    if (j % sparsity.of == 0) {
      std::vector<double> pivot;
      for (Index k = j; k < j + sparsity.of; ++k) pivot.push_back(1 / inverse_from(k)(0, 0));
      for (Index r = 0; r < rows; ++r) {
        std::vector<Index> order(static_cast<std::size_t>(sparsity.of));
        std::iota(order.begin(), order.end(), j);
        std::stable_sort(order.begin(), order.end(), [&](Index a, Index b) {
          return weight(r, a) * weight(r, a) * pivot[static_cast<std::size_t>(a - j)] <
                 weight(r, b) * weight(r, b) * pivot[static_cast<std::size_t>(b - j)];
        });
        for (Index k = 0; k < sparsity.zeros; ++k) zero(r, order[static_cast<std::size_t>(k)]) = 1;
      }
    }
    const Matrix inv = inverse_from(j);
    for (Index r = 0; r < rows; ++r) {
      out(r, j) = zero(r, j) != 0 ? 0 : round(r, j, weight(r, j));
      const double error = (weight(r, j) - out(r, j)) / inv(0, 0);
      for (Index k = j + 1; k < n; ++k) weight(r, k) -= error * inv(0, k - j);
    }
  }
  return out;
}

template <class S>
Index fewest_zeros(const gptq::QuantizedMatrix<S>& q, Index of) {
  Index fewest = of;
  for (Index r = 0; r < q.rows(); ++r)
    for (Index c = 0; c < q.cols(); c += of) {
      Index zeros = 0;
      for (Index k = 0; k < of; ++k) zeros += q(r, c + k) == 0;
      fewest = std::min(fewest, zeros);
    }
  return fewest;
}

}  // namespace

TEMPLATE_TEST_CASE("zeros are chosen as the loop with an explicit inverse chooses them",
                   "[solver][sparsity][oracle]", Int4, Asymmetric<3>, NF4, Float4) {
  const Layer layer = random_layer({.out = 10, .in = 48, .tokens = 90, .correlation = 0.7});
  const Matrix h = test::damped(layer);
  for (const Sparsity sparsity : {Sparsity{2, 4}, Sparsity{1, 2}, Sparsity{3, 8}, Sparsity{8, 16}})
    for (const Solver solver : {Solver::left_looking, Solver::lazy_batch}) {
      INFO(sparsity.zeros << " of " << sparsity.of << ", solver " << static_cast<int>(solver));
      const auto q = quantize<TestType, Reference>(layer, sparse(sparsity, solver));
      const auto expected = sparse_gptq(layer.weight, h, sparsity, test::round_on_grids_of(q));
      for (Index r = 0; r < q.rows(); ++r)
        for (Index c = 0; c < q.cols(); ++c)
          CHECK(static_cast<double>(q(r, c)) == Approx(expected(r, c)).margin(1e-6));
    }
}

TEST_CASE("every pattern holds, with every tail, form and precision", "[solver][sparsity]") {
  for (const Index in : {16, 20, 28, 96, 200})
    for (const Sparsity sparsity : {Sparsity{1, 2}, Sparsity{2, 4}, Sparsity{3, 4}})
      for (const Solver solver : {Solver::left_looking, Solver::lazy_batch}) {
        INFO(in << " inputs, " << sparsity.zeros << " of " << sparsity.of);
        const Layer layer = random_layer({.out = 19, .in = in, .correlation = 0.8});
        const auto fast = quantize<Int4, Cpu>(layer, sparse(sparsity, solver));
        CHECK(fewest_zeros(fast, sparsity.of) >= sparsity.zeros);
        const auto exact = quantize<Int4, Reference>(layer, sparse(sparsity, solver));
        CHECK(test::code_differences(fast, exact) <= fast.rows() * fast.cols() / 500);
      }
}

TEST_CASE("choosing and rounding together beats pruning by size, and either order of the two",
          "[solver][sparsity]") {
  const Layer layer = random_layer({.out = 32, .in = 192, .tokens = 800, .correlation = 0.9});
  Params exact = sparse({2, 4});
  exact.measure = gptq::Measure::full;
  const auto together = quantize<Int4, Cpu>(layer, exact);
  // The baseline of the report: smallest weights to zero, the others to nearest.
  CHECK(together.report().relative_error < 0.6 * together.report().rtn_relative_error);

  Params params = sparse({2, 4});
  params.range = gptq::Range::minmax;
  const auto baseline = gptq::baseline::round_to_nearest<Int4>(layer.w(), params, Cpu{});
  CHECK(fewest_zeros(baseline, 4) >= 2);
  const Matrix h = test::hessian_of(layer);
  CHECK(test::quadratic_form(test::error_of_weight(layer, baseline), h) /
            test::quadratic_form(layer.weight, h) ==
        Approx(together.report().rtn_relative_error).epsilon(1e-3));

  // Zeros first and GPTQ on the result, which makes some of them non-zero again: had they been
  // kept, the loss could only be larger.
  Layer pruned = layer;
  for (Index r = 0; r < 32; ++r)
    for (Index c = 0; c < 192; ++c) {
      if (baseline(r, c) == 0) pruned.weight(r, c) = 0;
    }
  test::round_to_float(pruned);
  const auto after = quantize<Int4, Cpu>(pruned, sparse({}));
  CHECK(together.report().loss < test::quadratic_form(test::error_of_weight(layer, after), h));
}

TEST_CASE("with uncorrelated inputs the smallest weights become zero", "[solver][sparsity]") {
  Layer layer = random_layer({.out = 8, .in = 64, .tokens = 64});
  layer.activations = Matrix(64, 64);
  for (Index i = 0; i < 64; ++i) layer.activations(i, i) = 8;
  test::round_to_float(layer);
  Params params = sparse({2, 4});
  params.range = gptq::Range::minmax;
  const auto q = quantize<Int8, Reference>(layer, params);
  const auto nearest = gptq::baseline::round_to_nearest<Int8>(layer.w(), params, Reference{});
  CHECK(test::code_differences(q, nearest) == 0);
}

TEST_CASE("threads do not change a sparse result", "[solver][sparsity][threads]") {
  const Layer layer = random_layer({.out = 70, .in = 128});
  const auto one = quantize<Int4, Cpu>(layer, sparse({2, 4}), Cpu(gptq::exec::Threads(1)));
  for (const int threads : {2, 3, 8})
    CHECK(test::code_differences(one, quantize<Int4, Cpu>(layer, sparse({2, 4}),
                                                          Cpu(gptq::exec::Threads(threads)))) == 0);
}

namespace {

/// A grid of four numbers, none of which is zero.
struct Midrise {
  static constexpr int bits = 2, max_code = 3;
  template <class T>
  T encode(const T& x, const gptq::scheme::Grid<T>& g) const {
    using gptq::lane::clamp, gptq::lane::round_even;
    return clamp(round_even(x / g.scale + T(1.5f)), T(0), T(3));
  }
  template <class T>
  T decode(const T& code, const gptq::scheme::Grid<T>& g) const {
    return (code - T(1.5f)) * g.scale;
  }
  template <class T>
  gptq::scheme::Grid<T> fit(const T& low, const T& high, const gptq::scheme::ScaleRounding&) const {
    return {(high - low) * T(1.0f / 3), T(0)};
  }
};

}  // namespace

TEST_CASE("settings that a sparsity pattern cannot be combined with are refused",
          "[solver][sparsity][errors]") {
  const auto refused = [](Params params, const char* text) {
    CHECK_THROWS_WITH((gptq::Quantizer<Int4, Cpu>(params)), ContainsSubstring(text));
  };
  Params params = sparse({2, 4});
  params.order = Order::act;
  refused(params, "sparsity needs Order::natural");
  refused(sparse({5, 4}), "sparsity = 5 zeros of 4");
  refused(sparse({2, 5}), "sparsity = 2 zeros of 5");
  refused(sparse({-1, 4}), "sparsity = -1 zeros of 4");
  params = sparse({2, 4});
  params.block_size = 6;
  refused(params, "block_size = 6");
  params = sparse({2, 4});
  params.group_size = 30;
  refused(params, "group_size = 30");
  CHECK_THROWS_WITH((quantize<Int4, Cpu>(random_layer({.in = 30}), sparse({2, 4}))),
                    ContainsSubstring("sparsity.of = 4 does not divide in_features = 30"));
  CHECK_THROWS_WITH((gptq::Quantizer<Midrise, Cpu>(sparse({2, 4}))),
                    ContainsSubstring("sparsity needs a scheme whose grids have a zero"));
}
