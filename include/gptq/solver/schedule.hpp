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

/// A weight to round.
template <class T>
struct Task {
  MatrixView<const T> weight;  ///< [out_features, in_features]
  std::string name;            ///< for messages
  double largest = 0;          ///< largest magnitude of a weight
};

/// Batches of weights that share panels.
template <class T>
struct Schedule {
  std::vector<std::span<const Task<T>>> batches{};  ///< each at least one weight
  std::string_view apart{};  ///< why weights are not batched; empty: they are, or there is only one
};

/// Cuts tasks into batches of at most `at_once`, or of one if there is a reason to keep them apart.
template <class T>
Schedule<T> cut(std::span<const Task<T>> tasks, std::string_view apart, std::size_t at_once) {
  Schedule<T> schedule;
  if (tasks.size() > 1) schedule.apart = apart;
  if (!apart.empty()) at_once = 1;
  for (std::size_t first = 0; first < tasks.size(); first += at_once)
    schedule.batches.push_back(tasks.subspan(first, (std::min)(at_once, tasks.size() - first)));
  return schedule;
}

/// Whether one panel can hold all these weights: it has only one weight_unit.
template <class T>
bool one_unit(std::span<const Task<T>> tasks) {
  for (const Task<T>& task : tasks)
    if (weight_unit(task.largest) != weight_unit(tasks.front().largest)) return false;
  return true;
}

/// A reason for Schedule::apart.
constexpr std::string_view one_at_a_time = "the backend takes one weight at a time";
/// A reason for Schedule::apart.
constexpr std::string_view other_units = "the weights differ too much in magnitude";
/// A reason for Schedule::apart.
constexpr std::string_view other_shapes = "the weights have different shapes";
/// A reason for Schedule::apart.
constexpr std::string_view too_many = "the backend takes fewer weights at once";

/// Whether several Hessians can be factored in one go with these settings.
inline bool factored_together(const Params& params) {
  return !params.factor_in_double && !params.estimate_condition &&
         !params.parity.dead_weights_in_range &&
         (params.groups == Groups::static_ || params.order != Order::group_aware);
}

/// How many of `count` weights [rows, cols] with a Hessian each go through the solver together.
template <backend::Backend B>
Index weights_at_once(Index rows, Index cols, Index count, const Params& params, const B& backend) {
  if constexpr (backend::BatchBackend<B>) {
    if (!factored_together(params)) return 1;
    // As each weight has a factor of its own, panels hold whole weights.
    const Index most =
        (std::min)({count, backend.batches().batch_size(rows, cols, params.solver),
                    backend.footprint(rows * count, cols, params).panel_rows / rows});
    return (std::max)(most, Index{1});
  } else {
    return 1;
  }
}

/// Batches of weights that read the same input and share its factor.
template <backend::Backend B, class T>
Schedule<T> schedule(std::span<const Task<T>> tasks) {
  std::string_view apart;
  if (!backend::BatchBackend<B>) apart = one_at_a_time;
  else if (!one_unit(tasks)) apart = other_units;
  return cut(tasks, apart, tasks.size());
}

/// Batches of weights with a Hessian each.
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
    if (!factored_together(params)) apart = "these settings factor one Hessian at a time";
    for (std::size_t i = 0; i < tasks.size(); ++i) {
      if (tasks[i].weight.rows() != rows || tasks[i].weight.cols() != cols) apart = other_shapes;
      else if (!hessians[i]->backend().shares(backend))
        apart = "the Hessians have different backends";
    }
    return cut(tasks, apart,
               static_cast<std::size_t>(
                   weights_at_once(rows, cols, static_cast<Index>(tasks.size()), params, backend)));
  }
}

/// The results of all batches in one list; their reports say why weights were not batched.
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
