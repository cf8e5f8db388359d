// SPDX-License-Identifier: MIT
#pragma once

// The contracts of a backend and of its workers: prose first, then the requirements that the
// compiler checks.

#include <gptq/core/error.hpp>
#include <gptq/core/half.hpp>
#include <gptq/core/matrix_view.hpp>
#include <gptq/core/params.hpp>
#include <gptq/kernel/column_block.hpp>
#include <gptq/kernel/column_layout.hpp>
#include <gptq/kernel/panel.hpp>
#include <gptq/scheme/affine.hpp>
#include <gptq/scheme/range.hpp>

#include <algorithm>  // std::min
#include <cmath>      // std::isfinite, std::isnan
#include <concepts>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace gptq {
namespace backend {

/// How much a backend works on at once and the most memory it needs for that, in bytes, for
/// memory_plan.
struct Footprint {
  Index panel_rows = 1;        ///< of every panel except perhaps the last one
  Index concurrency = 1;       ///< panels, or jobs, in progress at the same time
  Index product_bytes = 0;     ///< of a matrix product, for each of them
  Index accumulate_bytes = 0;  ///< of accumulate
  Index scratch_bytes = 0;     ///< of a panel, beyond its weights, carries, codes and grids
};

// One requirement, one line:
// clang-format off

/// A worker solves panels of rows: a backend's operations on matrices that only one panel sees.
///
/// Panel matrices are input-major: row j holds column j of the weight, for all rows of the panel
/// (kernel/panel.hpp). Positions are places in the solving order (kernel/column_layout.hpp).
///
/// Optional, for aim_at_full_precision: gather(m, order), whose row p is row order[p] of m, and
/// solve_factor(factor, m), m ← (R·Rᵀ)⁻¹·m. For the caller's own grids: set_grids(grids, panel).
/// For an observer: solve fills the panel's `targets` if they have rows, and observe(panel, first,
/// last, f) passes positions [first, last) to f on the host.
template <class W>
concept Worker = requires(const W w, typename W::Panel panel, const typename W::Panel constant,
                          typename W::Matrix m, const typename W::Matrix factor, const typename W::Matrix other,
                          std::span<const Section<float>> sections, std::span<const SectionResult> results,
                          const ColumnLayout layout, const scheme::Int4 s, const Sparsity sparsity,
                          const scheme::RangeSearch search, const Index first, const Index last, const Index rows,
                          const double unit) {
  // Rows of weights, in a unit that is a power of two; carry is zero.
  { w.load_panel(sections, unit) } -> std::same_as<typename W::Panel>;
  // Grids of groups [first, last), from columns given as rows of m, which starts at position rows.
  w.fit(s, search, layout, m, rows, first, last, panel);
  // Rounds positions [first, last), to which earlier ones carry what is in panel.carry: sets codes and sums,
  // and leaves in carry what later positions need, W − Q with R and (Q − V)/U_jj with U = R⁻¹.
  w.solve(kernel::LeftLooking{}, s, sparsity, layout, factor, first, last, panel);
  // V of positions [first, last), none of them rounded yet: W_b + T_b·R_bb⁻¹, T what is carried to them.
  { w.targets(kernel::LeftLooking{}, factor, constant, first, last) } -> std::same_as<typename W::Matrix>;
  // Rounds all positions without compensation, the smallest weights of a sparsity pattern to zero: sets
  // codes and leaves W − Q in carry.
  w.round(s, sparsity, layout, panel);
  // The codes, scales and zeros of each section.
  w.store(constant, layout, results);
  // m[first, first + rows) += factor[last, last + rows) x [first, first + rows)ᵀ · m[last, last + rows)
  w.propagate(m, first, rows, factor, m, last, rows);
  // m[first, first + rows) += factor[first, first + rows)·other, factor upper triangular, zeros below.
  w.multiply(m, first, rows, factor, other);
  // For each section, the sums over all columns solved so far.
  { w.sums(constant) } -> std::same_as<std::vector<SectionSums>>;
  // For each section, ‖A·R‖² = tr(A·R·Rᵀ·Aᵀ) of a panel's matrix A, and by position ‖A_p‖².
  { w.energy(factor, m, constant) } -> std::same_as<std::vector<double>>;
  { w.squares(m, constant) } -> std::same_as<std::vector<std::vector<double>>>;
};

/// A worker that can run the paper's own form of the solver, Solver::lazy_batch.
template <class W>
concept LazyBatchWorker = requires(const W w, typename W::Panel panel, const typename W::Panel constant,
                                   const typename W::Matrix factor, const ColumnLayout layout, const scheme::Int4 s,
                                   const Sparsity sparsity, const Index first, const Index last) {
  w.solve(kernel::LazyBatch{}, s, sparsity, layout, factor, first, last, panel);
  // W plus what is carried to these positions.
  { w.targets(kernel::LazyBatch{}, factor, constant, first, last) } -> std::same_as<typename W::Matrix>;
  // carry = W − Q from codes and grids.
  w.find_errors(s, layout, panel);
};

/// A backend decides where matrices live and how they are multiplied. It is a cheap handle whose
/// copies share threads or a stream.
///
/// `Matrix` is row-major and stays where the backend keeps it. Symmetric matrices are stored in
/// their upper triangle. All operations give the same bits however many threads run them.
/// backend::Reference is the plainest backend and serves as the oracle.
///
/// Optional, each required only where it is used:
///   add(m, other)                        m += other: Hessian::merge
///   accumulate_cross(m, a, b)            m += aᵀ·b: CrossMoment
///   factorize_in_double(…)               arrange and factorize in one: Params::factor_in_double
///   pivot_order(m)                       Order::min_pivot
///   invert_triangular(r)                 R⁻¹: Solver::lazy_batch
///   stage(view), element(view, r, c)     if views may be outside host memory: a copy for several
///                                        readers; one element
///   host()                               an executor for work on the host, if for_each runs on a device
///   batches(), shares(other)             several weights at once (factor/factors.hpp)
template <class B>
concept Backend = std::copyable<B> &&
    requires(const B b, typename B::Matrix m, const typename B::Matrix constant,
             MatrixView<const float> view, MatrixView<float> out, const float* token_weights,
             std::span<const Index> order, std::span<const double> added,
             void (*panel)(typename B::Worker&, Index, Index), void (*job)(Index), const Index rows, const Index cols,
             const double factor, const Params& params) {
  requires std::floating_point<typename B::Scalar>;
  requires Worker<typename B::Worker>;
  { b.zeros(rows, cols) } -> std::same_as<typename B::Matrix>;
  // From the host and to the host, any strides.
  { b.upload(view) } -> std::same_as<typename B::Matrix>;
  b.download(constant, out);
  // The largest magnitude; infinite if an element is not finite.
  { b.largest(view) } -> std::same_as<double>;
  // m += Xᵀ·diag(w)·X for X [tokens, n]; w may be null.
  b.accumulate(m, view, token_weights);
  { b.diagonal(constant) } -> std::same_as<std::vector<double>>;
  // factor · constant[order, order] + diag(added)
  { b.arrange(constant, order, factor, added) } -> std::same_as<typename B::Matrix>;
  // m = R·Rᵀ in place, R upper triangular, zeros below: the position of the pivot that failed, or −1.
  { b.factorize(m) } -> std::same_as<Index>;
  // panel(worker, first row, rows) for panels of footprint().panel_rows rows that make up all rows.
  b.for_panels(rows, panel);
  // job(i) for independent jobs, several at the same time if the backend can.
  b.for_each(rows, job);
  // For a weight [rows, cols].
  { b.footprint(rows, cols, params) } -> std::same_as<Footprint>;
};

// clang-format on

/// Backends that can take several weights at once.
template <class B>
concept BatchBackend = Backend<B> && requires(const B backend) {
  backend.batches();
  { backend.shares(backend) } -> std::same_as<bool>;
};

}  // namespace backend

/// job(i) for independent jobs on the host, whatever the backend: on its own threads, or, if
/// for_each runs on a device, on those of host().
template <class B, class F>
void for_each_on_host(const B& backend, Index jobs, const F& job) {
  if constexpr (requires { backend.host(); }) backend.host().parallel_for(jobs, job);
  else backend.for_each(jobs, job);
}

/// The backend used if the caller names none. Backends that own resources define `must_be_named`.
template <class B>
B default_backend() {
  static_assert(
      !requires { requires B::must_be_named; },
      "gptq: name the backend. Each new one has its own streams and memory, and weights "
      "go into one launch only if their Hessians share a backend: make one and pass it to "
      "all of them");
  return B{};
}

/// Rows [first, first + rows) of a weight, wherever it is, in the type that the backend computes
/// with.
template <class B, class W>
std::vector<typename B::Scalar> rows_on_host(const B& backend, MatrixView<const W> weight,
                                             Index first, Index rows) {
  using Scalar = typename B::Scalar;
  std::vector<Scalar> copy(static_cast<std::size_t>(rows * weight.cols()));
  backend.download(backend.upload(weight.middle_rows(first, rows)),
                   MatrixView<Scalar>(copy.data(), rows, weight.cols()));
  return copy;
}

/// The largest magnitude of a matrix.
/// \param first_row  of the matrix in what the caller passed, for the message
/// \throws NumericalError  names the first element that is not finite
template <class B, class T>
double require_finite(const B& backend, MatrixView<const T> matrix, std::string_view name,
                      Index first_row = 0) {
  const double largest = backend.largest(matrix);
  if (std::isfinite(largest)) return largest;
  constexpr Index strip = 64;
  for (Index first = 0; first < matrix.rows(); first += strip) {
    const auto numbers =
        rows_on_host(backend, matrix, first, (std::min)(strip, matrix.rows() - first));
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      if (std::isfinite(numbers[i])) continue;
      const Index row = first + static_cast<Index>(i) / matrix.cols(),
                  col = static_cast<Index>(i) % matrix.cols();
      const auto value = [&] {  // the host may not be able to read it
        if constexpr (requires { backend.element(matrix, row, col); })
          return backend.element(matrix, row, col);
        else return to_float(matrix(row, col));
      };
      const auto bad = value();  // printed without the meaningless sign of a NaN
      throw NumericalError(detail::message(name, "(", first_row + row, ", ", col,
                                           ") = ", std::isnan(bad) ? std::abs(bad) : bad,
                                           " is not finite"));
    }
  }
  throw NumericalError(detail::message(name, " has an element that is not finite"));
}

}  // namespace gptq
