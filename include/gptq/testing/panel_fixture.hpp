// SPDX-License-Identifier: MIT
#pragma once

// PanelFixture: a layer with its factor, and what tests of a worker ask of a panel.

#include <gptq/quantizer.hpp>
#include <gptq/scheme/affine.hpp>
#include <gptq/testing/expect.hpp>
#include <gptq/testing/layer.hpp>
#include <gptq/testing/stored_panel.hpp>

#include <cmath>    // std::abs
#include <numeric>  // std::iota
#include <span>
#include <utility>  // std::swap
#include <vector>

namespace gptq::testing {

/// A weight, its Hessian and factor, in a solving order that is not the natural one.
template <backend::Backend B>
class PanelFixture {
 public:
  using Worker = typename B::Worker;     ///< under test
  using Panel = typename Worker::Panel;  ///< of the worker
  using Scheme = scheme::Asymmetric<4>;  ///< to round with
  using Stored = StoredPanel<Scheme>;    ///< results

  /// \param tolerance  see test_backend
  PanelFixture(const B& backend, double tolerance, Index inputs)
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

  /// carry = W − Q
  void expect_errors(const Panel& p, const Stored& stored, Index rows,
                     const char* operation) const {
    const Table carry = download(backend_, p.carry);
    for (Index j = 0; j < n(); ++j)
      for (Index r = 0; r < rows; ++r)
        expect_near(carry(j, r), w(j, r) - stored.rounded(j, r), 10 * tolerance_, 1, operation);
  }

  const B& backend_;
  double tolerance_;
  Layer layer_;
  Hessian<B> hessian_;
  std::vector<DampedFactor<B>> factor_;
  Table r_;
};

}  // namespace gptq::testing
