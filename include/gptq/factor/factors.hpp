// SPDX-License-Identifier: MIT
#pragma once

// Factors: what the weights of a batch are solved with, one factor for all or one for each.

#include <gptq/factor/factor.hpp>

#include <span>
#include <utility>  // std::move
#include <vector>

namespace gptq {

/// Factors of one weight, of weights that share it, or of weights with one each, whose matrices
/// then lie below each other.
template <backend::Backend B>
class Factors {
 public:
  /// \param factor  for all weights; must outlive this
  explicit Factors(const DampedFactor<B>& factor) : shared_(&factor) {}

  /// One for each Hessian, all of one size: one factorization for all. Those that fail are taken
  /// one by one.
  Factors(std::span<const Hessian<B>* const> hessians, const Params& params) : shared_(nullptr) {
    if constexpr (backend::BatchBackend<B>)
      if (hessians.size() > 1) {
        factorize_all(hessians, params);
        return;
      }
    each_.push_back(factorize(*hessians.front(), params));
  }

  const DampedFactor<B>& of(std::size_t weight) const {
    return shared_ ? *shared_ : each_[each_.size() > 1 ? weight : 0];
  }
  const B& backend() const { return of(0).backend; }
  /// Making the factor of a weight took; 0 where the caller has made it.
  double seconds(std::size_t weight) const { return shared_ ? 0 : of(weight).seconds; }
  /// R and R⁻¹ of all.
  const typename B::Matrix& r() const { return each_.size() > 1 ? r_ : of(0).r; }
  const typename B::Matrix& inverse() const { return each_.size() > 1 ? inverse_ : of(0).inverse; }
  /// Null where errors are measured on R itself: small ones, and several at a time.
  const typename B::Matrix* sketch() const {
    return of(0).sketch.rows() > 0 ? &of(0).sketch : nullptr;
  }
  /// The first one's, for where groups begin: the same in all.
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
  std::vector<DampedFactor<B>> each_;  // without matrices where there are several
  typename B::Matrix r_{}, inverse_{};
};

}  // namespace gptq
