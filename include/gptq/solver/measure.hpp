// SPDX-License-Identifier: MIT
#pragma once

// Measure: how much a weight puts out, and what round to nearest would lose of it. Both take
// products of the size of the solve, so they are measured on a sample of the rows.

#include <gptq/solver/panel_rows.hpp>
#include <gptq/solver/solve.hpp>

#include <mutex>
#include <span>
#include <utility>  // std::move
#include <vector>

namespace gptq::solver {

/// Of one weight, in units of H.
struct Baseline {
  double output_energy = 0;  ///< tr(W·H·Wᵀ)
  double rtn_loss = 0;       ///< tr(ΔW·H·ΔWᵀ) of min-max round to nearest
  Index rows = 0;            ///< they were measured on
};

/// Of a panel's matrix A, per section: Σ_p added_p·‖A_p‖², the damping's share of its energy.
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

/// Measures the weights of a batch, each on rows of its own.
/// \param rows  those rows
template <class S, class B, class T>
std::vector<Baseline> measure(const Rounding<S, B>& with, const PanelRows<T>& rows,
                              std::size_t weights, double weight_unit) {
  const Factors<B>& factors = with.factors;
  const ColumnLayout& layout = factors.layout();
  const B& backend = factors.backend();
  const Index height = backend.footprint(rows.rows(), layout.columns(), with.params).panel_rows;
  struct Part {
    std::vector<Piece> pieces;
    std::vector<double> energy, loss;
  };
  std::vector<Part> parts(static_cast<std::size_t>((rows.rows() + height - 1) / height));
  backend.for_panels(rows.rows(), [&](const auto& worker, Index first, Index count) {
    Part part{rows.pieces(first, count), {}, {}};
    const auto sections = rows.sections(part.pieces);
    auto panel = worker.load_panel(std::span<const Section<T>>(sections), weight_unit);
    const auto undamped = [&](const auto& a) {
      auto energy = worker.energy(factors.r(), a, panel);
      const auto damping = penalties(worker, factors, part.pieces, a, panel);
      for (std::size_t i = 0; i < energy.size(); ++i) energy[i] -= damping[i];
      return energy;
    };
    part.energy = undamped(panel.weight);
    worker.fit(with.scheme, {Range::minmax, false, with.search.rounding}, layout, panel.weight, 0,
               0, layout.groups(), panel);
    worker.round(with.scheme, with.params.sparsity, layout, panel);
    part.loss = undamped(panel.carry);
    parts[static_cast<std::size_t>(first / height)] = std::move(part);
  });
  std::vector<Baseline> baselines(weights);
  for (const Part& part : parts)
    for (std::size_t i = 0; i < part.pieces.size(); ++i) {
      Baseline& of = baselines[part.pieces[i].weight];
      of.output_energy += part.energy[i];
      of.rtn_loss += part.loss[i];
      of.rows += part.pieces[i].rows;
    }
  return baselines;
}

/// Every n-th row of a weight, from the middle of the first n on.
template <class T>
MatrixView<const T> sample_rows(MatrixView<const T> weight, Measure measure) {
  constexpr Index least = 128, share = 16;  // rows of a sample
  const Index rows = weight.rows();
  const Index step = measure == Measure::full ? 1 : rows / (std::max)(least, rows / share);
  if (step <= 1) return weight;
  const Index first = step / 2, count = (rows - first + step - 1) / step;
  return {weight.middle_rows(first, 1).data(), count, weight.cols(), weight.row_stride() * step,
          weight.col_stride()};
}

}  // namespace gptq::solver
