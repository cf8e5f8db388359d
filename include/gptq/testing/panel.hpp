// SPDX-License-Identifier: MIT
#pragma once

// The operations of a backend's worker, each against plain loops in double precision.

#include <gptq/quantizer.hpp>
#include <gptq/scheme/affine.hpp>
#include <gptq/testing/expect.hpp>
#include <gptq/testing/layer.hpp>
#include <gptq/testing/stored_panel.hpp>

#include <algorithm>  // std::max
#include <cmath>      // std::abs
#include <cstdint>
#include <numeric>  // std::iota
#include <span>
#include <type_traits>  // std::is_same_v
#include <utility>      // std::swap
#include <vector>

namespace gptq::testing {

/// Tests one backend's workers at one size.
template <backend::Backend B>
class PanelTest {
 public:
  using Worker = typename B::Worker;     ///< under test
  using Panel = typename Worker::Panel;  ///< of the worker
  using Scheme = scheme::Asymmetric<4>;  ///< to round with
  using Stored = StoredPanel<Scheme>;    ///< results

  /// \param tolerance  see test_backend
  PanelTest(const B& backend, double tolerance, Index inputs)
      : backend_(backend),
        tolerance_(tolerance),
        layer_(37, inputs, 2 * inputs + 10),
        hessian_(inputs, backend) {
    hessian_.add(layer_.activations.view());
    const bool lazy = backend::LazyBatchWorker<Worker> && requires {
      backend.invert_triangular(hessian_.sum());
    };
    std::vector<Index> order(static_cast<std::size_t>(inputs));
    std::iota(order.rbegin(), order.rend(), Index{0});
    if (inputs > 3) std::swap(order[order.size() - 1], order[order.size() - 3]);
    factor_.push_back(
        gptq::factorize(hessian_,
                        Params{.group_size = 8,
                               .allow_tail_group = true,
                               .solver = lazy ? Solver::lazy_batch : Solver::left_looking},
                        order));
    r_ = download(backend, factor().r);
  }

  /// \throws Nonconforming
  void run() const {
    backend_.for_panels(37, [&](const Worker& worker, Index first, Index rows) {
      if (first > 0) return;
      load(worker, rows);
      sums_of_squares(worker, rows);
      propagate(worker, rows);
      multiply(worker, rows);
      targets(worker, rows);
      fit(worker, rows);
      round(worker, rows);
      solve<kernel::LeftLooking>(worker, rows, factor().r);
      if constexpr (backend::LazyBatchWorker<Worker>)
        if (factor().inverse.rows() > 0) {
          solve<kernel::LazyBatch>(worker, rows, factor().inverse);
          lazy_targets(worker, rows);
        }
      if constexpr (requires(Panel panel, std::span<const Grids> grids) {
                      worker.set_grids(grids, panel);
                    })
        set_grids(worker, rows);
      if constexpr (requires(typename B::Matrix m) {
                      worker.gather(m, layout().order());
                      worker.solve_factor(m, m);
                    })
        inverse_products(worker, rows);
    });
  }

 private:
  const DampedFactor<B>& factor() const { return factor_.front(); }
  const ColumnLayout& layout() const { return factor().layout; }
  Index n() const { return layer_.inputs; }

  Panel panel(const Worker& worker, Index rows) const {
    const Section<float> section{layer_.weight.view().middle_rows(0, rows), &layout()};
    return worker.load_panel(std::span(&section, 1), 2);
  }
  /// A panel with the grids of min-max ranges.
  Panel fitted(const Worker& worker, Index rows) const {
    Panel p = panel(worker, rows);
    worker.fit(Scheme{}, scheme::RangeSearch{Range::minmax, false, rounding()}, layout(), p.weight,
               0, 0, layout().groups(), p);
    return p;
  }
  static scheme::ScaleRounding rounding() { return {ScaleType::fp16, 1, 2}; }

  /// A weight as it is in a panel: by position, in units of 2.
  double w(Index position, Index row) const {
    return static_cast<double>(layer_.weight(row, layout().column(position))) / 2;
  }

  void load(const Worker& worker, Index rows) const {
    const Panel p = panel(worker, rows);
    const Table mine = download(backend_, p.weight);
    for (Index j = 0; j < n(); ++j)
      for (Index r = 0; r < rows; ++r)
        expect_near(mine(j, r), w(j, r), 1e-7, 1, "load_panel, weight");
    expect(download(backend_, p.carry).largest() == 0, "load_panel", "carry is not zero");
    expect(mine.rows == n() && mine.cols >= rows, "load_panel", "the panel is ", mine.rows, " x ",
           mine.cols);

    ColumnLayout dead = layout();
    std::vector<bool> which(static_cast<std::size_t>(n()), false);
    which[std::size_t(n() / 2)] = true;
    dead.set_dead(which);
    const Section<float> section{layer_.weight.view().middle_rows(0, rows), &dead};
    const Table of_dead = download(backend_, worker.load_panel(std::span(&section, 1), 2).weight);
    for (Index r = 0; r < rows; ++r)
      expect(of_dead(n() / 2, r) == 0, "load_panel", "a dead column is not zero");
  }

  void sums_of_squares(const Worker& worker, Index rows) const {
    const Panel p = panel(worker, rows);
    double energy = 0;
    for (Index r = 0; r < rows; ++r)
      for (Index j = 0; j < n(); ++j) {
        double x = 0;
        for (Index k = 0; k <= j; ++k) x += w(k, r) * r_(k, j);
        energy += x * x;
      }
    expect_near(worker.energy(factor().r, p.weight, p).at(0), energy, 10 * tolerance_, 0, "energy");
    const auto squares = worker.squares(p.weight, p).at(0);
    expect(static_cast<Index>(squares.size()) == n(), "squares", squares.size(), " positions");
    for (Index j = 0; j < n(); ++j) {
      double sum = 0;
      for (Index r = 0; r < rows; ++r) sum += w(j, r) * w(j, r);
      expect_near(squares[std::size_t(j)], sum, 10 * tolerance_, 1, "squares");
    }
  }

  /// A panel whose carry for positions from the middle on comes from the weights before it.
  Panel carried(const Worker& worker, Index rows, Table& carry) const {
    const Index middle = n() / 2;
    Panel p = panel(worker, rows);
    if (middle > 0)
      worker.propagate(p.carry, middle, n() - middle, factor().r, p.weight, 0, middle);
    carry = Table(n(), rows);
    for (Index j = middle; j < n(); ++j)
      for (Index k = 0; k < middle; ++k)
        for (Index r = 0; r < rows; ++r) carry(j, r) += r_(k, j) * w(k, r);
    return p;
  }

  void propagate(const Worker& worker, Index rows) const {
    Table expected;
    const Panel p = carried(worker, rows, expected);
    const Table mine = download(backend_, p.carry);
    const double size = (std::max)(expected.largest(), 1.0);
    for (Index j = 0; j < n(); ++j)
      for (Index r = 0; r < rows; ++r)
        expect_near(mine(j, r), expected(j, r), tolerance_, size, "propagate");
  }

  void multiply(const Worker& worker, Index rows) const {
    const Panel p = panel(worker, rows);
    auto product = backend_.zeros(n(), p.weight.cols());
    const Index middle = n() / 2;
    worker.multiply(product, 0, middle, factor().r, p.weight);
    worker.multiply(product, middle, n() - middle, factor().r, p.weight);
    const Table mine = download(backend_, product);
    for (Index i = 0; i < n(); ++i)
      for (Index r = 0; r < rows; ++r) {
        double expected = 0;
        for (Index k = i; k < n(); ++k) expected += r_(i, k) * w(k, r);
        expect_near(mine(i, r), expected, tolerance_, r_.largest(), "multiply");
      }
  }

  /// (V − W)·R_bb = T
  void targets(const Worker& worker, Index rows) const {
    const Index middle = n() / 2;
    Table carry;
    const Panel p = carried(worker, rows, carry);
    const Table v =
        download(backend_, worker.targets(kernel::LeftLooking{}, factor().r, p, middle, n()));
    const double size = (std::max)(carry.largest(), 1.0);
    for (Index j = middle; j < n(); ++j)
      for (Index r = 0; r < rows; ++r) {
        double left = 0;
        for (Index k = middle; k <= j; ++k) left += (v(k - middle, r) - w(k, r)) * r_(k, j);
        expect_near(left, carry(j, r), 1e3 * tolerance_, size, "targets (left-looking)");
      }
  }

  void lazy_targets(const Worker& worker,
                    Index rows) const requires backend::LazyBatchWorker<Worker> {
    const Index middle = n() / 2;
    Table carry;
    const Panel p = carried(worker, rows, carry);
    const Table v =
        download(backend_, worker.targets(kernel::LazyBatch{}, factor().inverse, p, middle, n()));
    for (Index j = middle; j < n(); ++j)
      for (Index r = 0; r < rows; ++r)
        expect_near(v(j - middle, r), w(j, r) + carry(j, r), tolerance_, carry.largest(),
                    "targets (lazy batch)");
  }

  /// Expects the nearest code to x, except for rounding errors.
  void expect_nearest(const Stored& stored, Index position, Index row, double x,
                      const char* operation) const {
    const auto grid = stored.grid(position, row);
    const double best = Scheme{}.decode(Scheme{}.encode(x, grid), grid);
    const double mine = stored.rounded(position, row);
    expect(std::abs(mine - x) <=
               std::abs(best - x) + 1e3 * tolerance_ * (std::abs(x) + std::abs(grid.scale)),
           operation, "position ", position, ", row ", row, ": ", x, " became ", mine,
           ", the nearest number is ", best);
  }

  void fit(const Worker& worker, Index rows) const {
    const auto loss_of = [&](const Stored& stored, Index g, Index r) {
      double loss = 0;
      for (const Index j : layout().members(g)) {
        const auto grid = stored.grid(j, r);
        const double x = w(j, r), d = layout().pivots()[std::size_t(j)];
        const double miss = x - Scheme{}.decode(Scheme{}.encode(x, grid), grid);
        loss += d * miss * miss;
      }
      return loss;
    };
    for (const Range range : {Range::minmax, Range::weighted}) {
      Panel p = panel(worker, rows);
      const scheme::RangeSearch search{range, true, rounding()};
      worker.fit(Scheme{}, search, layout(), p.weight, 0, 0, layout().groups(), p);
      if (range == Range::minmax) {  // group by group, as dynamic groups do it
        const auto groups = solver::group_cuts(layout());
        for (std::size_t i = 0; i + 1 < groups.size(); ++i) {
          const Index at = groups[i], group = layout().group()[std::size_t(at)];
          worker.fit(Scheme{}, search, layout(),
                     worker.targets(kernel::LeftLooking{}, factor().r, p, at, groups[i + 1]), at,
                     group, group + 1, p);
        }
      }
      const Stored stored(worker, p, layout(), rows);
      for (Index g = 0; g < layout().groups(); ++g)
        for (Index r = 0; r < rows; ++r) {
          std::vector<double> values, pivots;
          for (const Index j : layout().members(g)) {
            values.push_back(w(j, r));
            pivots.push_back(layout().pivots()[std::size_t(j)]);
          }
          const auto expected = scheme::fit_grid<double>(
              Scheme{}, [&](Index j) { return values[std::size_t(j)]; },
              [&](Index j) { return pivots[std::size_t(j)]; }, static_cast<Index>(values.size()),
              search);
          const auto grid = stored.grid(layout().members(g)[0], r);
          if (range == Range::minmax) {
            expect_near(grid.scale, expected.scale, 2e-3, 0, "fit, scale of min-max ranges");
            expect(std::abs(grid.zero - expected.zero) <= 1, "fit", "the zero point ", grid.zero,
                   " should be ", expected.zero);
          } else {
            double best = 0;
            for (std::size_t j = 0; j < values.size(); ++j) {
              const double miss =
                  values[j] - Scheme{}.decode(Scheme{}.encode(values[j], expected), expected);
              best += pivots[j] * miss * miss;
            }
            expect(loss_of(stored, g, r) <= 1.02 * best + 1e-9, "fit", "group ", g, ", row ", r,
                   ": the loss ", loss_of(stored, g, r), " could be ", best);
          }
        }
    }
  }

  void round(const Worker& worker, Index rows) const {
    Panel p = fitted(worker, rows);
    worker.round(Scheme{}, {}, layout(), p);
    const Stored stored(worker, p, layout(), rows);
    for (Index j = 0; j < n(); ++j)
      for (Index r = 0; r < rows; ++r) expect_nearest(stored, j, r, w(j, r), "round, store");
    expect_errors(p, stored, rows, "round, carry");
    if (n() % 4 != 0) return;
    worker.round(Scheme{}, {2, 4}, layout(), p);
    const Stored sparse(worker, p, layout(), rows);
    for (Index j = 0; j < n(); j += 4)
      for (Index r = 0; r < rows; ++r) {
        double kept = 0, gone = 0;
        int zeros = 0;
        for (Index k = j; k < j + 4; ++k) {
          const bool zero = sparse.rounded(k, r) == 0;
          zeros += zero;
          (zero ? gone : kept) += std::abs(w(k, r));
        }
        expect(zeros >= 2 && (zeros > 2 || kept >= gone), "round with sparsity", zeros,
               " zeros of 4 at position ", j, ", row ", r);
      }
  }

  /// carry = W − Q
  void expect_errors(const Panel& p, const Stored& stored, Index rows,
                     const char* operation) const {
    const Table carry = download(backend_, p.carry);
    for (Index j = 0; j < n(); ++j)
      for (Index r = 0; r < rows; ++r)
        expect_near(carry(j, r), w(j, r) - stored.rounded(j, r), 10 * tolerance_, 1, operation);
  }

  /// Solves two blocks, then compares each code with the target that earlier codes result in.
  template <class Form>
  void solve(const Worker& worker, Index rows, const typename B::Matrix& matrix) const {
    constexpr bool lazy = std::is_same_v<Form, kernel::LazyBatch>;
    const char* const name = lazy ? "solve (lazy batch)" : "solve (left-looking)";
    const Index middle = (n() + 1) / 2;
    Panel p = fitted(worker, rows);
    constexpr bool observes = requires {
      worker.observe(p, middle, middle, [](const auto&...) {});
    };
    if constexpr (observes) p.targets = backend_.zeros(p.weight.rows(), p.weight.cols());
    worker.solve(Form{}, Scheme{}, {}, layout(), matrix, 0, middle, p);
    if (middle < n()) {
      worker.propagate(p.carry, middle, n() - middle, matrix, p.carry, 0, middle);
      worker.solve(Form{}, Scheme{}, {}, layout(), matrix, middle, n(), p);
    }
    const SectionSums sums = worker.sums(p).at(0);
    const Stored stored(worker, p, layout(), rows);
    std::vector<double> loss(static_cast<std::size_t>(n()));
    Index clipped = 0, close = 0;
    Table seen(n(), rows);
    if constexpr (observes)
      worker.observe(p, 0, n(), [&](auto targets, auto codes, auto scales, auto) {
        for (Index j = 0; j < n(); ++j)
          for (Index r = 0; r < rows; ++r) {
            seen(j, r) = static_cast<double>(targets(j, r));
            expect(codes(j, r) == stored.code(j, r), "observe", "the codes are not those stored");
            expect_near(static_cast<double>(scales(layout().group()[std::size_t(j)], r)),
                        stored.grid(j, r).scale, 1e-6, 0, "observe, scales");
          }
      });
    for (Index r = 0; r < rows; ++r)
      for (Index j = 0; j < n(); ++j) {
        double v = w(j, r);
        for (Index k = 0; k < j; ++k) v += (w(k, r) - stored.rounded(k, r)) * r_(k, j) / r_(j, j);
        expect_nearest(stored, j, r, v, name);
        if (observes) expect_near(seen(j, r), v, 1e3 * tolerance_, 1, "observe, targets");
        const double miss = v - stored.rounded(j, r);
        loss[std::size_t(j)] += r_(j, j) * r_(j, j) * miss * miss;
        const auto grid = stored.grid(j, r);
        const double ends[] = {Scheme{}.decode(0.0, grid),
                               Scheme{}.decode(double{Scheme::max_code}, grid)};
        const double beyond = (std::max)(ends[0] - v, v - ends[1]);
        clipped += beyond > 0;
        close += std::abs(beyond) <= 1e3 * tolerance_;
      }
    for (Index j = 0; j < n(); ++j)
      expect_near(sums.column_loss.at(std::size_t(j)), loss[std::size_t(j)], 1e3 * tolerance_, 1e-3,
                  "sums, column_loss");
    expect(std::abs(sums.clipped - clipped) <= close, "sums", sums.clipped,
           " weights were clipped, should be ", clipped);
    if constexpr (lazy) {
      worker.find_errors(Scheme{}, layout(), p);
      expect_errors(p, stored, rows, "find_errors");
    } else {
      expect_errors(p, stored, rows, "solve (left-looking), carry");
    }
  }

  void set_grids(const Worker& worker, Index rows) const {
    FloatMatrix scales(rows, layout().groups()), zeros(rows, layout().groups());
    for (std::size_t i = 0; i < scales.data.size(); ++i) {
      scales.data[i] = 0.125f * static_cast<float>(1 + i % 7);
      zeros.data[i] = static_cast<float>(i % 16);
    }
    Panel p = panel(worker, rows);
    const Grids grids{scales.view(), zeros.view()};
    worker.set_grids(std::span(&grids, 1), p);
    worker.round(Scheme{}, {}, layout(), p);
    const Stored stored(worker, p, layout(), rows);
    expect(stored.scales.data == scales.data && stored.zeros.data == zeros.data, "set_grids",
           "the stored grids are not those set");
    for (Index j = 0; j < n(); ++j)
      for (Index r = 0; r < rows; ++r) expect_nearest(stored, j, r, w(j, r), "set_grids");
  }

  /// gather, then x = (R·Rᵀ)⁻¹·m
  void inverse_products(const Worker& worker, Index rows) const {
    const Panel p = panel(worker, rows);
    const std::span<const Index> order = layout().order();
    auto m = worker.gather(p.weight, order);
    const Table gathered = download(backend_, m);
    for (Index j = 0; j < n(); ++j)
      for (Index r = 0; r < rows; ++r)
        expect_near(gathered(j, r), w(order[std::size_t(j)], r), 1e-7, 1, "gather");
    worker.solve_factor(factor().r, m);
    const Table x = download(backend_, m);
    const double size = (std::max)(r_.largest() * r_.largest() * x.largest(), 1.0);
    for (Index r = 0; r < rows; ++r) {
      std::vector<double> y(static_cast<std::size_t>(n()));  // Rᵀ·x
      for (Index k = 0; k < n(); ++k)
        for (Index j = 0; j <= k; ++j) y[std::size_t(k)] += r_(j, k) * x(j, r);
      for (Index j = 0; j < n(); ++j) {
        double back = 0;
        for (Index k = j; k < n(); ++k) back += r_(j, k) * y[std::size_t(k)];
        expect_near(back, gathered(j, r), 10 * tolerance_, size, "solve_factor");
      }
    }
  }

  const B& backend_;
  double tolerance_;
  Layer layer_;
  Hessian<B> hessian_;
  std::vector<DampedFactor<B>> factor_;
  Table r_;
};

}  // namespace gptq::testing
