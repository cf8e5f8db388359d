// SPDX-License-Identifier: MIT
#pragma once

// Ranks of a few numbers per row: which of them a sparsity pattern sets to zero.

#include <gptq/config.hpp>
#include <gptq/core/matrix_view.hpp>
#include <gptq/lane/arithmetic.hpp>

namespace gptq::lane {

/// rank[k] = how many of values[0, count) are smaller than values[k], where the first of equal
/// values counts as smaller: a permutation of 0..count-1 for each row of a lane.
template <class T>
GPTQ_HD void rank_ascending(const T* values, int count, T* rank) {
  for (int k = 0; k < count; ++k) {
    rank[k] = T(0);
    for (int i = 0; i < k; ++i)
      rank[k] += select((values[i] < values[k]) | (values[i] == values[k]), T(1), T(0));
    for (int i = k + 1; i < count; ++i) rank[k] += select(values[i] < values[k], T(1), T(0));
  }
}

}  // namespace gptq::lane
