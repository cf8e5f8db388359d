// SPDX-License-Identifier: MIT
#pragma once

// Column orders: which input is rounded first. Later columns compensate for the errors of earlier
// ones, so what matters most goes first.

#include <gptq/core/params.hpp>

#include <algorithm>  // std::stable_sort
#include <numeric>    // std::iota
#include <span>
#include <utility>  // std::move
#include <vector>

namespace gptq {

namespace detail {

/// Sorts by decreasing value; ties keep their order, so the result does not depend on the sort.
inline void sort_by_falling(std::span<Index> columns, std::span<const double> value) {
  std::stable_sort(columns.begin(), columns.end(),
                   [&](Index a, Index b) { return value[std::size_t(a)] > value[std::size_t(b)]; });
}

}  // namespace detail

/// order[p] is the column rounded at position p. Ties keep the natural order.
///
/// \param diagonal  of H: mean square of each input
/// \param order     not min_pivot, which needs more than the diagonal (the backend's pivot_order)
inline std::vector<Index> column_order(Order order, std::span<const double> diagonal,
                                       Index group_size) {
  const auto n = static_cast<Index>(diagonal.size());
  std::vector<Index> columns(diagonal.size());
  std::iota(columns.begin(), columns.end(), Index{0});
  if (order == Order::act) detail::sort_by_falling(columns, diagonal);
  if (order == Order::group_aware) {
    const Index groups = (n + group_size - 1) / group_size;
    const auto group = [&](Index g) {
      return std::span(columns).subspan(std::size_t(g * group_size),
                                        std::size_t((std::min)(group_size, n - g * group_size)));
    };
    std::vector<double> largest(static_cast<std::size_t>(groups));
    std::vector<Index> sorted(static_cast<std::size_t>(groups)), result;
    std::iota(sorted.begin(), sorted.end(), Index{0});
    for (Index g = 0; g < groups; ++g) {
      detail::sort_by_falling(group(g), diagonal);
      largest[std::size_t(g)] = diagonal[std::size_t(group(g).front())];
    }
    detail::sort_by_falling(sorted, largest);
    for (const Index g : sorted) result.insert(result.end(), group(g).begin(), group(g).end());
    columns = std::move(result);
  }
  return columns;
}

}  // namespace gptq
