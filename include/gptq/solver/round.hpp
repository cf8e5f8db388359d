// SPDX-License-Identifier: MIT
#pragma once

// The algorithm: panel by panel, choose grids, round with compensation, store the results.

#include <gptq/core/progress.hpp>
#include <gptq/solver/batch.hpp>
#include <gptq/solver/requirements.hpp>
#include <gptq/solver/schedule.hpp>

#include <span>
#include <utility>  // std::move
#include <vector>

namespace gptq::solver {

/// Rounds the weights of one batch.
/// \tparam Form  of the solver (solver/forms.hpp)
template <class Form, class S, backend::Backend B, class T>
std::vector<QuantizedMatrix<S>> round(const S& scheme, const Params& params,
                                      std::span<const Task<T>> tasks, const Factors<B>& factors,
                                      const Progress& progress = {}, const Doors<B>& doors = {}) {
  Batch<S, B, T> batch(scheme, params, tasks, factors, doors);
  gptq::detail::SharedStage stage(progress, "quantize", static_cast<double>(batch.rows()));
  factors.backend().for_panels(batch.rows(), [&](const auto& worker, Index first, Index rows) {
    stage.require_going();
    auto panel = batch.load(worker, first, rows);
    Timings seconds;
    solve_panel<Form>(worker, batch.rounding(), batch.has_grids(), panel, seconds,
                      batch.observe(worker, panel, first));
    batch.store(worker, std::move(panel), first, rows, seconds);
    stage.advance(static_cast<double>(rows));
  });
  return batch.finish();
}

/// Rounds weights that share a factor, in as few batches as the backend allows.
template <class Form, class S, backend::Backend B, class T>
std::vector<QuantizedMatrix<S>> round_all(const S& scheme, const Params& params,
                                          std::span<const Task<T>> tasks,
                                          const DampedFactor<B>& factor, const Progress& progress,
                                          const Doors<B>& doors = {}) {
  std::vector<std::vector<QuantizedMatrix<S>>> done;
  const auto batches = schedule<B>(tasks);
  for (const auto batch : batches.batches)
    done.push_back(advised(
        batch[0].weight.rows(), batch[0].weight.cols(), params, factor.backend,
        [&] { return round<Form>(scheme, params, batch, Factors<B>(factor), progress, doors); }));
  return joined(std::move(done), batches.apart);
}

}  // namespace gptq::solver
