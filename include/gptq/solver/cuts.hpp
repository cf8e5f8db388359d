// SPDX-License-Identifier: MIT
#pragma once

// Cuts: the positions at which a solver stops to carry errors on, first and last included.

#include <gptq/kernel/column_layout.hpp>

#include <algorithm>  // std::min, std::set_union
#include <iterator>   // std::back_inserter
#include <vector>

namespace gptq::solver {

using Cuts = std::vector<Index>;

/// Every `width` positions from `first` on.
inline Cuts block_cuts(Index first, Index last, Index width) {
  Cuts cuts;
  for (Index p = first; p < last; p += (std::min)(width, last - p)) cuts.push_back(p);
  cuts.push_back(last);
  return cuts;
}

/// Where another group begins, in a layout whose groups follow each other.
inline Cuts group_cuts(const ColumnLayout& layout) {
  Cuts cuts;
  for (Index p = 0; p < layout.columns(); ++p)
    if (p == 0 || layout.group()[std::size_t(p)] != layout.group()[std::size_t(p - 1)])
      cuts.push_back(p);
  cuts.push_back(layout.columns());
  return cuts;
}

inline Cuts merge(const Cuts& a, const Cuts& b) {
  Cuts all;
  std::set_union(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(all));
  return all;
}

}  // namespace gptq::solver
