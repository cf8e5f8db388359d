// SPDX-License-Identifier: MIT
#pragma once

// Tests of everything a backend must do, operation by operation, against plain loops in double
// precision. For backends of your own: call test_backend from any test framework; it throws what is
// wrong.

#include <gptq/testing/panel.hpp>

#include <gptq/backend/reference.hpp>

#include <algorithm>  // std::swap
#include <atomic>
#include <limits>
#include <numeric>  // std::iota
#include <string>
#include <vector>

namespace gptq::testing {

/// Tests one backend at one size.
template <backend::Backend B>
class BackendTest {
 public:
  /// \param tolerance  see test_backend
  /// \param inputs     columns of the weight
  BackendTest(const B& backend, double tolerance, Index inputs)
      : backend_(backend), tolerance_(tolerance), layer_(37, inputs, 2 * inputs + 10) {}

  /// \throws Nonconforming
  void run() const {
    copies();
    largest();
    sums();
    if constexpr (requires(typename B::Matrix m, MatrixView<const typename B::Scalar> view) {
                    backend_.accumulate_cross(m, view, view);
                  })
      cross_sums();
    factors();
    pieces();
  }

 private:
  using Scalar = typename B::Scalar;
  Index n() const { return layer_.inputs; }
  MatrixView<const float> w() const { return layer_.weight.view(); }

  void copies() const {
    expect_near(download(backend_, backend_.upload(w())), layer_.weight_table(), 1e-7,
                "upload, download");
    Table back(n(), w().rows());  // any strides
    backend_.download(backend_.upload(w().transposed()), back.view());
    const Table straight = layer_.weight_table();
    Table expected(n(), w().rows());
    for (Index r = 0; r < expected.rows; ++r)
      for (Index c = 0; c < expected.cols; ++c) expected(r, c) = straight(c, r);
    expect_near(back, expected, 1e-7, "upload of a transposed view");
    const Table nothing = download(backend_, backend_.zeros(n(), 3));
    expect(nothing.rows == n() && nothing.largest() == 0, "zeros", "found ", nothing.largest());
  }

  void largest() const {
    FloatMatrix matrix = layer_.weight;
    matrix(matrix.rows / 2, n() - 1) = -9;
    expect(backend_.largest(matrix.view()) == 9, "largest", backend_.largest(matrix.view()),
           " should be 9");
    matrix(matrix.rows - 1, n() / 2) = std::numeric_limits<float>::quiet_NaN();
    expect(!std::isfinite(backend_.largest(matrix.view())), "largest", "a NaN is overlooked");
    matrix(matrix.rows - 1, n() / 2) = std::numeric_limits<float>::infinity();
    expect(!std::isfinite(backend_.largest(matrix.view())), "largest", "infinity is overlooked");
  }

  void sums() const {
    const FloatMatrix& x = layer_.activations;
    std::vector<float> weights(static_cast<std::size_t>(x.rows));
    for (std::size_t t = 0; t < weights.size(); ++t) weights[t] = static_cast<float>(t % 3);
    auto weighted = backend_.zeros(n(), n()), plain = backend_.zeros(n(), n());
    backend_.accumulate(weighted, x.view(), weights.data());
    backend_.accumulate(plain, x.view(), nullptr);
    Table of_weighted(n(), n()), of_plain(n(), n());
    for (Index t = 0; t < x.rows; ++t)
      for (Index i = 0; i < n(); ++i)
        for (Index j = 0; j < n(); ++j) {
          const double product = static_cast<double>(x(t, i)) * static_cast<double>(x(t, j));
          of_plain(i, j) += product;
          of_weighted(i, j) += static_cast<double>(weights[std::size_t(t)]) * product;
        }
    expect_near(download(backend_, plain), of_plain, tolerance_, "accumulate", true);
    expect_near(download(backend_, weighted), of_weighted, tolerance_,
                "accumulate with token weights", true);
    const auto diagonal = backend_.diagonal(plain);
    for (Index i = 0; i < n(); ++i)
      expect_near(diagonal[std::size_t(i)], of_plain(i, i), tolerance_, 0, "diagonal");
    backend_.accumulate(plain, x.view(), nullptr);
    for (double& value : of_plain.data) value *= 2;
    expect_near(download(backend_, plain), of_plain, tolerance_, "accumulate, twice", true);
    if constexpr (requires { backend_.add(plain, weighted); }) {
      backend_.add(plain, weighted);
      for (std::size_t i = 0; i < of_plain.data.size(); ++i)
        of_plain.data[i] += of_weighted.data[i];
      expect_near(download(backend_, plain), of_plain, tolerance_, "add", true);
    }
  }

  void cross_sums() const {
    const Index tokens = layer_.activations.rows;
    std::vector<Scalar> numbers(static_cast<std::size_t>(tokens * (n() + 3)));
    Noise noise(5);
    for (Scalar& x : numbers) x = static_cast<Scalar>(noise());
    const MatrixView<const Scalar> all(numbers.data(), tokens, n() + 3),
        a = all.middle_cols(0, 3), b = all.middle_cols(3, n());
    auto sum = backend_.zeros(3, n());
    backend_.accumulate_cross(sum, a, b);
    Table expected(3, n());
    for (Index t = 0; t < tokens; ++t)
      for (Index i = 0; i < 3; ++i)
        for (Index j = 0; j < n(); ++j)
          expected(i, j) += static_cast<double>(a(t, i)) * static_cast<double>(b(t, j));
    expect_near(download(backend_, sum), expected, tolerance_, "accumulate_cross");
  }

  void factors() const {
    auto sum = backend_.zeros(n(), n());
    backend_.accumulate(sum, layer_.activations.view(), nullptr);
    const Table h = layer_.hessian();
    std::vector<Index> order(static_cast<std::size_t>(n()));
    std::iota(order.rbegin(), order.rend(), Index{0});
    if (n() > 3) std::swap(order[0], order[2]);
    std::vector<double> added(order.size());
    for (Index i = 0; i < n(); ++i) added[std::size_t(i)] = 0.1 * h(i, i) + 0.01;
    const double scale = 1 / static_cast<double>(layer_.activations.rows);
    Table arranged(n(), n());
    for (Index i = 0; i < n(); ++i)
      for (Index j = 0; j < n(); ++j)
        arranged(i, j) =
            h(order[std::size_t(i)], order[std::size_t(j)]) + (i == j ? added[std::size_t(i)] : 0);
    auto factor = backend_.arrange(sum, order, scale, added);
    expect_near(download(backend_, factor), arranged, tolerance_, "arrange", true);

    const auto expect_factor = [&](const Table& r, const char* operation) {
      Table product(n(), n());
      for (Index i = 0; i < n(); ++i)
        for (Index j = i; j < n(); ++j)
          for (Index k = j; k < n(); ++k) product(i, j) += r(i, k) * r(j, k);
      expect_near(product, arranged, tolerance_, operation, true);
      for (Index i = 0; i < n(); ++i) {
        expect(r(i, i) > 0, operation, "R(", i, ", ", i, ") is ", r(i, i));
        for (Index j = 0; j < i; ++j)
          expect(r(i, j) == 0, operation, "R(", i, ", ", j, ") is ", r(i, j),
                 ", should be zero below the diagonal");
      }
    };
    expect(backend_.factorize(factor) == -1, "factorize", "a positive definite matrix is refused");
    const Table r = download(backend_, factor);
    expect_factor(r, "factorize");
    typename B::Matrix exact{};
    if constexpr (requires { backend_.factorize_in_double(sum, order, scale, added, exact); }) {
      expect(backend_.factorize_in_double(sum, order, scale, added, exact) == -1,
             "factorize_in_double", "a positive definite matrix is refused");
      expect_factor(download(backend_, exact), "factorize_in_double");
    }
    if constexpr (requires { backend_.invert_triangular(factor); }) {
      const Table inverse = download(backend_, backend_.invert_triangular(factor));
      Table unit(n(), n()), identity(n(), n());
      for (Index i = 0; i < n(); ++i) {
        identity(i, i) = 1;
        for (Index j = i; j < n(); ++j)
          for (Index k = i; k <= j; ++k) unit(i, j) += r(i, k) * inverse(k, j);
      }
      expect_near(unit, identity, 100 * tolerance_, "invert_triangular", true);
    }
    if constexpr (requires { backend_.pivot_order(sum); }) expect_pivots(sum, h);

    // A pivot that is not positive is found and named.
    std::vector<double> bad(order.size(), 1.0);
    bad[std::size_t(n() / 2)] = -1;
    auto broken = backend_.arrange(backend_.zeros(n(), n()), order, 1.0, bad);
    const Index failed = backend_.factorize(broken);
    expect(failed == n() / 2, "factorize", "the bad pivot is at ", n() / 2, ", not at ", failed);
  }

  /// From last to first, the smallest remaining pivot.
  void expect_pivots(const typename B::Matrix& sum, const Table& h) const {
    const std::vector<Index> order = backend_.pivot_order(sum);
    Table left = h;
    std::vector<bool> done(static_cast<std::size_t>(n()), false);
    for (Index p = n() - 1; p >= 0; --p) {
      const Index k = order[std::size_t(p)];
      expect(k >= 0 && k < n() && !done[std::size_t(k)], "pivot_order", "not a permutation");
      double smallest = left(k, k);
      for (Index i = 0; i < n(); ++i)
        if (!done[std::size_t(i)]) smallest = (std::min)(smallest, left(i, i));
      expect(left(k, k) <= smallest + 1e3 * tolerance_ * h.largest(), "pivot_order", "position ", p,
             " has the pivot ", left(k, k), ", the smallest is ", smallest);
      done[std::size_t(k)] = true;
      for (Index i = 0; i < n(); ++i)
        for (Index j = 0; j < n(); ++j)
          if (!done[std::size_t(i)] && !done[std::size_t(j)])
            left(i, j) -= left(i, k) * left(k, j) / left(k, k);
    }
  }

  void pieces() const {
    const backend::Footprint footprint = backend_.footprint(37, n(), {.group_size = -1});
    expect(footprint.panel_rows >= 1 && footprint.concurrency >= 1 && footprint.scratch_bytes >= 0,
           "footprint", "panels of ", footprint.panel_rows, " rows, ", footprint.concurrency,
           " at a time");
    std::vector<std::atomic<int>> rows(37), jobs(37);
    backend_.for_each(37, [&](Index i) { ++jobs[std::size_t(i)]; });
    backend_.for_panels(37, [&](const auto&, Index first, Index count) {
      expect(first % footprint.panel_rows == 0 && first + count <= 37 &&
                 count <= footprint.panel_rows &&
                 (count == footprint.panel_rows || first + count == 37),
             "for_panels", "rows ", first, " to ", first + count, " are not a panel of ",
             footprint.panel_rows);
      for (Index r = first; r < first + count; ++r) ++rows[std::size_t(r)];
    });
    for (std::size_t i = 0; i < rows.size(); ++i) {
      expect(jobs[i] == 1, "for_each", "job ", i, " was done ", jobs[i].load(), " times");
      expect(rows[i] == 1, "for_panels", "row ", i, " was in ", rows[i].load(), " panels");
    }
  }

  const B& backend_;
  double tolerance_;
  Layer layer_;
};

/// Compares whole quantizations with backend::Reference, in every order, with both kinds of groups
/// and both forms of the solver; and weights quantized in one call with single ones.
template <backend::Backend B>
void test_quantizer(const B& backend, double tolerance) {
  using S = scheme::Int4;
  const Layer layer(37, 96, 200);
  Hessian<B> hessian(96, backend);
  Hessian<backend::Reference> exact(96);
  hessian.add(layer.activations.view());
  exact.add(layer.activations.view());
  const Table h = layer.hessian();
  for (const Order order : {Order::natural, Order::act, Order::group_aware, Order::min_pivot})
    for (const Groups groups : {Groups::static_, Groups::dynamic})
      for (const Solver form : {Solver::left_looking, Solver::lazy_batch}) {
        if (order == Order::min_pivot && !requires { backend.pivot_order(hessian.sum()); })
          continue;
        if (form == Solver::lazy_batch && !(backend::LazyBatchWorker<typename B::Worker> &&
                                            requires { backend.invert_triangular(hessian.sum()); }))
          continue;
        const Params params{.group_size = 32,
                            .order = order,
                            .groups = groups,
                            .solver = form,
                            .block_size = 24,
                            .measure = Measure::full};
        const std::string what =
            gptq::detail::message("quantize, order ", static_cast<int>(order), ", groups ",
                                  static_cast<int>(groups), ", form ", static_cast<int>(form));
        const Quantizer<S, B> quantizer(params);
        const auto factor = quantizer.factorize(hessian);
        const auto result = quantizer.quantize(layer.weight.view(), factor);
        const auto oracle =
            Quantizer<S, backend::Reference>(params).quantize(layer.weight.view(), exact);
        Index same = 0;
        for (Index r = 0; r < 37; ++r)
          for (Index c = 0; c < 96; ++c) same += result.codes()(r, c) == oracle.codes()(r, c);
        expect(same >= 37 * 96 * 98 / 100, what, "of ", 37 * 96, " codes only ", same,
               " are those of the oracle");
        expect_near(result.report().loss, layer.loss(result, h), 1e3 * tolerance, 0,
                    what + ", report().loss");
        for (const auto& [mine, its] :
             {std::pair{result.report().relative_error, oracle.report().relative_error},
              std::pair{result.report().rtn_relative_error, oracle.report().rtn_relative_error}})
          expect_near(mine, its, 0.02, 0, what + ", relative errors");

        const std::vector<MatrixView<const float>> parts{layer.weight.view().middle_rows(0, 20),
                                                         layer.weight.view().middle_rows(20, 17)};
        const auto together = quantizer.quantize(parts, factor);
        for (Index r = 0; r < 37; ++r)
          for (Index c = 0; c < 96; ++c)
            expect(result.codes()(r, c) ==
                       (r < 20 ? together[0].codes()(r, c) : together[1].codes()(r - 20, c)),
                   what, "(", r, ", ", c, ") depends on what else is rounded in the same call");
      }
}

/// Tests everything a backend must do.
/// \param tolerance  relative error allowed in sums of a few hundred terms: 5e-6 in single
///                   precision, 1e-12 in double precision
/// \throws Nonconforming  names the operation, the place, the result and the expected one
template <backend::Backend B>
void test_backend(const B& backend, double tolerance) {
  for (const Index inputs : {1, 5, 64, 130, 261}) {
    BackendTest<B>(backend, tolerance, inputs).run();
    PanelTest<B>(backend, tolerance, inputs).run();
  }
  test_quantizer(backend, tolerance);
}

}  // namespace gptq::testing
