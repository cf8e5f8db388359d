// SPDX-License-Identifier: MIT
#pragma once

// What comes out of a panel, where tests can look at it.

#include <gptq/kernel/panel.hpp>
#include <gptq/scheme/grid.hpp>
#include <gptq/testing/layer.hpp>

#include <cstdint>
#include <span>
#include <vector>

namespace gptq::testing {

/// A matrix of a backend, padding included.
template <class B>
Table download(const B& backend, const typename B::Matrix& matrix) {
  Table table(matrix.rows(), matrix.cols());
  backend.download(matrix, table.view());
  return table;
}

/// What is stored of a panel: codes and grids of `rows` rows.
template <class Scheme>
struct StoredPanel {
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
  int code(Index position, Index row) const {
    return codes[static_cast<std::size_t>(row * layout.columns() + layout.column(position))];
  }
  scheme::Grid<double> grid(Index position, Index row) const {  // in units of 2
    const Index g = layout.group()[std::size_t(position)];
    return {static_cast<double>(scales(row, g)) / 2, static_cast<double>(zeros(row, g))};
  }
  double rounded(Index position, Index row) const {
    return Scheme{}.decode(static_cast<double>(code(position, row)), grid(position, row));
  }

  std::vector<std::uint8_t> codes;
  FloatMatrix scales, zeros;
  const ColumnLayout& layout;
};

}  // namespace gptq::testing
