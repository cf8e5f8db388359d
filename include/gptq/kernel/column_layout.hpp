// SPDX-License-Identifier: MIT
#pragma once

// ColumnLayout: the order in which the columns of a weight are solved, and the group that each one
// belongs to.

#include <gptq/core/matrix_view.hpp>

#include <algorithm>  // std::find, std::sort
#include <span>
#include <utility>  // std::move
#include <vector>

namespace gptq {

/// What the columns of a group have in common.
enum class Grouping {
  columns,    ///< they are adjacent in the weight
  positions,  ///< they are adjacent in the solving order: loaders need a g_idx
};

/// The order, groups, dead columns and pivots of a weight. Positions are places in the solving
/// order, 0 first; columns are places in the weight.
class ColumnLayout {
 public:
  ColumnLayout() = default;

  /// \param order     order[p] is the column solved at position p
  /// \param grouping  whether the `group_size` columns of a group are adjacent in the weight or in
  ///                  the order; the last group may be short
  ColumnLayout(std::vector<Index> order, Index group_size, Grouping grouping = Grouping::columns)
      : order_(std::move(order)), group_size_(group_size) {
    const Index n = columns();
    pivots_.assign(order_.size(), 1.0);
    group_.resize(order_.size());
    members_.resize(order_.size());
    for (Index p = 0; p < n; ++p) {
      const Index place = grouping == Grouping::columns ? order_[std::size_t(p)] : p;
      group_[std::size_t(p)] = place / group_size_;
      members_[std::size_t(p)] = p;
    }
    std::sort(members_.begin(), members_.end(), [this](Index a, Index b) {
      const Index of_a = group_[std::size_t(a)], of_b = group_[std::size_t(b)];
      return of_a != of_b ? of_a < of_b : order_[std::size_t(a)] < order_[std::size_t(b)];
    });
  }

  /// Columns of the weight, its in_features.
  Index columns() const { return static_cast<Index>(order_.size()); }
  /// Columns of a group, except perhaps the last one.
  Index group_size() const { return group_size_; }
  /// Number of groups.
  Index groups() const { return (columns() + group_size_ - 1) / group_size_; }

  /// The column of the weight at each position.
  std::span<const Index> order() const { return order_; }
  /// The column of the weight at a position.
  Index column(Index position) const { return order_[std::size_t(position)]; }

  /// The group at each position.
  std::span<const Index> group() const { return group_; }

  /// The positions of a group's columns, in the weight's order.
  std::span<const Index> members(Index group) const {
    const Index begin = group * group_size_;
    return std::span(members_).subspan(std::size_t(begin),
                                       std::size_t((std::min)(group_size_, columns() - begin)));
  }

  /// Whether the input at a position was always zero in calibration: the solver treats its weights
  /// as zeros.
  bool dead(Index position) const { return !dead_.empty() && dead_[std::size_t(position)]; }
  /// Whether any input is dead.
  bool any_dead() const { return std::find(dead_.begin(), dead_.end(), true) != dead_.end(); }
  /// One entry per position; empty: none is dead.
  void set_dead(std::vector<bool> by_position) { dead_ = std::move(by_position); }

  /// What a squared error at a position costs: the pivots d_j = R_jj² of the factored Hessian; 1
  /// until they are set.
  std::span<const double> pivots() const { return pivots_; }
  /// One entry per position.
  void set_pivots(std::vector<double> by_position) { pivots_ = std::move(by_position); }

 private:
  std::vector<Index> order_, group_, members_;
  std::vector<bool> dead_;
  std::vector<double> pivots_;
  Index group_size_ = 1;
};

}  // namespace gptq
