// SPDX-License-Identifier: MIT
#pragma once

// Factors: what the weights of a batch are solved with, one factor for all or one each.

#include <gptq/factor/factor.hpp>

#include <span>
#include <utility>  // std::as_const, std::move
#include <vector>

namespace gptq {

/// One factor, shared by all weights of a batch, or one for each weight, whose matrices are then
/// stacked.
template <backend::Backend B>
class Factors {
 public:
  /// \param factor  for all weights; must outlive this
  explicit Factors(const DampedFactor<B>& factor) : shared_(&factor) {}

  /// One for each Hessian, all of the same size: factored in one go if the backend takes several
  /// at once, where those that fail are factored again one by one.
  Factors(std::span<const Hessian<B>* const> hessians, const Params& params) : shared_(nullptr) {
    if constexpr (backend::BatchBackend<B>)
      if (hessians.size() > 1) {
        factorize_all(hessians, params);
        return;
      }
    for (const Hessian<B>* hessian : hessians) each_.push_back(factorize(*hessian, params));
  }

  /// How many there are.
  std::size_t count() const { return shared_ ? 1 : each_.size(); }
  /// Whether the matrices of several are stacked, so that their weights can go through the solver
  /// together.
  bool stacked() const { return r_.rows() > 0; }

  /// The factor of a weight; without its matrices if there are several.
  const DampedFactor<B>& of(std::size_t weight) const {
    return shared_ ? *shared_ : each_[each_.size() > 1 ? weight : 0];
  }
  /// Calls f with the factor of a weight and its matrices, which are copied if they are stacked.
  template <class F>
  void with_matrices(std::size_t weight, const F& f) const {
    if constexpr (backend::BatchBackend<B>)
      if (stacked()) {
        DampedFactor<B> own = of(weight).record();
        const auto batches = own.backend.batches();
        own.r = batches.copy_of(r_, static_cast<Index>(weight));
        if (inverse_.rows() > 0)
          own.inverse = batches.copy_of(inverse_, static_cast<Index>(weight));
        f(std::as_const(own));
        return;
      }
    f(of(weight));
  }
  /// Where the matrices live.
  const B& backend() const { return of(0).backend; }
  /// R; if there are several, stacked.
  const typename B::Matrix& r() const { return stacked() ? r_ : of(0).r; }
  /// R⁻¹ likewise, for Solver::lazy_batch only.
  const typename B::Matrix& inverse() const { return stacked() ? inverse_ : of(0).inverse; }
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
