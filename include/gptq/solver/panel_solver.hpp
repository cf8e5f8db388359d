// SPDX-License-Identifier: MIT
#pragma once

// One panel of rows from weight to codes: fit the grids, round with compensation, and measure what
// it cost.

#include <gptq/core/report.hpp>
#include <gptq/core/stopwatch.hpp>
#include <gptq/factor/factor.hpp>
#include <gptq/scheme/range.hpp>
#include <gptq/solver/lazy_batch.hpp>
#include <gptq/solver/left_looking.hpp>

#include <algorithm>  // std::lower_bound
#include <utility>    // std::move
#include <vector>

namespace gptq::solver {

/// What a panel adds to the report. Sums over rows, in units of H.
struct PanelReport {
  std::vector<double> column_loss;  ///< by position
  Index clipped = 0;
  double penalty = 0;        ///< Σ_p added_p·‖D_p‖²: the damping's share of the loss
  double output_energy = 0;  ///< tr(W·H·Wᵀ)
  double rtn_loss = 0;       ///< tr(ΔW·H·ΔWᵀ) of min-max round to nearest
  Timings seconds;
};

/// Scales and zeros of a panel.
template <class B>
struct Grids {
  typename B::Worker::Matrix scales{}, zeros{};
};

/// One grid per row, from a weight that still has its dead columns; see
/// Parity::dead_weights_in_range. (A panel of its own, gone before the one that is solved is
/// there.)
template <class S, class B, class W>
Grids<B> grids_with_dead_columns(const typename B::Worker& worker, const S& scheme,
                                 const ColumnLayout& layout, const scheme::RangeSearch& search,
                                 MatrixView<const W> weight, Index first, Index rows, double unit) {
  ColumnLayout alive = layout;
  alive.set_dead({});
  auto whole = worker.load_panel(weight, first, rows, alive, unit);
  worker.fit(scheme, search, alive, whole.weight, 0, 0, 1, whole);
  return {std::move(whole.scales), std::move(whole.zeros)};
}

/// Rounds the panel: codes, scales, zeros and residual come out.
/// \param factor  DampedFactor, or what stands for several of them (FactorBatch)
/// \param fitted  whether scales and zeros of fixed groups are there already
template <class S, class Worker, class Factor, class Panel>
void solve_panel(const Worker& worker, const S& scheme, const Factor& factor, const Params& params,
                 const scheme::RangeSearch& search, bool fitted, Panel& panel, Timings& seconds) {
  const ColumnLayout& layout = factor.layout;
  const Index n = layout.columns();
  const bool dynamic = params.groups == Groups::dynamic && layout.groups() > 1;
  Stopwatch watch;
  const auto fit = [&](const auto& source, Index base, Index first, Index last) {
    seconds.solve += watch.lap();
    worker.fit(scheme, search, layout, source, base, first, last, panel);
    seconds.fit += watch.lap();
  };
  const auto fit_group_at = [&](const auto& source, Index first) {
    const Index group = layout.group()[std::size_t(first)];
    fit(source, first, group, group + 1);
  };
  if (!dynamic && !fitted) fit(panel.weight, 0, 0, layout.groups());
  const Cuts groups = dynamic ? group_cuts(layout) : Cuts{0, n};

  if (params.solver == Solver::lazy_batch) {
    Cuts cuts = block_cuts(0, n, params.block_size);
    if (!params.parity.stale_group_scales) cuts = merge(cuts, groups);
    const auto prepare = [&](Index first, Index last) {
      if (!dynamic) return;
      for (auto at = std::lower_bound(groups.begin(), groups.end(), first);
           at + 1 < groups.end() && *at < last; ++at)
        fit_group_at(worker.corrected(panel, *at, at[1]), *at);
    };
    lazy_batch(worker, factor.inverse, panel, cuts, prepare, [&](Index first, Index last) {
      worker.solve(kernel::LazyBatch{}, scheme, params.sparsity, layout, factor.inverse, first,
                   last, panel);
    });
    worker.measure_residual(scheme, layout, panel);
  } else {
    const auto solve = [&](Index first, Index last) {
      worker.solve(kernel::LeftLooking{}, scheme, params.sparsity, layout, factor.r, first, last,
                   panel);
    };
    left_looking(worker, factor.r, panel, groups, [&](Index first, Index last) {
      if (dynamic) fit_group_at(worker.compensate(factor.r, panel, first, last), first);
      left_looking(worker, factor.r, panel, block_cuts(first, last, params.block_size), solve);
    });
  }
  seconds.solve += watch.lap();
}

/// Measures the panel's weight and its round-to-nearest baseline; overwrites grids, codes and
/// residual.
template <class S, class B, class Panel>
void measure_baseline(const typename B::Worker& worker, const S& scheme,
                      const DampedFactor<B>& factor, const Sparsity& sparsity,
                      const scheme::ScaleRounding& rounding, Panel& panel, PanelReport& report) {
  Stopwatch watch;
  const auto undamped = [&](const auto& a) {
    return worker.energy(factor.r, a, panel.rows) -
           worker.weighted_squares(a, panel.rows, factor.added);
  };
  report.output_energy = undamped(panel.weight);
  worker.fit(scheme, {Range::minmax, false, rounding}, factor.layout, panel.weight, 0, 0,
             factor.layout.groups(), panel);
  worker.round(scheme, sparsity, factor.layout, panel);
  report.rtn_loss = undamped(panel.residual);
  report.seconds.measure += watch.lap();
}

}  // namespace gptq::solver
