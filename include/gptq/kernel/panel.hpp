// SPDX-License-Identifier: MIT
#pragma once

// Panel: rows on their way through the solver. Rows are independent, so a panel and the factor are
// all that a solver needs, and panels bound the memory, not weights.

#include <gptq/core/matrix_view.hpp>
#include <gptq/kernel/column_layout.hpp>

#include <cstdint>
#include <vector>

namespace gptq {

/// Rows of one weight in a panel. A backend that takes several weights at once gets several
/// sections, which share a layout or have one each; any other backend always gets one section.
template <class T>
struct Section {
  MatrixView<const T> weight{};          ///< [rows, in_features]
  const ColumnLayout* layout = nullptr;  ///< of the weight's columns
  float scale_unit = 1;                  ///< see scheme::ScaleRounding
};

/// Where the results of a section go: its rows of the whole weight's results.
struct SectionResult {
  MatrixView<std::uint8_t> codes{};  ///< [rows, in_features]
  /// Grids, [rows, groups] each.
  MatrixView<float> scales{}, zeros{};
};

/// What the solver measures in a section while it rounds.
struct SectionSums {
  std::vector<double> column_loss{};  ///< by position: Σ_rows d_j·(V_j − Q_j)²
  Index clipped = 0;                  ///< weights beyond the ends of their grid
};

/// Grids that the caller has chosen, [rows, groups] each.
struct Grids {
  /// Scale and zero point of each row and group.
  MatrixView<const float> scales{}, zeros{};
};

/// What every backend's panel holds; a backend may add members of its own. Input-major: row j of
/// `weight`, `carry` and `codes` is column j of the weight in solving order, row g of `scales` and
/// `zeros` is group g; columns are the panel's rows, padded to whole lanes.
template <class Matrix, class Codes>
struct Panel {
  double weight_unit = 1;  ///< of weight, carry and scales: a power of two
  Matrix weight{};         ///< W
  Matrix carry{};          ///< before a column is rounded, what earlier columns have carried to it;
                           ///< after, what it carries on: D = W − Q with R
  /// Grids.
  Matrix scales{}, zeros{};
  Codes codes{};     ///< 0 .. max_code
  Matrix targets{};  ///< V, if an observer wants it; else empty
};

}  // namespace gptq
