// SPDX-License-Identifier: MIT
#pragma once

// Panel: a few rows of a weight on their way through the solver. Rows are independent, so a panel
// is all that a solver needs beside the factor, and memory is bounded by panels, not by weights.

#include <gptq/core/matrix_view.hpp>

#include <vector>

namespace gptq {

/// Input-major: row j of `weight`, `residual` and `codes` is column j of the weight in solving
/// order, row g of `scales` and `zeros` is group g; columns are the panel's rows, padded to whole
/// lanes.
template <class Matrix, class Codes>
struct Panel {
  Index first = 0;    ///< first row of the weight
  Index rows = 0;     ///< rows without padding
  double unit = 1;    ///< of weight, residual and scales: a power of two
  Matrix weight{};    ///< W
  Matrix residual{};  ///< before a column is rounded: Σ D_k R_kj; after: D_j = W_j − Q_j
  Matrix scales{}, zeros{};
  Codes codes{};
  std::vector<double> loss{};  ///< per position: Σ_rows d_j·e_j²
  Index clipped = 0;
};

}  // namespace gptq
