// SPDX-License-Identifier: MIT
#pragma once

// The left-looking solver (block LDL, "LDLQ" of the QuIP paper): the integers of GPTQ from the factor R alone, with
// no inverse, the weight read once and never rewritten.

#include <gptq/core/concepts.hpp>
#include <gptq/kernel/panel.hpp>
#include <gptq/scheme/range.hpp>

namespace gptq::solver {


/// Rounds the columns at positions [first, last) of a panel whose corrections from all earlier columns are in place.
///
/// Halves the range until a block is left: the errors of the leading half are carried to the trailing half by one
/// product, D_{<} R_{<,>}. All products together cost m·n² FLOP, and most of them are in the large ones.
template <class Worker, class Panel, class Matrix, class Block>
void left_looking(const Worker& worker, const Matrix& factor, Panel& panel, Index first, Index last, Index width, const Block& solve_block) {
  if (last - first <= width) {
    solve_block(first, last);
    return;
  }
  const Index blocks = (last - first + width - 1) / width;
  const Index middle = first + blocks / 2 * width;
  left_looking(worker, factor, panel, first, middle, width, solve_block);
  worker.propagate(panel.residual, middle, last - middle, factor, panel.residual, first, middle - first);
  left_looking(worker, factor, panel, middle, last, width, solve_block);
}

}  // namespace gptq::solver
