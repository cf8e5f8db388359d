// SPDX-License-Identifier: MIT
#pragma once

// The left-looking solver (block LDL, "LDLQ" of the QuIP paper): the integers of GPTQ from the
// factor R alone, with no inverse, the weight read once and never rewritten.

#include <gptq/backend/concept.hpp>
#include <gptq/kernel/panel.hpp>
#include <gptq/solver/cuts.hpp>

#include <span>

namespace gptq::solver {

/// Rounds the columns between the first and the last cut of a panel whose corrections from all
/// earlier columns are in place.
///
/// Halves the range until the columns between two cuts are left: the errors of the leading half are
/// carried to the trailing half by one product, D_{<} R_{<,>}. All products together cost m·n²
/// FLOP, and most of them are in the large ones.
template <class Worker, class Panel, class Matrix, class Block>
void left_looking(const Worker& worker, const Matrix& factor, Panel& panel,
                  std::span<const Index> cuts, const Block& solve_block) {
  const std::size_t blocks = cuts.size() - 1;
  if (blocks == 1) {
    solve_block(cuts[0], cuts[1]);
    return;
  }
  const auto leading = cuts.first(blocks / 2 + 1), trailing = cuts.subspan(blocks / 2);
  const Index first = cuts.front(), middle = trailing.front(), last = cuts.back();
  left_looking(worker, factor, panel, leading, solve_block);
  worker.propagate(panel.residual, middle, last - middle, factor, panel.residual, first,
                   middle - first);
  left_looking(worker, factor, panel, trailing, solve_block);
}

}  // namespace gptq::solver
