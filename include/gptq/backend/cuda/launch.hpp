// SPDX-License-Identifier: MIT
#pragma once

// Everything that runs on the device, as functions that any C++ compiler can call. nvcc compiles
// their definitions in kernels.cuh; instantiations.cu holds those of the stock schemes, and a
// scheme of your own needs a file like it.
//
// All work is queued on the stream. Pointers are to device memory; matrices are row-major.

#include <gptq/config.hpp>
#include <gptq/core/half.hpp>
#include <gptq/core/matrix_view.hpp>
#include <gptq/core/params.hpp>
#include <gptq/kernel/column_block.hpp>
#include <gptq/scheme/range.hpp>

#include <cuda_runtime_api.h>

#include <cstdint>
#include <limits>

namespace gptq::backend::cuda {

/// Rows of a panel that share a warp, and an entry in the sums of losses.
constexpr Index warp = 32;

/// Rows that share a block of the solver's kernel.
constexpr int solve_threads = 64;

/// Rows including the padding to whole warps or blocks.
constexpr Index padded(Index rows, Index unit = warp) { return (rows + unit - 1) / unit * unit; }

/// The columns of each group, for fit.
struct GroupMembers {
  const Index* members = nullptr;  ///< positions, group by group
  const float* pivots = nullptr;   ///< of the members, in their order
  /// Columns per group, and in all.
  Index group_size = 0, columns = 0;
  const float* units = nullptr;  ///< ScaleRounding::scale_unit of each row; null: all the same
};

/// What the solver adds up: `loss` holds one row of n sums per warp, `clipped` one count per row.
struct SolveSums {
  double* loss = nullptr;              ///< at the block's first column
  Index stride = 0;                    ///< from one warp to the next
  int* clipped = nullptr;              ///< of each row
  const std::uint8_t* real = nullptr;  ///< of each row: 0 if it is padding
};

/// Matrices whose rows follow each other in a panel, each with a layout and a factor of its own. By
/// default a single one.
struct Stack {
  static constexpr Index unlimited = std::numeric_limits<Index>::max();  ///< a single matrix
  Index rows = unlimited;  ///< of each, a multiple of solve_threads
  Index columns = 0;       ///< from one layout to the next
  Index factor = 0;        ///< from one factor to the next
  /// The matrix that a row of a panel belongs to.
  GPTQ_HD Index of(Index row) const {
    return rows == unlimited ? 0
                             : static_cast<std::uint32_t>(row) / static_cast<std::uint32_t>(rows);
  }
};

/// The weights of a panel side by side: weight i has the count(i) columns from first(i) on, and
/// padding up to end(i). By default a single weight, of all columns.
struct Sections {
  /// Of weights; of the panel.
  Index number = 1, columns = 0;
  const Index* firsts = nullptr;  ///< of each weight, and the end of the last one
  const Index* counts = nullptr;  ///< of each weight
  /// The first column of weight i.
  GPTQ_HD Index first(Index i) const { return firsts ? firsts[i] : 0; }
  /// Behind the last column and the padding of weight i.
  GPTQ_HD Index end(Index i) const { return firsts ? firsts[i + 1] : columns; }
  /// Columns of weight i, without padding.
  GPTQ_HD Index count(Index i) const { return counts ? counts[i] : columns; }
  /// The section that contains a column.
  GPTQ_HD Index of(Index column) const {
    Index low = 0, high = number;
    while (high - low > 1) {
      const Index middle = (low + high) / 2;
      (first(middle) <= column ? low : high) = middle;
    }
    return low;
  }
};

/// The launchers stay private to the library that they are linked into: another one may have been
/// built for other devices. (nvcc ignores the pragma for templates.)
#pragma GCC visibility push(hidden)

/// to(r, c) = from(r, c) · scale[r], or · 1 if scale is null; `to` dense.
template <class T>
[[gnu::visibility("hidden")]] void convert(cudaStream_t stream, MatrixView<const T> from,
                                           const float* scale, float* to);

/// to = factor · from[order, order] + diag(added), upper triangle, zeros below; n x n.
template <class T>
[[gnu::visibility("hidden")]] void arrange(cudaStream_t stream, const float* from, Index n,
                                           const Index* order, double factor, const double* added,
                                           T* to);

/// The same for several matrices at once: matrix i from from[i], with order + i · n, factor[i] and
/// added + i · n, to to + i · n · n.
void arrange_all(cudaStream_t stream, const float* const* from, Index matrices, Index n,
                 const Index* order, const double* factor, const double* added, float* to);

/// to[i · n + k] = matrices[i][k · (n + 1)]
void diagonals(cudaStream_t stream, const float* const* matrices, Index count, Index n, float* to);

/// Zeros below the diagonals of n x n matrices.
void clear_lower(cudaStream_t stream, float* data, Index n, Index matrices);
/// The same in double precision.
void clear_lower(cudaStream_t stream, double* data, Index n, Index matrices);

/// Reverses each of several runs of `count` numbers in place.
template <class T>
[[gnu::visibility("hidden")]] void reverse(cudaStream_t stream, T* data, Index count,
                                           Index runs = 1);

/// to = a + b; `to` may be a or b.
void sum(cudaStream_t stream, const float* a, const float* b, Index count, float* to);

/// Sets the diagonals of n x n matrices.
void fill_diagonals(cudaStream_t stream, float value, Index n, Index matrices, float* data);

/// x = high + low + a remainder below 2⁻¹⁶·x.
void split(cudaStream_t stream, const float* x, Index count, bfloat16* high, bfloat16* low);

/// to(r, c) = from(r, c) rounded to 16 bits; `to` dense.
template <class T>
[[gnu::visibility("hidden")]] void narrow(cudaStream_t stream, MatrixView<const float> from, T* to);

/// of_row[r] = the largest magnitude in row r; infinite if a number is not finite.
template <class T>
[[gnu::visibility("hidden")]] void largest_of_rows(cudaStream_t stream, MatrixView<const T> matrix,
                                                   float* of_row);

/// of_row[i · rows + r] = Σ x² over section i of row r.
void squares_of_rows(cudaStream_t stream, MatrixView<const float> matrix, const Sections& sections,
                     double* of_row);

/// One step of a pivoted Cholesky factorization of the symmetric h, upper triangle, n x n: row
/// `done` of `factor` is what column `best`, whose pivot is pivots[best], carries to the others;
/// pivots of finished columns are infinite.
void pivot_row(cudaStream_t stream, const float* h, Index n, Index done, Index best, double pivot,
               double* factor, double* pivots);

/// Row p of `to` is row order[p] of `from`.
void gather_rows(cudaStream_t stream, MatrixView<const float> from, const Index* order, Index count,
                 float* to);

/// The transpose of `weight` [rows, n] in solving order, times `factor`: to[position[c] · stride +
/// r] = factor · weight(r, c) for r < width; dead positions and missing rows are zero.
template <class T>
[[gnu::visibility("hidden")]] void load_panel(cudaStream_t stream, MatrixView<const T> weight,
                                              float factor, const Index* position,
                                              const std::uint8_t* dead, Index width, Index stride,
                                              float* to);

/// The same for several weights, whose views are on the device too: weight i goes into section i,
/// the widest of which has `widest` columns, with the layout at position + i · layouts.
template <class T>
[[gnu::visibility("hidden")]] void load_panels(cudaStream_t stream,
                                               const MatrixView<const T>* weights, Index widest,
                                               Index n, float factor, const Index* position,
                                               const std::uint8_t* dead, Index layouts,
                                               const Sections& sections, Index stride, float* to);

/// Dense matrices [n, count(i)] from n rows of a panel, in the order of a weight's columns: section
/// i goes to to + n · first(i), with order + i · orders.
void scatter_codes(cudaStream_t stream, const std::uint8_t* from, Index n, Index stride,
                   const Sections& sections, const Index* order, Index orders, std::uint8_t* to);

/// of_column[i · n + p] = Σ of partial[w · n + p] over the warps w of section i.
void add_losses(cudaStream_t stream, const double* partial, const Sections& sections, Index n,
                double* of_column);

/// Grids of groups [first, first + groups) of `width` rows, from columns given as rows of `source`,
/// which starts at position `base`.
template <class S>
[[gnu::visibility("hidden")]] void fit(cudaStream_t stream, const S& scheme,
                                       const scheme::RangeSearch& search,
                                       const GroupMembers& groups, const Stack& stack,
                                       const float* source, Index base, Index first, Index count,
                                       Index width, float* scales, float* zeros);

/// kernel::solve_block for `width` rows of a block whose pointers are to row 0.
template <class Form, class S>
[[gnu::visibility("hidden")]] void solve(cudaStream_t stream, const S& scheme,
                                         const kernel::ColumnBlock<float>& block,
                                         const Stack& stack, Index width, const SolveSums& sums);

/// kernel::round_pattern for all patterns of a block.
template <class S>
[[gnu::visibility("hidden")]] void round(cudaStream_t stream, const S& scheme,
                                         const kernel::ColumnBlock<float>& block,
                                         const Stack& stack, Index width);

/// carry = weight − decode(codes)
template <class S>
[[gnu::visibility("hidden")]] void find_errors(cudaStream_t stream, const S& scheme,
                                               const kernel::ColumnBlock<float>& block,
                                               const Stack& stack, Index width);

#pragma GCC visibility pop

}  // namespace gptq::backend::cuda
