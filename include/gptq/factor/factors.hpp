// SPDX-License-Identifier: MIT
#pragma once

// Factors: what the weights of a batch are solved with, one factor for all or one each.

#include <gptq/factor/factor.hpp>

#include <span>
#include <utility>  // std::move
#include <vector>

namespace gptq {

/// One factor, shared by all weights of a batch, or one for each weight, whose matrices are then
/// stacked.
template <backend::Backend B>
class Factors {
 public:
  /// \param factor  for all weights; must outlive this
  explicit Factors(const DampedFactor<B>& factor) : shared_(&factor) {}

  /// One for each Hessian, all of the same size, factored in one go; those that fail are factored
  /// again one by one.
  Factors(std::span<const Hessian<B>* const> hessians, const Params& params) : shared_(nullptr) {
    if constexpr (backend::BatchBackend<B>)
      if (hessians.size() > 1) {
        factorize_all(hessians, params);
        return;
      }
    each_.push_back(factorize(*hessians.front(), params));
  }

  /// The factor of a weight; without its matrices if there are several.
  const DampedFactor<B>& of(std::size_t weight) const {
    return shared_ ? *shared_ : each_[each_.size() > 1 ? weight : 0];
  }
  /// Where the matrices live.
  const B& backend() const { return of(0).backend; }
  /// Time that making the factor of a weight took; 0 if the caller made it.
  double seconds(std::size_t weight) const { return shared_ ? 0 : of(weight).seconds; }
  /// R; if there are several, stacked.
  const typename B::Matrix& r() const { return each_.size() > 1 ? r_ : of(0).r; }
  /// R⁻¹ likewise, for Solver::lazy_batch only.
  const typename B::Matrix& inverse() const { return each_.size() > 1 ? inverse_ : of(0).inverse; }
  /// Null if errors are measured on R itself: because it is small, or there are several.
  const typename B::Matrix* sketch() const {
    return of(0).sketch.rows() > 0 ? &of(0).sketch : nullptr;
  }
  /// The layout of the first; groups begin at the same positions in all.
  const ColumnLayout& layout() const { return of(0).layout; }

 private:
  void factorize_all(std::span<const Hessian<B>* const> hessians, const Params& params) {
    Stopwatch watch;
    const auto batches = hessians.front()->backend().batches();
    std::vector<const typename B::Matrix*> sums;
    for (const Hessian<B>* hessian : hessians) {
      detail::require_tokens(*hessian);
      sums.push_back(&hessian->sum());
    }
    const auto diagonals = batches.diagonals(sums);
    std::vector<detail::FactorPlan<B>> plans;
    std::vector<Index> orders;
    std::vector<double> scales, missing;
    for (std::size_t i = 0; i < hessians.size(); ++i) {
      auto& plan = plans.emplace_back(*hessians[i], diagonals[i], params);
      const auto order = plan.factor.layout.order();
      orders.insert(orders.end(), order.begin(), order.end());
      scales.push_back(plan.plan.scale_in_unit());
      const auto& lacks = plan.damp(params, params.damping);
      missing.insert(missing.end(), lacks.begin(), lacks.end());
    }
    r_ = batches.arrange_all(sums, orders, scales, missing);
    std::vector<std::vector<double>> roots;
    const std::vector<Index> failed = batches.factorize_all(r_, roots);
    for (std::size_t i = 0; i < hessians.size(); ++i) {
      if (failed[i] < 0) {
        plans[i].finish(roots[i]);
        each_.push_back(std::move(plans[i].factor));
        continue;
      }
      DampedFactor<B>& own = each_.emplace_back(factorize(*hessians[i], params));
      batches.replace(r_, static_cast<Index>(i), own.r);
      own.r = {};
      own.inverse = {};
      own.sketch = {};
    }
    if (params.solver == Solver::lazy_batch) inverse_ = batches.invert_all(r_);
    const double seconds = watch.lap() / static_cast<double>(hessians.size());
    for (DampedFactor<B>& factor : each_) factor.seconds = seconds;
  }

  const DampedFactor<B>* shared_;
  std::vector<DampedFactor<B>> each_;  // if there are several, without matrices
  typename B::Matrix r_{}, inverse_{};
};

}  // namespace gptq
