// SPDX-License-Identifier: MIT
#pragma once

// PanelRows: the rows of several weights, stacked and cut into panels.

#include <gptq/kernel/panel.hpp>

#include <algorithm>  // std::max, std::min
#include <span>
#include <utility>  // std::move
#include <vector>

namespace gptq::solver {

/// Rows of one weight in a panel.
struct Piece {
  std::size_t weight = 0;  ///< its index in the batch
  /// Rows [first, first + rows) of that weight.
  Index first = 0, rows = 0;
};

/// The weights of a batch, stacked as if they were one.
template <class T>
class PanelRows {
 public:
  /// \param layouts  one for each weight, as are scale_units
  PanelRows(std::vector<MatrixView<const T>> weights, std::vector<const ColumnLayout*> layouts,
            std::vector<float> scale_units)
      : weights_(std::move(weights)),
        layouts_(std::move(layouts)),
        scale_units_(std::move(scale_units)) {
    for (const auto& weight : weights_) rows_ += weight.rows();
  }

  /// Rows of all weights together.
  Index rows() const { return rows_; }

  /// The pieces that make up rows [first, first + rows) of the stack.
  std::vector<Piece> pieces(Index first, Index rows) const {
    std::vector<Piece> pieces;
    Index begin = 0;
    for (std::size_t i = 0; i < weights_.size(); ++i) {
      const Index end = begin + weights_[i].rows();
      const Index from = (std::max)(first, begin), to = (std::min)(first + rows, end);
      if (from < to) pieces.push_back({i, from - begin, to - from});
      begin = end;
    }
    return pieces;
  }

  /// The pieces as sections of a panel.
  /// \param layout  for all of them in place of their own, or null
  std::vector<Section<T>> sections(std::span<const Piece> pieces,
                                   const ColumnLayout* layout = nullptr) const {
    std::vector<Section<T>> sections;
    for (const auto& [weight, first, rows] : pieces)
      sections.push_back({weights_[weight].middle_rows(first, rows),
                          layout ? layout : layouts_[weight], scale_units_[weight]});
    return sections;
  }

 private:
  std::vector<MatrixView<const T>> weights_;
  std::vector<const ColumnLayout*> layouts_;
  std::vector<float> scale_units_;
  Index rows_ = 0;
};

}  // namespace gptq::solver
