// SPDX-License-Identifier: MIT
#pragma once

// HostWorker: the part of a worker that every backend in host memory shares - everything but the
// matrix products.

#include <gptq/backend/host/matrix.hpp>
#include <gptq/core/half.hpp>
#include <gptq/core/params.hpp>
#include <gptq/kernel/column_block.hpp>
#include <gptq/kernel/column_layout.hpp>
#include <gptq/kernel/panel.hpp>
#include <gptq/lane/rank.hpp>
#include <gptq/scheme/range.hpp>

#include <bit>  // std::bit_cast
#include <cstdint>
#include <cstring>  // std::memcpy
#include <limits>
#include <numeric>  // std::accumulate
#include <span>
#include <type_traits>
#include <vector>

namespace gptq::backend {

// Unqualified, these names find both the scalar versions and, by argument, those for lanes.
using lane::abs, lane::load, lane::select, lane::store, lane::store_codes;

/// The bits of a number in the type that a backend computes with, but for its sign: magnitudes are
/// ordered like them, numbers that are not finite last. Tests of integers become vector code.
template <class Scalar, class T>
auto magnitude_bits(const T& x) {
  using Bits = std::conditional_t<sizeof(Scalar) == 4, std::uint32_t, std::uint64_t>;
  return std::bit_cast<Bits>(static_cast<Scalar>(to_float(x))) & static_cast<Bits>(Bits(-1) >> 1);
}
template <class Scalar>
constexpr auto infinite_bits =
    std::bit_cast<std::conditional_t<sizeof(Scalar) == 4, std::uint32_t, std::uint64_t>>(
        std::numeric_limits<Scalar>::infinity());

/// Position (row · cols + col) of the first element of a row that is not finite, or -1.
/// \tparam Scalar  that it must be finite in: float or double
template <class Scalar = float, class T>
Index find_non_finite_in_row(MatrixView<const T> matrix, Index row) {
  unsigned bad = 0;
  for (Index c = 0; c < matrix.cols(); ++c)
    bad |= magnitude_bits<Scalar>(matrix(row, c)) >= infinite_bits<Scalar> ? 1u : 0u;
  if (bad)
    for (Index c = 0; c < matrix.cols(); ++c)
      if (magnitude_bits<Scalar>(matrix(row, c)) >= infinite_bits<Scalar>)
        return row * matrix.cols() + c;
  return -1;
}

/// The largest magnitude in a row; infinite where an element is not finite.
template <class Scalar = float, class T>
double largest_in_row(MatrixView<const T> matrix, Index row) {
  auto most = infinite_bits<Scalar> - infinite_bits<Scalar>;
  for (Index c = 0; c < matrix.cols(); ++c)
    most = (std::max)(most, magnitude_bits<Scalar>(matrix(row, c)));
  return static_cast<double>(std::bit_cast<Scalar>((std::min)(most, infinite_bits<Scalar>)));
}

/// \tparam Scalar  float or double
/// \tparam T       what the kernels compute with: Scalar, or a lane of it
/// \tparam Rows    rows in one T
template <class Scalar, class T, int Rows>
class HostWorker {
 public:
  using Matrix = HostMatrix<Scalar>;
  using Codes = HostMatrix<std::uint8_t>;
  /// Rows of a weight on their way through the solver.
  struct Panel : gptq::Panel<Matrix, Codes> {
    std::vector<double> loss{};  ///< per position: Σ_rows d_j·e_j²
    Index clipped = 0;
  };

  Matrix zeros(Index rows, Index cols) const { return Matrix::zeros(rows, padded(cols)); }

  /// Rows [first, first + rows) of a weight [out, in] in the given unit, a power of two;
  /// input-major, columns in solving order, dead columns as zeros.
  template <class W>
  Panel load_panel(MatrixView<const W> weight, Index first, Index rows, const ColumnLayout& layout,
                   double unit) const {
    const Index n = weight.cols(), width = padded(rows);
    const auto inverse_unit = static_cast<Scalar>(1 / unit);
    Panel panel;
    panel.first = first;
    panel.rows = rows;
    panel.unit = unit;
    // Transposed tile by tile in the weight's own order, where reading and writing both go along
    // cache lines; then whole rows into the solver's order.
    constexpr Index side = 16;
    panel.residual = Matrix(n, width);
    for (Index row = 0; row < width; row += side)
      for (Index col = 0; col < n; col += side) {
        const Index down = std::clamp<Index>(rows - row, 0, side),
                    across = (std::min)(side, n - col), wide = (std::min)(side, width - row);
        Scalar tile[side][side] = {};
        for (Index i = 0; i < down; ++i)
          for (Index j = 0; j < across; ++j)
            tile[j][i] =
                static_cast<Scalar>(to_float(weight(first + row + i, col + j))) * inverse_unit;
        for (Index j = 0; j < across; ++j)
          std::copy_n(tile[j], wide, panel.residual.row(col + j) + row);
      }
    panel.weight = Matrix(n, width);
    for (Index p = 0; p < n; ++p) {
      if (layout.dead(p)) std::fill_n(panel.weight.row(p), width, Scalar(0));
      else std::copy_n(panel.residual.row(layout.column(p)), width, panel.weight.row(p));
    }
    std::fill_n(panel.residual.data(), n * width, Scalar(0));
    panel.scales = Matrix(layout.groups(), width);
    panel.zeros = Matrix(layout.groups(), width);
    panel.codes = Codes(n, width);
    panel.loss.assign(std::size_t(n), 0.0);
    return panel;
  }

  /// Scales and zero points of groups [first, last), from columns given as rows of `source`, which
  /// starts at position `base`.
  template <class S>
  void fit(const S& scheme, const scheme::RangeSearch& search, const ColumnLayout& layout,
           const Matrix& source, Index base, Index first, Index last, Panel& panel) const {
    Matrix values(layout.group_size(), Rows), pivots(1, layout.group_size());
    for (Index g = first; g < last; ++g) {
      const std::span<const Index> members = layout.members(g);
      const auto count = static_cast<Index>(members.size());
      for (Index j = 0; j < count; ++j)
        pivots(0, j) = static_cast<Scalar>(layout.pivots()[std::size_t(members[std::size_t(j)])]);
      const auto importance = [&](Index j) { return pivots(0, j); };
      for (Index row = 0; row < source.cols(); row += Rows) {
        for (Index j = 0; j < count; ++j)
          copy_lane(source.row(members[std::size_t(j)] - base) + row, values.row(j));
        const auto column = [&](Index j) { return load(values.row(j), T{}); };
        const auto grid = scheme::fit_grid<T>(scheme, column, importance, count, search);
        store(panel.scales.row(g) + row, grid.scale);
        store(panel.zeros.row(g) + row, grid.zero);
      }
    }
  }

  /// Rounds the columns at positions [first, last), whose corrections from earlier columns stand in
  /// panel.residual, and leaves there what they carry on.
  template <class Form, class S>
  void solve(Form /*form*/, const S& scheme, const Sparsity& sparsity, const ColumnLayout& layout,
             const Matrix& factor, Index first, Index last, Panel& panel) const {
    // Lane by lane in a dense copy: columns of the panel are a power-of-two stride apart and would
    // conflict in the cache.
    const Index width = last - first;
    Matrix values(2 * width, Rows);
    Codes codes(width, Rows);
    kernel::ColumnBlock<Scalar> block{.width = width,
                                      .stride = Rows,
                                      .weight = values.row(0),
                                      .residual = values.row(width),
                                      .codes = codes.data(),
                                      .factor = factor.row(first) + first,
                                      .factor_stride = factor.cols(),
                                      .grid_stride = panel.scales.cols(),
                                      .group = layout.group().data() + first,
                                      .sparsity = sparsity};
    kernel::ColumnSums sums{.loss = panel.loss.data() + first};
    for (Index row = 0; row < panel.weight.cols(); row += Rows) {
      for (Index j = 0; j < width; ++j) {
        copy_lane(panel.weight.row(first + j) + row, values.row(j));
        copy_lane(panel.residual.row(first + j) + row, values.row(width + j));
      }
      block.scales = panel.scales.data() + row;
      block.zeros = panel.zeros.data() + row;
      sums.rows = panel.rows - row;
      if (block.sparsity.dense()) kernel::solve_block<false, T, Form>(scheme, block, sums);
      else kernel::solve_block<true, T, Form>(scheme, block, sums);
      for (Index j = 0; j < width; ++j) {
        copy_lane(values.row(width + j), panel.residual.row(first + j) + row);
        std::memcpy(panel.codes.row(first + j) + row, codes.row(j), Rows);
      }
    }
    panel.clipped += sums.clipped;
  }

  /// V = W + corrections for positions [first, last) that are still to be rounded.
  Matrix corrected(const Panel& panel, Index first, Index last) const {
    Matrix v(last - first, panel.weight.cols());
    for (Index j = first; j < last; ++j)
      for (Index r = 0; r < v.cols(); ++r)
        v(j - first, r) = panel.weight(j, r) + panel.residual(j, r);
    return v;
  }

  /// residual = W − Q from codes and grids.
  template <class S>
  void measure_residual(const S& scheme, const ColumnLayout& layout, Panel& panel) const {
    for (Index p = 0; p < layout.columns(); ++p) {
      const Index g = layout.group()[std::size_t(p)];
      for (Index r = 0; r < panel.weight.cols(); ++r)
        panel.residual(p, r) =
            panel.weight(p, r) -
            scheme.decode(static_cast<Scalar>(panel.codes(p, r)),
                          scheme::Grid<Scalar>{panel.scales(g, r), panel.zeros(g, r)});
    }
  }

  /// Rounds every weight to the nearest code of its grid - with a sparsity pattern, its smallest
  /// weights to zero: codes and residual, no compensation.
  template <class S>
  void round(const S& scheme, const Sparsity& sparsity, const ColumnLayout& layout,
             Panel& panel) const {
    const Index of = sparsity.dense() ? 1 : sparsity.of;
    for (Index row = 0; row < panel.weight.cols(); row += Rows) {
      const kernel::ColumnBlock<Scalar> block{.width = layout.columns(),
                                              .stride = panel.weight.cols(),
                                              .weight = panel.weight.data() + row,
                                              .residual = panel.residual.data() + row,
                                              .codes = panel.codes.data() + row,
                                              .scales = panel.scales.data() + row,
                                              .zeros = panel.zeros.data() + row,
                                              .grid_stride = panel.scales.cols(),
                                              .group = layout.group().data(),
                                              .sparsity = sparsity};
      for (Index first = 0; first < layout.columns(); first += of)
        kernel::round_pattern<T>(scheme, block, first);
    }
  }

  /// Per position Σ_rows d_j·(V_j − Q_j)², and how many weights were beyond the ends of their
  /// grids.
  std::vector<double> column_loss(const Panel& panel) const { return panel.loss; }
  Index clipped(const Panel& panel) const { return panel.clipped; }

  /// Copies codes, scales and zeros of the panel's rows to where the whole weight's are kept,
  /// columns in its own order.
  void store_panel(const Panel& panel, const ColumnLayout& layout, MatrixView<std::uint8_t> codes,
                   MatrixView<float> scales, MatrixView<float> zeros) const {
    const auto unit = static_cast<Scalar>(panel.unit);
    const MatrixView<std::uint8_t> mine = codes.middle_rows(panel.first, panel.rows);
    for (Index p = 0; p < layout.columns(); ++p) {
      const Index c = layout.column(p);
      if (codes.row_stride() == 1)
        std::copy_n(panel.codes.row(p), panel.rows, mine.middle_cols(c, 1).data());
      else
        for (Index r = 0; r < panel.rows; ++r) mine(r, c) = panel.codes(p, r);
    }
    for (Index g = 0; g < layout.groups(); ++g)
      for (Index r = 0; r < panel.rows; ++r) {
        scales(panel.first + r, g) = static_cast<float>(panel.scales(g, r) * unit);
        zeros(panel.first + r, g) = static_cast<float>(panel.zeros(g, r));
      }
  }

  /// Rows of m in another order: row p of the result is row order[p] of m.
  Matrix gather(const Matrix& m, std::span<const Index> order) const {
    Matrix out(m.rows(), m.cols());
    for (Index p = 0; p < m.rows(); ++p)
      std::copy_n(m.row(order[std::size_t(p)]), m.cols(), out.row(p));
    return out;
  }

  /// out(first + r, order[p]) += scale · m(p, r) for the first `rows` r.
  void add_rows(const Matrix& m, double scale, std::span<const Index> order, Index first,
                Index rows, MatrixView<float> out) const {
    add_panel_rows(m.view(), scale, order, first, rows, out);
  }

  /// Σ_p weight[p] · Σ_rows A_p², over the panel's real rows.
  double weighted_squares(const Matrix& a, Index rows, std::span<const double> weight) const {
    double total = 0;
    for (Index p = 0; p < a.rows(); ++p) {
      constexpr Index side_by_side = 8;  // sums that do not wait for each other
      double squares[side_by_side] = {};
      const Scalar* const x = a.row(p);
      const auto add = [&](Index r, Index i) {
        squares[i] += static_cast<double>(x[r]) * static_cast<double>(x[r]);
      };
      Index r = 0;
      for (; r + side_by_side <= rows; r += side_by_side)
        for (Index i = 0; i < side_by_side; ++i) add(r + i, i);
      for (; r < rows; ++r) add(r, r % side_by_side);
      total += weight[std::size_t(p)] * std::accumulate(squares, squares + side_by_side, 0.0);
    }
    return total;
  }

  /// One column of noise in row-padded m, the same each time.
  void fill_start(Matrix& m) const {
    const auto noise = start_noise<Scalar>(m.rows());
    for (Index p = 0; p < m.rows(); ++p) m(p, 0) = noise[std::size_t(p)];
  }

  void scale(Matrix& m, double factor) const {
    for (Index i = 0; i < m.rows() * m.cols(); ++i) m.data()[i] *= static_cast<Scalar>(factor);
  }

 private:
  static void copy_lane(const Scalar* from, Scalar* to) { store(to, load(from, T{})); }

  static Index padded(Index rows) { return (rows + Rows - 1) / Rows * Rows; }
};

}  // namespace gptq::backend
