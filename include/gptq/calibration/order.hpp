// SPDX-License-Identifier: MIT
#pragma once

// Column orders: which input is rounded first. Later columns make up for the errors of earlier ones, so what
// matters most goes first.

#include <gptq/core/params.hpp>

#include <algorithm>  // std::stable_sort
#include <numeric>    // std::iota
#include <span>
#include <vector>

namespace gptq {

/// order[p] is the column rounded at position p. Ties keep the natural order, so the result does not depend on
/// the sort.
///
/// \param diagonal  of H: mean square of each input
inline std::vector<Index> column_order(Order order, std::span<const double> diagonal) {
  std::vector<Index> columns(diagonal.size());
  std::iota(columns.begin(), columns.end(), Index{0});
  if (order == Order::act)
    std::stable_sort(columns.begin(), columns.end(),
                     [&](Index a, Index b) { return diagonal[std::size_t(a)] > diagonal[std::size_t(b)]; });
  return columns;
}

}  // namespace gptq
