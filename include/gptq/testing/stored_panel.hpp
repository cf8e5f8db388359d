// SPDX-License-Identifier: MIT
#pragma once

// The results of a panel on the host, for tests.

#include <gptq/kernel/panel.hpp>
#include <gptq/scheme/grid.hpp>
#include <gptq/testing/layer.hpp>

#include <cstdint>
#include <span>
#include <vector>

namespace gptq::testing {

/// A backend's matrix on the host, including padding.
template <class B>
Table download(const B& backend, const typename B::Matrix& matrix) {
  Table table(matrix.rows(), matrix.cols());
  backend.download(matrix, table.view());
  return table;
}

/// The stored codes and grids of a panel's first `rows` rows.
template <class Scheme>
struct StoredPanel {
  /// Stores the panel; `columns` must outlive this.
  template <class Worker>
  StoredPanel(const Worker& worker, const typename Worker::Panel& panel,
              const ColumnLayout& columns, Index rows)
      : codes(static_cast<std::size_t>(rows * columns.columns()), 255),
        scales(rows, columns.groups()),
        zeros(rows, columns.groups()),
        layout(columns) {
    const SectionResult to{{codes.data(), rows, columns.columns()},
                           {scales.data.data(), rows, columns.groups()},
                           {zeros.data.data(), rows, columns.groups()}};
    worker.store(panel, columns, std::span(&to, 1));
  }
  /// The code of a weight.
  int code(Index position, Index row) const {
    return codes[static_cast<std::size_t>(row * layout.columns() + layout.column(position))];
  }
  /// The grid of a weight, in units of 2.
  scheme::Grid<double> grid(Index position, Index row) const {
    const Index g = layout.group()[std::size_t(position)];
    return {static_cast<double>(scales(row, g)) / 2, static_cast<double>(zeros(row, g))};
  }
  /// The rounded weight, in units of 2.
  double rounded(Index position, Index row) const {
    return Scheme{}.decode(static_cast<double>(code(position, row)), grid(position, row));
  }

  std::vector<std::uint8_t> codes;  ///< [rows, columns], row by row
  /// [rows, groups] each.
  FloatMatrix scales, zeros;
  const ColumnLayout& layout;  ///< of the columns
};

}  // namespace gptq::testing
