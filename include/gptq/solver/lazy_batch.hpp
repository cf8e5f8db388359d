// SPDX-License-Identifier: MIT
#pragma once

// The paper's solver (GPTQ, Algorithm 1): each block of columns spreads its errors to all columns
// behind it in one product, with U = R⁻¹, the Cholesky factor of H⁻¹ = UᵀU.

#include <gptq/backend/concept.hpp>
#include <gptq/kernel/panel.hpp>
#include <gptq/solver/cuts.hpp>

#include <span>

namespace gptq::solver {

/// Rounds all columns of a panel, block by block. panel.residual holds what the paper adds to W, so
/// that W itself stays.
///
/// \param prepare      prepare(first, last): before a block is rounded, all blocks before it done
/// \param solve_block  solve_block(first, last): rounds it, spreading errors inside
template <class Worker, class Panel, class Matrix, class Prepare, class Block>
void lazy_batch(const Worker& worker, const Matrix& inverse, Panel& panel,
                std::span<const Index> cuts, const Prepare& prepare, const Block& solve_block) {
  const Index end = cuts.back();
  for (std::size_t b = 0; b + 1 < cuts.size(); ++b) {
    const Index first = cuts[b], last = cuts[b + 1];
    prepare(first, last);
    solve_block(first, last);
    worker.propagate(panel.residual, last, end - last, inverse, panel.residual, first,
                     last - first);
  }
}

}  // namespace gptq::solver
