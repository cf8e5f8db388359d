// SPDX-License-Identifier: MIT
#pragma once

// One panel of rows from weight to codes: fit the grids, round with compensation, and measure what it cost.

#include <gptq/calibration/damping.hpp>
#include <gptq/core/report.hpp>
#include <gptq/core/stopwatch.hpp>
#include <gptq/solver/left_looking.hpp>

#include <vector>

namespace gptq::solver {

/// What a panel adds to the report. Sums over rows, in units of H.
struct PanelReport {
  std::vector<double> column_loss;  ///< by position
  Index clipped = 0;
  double penalty = 0;               ///< Σ λ·‖D‖²: the damping's share of the loss
  double output_energy = 0;         ///< tr(W·H·Wᵀ)
  double rtn_loss = 0;              ///< tr(ΔW·H·ΔWᵀ) of min-max round to nearest
  Timings seconds;
};

/// Rounds the panel: codes, scales, zeros and residual come out.
template <class S, class B, class Panel>
void solve_panel(const typename B::Worker& worker, const S& scheme, const DampedFactor<B>& factor, const Params& params, Panel& panel,
                 Timings& seconds) {
  const ColumnLayout& layout = factor.layout;
  const Index n = layout.columns();
  const Index group_size = effective_group_size(params, n);
  const scheme::RangeSearch search{params.range, params.signed_scales, params.scale_type};
  const auto solve = [&](Index first, Index last) { worker.solve(scheme, layout, factor.r, first, last, panel); };

  Stopwatch watch;
  if (params.groups == Groups::fixed || group_size == n) {
    worker.fit(scheme, search, layout, panel.weight, 0, 0, layout.groups(), panel);
    seconds.fit += watch.lap();
    left_looking(worker, factor.r, panel, 0, n, params.block_size, solve);
  } else {
    left_looking(worker, factor.r, panel, 0, n, group_size, [&](Index first, Index last) {
      seconds.solve += watch.lap();
      const auto compensated = worker.compensate(factor.r, panel, first, last);
      worker.fit(scheme, search, layout, compensated, first, first / group_size, first / group_size + 1, panel);
      seconds.fit += watch.lap();
      left_looking(worker, factor.r, panel, first, last, params.block_size, solve);
    });
  }
  seconds.solve += watch.lap();
}

/// Measures the panel's weight and its round-to-nearest baseline; overwrites grids, codes and residual.
template <class S, class B, class Panel>
void measure_baseline(const typename B::Worker& worker, const S& scheme, const DampedFactor<B>& factor, const Params& params, Panel& panel,
                      PanelReport& report) {
  Stopwatch watch;
  const auto undamped = [&](const auto& a) {
    return worker.energy(factor.r, a) - worker.weighted_squares(a, panel.rows, factor.added);
  };
  report.output_energy = undamped(panel.weight);
  worker.fit(scheme, {Range::minmax, false, params.scale_type}, factor.layout, panel.weight, 0, 0, factor.layout.groups(), panel);
  worker.round(scheme, factor.layout, panel);
  report.rtn_loss = undamped(panel.residual);
  report.seconds.measure += watch.lap();
}

}  // namespace gptq::solver
