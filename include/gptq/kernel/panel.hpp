// SPDX-License-Identifier: MIT
#pragma once

// Panel: a few rows of a weight on their way through the solver. Rows are independent, so a panel
// is all that a solver needs beside the factor, and memory is bounded by panels, not by weights.

#include <gptq/core/matrix_view.hpp>

#include <cstdint>
#include <span>
#include <vector>

namespace gptq {

/// Backends add where they keep losses. Input-major: row j of `weight`, `residual` and `codes` is
/// column j of the weight in solving order, row g of `scales` and `zeros` is group g; columns are
/// the panel's rows, padded to whole lanes.
template <class Matrix, class Codes>
struct Panel {
  Index first = 0;    ///< first row of the weight
  Index rows = 0;     ///< rows without padding
  double unit = 1;    ///< of weight, residual and scales: a power of two
  Matrix weight{};    ///< W
  Matrix residual{};  ///< before a column is rounded: Σ D_k R_kj; after: D_j = W_j − Q_j
  Matrix scales{}, zeros{};
  Codes codes{};
};

/// out(first + r, order[p]) += scale · m(p, r) for the first `rows` r.
template <class T>
void add_panel_rows(MatrixView<const T> m, double scale, std::span<const Index> order, Index first,
                    Index rows, MatrixView<float> out) {
  for (Index p = 0; p < m.rows(); ++p)
    for (Index r = 0; r < rows; ++r)
      out(first + r, order[std::size_t(p)]) +=
          static_cast<float>(scale * static_cast<double>(m(p, r)));
}

/// Numbers from -1 to 1 to start iterations from, the same each time and on each backend.
template <class T>
std::vector<T> start_noise(Index count) {
  std::vector<T> noise(static_cast<std::size_t>(count));
  std::uint32_t state = 1;
  for (T& x : noise) {
    state = state * 1664525u + 1013904223u;
    x = static_cast<T>(static_cast<double>(state) / 0x1p31 - 1);
  }
  return noise;
}

}  // namespace gptq
