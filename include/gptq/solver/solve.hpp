// SPDX-License-Identifier: MIT
#pragma once

// One panel of rows from weight to codes: choose the grids, round with compensation.

#include <gptq/core/report.hpp>
#include <gptq/core/stopwatch.hpp>
#include <gptq/factor/factors.hpp>
#include <gptq/scheme/range.hpp>
#include <gptq/solver/forms.hpp>

namespace gptq::solver {

/// What a panel is rounded with; what it refers to must outlive it.
template <class S, class B>
struct Rounding {
  const S& scheme;             ///< of the grids
  const Params& params;        ///< of the quantizer
  const Factors<B>& factors;   ///< of the panel's weights
  scheme::RangeSearch search;  ///< how grids are chosen
};

/// Rounds a panel: fills in codes, scales and zeros, and leaves D = W − Q in carry.
/// \param given    whether the panel has its grids already
/// \param seconds  the time taken is added to fit and solve
/// \param seen     seen(first, last): called after each block
template <class Form, class Worker, class S, class B, class Panel, class Seen>
void solve_panel(const Worker& worker, const Rounding<S, B>& with, bool given, Panel& panel,
                 Timings& seconds, const Seen& seen) {
  const auto& [scheme, params, factors, search] = with;
  const ColumnLayout& layout = factors.layout();
  const bool dynamic = params.groups == Groups::dynamic && layout.groups() > 1 && !given;
  Stopwatch watch;
  const auto fit = [&](const auto& source, Index base, Index first, Index last) {
    seconds.solve += watch.lap();
    worker.fit(scheme, search, layout, source, base, first, last, panel);
    seconds.fit += watch.lap();
  };
  if (!dynamic && !given) fit(panel.weight, 0, 0, layout.groups());
  const Cuts groups = dynamic ? group_cuts(layout) : Cuts{0, layout.columns()};
  with_form<Form, Worker>(params, [&]<class Way>(Way) {
    Way::walk(
        worker, factors, params, groups, panel,
        [&](Index first, Index last) {  // the group that begins at `first` is reached
          if (!dynamic) return;
          const Index group = layout.group()[std::size_t(first)];
          fit(worker.targets(typename Way::Step{}, Way::factor(factors), panel, first, last), first,
              group, group + 1);
        },
        [&](Index first, Index last) {
          worker.solve(typename Way::Step{}, scheme, params.sparsity, layout, Way::factor(factors),
                       first, last, panel);
          seen(first, last);
        });
    Way::finish(worker, scheme, layout, panel);
  });
  seconds.solve += watch.lap();
}

}  // namespace gptq::solver
