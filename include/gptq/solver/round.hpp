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

/// The same with factors made for it, whose time the reports of the results include.
template <class Form, class S, backend::Backend B, class T>
std::vector<QuantizedMatrix<S>> factor_and_round(const S& scheme, const Params& params,
                                                 std::span<const Task<T>> tasks,
                                                 std::span<const Hessian<B>* const> hessians,
                                                 const Progress& progress = {}) {
  return advised(tasks[0].weight.rows(), tasks[0].weight.cols(), params, hessians[0]->backend(),
                 [&] {
                   const Factors<B> factors(hessians, params);
                   auto results = round<Form>(scheme, params, tasks, factors, progress);
                   for (std::size_t i = 0; i < results.size(); ++i) {
                     Timings& seconds = results[i].report().seconds;
                     seconds.factorize = factors.of(i).seconds;
                     seconds.total += seconds.factorize;
                   }
                   return results;
                 });
}

/// Rounds weights with a factor each: together if the factors are stacked and the backend takes so
/// many weights of one shape at once, else one by one.
template <class Form, class S, backend::Backend B, class T>
std::vector<QuantizedMatrix<S>> round_each(const S& scheme, const Params& params,
                                           std::span<const Task<T>> tasks,
                                           const Factors<B>& factors) {
  const auto advised_round = [&](std::span<const Task<T>> some, const Factors<B>& theirs) {
    return advised(some[0].weight.rows(), some[0].weight.cols(), params, factors.backend(),
                   [&] { return round<Form>(scheme, params, some, theirs); });
  };
  const Index rows = tasks[0].weight.rows(), cols = tasks[0].weight.cols(),
              count = static_cast<Index>(tasks.size());
  std::string_view apart = one_at_a_time;
  if (factors.stacked()) {
    apart = {};
    if (!one_unit(tasks)) apart = other_units;
    for (const Task<T>& task : tasks)
      if (task.weight.rows() != rows) apart = other_shapes;
    if (weights_at_once(rows, cols, count, params, factors.backend()) < count) apart = too_many;
    if (apart.empty()) return advised_round(tasks, factors);
  }
  std::vector<std::vector<QuantizedMatrix<S>>> done(tasks.size());
  for (std::size_t i = 0; i < tasks.size(); ++i)
    factors.with_matrices(i, [&](const DampedFactor<B>& own) {
      done[i] = advised_round(tasks.subspan(i, 1), Factors<B>(own));
    });
  return joined(std::move(done), count > 1 ? apart : "");
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
