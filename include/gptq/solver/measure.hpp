// SPDX-License-Identifier: MIT
#pragma once

// Measure: a weight's output energy, and how much of it round to nearest would lose.

#include <gptq/solver/panel_rows.hpp>
#include <gptq/solver/solve.hpp>

#include <numeric>  // std::accumulate
#include <span>
#include <vector>

namespace gptq::solver {

/// What results are compared with, per section of a panel, in units of H.
struct Baseline {
  std::vector<double> output_energy{};  ///< tr(W·H·Wᵀ)
  std::vector<double> rtn_loss{};       ///< tr(ΔW·H·ΔWᵀ) of min-max round to nearest
};

/// Σ_p added_p·‖A_p‖² of a panel's matrix A, per section: the damping's share of its energy.
template <class Worker, class B, class Panel>
std::vector<double> penalties(const Worker& worker, const Factors<B>& factors,
                              std::span<const Piece> pieces, const typename Worker::Matrix& a,
                              const Panel& panel) {
  const auto squares = worker.squares(a, panel);
  std::vector<double> sums(pieces.size());
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    const std::vector<double>& added = factors.of(pieces[i].weight).added;
    for (std::size_t p = 0; p < added.size(); ++p) sums[i] += added[p] * squares[i][p];
  }
  return sums;
}

/// Measures the baseline on a solved panel, whose weight is still intact. Consumes the panel: round
/// to nearest overwrites its grids, codes and carry.
template <class S, class B, class Panel>
Baseline measure(const typename B::Worker& worker, const Rounding<S, B>& with,
                 std::span<const Piece> pieces, Panel panel) {
  const Factors<B>& factors = with.factors;
  const ColumnLayout& layout = factors.layout();
  const auto energy = [&](const auto& a) {  // ‖A·R‖², or its estimate ‖A·P‖²
    const auto* const sketch = factors.sketch();
    if (!sketch) return worker.energy(factors.r(), a, panel);
    auto seen = factors.backend().zeros(sketch->cols(), a.cols());
    worker.propagate(seen, 0, sketch->cols(), *sketch, a, 0, layout.columns());
    std::vector<double> sums;
    for (const auto& squares : worker.squares(seen, panel))
      sums.push_back(std::accumulate(squares.begin(), squares.end(), 0.0));
    return sums;
  };
  const auto undamped = [&](const auto& a) {
    auto energies = energy(a);
    const auto damping = penalties(worker, factors, pieces, a, panel);
    for (std::size_t i = 0; i < energies.size(); ++i) energies[i] -= damping[i];
    return energies;
  };
  Baseline baseline;
  baseline.output_energy = undamped(panel.weight);
  worker.fit(with.scheme, {Range::minmax, false, with.search.rounding}, layout, panel.weight, 0, 0,
             layout.groups(), panel);
  worker.round(with.scheme, with.params.sparsity, layout, panel);
  baseline.rtn_loss = undamped(panel.carry);
  return baseline;
}

}  // namespace gptq::solver
