// SPDX-License-Identifier: MIT
#pragma once

// The contracts: what a scheme, an executor and a backend are. Prose first, then the requirement that the
// compiler checks.

#include <gptq/core/half.hpp>
#include <gptq/core/matrix_view.hpp>
#include <gptq/core/params.hpp>
#include <gptq/kernel/column_layout.hpp>
#include <gptq/scheme/affine.hpp>
#include <gptq/scheme/range.hpp>

#include <concepts>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace gptq {

/// A scheme is a grid family: it turns a range into a grid, a number into a code and a code into a number.
///
/// Codes are 0..max_code in the order of the numbers they stand for, held in the arithmetic type T (a number, or a
/// lane of rows). `encode` is total: it clamps and never traps. `decode(encode(decode(c, g), g), g) == decode(c, g)`
/// for any grid whose scale is not zero. All three run on the host and on a GPU: mark them GPTQ_HD and use nothing
/// but arithmetic and the names of kernel/arithmetic.hpp.
template <class S>
concept Scheme = std::copyable<S> && requires(const S scheme, const float x, const scheme::Grid<float> grid, const int which) {
  { S::bits } -> std::convertible_to<int>;              // stored bits per code, at most 8
  { S::max_code } -> std::convertible_to<int>;          // largest code
  { S::variants } -> std::convertible_to<int>;          // grids tried per range by the range search, ≥ 1
  { S::signed_variants } -> std::convertible_to<bool>;  // variants other than 0 have negative scales
  { scheme.encode(x, grid) } -> std::same_as<float>;
  { scheme.decode(x, grid) } -> std::same_as<float>;
  { scheme.fit(x, x, ScaleType::fp16) } -> std::same_as<scheme::Grid<float>>;   // low ≤ 0 ≤ high, low < high
  { scheme.variant(grid, which) } -> std::same_as<scheme::Grid<float>>;
};

/// An executor runs f(0) … f(n−1), in any order, at the same time or not, and returns when all are done.
///
/// The work is cut by the caller, never by the number of threads, so results do not depend on it. If calls throw,
/// the exception of the smallest i is rethrown. A parallel_for inside f runs on the calling thread.
template <class E>
concept Executor = std::copyable<E> && requires(const E executor, void (*f)(Index)) {
  executor.parallel_for(Index{}, f);
  { executor.concurrency() } -> std::convertible_to<int>;  // calls that can run at the same time, ≥ 1
};

/// A worker is what solves one panel of rows: a backend's operations on matrices that only one panel sees.
///
/// Panel matrices are input-major: row j holds column j of the weight, for all rows of the panel (kernel/panel.hpp).
template <class W>
concept Worker = requires(const W worker, typename W::Panel panel, const typename W::Panel constant, typename W::Matrix matrix,
                          const typename W::Matrix factor, MatrixView<const float> weight, MatrixView<std::uint8_t> codes,
                          MatrixView<float> out, const ColumnLayout layout,
                          const scheme::Int4 scheme, const scheme::RangeSearch search, std::span<const double> per_position,
                          const Index i) {
  { worker.load_panel(weight, i, i, layout) } -> std::same_as<typename W::Panel>;  // rows [i, i + i) of a weight [out, in]
  worker.fit(scheme, search, layout, factor, i, i, i, panel);     // grids of groups [i, i) from columns that start at position i
  worker.solve(scheme, layout, factor, i, i, panel);              // rounds positions [i, i): codes, residual, loss
  worker.store_panel(constant, layout, codes, out, out);          // the panel's rows of the whole weight's codes, scales, zeros
  worker.round(scheme, layout, panel);                            // rounds all without compensation
  worker.propagate(matrix, i, i, factor, matrix, i, i);           // out[to..] += factor[from.., to..]ᵀ · in[from..]
  { worker.compensate(factor, constant, i, i) } -> std::same_as<typename W::Matrix>;  // V_b = W_b + T_b·R_bb⁻¹, positions [i, i)
  { worker.energy(factor, matrix) } -> std::same_as<double>;      // ‖A·R‖² = tr(A·R·Rᵀ·Aᵀ)
  { worker.weighted_squares(matrix, i, per_position) } -> std::same_as<double>;       // Σ_p weight_p·‖A_p‖² over i rows
};

/// A backend is where matrices live and who multiplies them: a cheap handle whose copies share threads or a stream.
///
/// `Matrix` is resident and row-major. Symmetric matrices are held in their upper triangle. All operations give the
/// same bits however many threads run them. backend::Reference is the plainest one and serves as the oracle.
template <class B>
concept Backend = std::copyable<B> && requires(const B backend, typename B::Matrix matrix, const typename B::Matrix constant,
                                               MatrixView<const float> view, MatrixView<float> out, const float* token_weights,
                                               std::span<const Index> order, std::span<const double> added,
                                               void (*panel)(typename B::Worker&, Index, Index), Index i, double x) {
  requires std::floating_point<typename B::Scalar>;                         // of a Matrix
  requires Worker<typename B::Worker>;
  { backend.zeros(i, i) } -> std::same_as<typename B::Matrix>;
  { backend.upload(view) } -> std::same_as<typename B::Matrix>;             // from the host, any strides
  backend.download(constant, out);                                          // to the host, any strides
  { backend.find_non_finite(view) } -> std::same_as<Index>;                 // row · cols + col of the first one, or −1
  backend.accumulate(matrix, view, token_weights);                          // S += Xᵀ·diag(w)·X, upper; w may be null
  backend.add(matrix, constant);                                            // S += T
  { backend.diagonal(constant) } -> std::same_as<std::vector<double>>;
  { backend.arrange(constant, order, x, added) } -> std::same_as<typename B::Matrix>;  // x·S[order, order] + diag(added)
  { backend.factorize(matrix) } -> std::same_as<Index>;                     // H = R·Rᵀ in place, R upper; the pivot that failed, or −1
  backend.for_panels(i, panel);                                             // f(worker, first row, rows) over all rows of a weight
};

/// \throws NumericalError  names the first element that is not finite
template <class B, class T>
void require_finite(const B& backend, MatrixView<const T> matrix, std::string_view name) {
  const Index at = backend.find_non_finite(matrix);
  if (at < 0) return;
  const Index row = at / matrix.cols(), col = at % matrix.cols();
  throw NumericalError(detail::message(name, "(", row, ", ", col, ") = ", to_float(matrix(row, col)), " is not finite"));
}

}  // namespace gptq
