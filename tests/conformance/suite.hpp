// SPDX-License-Identifier: MIT
#pragma once

// What every backend must do, operation by operation, against plain loops. A new backend is one
// line in a test file.

#include "../support/catch.hpp"
#include "../support/layer.hpp"

#include <gptq/backend/concept.hpp>

#include <numeric>

namespace test {

template <class B>
Matrix download(const B& backend, const typename B::Matrix& matrix, Index rows, Index cols) {
  Matrix out(rows, cols);
  backend.download(matrix, gptq::MatrixView<double>(out.data.data(), rows, cols));
  return out;
}

inline void require_close(const Matrix& a, const Matrix& b, double tolerance, bool upper = false) {
  double size = 0;
  for (const double x : b.data) size = std::max(size, std::abs(x));
  for (Index r = 0; r < b.rows; ++r)
    for (Index c = upper ? r : 0; c < b.cols; ++c)
      REQUIRE(std::abs(a(r, c) - b(r, c)) <= tolerance * size);
}

/// \param tolerance  relative error allowed in sums of a few hundred terms
template <class B>
  requires gptq::backend::Backend<B>
void test_backend(const B& backend, double tolerance) {
  for (const Index n : {1, 5, 64, 130, 261}) {
    INFO("n = " << n);
    const Layer layer = random_layer(
        {.out = 37, .in = n, .tokens = 2 * n + 10, .seed = static_cast<std::uint32_t>(n)});

    // upload, download: any strides
    require_close(download(backend, backend.upload(layer.w()), 37, n), layer.weight, 1e-7);
    Matrix transposed(n, 37);
    backend.download(backend.upload(layer.w()),
                     gptq::MatrixView<double>(transposed.data.data(), 37, n, 1, 37));
    CHECK(transposed(n - 1, 36) == Approx(layer.weight(36, n - 1)));
    CHECK(backend.find_non_finite(layer.w()) == -1);

    // accumulate, add, diagonal
    auto sum = backend.zeros(n, n);
    std::vector<float> weights(static_cast<std::size_t>(layer.activations.rows));
    for (std::size_t t = 0; t < weights.size(); ++t) weights[t] = static_cast<float>(t % 3);
    backend.accumulate(sum, layer.x(), weights.data());
    Matrix expected(n, n);
    for (Index t = 0; t < layer.activations.rows; ++t)
      for (Index i = 0; i < n; ++i)
        for (Index j = 0; j < n; ++j)
          expected(i, j) +=
              static_cast<double>(t % 3) * layer.activations(t, i) * layer.activations(t, j);
    require_close(download(backend, sum, n, n), expected, tolerance, true);
    auto plain = backend.zeros(n, n);
    backend.accumulate(plain, layer.x(), nullptr);
    backend.add(sum, plain);
    Matrix h = hessian_of(layer);
    for (Index i = 0; i < n * n; ++i)
      expected.data[static_cast<std::size_t>(i)] +=
          h.data[static_cast<std::size_t>(i)] * static_cast<double>(layer.activations.rows);
    require_close(download(backend, sum, n, n), expected, tolerance, true);
    const auto diagonal = backend.diagonal(sum);
    for (Index i = 0; i < n; ++i)
      CHECK(diagonal[static_cast<std::size_t>(i)] ==
            Approx(expected(i, i)).epsilon(10 * tolerance));

    // arrange, factorize
    std::vector<Index> order(static_cast<std::size_t>(n));
    std::iota(order.rbegin(), order.rend(), Index{0});
    if (n > 3) std::swap(order[0], order[2]);
    std::vector<double> added(static_cast<std::size_t>(n));
    for (Index i = 0; i < n; ++i) added[static_cast<std::size_t>(i)] = 0.1 * h(i, i) + 0.01;
    const double scale = 1.0 / static_cast<double>(layer.activations.rows);
    auto factor = backend.arrange(plain, order, scale, added);
    Matrix arranged(n, n);
    for (Index i = 0; i < n; ++i)
      for (Index j = 0; j < n; ++j)
        arranged(i, j) = h(order[static_cast<std::size_t>(i)], order[static_cast<std::size_t>(j)]) +
                         (i == j ? added[static_cast<std::size_t>(i)] : 0);
    require_close(download(backend, factor, n, n), arranged, tolerance, true);
    REQUIRE(backend.factorize(factor) == -1);
    const Matrix r = download(backend, factor, n, n);
    Matrix product(n, n);
    for (Index i = 0; i < n; ++i)
      for (Index j = i; j < n; ++j)
        for (Index k = j; k < n; ++k) product(i, j) += r(i, k) * r(j, k);
    require_close(product, arranged, tolerance, true);

    // one panel: load, propagate, compensate, energy
    gptq::ColumnLayout layout(order, 8);
    std::atomic<Index> rows_seen{0};
    backend.for_panels(37, [&](const auto& worker, Index first, Index rows) {
      rows_seen += rows;
      if (first > 0) return;
      auto panel = worker.load_panel(layer.w(), first, rows, layout, 1);
      const Index width = panel.weight.cols();
      const Matrix w = download(backend, panel.weight, n, width);
      for (Index p = 0; p < n; ++p)
        for (Index q = 0; q < rows; ++q)
          REQUIRE(w(p, q) == Approx(layer.weight(q, order[static_cast<std::size_t>(p)])));
      double energy = 0;
      for (Index q = 0; q < rows; ++q)
        for (Index j = 0; j < n; ++j) {
          double x = 0;
          for (Index k = 0; k <= j; ++k) x += w(k, q) * r(k, j);
          energy += x * x;
        }
      CHECK(worker.energy(factor, panel.weight, rows) == Approx(energy).epsilon(10 * tolerance));
      if (n < 5) return;
      const Index middle = n / 2;
      worker.propagate(panel.residual, middle, n - middle, factor, panel.weight, 0, middle);
      Matrix carried(n, width);
      for (Index j = middle; j < n; ++j)
        for (Index k = 0; k < middle; ++k)
          for (Index q = 0; q < width; ++q) carried(j, q) += r(k, j) * w(k, q);
      require_close(download(backend, panel.residual, n, width), carried, tolerance);
      // V·R_bb = W·R_bb + T
      const Matrix v =
          download(backend, worker.compensate(factor, panel, middle, n), n - middle, width);
      for (Index j = middle; j < n; ++j)
        for (Index q = 0; q < rows; ++q) {
          double left = 0;
          for (Index k = middle; k <= j; ++k) left += (v(k - middle, q) - w(k, q)) * r(k, j);
          REQUIRE(left == Approx(carried(j, q)).margin(1e3 * tolerance));
        }
      CHECK(worker.weighted_squares(panel.weight, rows, added) > 0);
    });
    CHECK(rows_seen == 37);
  }

  // a pivot that is not positive is found and named
  auto bad = backend.zeros(100, 100);
  std::vector<Index> order(100);
  std::iota(order.begin(), order.end(), Index{0});
  std::vector<double> added(100, 1.0);
  added[17] = -1;
  bad = backend.arrange(bad, order, 1.0, added);
  CHECK(backend.factorize(bad) == 17);

  const Layer layer = random_layer({.out = 37, .in = 96, .tokens = 200});
  Layer broken = layer;
  broken.weight_f[5 * 96 + 7] = std::numeric_limits<float>::quiet_NaN();
  CHECK(backend.find_non_finite(broken.w()) == 5 * 96 + 7);

  // Ties go to even codes. Levels are 0.5 apart: with the scale at 7.5 / 15 and nothing between the
  // inputs, every weight is rounded alone.
  Layer ties = random_layer({.out = 2, .in = 8, .tokens = 8});
  ties.weight.data = {3.75, 0.25, 0.75, 1.25, -0.25, -0.75, -1.25, 0,  //
                      3.75, 0.26, 0.74, 1.26, -0.26, -0.74, -1.26, 0};
  for (Index t = 0; t < 8; ++t)
    for (Index i = 0; i < 8; ++i) ties.activations(t, i) = t == i ? 1 : 0;
  round_to_float(ties);
  const auto rounded = quantize<gptq::scheme::Int4, B>(
      ties, {.group_size = -1, .order = gptq::Order::natural, .range = gptq::Range::minmax},
      backend);
  const int even[] = {15, 8, 10, 10, 8, 6, 6, 8}, nearest[] = {15, 9, 9, 11, 7, 7, 5, 8};
  for (Index c = 0; c < 8; ++c) {
    CHECK(rounded.codes()(0, c) == even[c]);
    CHECK(rounded.codes()(1, c) == nearest[c]);
  }

  // the whole way
  const auto q = quantize<gptq::scheme::Int4, B>(layer, {.group_size = 32}, backend);
  CHECK(q.report().relative_error < q.report().rtn_relative_error);
  const Matrix d = error_of_weight(layer, q);
  CHECK(q.report().loss == Approx(quadratic_form(d, hessian_of(layer))).epsilon(1e3 * tolerance));
}

}  // namespace test
