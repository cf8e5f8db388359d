// SPDX-License-Identifier: MIT
#pragma once

// Which weights go through the solver together: as many as the backend takes at once.

#include <gptq/calibration/hessian.hpp>
#include <gptq/core/params.hpp>
#include <gptq/quantized_matrix.hpp>

#include <algorithm>  // std::min
#include <span>
#include <string>
#include <string_view>
#include <utility>  // std::move
#include <vector>

namespace gptq::solver {

/// A weight that is to be rounded.
template <class T>
struct Task {
  MatrixView<const T> weight;  ///< [out_features, in_features]
  std::string name;
  double largest = 0;  ///< weight
};

/// Batches of weights that share panels.
template <class T>
struct Schedule {
  std::vector<std::span<const Task<T>>> batches{};
  std::string_view apart{};  ///< why weights are not taken together; empty: they are, or it is one
};

template <class T>
Schedule<T> cut(std::span<const Task<T>> tasks, std::string_view apart, std::size_t at_once) {
  Schedule<T> schedule;
  if (tasks.size() > 1) schedule.apart = apart;
  if (!apart.empty()) at_once = 1;
  for (std::size_t first = 0; first < tasks.size(); first += at_once)
    schedule.batches.push_back(tasks.subspan(first, (std::min)(at_once, tasks.size() - first)));
  return schedule;
}

/// Whether a panel can hold weights of these sizes: it counts all in one unit.
template <class T>
bool one_unit(std::span<const Task<T>> tasks) {
  for (const Task<T>& task : tasks)
    if (weight_unit(task.largest) != weight_unit(tasks.front().largest)) return false;
  return true;
}

constexpr std::string_view one_at_a_time = "the backend takes one weight at a time";
constexpr std::string_view other_units = "the sizes of the weights are too far apart";

/// Whether Hessians are factored in one go with these settings.
inline bool factored_together(const Params& params) {
  return !params.factor_in_double && !params.estimate_condition &&
         !params.parity.dead_weights_in_range &&
         (params.groups == Groups::static_ || params.order != Order::group_aware);
}

/// Weights that read one input and share its factor.
template <backend::Backend B, class T>
Schedule<T> schedule(std::span<const Task<T>> tasks) {
  std::string_view apart;
  if (!backend::BatchBackend<B>) apart = one_at_a_time;
  else if (!one_unit(tasks)) apart = other_units;
  return cut(tasks, apart, tasks.size());
}

/// Weights with a Hessian each.
template <backend::Backend B, class T>
Schedule<T> schedule(std::span<const Task<T>> tasks, std::span<const Hessian<B>* const> hessians,
                     const Params& params) {
  if constexpr (!backend::BatchBackend<B>) {
    return cut(tasks, one_at_a_time, 1);
  } else {
    if (tasks.empty()) return {};
    const Index rows = tasks.front().weight.rows(), cols = tasks.front().weight.cols();
    const B& backend = hessians.front()->backend();
    std::string_view apart;
    if (!one_unit(tasks)) apart = other_units;
    if (!factored_together(params)) apart = "the settings are for one factorization at a time";
    for (std::size_t i = 0; i < tasks.size(); ++i) {
      if (tasks[i].weight.rows() != rows || tasks[i].weight.cols() != cols)
        apart = "the weights have different shapes";
      else if (!hessians[i]->backend().shares(backend))
        apart = "the Hessians have different backends";
    }
    // Panels hold whole weights where each has a factor of its own.
    const Index at_once = (std::min)(
        backend.batches().batch_size(rows, cols, params.solver),
        backend.footprint(rows * static_cast<Index>(tasks.size()), cols, params).panel_rows / rows);
    return cut(tasks, apart, static_cast<std::size_t>((std::max)(at_once, Index{1})));
  }
}

/// The results of all batches, which say how they were taken.
template <class Results>
Results joined(std::vector<Results> batches, std::string_view apart) {
  Results all;
  for (Results& batch : batches)
    for (auto& result : batch) {
      result.report().apart = apart;
      all.push_back(std::move(result));
    }
  return all;
}

}  // namespace gptq::solver
