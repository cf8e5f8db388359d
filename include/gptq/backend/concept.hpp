// SPDX-License-Identifier: MIT
#pragma once

// The contracts of a backend and of its workers. Prose first, then the requirement that the
// compiler checks.

#include <gptq/core/half.hpp>
#include <gptq/core/matrix_view.hpp>
#include <gptq/core/params.hpp>
#include <gptq/kernel/column_block.hpp>
#include <gptq/kernel/column_layout.hpp>
#include <gptq/scheme/affine.hpp>
#include <gptq/scheme/range.hpp>

#include <cmath>  // std::isfinite, std::isnan
#include <concepts>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace gptq {
namespace backend {

// One requirement, one line:
// clang-format off

/// A worker is what solves one panel of rows: a backend's operations on matrices that only one
/// panel sees.
///
/// Panel matrices are input-major: row j holds column j of the weight, for all rows of the panel
/// (kernel/panel.hpp). Positions are places in the solving order (kernel/column_layout.hpp).
template <class W>
concept Worker = requires(const W w, typename W::Panel panel, const typename W::Panel constant,
                          typename W::Matrix m, const typename W::Matrix factor,
                          MatrixView<const float> weight, MatrixView<std::uint8_t> codes,
                          MatrixView<float> out, const ColumnLayout layout, const scheme::Int4 s,
                          const Sparsity sparsity, const scheme::RangeSearch search,
                          std::span<const double> per_position,
                          const Index first, const Index last, const Index rows,
                          std::span<const Index> order, const double scale) {
  // Rows [first, first + rows) of a weight [out, in], in a unit that is a power of two.
  { w.load_panel(weight, first, rows, layout, scale) } -> std::same_as<typename W::Panel>;
  // Grids of groups [first, last), from columns given as rows of m, which starts at position rows.
  w.fit(s, search, layout, m, rows, first, last, panel);
  // Rounds positions [first, last) whose corrections are in panel.residual: codes, loss, and in
  // residual what later positions need, W − Q with R and (Q − V)/U_jj with U = R⁻¹.
  w.solve(kernel::LeftLooking{}, s, sparsity, layout, factor, first, last, panel);
  w.solve(kernel::LazyBatch{}, s, sparsity, layout, factor, first, last, panel);
  // V = W + residual for positions [first, last) under U.
  { w.corrected(constant, first, last) } -> std::same_as<typename W::Matrix>;
  // residual = W − Q from codes and grids.
  w.measure_residual(s, layout, panel);
  // Rounds all positions without compensation, the smallest of a sparsity pattern to zero.
  w.round(s, sparsity, layout, panel);
  // The panel's rows of the whole weight's codes [out, in], scales and zeros [out, groups].
  w.store_panel(constant, layout, codes, out, out);
  // m[first, first + rows) += factor[last, last + rows) x [first, first + rows)ᵀ · m[last, last +
  // rows)
  w.propagate(m, first, rows, factor, m, last, rows);
  // V_b = W_b + T_b·R_bb⁻¹ for positions [first, last).
  { w.compensate(factor, constant, first, last) } -> std::same_as<typename W::Matrix>;
  // m ← (R·Rᵀ)⁻¹·m and m ← R·Rᵀ·m
  w.solve_factor(factor, m);
  w.multiply_factor(factor, m);
  // Columns of noise that is the same each time, to start iterations from; m ← scale · m
  { w.zeros(rows, rows) } -> std::same_as<typename W::Matrix>;
  w.fill_start(m);
  w.scale(m, scale);
  // Row p of the result is row order[p] of the matrix.
  { w.gather(factor, order) } -> std::same_as<typename W::Matrix>;
  // out(first + r, order[p]) += scale · factor(p, r), r < rows
  w.add_rows(factor, scale, order, first, rows, out);
  // Per position the loss of all solves so far, and how many weights they clipped.
  { w.column_loss(constant) } -> std::same_as<std::vector<double>>;
  { w.clipped(constant) } -> std::same_as<Index>;
  // ‖A·R‖² = tr(A·R·Rᵀ·Aᵀ) over the first rows of the panel.
  { w.energy(factor, m, rows) } -> std::same_as<double>;
  // Σ_p per_position_p·‖A_p‖² over the first rows.
  { w.weighted_squares(m, rows, per_position) } -> std::same_as<double>;
};

/// A backend is where matrices live and who multiplies them: a cheap handle whose copies share
/// threads or a stream.
///
/// `Matrix` is resident and row-major. Symmetric matrices are held in their upper triangle. All
/// operations give the same bits however many threads run them. backend::Reference is the plainest
/// one and serves as the oracle. A backend whose matrices lie elsewhere may have `stage`, which
/// brings activations there once for all that is done with them, and `batches` (solver::
/// BatchBackend).
template <class B>
concept Backend = std::copyable<B> &&
    requires(const B b, typename B::Matrix m, const typename B::Matrix constant,
             MatrixView<const float> view, MatrixView<float> out, const float* token_weights,
             MatrixView<const typename B::Scalar> activations,
             std::span<const Index> order, std::span<const double> added,
             void (*panel)(typename B::Worker&, Index, Index), void (*job)(Index), const Index rows, const Index cols,
             const double factor, const Params& params) {
  requires std::floating_point<typename B::Scalar>;
  requires Worker<typename B::Worker>;
  { b.zeros(rows, cols) } -> std::same_as<typename B::Matrix>;
  // From the host and to the host, any strides.
  { b.upload(view) } -> std::same_as<typename B::Matrix>;
  b.download(constant, out);
  // row · cols + col of the first element that is not finite, or −1.
  { b.find_non_finite(view) } -> std::same_as<Index>;
  // The largest magnitude; infinite where an element is not finite.
  { b.largest(view) } -> std::same_as<double>;
  // m += Xᵀ·diag(w)·X for X [tokens, n]; w may be null.
  b.accumulate(m, view, token_weights);
  // m += aᵀ·b for a [tokens, k], b [tokens, n].
  b.accumulate_cross(m, activations, activations);
  // m += constant
  b.add(m, constant);
  { b.diagonal(constant) } -> std::same_as<std::vector<double>>;
  // factor · constant[order, order] + diag(added)
  { b.arrange(constant, order, factor, added) } -> std::same_as<typename B::Matrix>;
  // m = R·Rᵀ in place, R upper triangular: the position of the pivot that failed, or −1.
  { b.factorize(m) } -> std::same_as<Index>;
  // m = R of arrange(…), arranged and factored in double precision whatever Scalar is.
  { b.factorize_in_double(constant, order, factor, added, m) } -> std::same_as<Index>;
  // R⁻¹ of an upper triangular R.
  { b.invert_triangular(constant) } -> std::same_as<typename B::Matrix>;
  // Order::min_pivot of a symmetric matrix in natural order.
  { b.pivot_order(constant) } -> std::same_as<std::vector<Index>>;
  // panel(worker, first row, rows) for panels that make up all rows of a weight: of at most
  // panel_rows(rows) rows, concurrency() of them at a time.
  b.for_panels(rows, panel);
  // job(i) for independent jobs, several at the same time where there is room for them.
  b.for_each(rows, job);
  { b.panel_rows(rows) } -> std::same_as<Index>;
  { b.concurrency() } -> std::convertible_to<int>;
  // For plans, bytes at most: of a matrix product on each thread; of accumulate for activations with
  // so many columns; of what a panel of so many rows and columns takes beside its weights, residuals,
  // codes and grids.
  { b.product_bytes() } -> std::same_as<Index>;
  { b.accumulate_bytes(cols) } -> std::same_as<Index>;
  { b.scratch_bytes(rows, cols, params) } -> std::same_as<Index>;
};

// clang-format on

}  // namespace backend

/// The backend of whoever names none. Those that hold resources of their own say `must_be_named`.
template <class B>
B default_backend() {
  static_assert(
      !requires { requires B::must_be_named; },
      "gptq: name the backend. Each that is made has streams and memory of its own, and "
      "weights go into one launch only where their Hessians share a backend: make one and "
      "pass it to all of them");
  return B{};
}

/// The largest magnitude of a matrix.
/// \param first_row  of what the caller gave, for the message
/// \throws NumericalError  names the first element that is not finite
template <class B, class T>
double require_finite(const B& backend, MatrixView<const T> matrix, std::string_view name,
                      Index first_row = 0) {
  const double largest = backend.largest(matrix);
  if (std::isfinite(largest)) return largest;
  const Index at = backend.find_non_finite(matrix);
  const Index row = at / matrix.cols(), col = at % matrix.cols();
  const auto value = [&] {  // which the host may not be able to read
    if constexpr (requires { backend.element(matrix, row, col); })
      return backend.element(matrix, row, col);
    else return to_float(matrix(row, col));
  };
  const auto bad = value();  // printed without the sign of a NaN, which says nothing
  throw NumericalError(detail::message(name, "(", first_row + row, ", ", col, ") = ",
                                       std::isnan(bad) ? std::abs(bad) : bad, " is not finite"));
}

}  // namespace gptq
