// SPDX-License-Identifier: MIT
#pragma once

// HostWorker: what the workers of all backends in host memory share, which is everything except the
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

/// The bits of a number in the type that a backend computes with, without its sign. They are
/// ordered like magnitudes, with non-finite numbers last, and tests on integers vectorize.
template <class Scalar, class T>
auto magnitude_bits(const T& x) {
  using Bits = std::conditional_t<sizeof(Scalar) == 4, std::uint32_t, std::uint64_t>;
  return std::bit_cast<Bits>(static_cast<Scalar>(to_float(x))) & static_cast<Bits>(Bits(-1) >> 1);
}
/// The bits of infinity.
template <class Scalar>
constexpr auto infinite_bits =
    std::bit_cast<std::conditional_t<sizeof(Scalar) == 4, std::uint32_t, std::uint64_t>>(
        std::numeric_limits<Scalar>::infinity());

/// Position (row · cols + col) of the first element of a row that is not finite, or -1.
/// \tparam Scalar  float or double: the type in which elements must be finite
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

/// The largest magnitude in a row; infinite if an element is not finite.
template <class Scalar = float, class T>
double largest_in_row(MatrixView<const T> matrix, Index row) {
  auto most = infinite_bits<Scalar> - infinite_bits<Scalar>;
  for (Index c = 0; c < matrix.cols(); ++c)
    most = (std::max)(most, magnitude_bits<Scalar>(matrix(row, c)));
  return static_cast<double>(std::bit_cast<Scalar>((std::min)(most, infinite_bits<Scalar>)));
}

/// lane::store, for a class that has its own member `store`.
template <class Scalar, class T>
void put_lane(Scalar* to, const T& value) {
  store(to, value);
}

/// Everything of a worker except the matrix products.
/// \tparam Scalar  float or double
/// \tparam T       what the kernels compute with: Scalar, or a lane of it
/// \tparam Rows    rows in one T
template <class Scalar, class T, int Rows>
class HostWorker {
 public:
  using Matrix = HostMatrix<Scalar>;       ///< weights, carries and grids
  using Codes = HostMatrix<std::uint8_t>;  ///< one byte per code
  /// Rows of one weight on their way through the solver.
  struct Panel : gptq::Panel<Matrix, Codes> {
    Index rows = 0;      ///< without padding
    SectionSums sums{};  ///< over the columns solved so far
  };

  /// The single section as a panel: input-major, columns in solving order, dead columns as zeros,
  /// padded to whole lanes.
  template <class W>
  Panel load_panel(std::span<const Section<W>> sections, double weight_unit) const {
    const MatrixView<const W> weight = sections.front().weight;
    const ColumnLayout& layout = *sections.front().layout;
    const Index n = weight.cols(), rows = weight.rows(), width = padded(rows);
    const auto inverse_unit = static_cast<Scalar>(1 / weight_unit);
    Panel panel;
    panel.rows = rows;
    panel.weight_unit = weight_unit;
    // First transposed tile by tile in the weight's own order, so that both reads and writes follow
    // cache lines; then whole rows are moved into solving order.
    constexpr Index side = 16;
    panel.carry = Matrix(n, width);
    for (Index row = 0; row < width; row += side)
      for (Index col = 0; col < n; col += side) {
        const Index down = std::clamp<Index>(rows - row, 0, side),
                    across = (std::min)(side, n - col), wide = (std::min)(side, width - row);
        Scalar tile[side][side] = {};
        for (Index i = 0; i < down; ++i)
          for (Index j = 0; j < across; ++j)
            tile[j][i] = static_cast<Scalar>(to_float(weight(row + i, col + j))) * inverse_unit;
        for (Index j = 0; j < across; ++j)
          std::copy_n(tile[j], wide, panel.carry.row(col + j) + row);
      }
    panel.weight = Matrix(n, width);
    for (Index p = 0; p < n; ++p) {
      if (layout.dead(p)) std::fill_n(panel.weight.row(p), width, Scalar(0));
      else std::copy_n(panel.carry.row(layout.column(p)), width, panel.weight.row(p));
    }
    std::fill_n(panel.carry.data(), n * width, Scalar(0));
    panel.scales = Matrix(layout.groups(), width);
    panel.zeros = Matrix(layout.groups(), width);
    panel.codes = Codes(n, width);
    panel.sums.column_loss.assign(std::size_t(n), 0.0);
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
        put_lane(panel.scales.row(g) + row, grid.scale);
        put_lane(panel.zeros.row(g) + row, grid.zero);
      }
    }
  }

  /// Sets the caller's grids instead of fitted ones.
  void set_grids(std::span<const Grids> sections, Panel& panel) const {
    const Grids& grids = sections.front();
    for (Index g = 0; g < panel.scales.rows(); ++g)
      for (Index r = 0; r < panel.scales.cols(); ++r) {
        const bool real = r < panel.rows;
        panel.scales(g, r) =
            real ? static_cast<Scalar>(static_cast<double>(grids.scales(r, g)) / panel.weight_unit)
                 : Scalar(1);
        panel.zeros(g, r) = real ? static_cast<Scalar>(grids.zeros(r, g)) : Scalar(0);
      }
  }

  /// Rounds the columns at positions [first, last), to which earlier ones carry what is in
  /// panel.carry, and leaves there what they carry on.
  template <class Form, class S>
  void solve(Form /*form*/, const S& scheme, const Sparsity& sparsity, const ColumnLayout& layout,
             const Matrix& factor, Index first, Index last, Panel& panel) const {
    // Lane by lane in a dense copy: columns of the panel are a power-of-two stride apart and would
    // conflict in the cache.
    const Index width = last - first;
    const bool watched = panel.targets.rows() > 0;
    Matrix values((watched ? 3 : 2) * width, Rows);
    Codes codes(width, Rows);
    kernel::ColumnBlock<Scalar> block{.width = width,
                                      .stride = Rows,
                                      .weight = values.row(0),
                                      .carry = values.row(width),
                                      .codes = codes.data(),
                                      .targets = watched ? values.row(2 * width) : nullptr,
                                      .factor = factor.row(first) + first,
                                      .factor_stride = factor.cols(),
                                      .grid_stride = panel.scales.cols(),
                                      .group = layout.group().data() + first,
                                      .sparsity = sparsity};
    kernel::ColumnSums sums{.loss = panel.sums.column_loss.data() + first};
    for (Index row = 0; row < panel.weight.cols(); row += Rows) {
      for (Index j = 0; j < width; ++j) {
        copy_lane(panel.weight.row(first + j) + row, values.row(j));
        copy_lane(panel.carry.row(first + j) + row, values.row(width + j));
      }
      block.scales = panel.scales.data() + row;
      block.zeros = panel.zeros.data() + row;
      sums.rows = panel.rows - row;
      kernel::solve_block<kernel::Blocks::any, T, Form>(scheme, block, sums);
      for (Index j = 0; j < width; ++j) {
        copy_lane(values.row(width + j), panel.carry.row(first + j) + row);
        std::memcpy(panel.codes.row(first + j) + row, codes.row(j), Rows);
        if (watched) copy_lane(values.row(2 * width + j), panel.targets.row(first + j) + row);
      }
    }
    panel.sums.clipped += sums.clipped;
  }

  /// V = W plus what is carried to positions [first, last), which are still to be rounded.
  Matrix targets(kernel::LazyBatch /*form*/, const Matrix& /*factor*/, const Panel& panel,
                 Index first, Index last) const {
    Matrix v(last - first, panel.weight.cols());
    for (Index j = first; j < last; ++j)
      for (Index r = 0; r < v.cols(); ++r) v(j - first, r) = panel.weight(j, r) + panel.carry(j, r);
    return v;
  }

  /// carry = W − Q from codes and grids.
  template <class S>
  void find_errors(const S& scheme, const ColumnLayout& layout, Panel& panel) const {
    for (Index p = 0; p < layout.columns(); ++p) {
      const Index g = layout.group()[std::size_t(p)];
      for (Index r = 0; r < panel.weight.cols(); ++r)
        panel.carry(p, r) =
            panel.weight(p, r) -
            scheme.decode(static_cast<Scalar>(panel.codes(p, r)),
                          scheme::Grid<Scalar>{panel.scales(g, r), panel.zeros(g, r)});
    }
  }

  /// Rounds every weight to the nearest code of its grid, and the smallest weights of a sparsity
  /// pattern to zero, without compensation. Leaves W − Q in carry.
  template <class S>
  void round(const S& scheme, const Sparsity& sparsity, const ColumnLayout& layout,
             Panel& panel) const {
    const Index of = sparsity.dense() ? 1 : sparsity.of;
    for (Index row = 0; row < panel.weight.cols(); row += Rows) {
      const kernel::ColumnBlock<Scalar> block{.width = layout.columns(),
                                              .stride = panel.weight.cols(),
                                              .weight = panel.weight.data() + row,
                                              .carry = panel.carry.data() + row,
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

  /// Copies codes, scales and zeros to the results, columns in the weight's own order.
  void store(const Panel& panel, const ColumnLayout& layout,
             std::span<const SectionResult> sections) const {
    const auto& [codes, scales, zeros] = sections.front();
    const auto unit = static_cast<Scalar>(panel.weight_unit);
    for (Index p = 0; p < layout.columns(); ++p) {
      const Index c = layout.column(p);
      if (codes.row_stride() == 1)
        std::copy_n(panel.codes.row(p), panel.rows, codes.middle_cols(c, 1).data());
      else
        for (Index r = 0; r < panel.rows; ++r) codes(r, c) = panel.codes(p, r);
    }
    for (Index g = 0; g < layout.groups(); ++g)
      for (Index r = 0; r < panel.rows; ++r) {
        scales(r, g) = static_cast<float>(panel.scales(g, r) * unit);
        zeros(r, g) = static_cast<float>(panel.zeros(g, r));
      }
  }

  /// f(targets, codes, scales, zeros) of positions [first, last), one column per row of the weight.
  template <class F>
  void observe(const Panel& panel, Index first, Index last, const F& f) const {
    const auto real = [&](const auto& matrix, Index begin, Index count) {
      return matrix.view().block(begin, 0, count, panel.rows);
    };
    f(real(panel.targets, first, last - first), real(panel.codes, first, last - first),
      real(panel.scales, 0, panel.scales.rows()), real(panel.zeros, 0, panel.zeros.rows()));
  }

  /// The sums over all columns solved so far, for the single section.
  std::vector<SectionSums> sums(const Panel& panel) const { return {panel.sums}; }

  /// Σ_rows A_p² by position, without padding, for the single section.
  std::vector<std::vector<double>> squares(const Matrix& a, const Panel& panel) const {
    std::vector<double> of_position(static_cast<std::size_t>(a.rows()));
    for (Index p = 0; p < a.rows(); ++p) {
      constexpr Index side_by_side = 8;  // independent sums need not wait for each other
      double partial[side_by_side] = {};
      const Scalar* const x = a.row(p);
      const auto add = [&](Index r, Index i) {
        partial[i] += static_cast<double>(x[r]) * static_cast<double>(x[r]);
      };
      Index r = 0;
      for (; r + side_by_side <= panel.rows; r += side_by_side)
        for (Index i = 0; i < side_by_side; ++i) add(r + i, i);
      for (; r < panel.rows; ++r) add(r, r % side_by_side);
      of_position[std::size_t(p)] = std::accumulate(partial, partial + side_by_side, 0.0);
    }
    return {std::move(of_position)};
  }

  /// Rows of m in another order: row p of the result is row order[p] of m.
  Matrix gather(const Matrix& m, std::span<const Index> order) const {
    Matrix out(m.rows(), m.cols());
    for (Index p = 0; p < m.rows(); ++p)
      std::copy_n(m.row(order[std::size_t(p)]), m.cols(), out.row(p));
    return out;
  }

 private:
  static void copy_lane(const Scalar* from, Scalar* to) { put_lane(to, load(from, T{})); }

  static Index padded(Index rows) { return (rows + Rows - 1) / Rows * Rows; }
};

}  // namespace gptq::backend
