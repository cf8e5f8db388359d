// SPDX-License-Identifier: MIT
#pragma once

// Cuts: the positions between blocks, where a solver propagates errors.

#include <gptq/kernel/column_layout.hpp>

#include <algorithm>  // std::min, std::set_union
#include <iterator>   // std::back_inserter
#include <vector>

namespace gptq::solver {

/// Ascending positions, both ends included; a block lies between each two.
using Cuts = std::vector<Index>;

/// A cut every `width` positions from `first` to `last`.
inline Cuts block_cuts(Index first, Index last, Index width) {
  Cuts cuts;
  for (Index p = first; p < last; p += (std::min)(width, last - p)) cuts.push_back(p);
  cuts.push_back(last);
  return cuts;
}

/// A cut wherever a group begins, for groups that are contiguous in the solving order.
inline Cuts group_cuts(const ColumnLayout& layout) {
  Cuts cuts;
  for (Index p = 0; p < layout.columns(); ++p)
    if (p == 0 || layout.group()[std::size_t(p)] != layout.group()[std::size_t(p - 1)])
      cuts.push_back(p);
  cuts.push_back(layout.columns());
  return cuts;
}

/// The union of two lists of cuts.
inline Cuts merge(const Cuts& a, const Cuts& b) {
  Cuts all;
  std::set_union(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(all));
  return all;
}

}  // namespace gptq::solver
