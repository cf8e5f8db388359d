// SPDX-License-Identifier: MIT
#pragma once

// The row solver: one pack of rows through one block of columns. Rows are independent and share the factor,
// so this is all of GPTQ that is not a matrix product. Written once for a lane on the CPU and a thread on a GPU.

#include <gptq/config.hpp>
#include <gptq/core/matrix_view.hpp>
#include <gptq/kernel/arithmetic.hpp>
#include <gptq/scheme/grid.hpp>

#include <cstdint>

namespace gptq::kernel {

/// A block of columns, all rows of it. Memory is input-major: column j of all rows is contiguous and starts
/// at j · stride, so a lane of neighbouring rows is one load.
template <class Scalar>
struct ColumnBlock {
  Index width = 0;                   ///< columns in the block
  Index stride = 0;                  ///< from one column to the next, in weight, residual and codes
  const Scalar* weight = nullptr;    ///< W_b
  Scalar* residual = nullptr;        ///< in: T_b = D_{<b} R_{<b,b}; out: D_b = W_b − Q_b
  std::uint8_t* codes = nullptr;     ///< out
  const Scalar* factor = nullptr;    ///< R_bb, upper triangular, row-major
  Index factor_stride = 0;
  const Scalar* scales = nullptr;    ///< of group g: scales[g · grid_stride + row]
  const Scalar* zeros = nullptr;
  Index grid_stride = 0;
  const Index* group = nullptr;      ///< of column j
};

/// What the solver learns about a block on its way, added up over rows.
struct ColumnSums {
  double* loss = nullptr;  ///< per column: Σ_rows d_j·e_j², d_j = R_jj², e_j = V_j − Q_j
  Index clipped = 0;       ///< weights beyond the ends of their grid
};

/// Rounds `Width` columns from `first` on, for the rows of one lane T that starts at `row`.
///
/// With D = W − Q the weight that column j would need, all earlier columns being rounded, is
///   V_j = W_j + (Σ_{k<j} D_k R_kj) / R_jj
/// (LDLQ; the same number that GPTQ's updates leave in column j). The sums of these columns stay in registers:
/// each rounded column adds its error to those behind it at once.
template <int Width, class T, class S, class Scalar>
GPTQ_HD void solve_columns(const S& scheme, const ColumnBlock<Scalar>& block, Index first, Index row, Index rows, ColumnSums& sums) {
  const auto factor = [&](Index k, Index j) { return T(block.factor[k * block.factor_stride + j]); };
  T correction[Width];
  for (int j = 0; j < Width; ++j) correction[j] = load(block.residual + (first + j) * block.stride + row, T{});
  for (Index k = 0; k < first; ++k) {
    const T error = load(block.residual + k * block.stride + row, T{});
    for (int j = 0; j < Width; ++j) correction[j] += error * factor(k, first + j);
  }
  for (int j = 0; j < Width; ++j) {
    const Index column = first + j;
    const Index group = block.group[column] * block.grid_stride + row;
    const scheme::Grid<T> grid{load(block.scales + group, T{}), load(block.zeros + group, T{})};
    const Scalar pivot = block.factor[column * block.factor_stride + column];

    const T weight = load(block.weight + column * block.stride + row, T{});
    const T target = weight + correction[j] * T(Scalar(1) / pivot);
    const T code = scheme.encode(target, grid);
    const T rounded = scheme.decode(code, grid);
    const T error = weight - rounded;
    for (int k = j + 1; k < Width; ++k) correction[k] += error * factor(column, first + k);

    store(block.residual + column * block.stride + row, error);
    store_codes(block.codes + column * block.stride + row, code);
    const T miss = target - rounded;
    sums.loss[column] += static_cast<double>(pivot) * pivot * sum(miss * miss, rows);
    const auto at_end = (code == T(0)) | (code == T(S::max_code));
    sums.clipped += count(code, at_end & (abs(target) > abs(rounded)), rows);
  }
}

/// All columns of a block for one lane of rows, of which `rows` are real and the rest padding.
template <class T, class S, class Scalar>
GPTQ_HD void solve_block(const S& scheme, const ColumnBlock<Scalar>& block, Index row, Index rows, ColumnSums& sums) {
  constexpr int width = 16;
  Index first = 0;
  for (; first + width <= block.width; first += width) solve_columns<width, T>(scheme, block, first, row, rows, sums);
  for (; first < block.width; ++first) solve_columns<1, T>(scheme, block, first, row, rows, sums);
}

}  // namespace gptq::kernel
