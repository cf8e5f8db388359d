// SPDX-License-Identifier: MIT
#pragma once

// Several weights at once, for backends that do so in a launch for all of them
// (`Backend::batches`).

#include <gptq/factor/factor.hpp>
#include <gptq/solver/panel_solver.hpp>

#include <span>
#include <utility>  // std::move
#include <vector>

namespace gptq::solver {

/// Backends that take several weights at once.
template <class B>
concept BatchBackend = backend::Backend<B> && requires(const B backend) {
  backend.batches();
};

/// The factors of Hessians of one size; their matrices lie below each other in r and inverse.
template <BatchBackend B>
struct FactorBatch {
  std::vector<DampedFactor<B>> each;  ///< without matrices
  typename B::Matrix r{}, inverse{};
  ColumnLayout layout{};  ///< the first one's, for where groups begin

  std::vector<const ColumnLayout*> layouts() const {
    std::vector<const ColumnLayout*> all;
    for (const DampedFactor<B>& factor : each) all.push_back(&factor.layout);
    return all;
  }
};

/// Whether these settings are solved the same way for all weights of a batch.
inline bool batchable(const Params& params) {
  return !params.factor_in_double && !params.estimate_condition &&
         !params.parity.dead_weights_in_range &&
         (params.groups == Groups::fixed || params.order != Order::group_aware);
}

/// damped_factor for several Hessians of one size: one factorization for all; those that fail are
/// taken one by one.
template <BatchBackend B>
FactorBatch<B> damped_factors(std::span<const Hessian<B>* const> hessians, const Params& params) {
  Stopwatch watch;
  const auto batches = hessians.front()->backend().batches();
  std::vector<const typename B::Matrix*> sums;
  for (const Hessian<B>* hessian : hessians) {
    gptq::detail::require_tokens(*hessian);
    sums.push_back(&hessian->sum());
  }
  const auto diagonals = batches.diagonals(sums);
  std::vector<gptq::detail::Unfactored<B>> made;
  std::vector<Index> orders;
  std::vector<double> scales, missing;
  for (std::size_t i = 0; i < hessians.size(); ++i) {
    made.emplace_back(*hessians[i], diagonals[i], params);
    const auto order = made.back().factor.layout.order();
    orders.insert(orders.end(), order.begin(), order.end());
    scales.push_back(made.back().plan.scale_in_unit());
    const auto& lacks = made.back().damp(params, params.damping);
    missing.insert(missing.end(), lacks.begin(), lacks.end());
  }
  FactorBatch<B> batch;
  batch.r = batches.arrange_all(sums, orders, scales, missing);
  std::vector<std::vector<double>> roots;
  const std::vector<Index> failed = batches.factorize_all(batch.r, roots);
  for (std::size_t i = 0; i < hessians.size(); ++i) {
    if (failed[i] < 0) {
      made[i].finish(roots[i]);
      batch.each.push_back(std::move(made[i].factor));
      continue;
    }
    batch.each.push_back(damped_factor(*hessians[i], params));
    batches.replace(batch.r, static_cast<Index>(i), batch.each.back().r);
    batch.each.back().r = {};
    batch.each.back().inverse = {};
  }
  if (params.solver == Solver::lazy_batch) batch.inverse = batches.invert_all(batch.r);
  batch.layout = batch.each.front().layout;
  const double seconds = watch.lap() / static_cast<double>(hessians.size());
  for (DampedFactor<B>& factor : batch.each) factor.seconds = seconds;
  return batch;
}

/// Rounds the weights of a panel and measures each; see solve_panel and measure_baseline.
/// \param added  DampedFactor::added of each weight
/// \param store  store(): takes codes and grids, before the baseline overwrites them
template <class S, class Worker, class Factor, class Panel, class Store>
std::vector<PanelReport> solve_batch(const Worker& worker, const S& scheme, const Factor& factor,
                                     std::span<const std::span<const double>> added,
                                     const Params& params, const scheme::RangeSearch& search,
                                     Panel& panel, const Store& store) {
  const std::size_t count = added.size();
  PanelReport shared;
  solve_panel<S>(worker, scheme, factor, params, search, false, panel, shared.seconds);
  const auto weighted = [&](const auto& a) {  // Σ_p added_p·‖A_p‖², of each weight
    const auto squares = worker.squares_of(a);
    std::vector<double> sums(count);
    for (std::size_t i = 0; i < count; ++i)
      for (std::size_t p = 0; p < added[i].size(); ++p) sums[i] += added[i][p] * squares[i][p];
    return sums;
  };
  const auto undamped = [&](const auto& a) {
    auto energies = worker.energies(factor.r, a);
    const auto damping = weighted(a);
    for (std::size_t i = 0; i < count; ++i) energies[i] -= damping[i];
    return energies;
  };
  const auto penalty = weighted(panel.residual);
  const auto losses = worker.column_losses(panel);
  const auto clipped = worker.clipped(panel);
  store();
  std::vector<double> energy(count), nearest(count);
  if (params.measure_baseline) {
    Stopwatch watch;
    energy = undamped(panel.weight);
    worker.fit(scheme, {Range::minmax, false, search.rounding}, factor.layout, panel.weight, 0, 0,
               factor.layout.groups(), panel);
    worker.round(scheme, params.sparsity, factor.layout, panel);
    nearest = undamped(panel.residual);
    shared.seconds.measure = watch.lap();
  }
  const auto share = 1 / static_cast<double>(count);
  const Timings seconds{.fit = shared.seconds.fit * share,
                        .solve = shared.seconds.solve * share,
                        .measure = shared.seconds.measure * share};
  std::vector<PanelReport> reports;
  for (std::size_t i = 0; i < count; ++i)
    reports.push_back({losses[i], clipped[i], penalty[i], energy[i], nearest[i], seconds});
  return reports;
}

}  // namespace gptq::solver
