// SPDX-License-Identifier: MIT
#pragma once

// The forms of the solver: what one step inside a block does, and in which sequence the blocks of a
// panel are solved. A form of your own needs the same members.

#include <gptq/factor/factors.hpp>
#include <gptq/kernel/column_block.hpp>
#include <gptq/solver/cuts.hpp>

#include <algorithm>  // std::lower_bound
#include <span>
#include <type_traits>  // std::is_same_v

namespace gptq::solver {

/// Block LDLᵀ ("LDLQ" in the QuIP paper): GPTQ's codes from the factor R alone, with no inverse;
/// the weight is read once and never rewritten.
struct LeftLooking {
  using Step = kernel::LeftLooking;  ///< one column inside a block

  /// The factor that its steps read: R.
  template <class B>
  static const typename B::Matrix& factor(const Factors<B>& factors) {
    return factors.r();
  }

  /// Solves a panel block by block and propagates errors between the blocks.
  ///
  /// \param groups   cuts at dynamic groups, whose grids are chosen on arrival; else both ends
  /// \param prepare  prepare(first, last): called when such a group is reached
  /// \param solve    solve(first, last): rounds a block whose corrections are in panel.carry
  template <class Worker, class B, class Panel, class Prepare, class Solve>
  static void walk(const Worker& worker, const Factors<B>& factors, const Params& params,
                   const Cuts& groups, Panel& panel, const Prepare& prepare, const Solve& solve) {
    halve(worker, factors.r(), panel, groups, [&](Index first, Index last) {
      prepare(first, last);
      halve(worker, factors.r(), panel, block_cuts(first, last, params.block_size), solve);
    });
  }

  /// Leaves D = W − Q in panel.carry, where it already is.
  template <class Worker, class S, class Panel>
  static void finish(const Worker& /*worker*/, const S& /*scheme*/, const ColumnLayout& /*layout*/,
                     Panel& /*panel*/) {}

 private:
  /// Halves the range recursively down to single blocks; one product, D_{<} R_{<,>}, takes the
  /// errors of the leading half to the trailing half. All products together cost m·n² FLOP, most of
  /// them in the large products.
  template <class Worker, class Panel, class Matrix, class Block>
  static void halve(const Worker& worker, const Matrix& factor, Panel& panel,
                    std::span<const Index> cuts, const Block& solve_block) {
    const std::size_t blocks = cuts.size() - 1;
    if (blocks == 1) {
      solve_block(cuts[0], cuts[1]);
      return;
    }
    const auto leading = cuts.first(blocks / 2 + 1), trailing = cuts.subspan(blocks / 2);
    const Index first = cuts.front(), middle = trailing.front(), last = cuts.back();
    halve(worker, factor, panel, leading, solve_block);
    worker.propagate(panel.carry, middle, last - middle, factor, panel.carry, first,
                     middle - first);
    halve(worker, factor, panel, trailing, solve_block);
  }
};

/// The paper's own form (GPTQ, Algorithm 1): each block spreads its errors to all later columns in
/// one product with U = R⁻¹, the Cholesky factor of H⁻¹ = UᵀU. What the paper adds to W goes into
/// panel.carry, so that W itself is not rewritten.
struct LazyBatch {
  using Step = kernel::LazyBatch;  ///< one column inside a block

  /// The factor that its steps read: R⁻¹.
  template <class B>
  static const typename B::Matrix& factor(const Factors<B>& factors) {
    return factors.inverse();
  }

  /// Solves a panel block by block, see LeftLooking::walk.
  template <class Worker, class B, class Panel, class Prepare, class Solve>
  static void walk(const Worker& worker, const Factors<B>& factors, const Params& params,
                   const Cuts& groups, Panel& panel, const Prepare& prepare, const Solve& solve) {
    const Index end = factors.layout().columns();
    Cuts cuts = block_cuts(0, end, params.block_size);
    if (!params.parity.stale_group_scales) cuts = merge(cuts, groups);
    for (std::size_t b = 0; b + 1 < cuts.size(); ++b) {
      const Index first = cuts[b], last = cuts[b + 1];
      for (auto at = std::lower_bound(groups.begin(), groups.end(), first);
           at + 1 < groups.end() && *at < last; ++at)
        prepare(*at, at[1]);
      solve(first, last);
      worker.propagate(panel.carry, last, end - last, factors.inverse(), panel.carry, first,
                       last - first);
    }
  }

  /// Replaces panel.carry by D = W − Q.
  template <class Worker, class S, class Panel>
  static void finish(const Worker& worker, const S& scheme, const ColumnLayout& layout,
                     Panel& panel) {
    worker.find_errors(scheme, layout, panel);
  }
};

/// Either of the two, as Params::solver says.
struct ByParams {};

/// Calls f(form) with `Form` or, for ByParams, the form that Params::solver names.
template <class Form, class Worker, class F>
void with_form(const Params& params, const F& f) {
  if constexpr (!std::is_same_v<Form, ByParams>) {
    f(Form{});
  } else {
    if constexpr (backend::LazyBatchWorker<Worker>)
      if (params.solver == Solver::lazy_batch) return f(LazyBatch{});
    f(LeftLooking{});
  }
}

}  // namespace gptq::solver
