// SPDX-License-Identifier: MIT
#pragma once

// backend::Cpu: matrix products with Eigen and a kernel of its own, the row solver on lanes,
// threads from an executor.
//
// Every task computes a tile whose shape depends on the matrix alone, on one thread, so any number
// of threads gives the same bits.

#include <gptq/backend/concept.hpp>
#include <gptq/backend/cpu/cholesky.hpp>
#include <gptq/backend/cpu/inverse.hpp>
#include <gptq/backend/cpu/maps.hpp>
#include <gptq/backend/cpu/pivot_order.hpp>
#include <gptq/backend/cpu/tiled_products.hpp>
#include <gptq/backend/host/worker.hpp>
#include <gptq/config.hpp>
#include <gptq/core/precision.hpp>
#include <gptq/exec/threads.hpp>
#include <gptq/lane/lane.hpp>

#include <Eigen/Core>

#include <algorithm>  // std::sort
#include <cmath>      // std::sqrt
#include <numeric>    // std::iota
#include <span>
#include <type_traits>
#include <utility>  // std::move
#include <vector>

namespace gptq::backend {
inline namespace GPTQ_SIMD {

/// The CPU backend.
/// \tparam Executor_  exec::Threads, exec::Serial or your own
/// \tparam Scalar_    float; double computes everything in double precision at twice the memory and
/// time
template <class Executor_ = exec::Threads, class Scalar_ = float>
class BasicCpu {
  static constexpr int lane = 64 / sizeof(Scalar_);

 public:
  using Executor = Executor_;         ///< runs the tasks
  using Scalar = Scalar_;             ///< of all computations
  using Matrix = HostMatrix<Scalar>;  ///< in host memory

  /// \param precision  of XᵀX from single-precision activations, `single` or `split`; everything
  ///                   else, and XᵀX from bfloat16 activations, is as exact as `single` either way
  explicit BasicCpu(Executor executor = Executor{}, Precision precision = Precision::single)
      : executor_(std::move(executor)), precision_(precision) {
    require_exact_operands(precision);
  }

  /// Runs the tasks.
  const Executor& executor() const { return executor_; }

  /// Solves a panel of rows: products by our own kernel, the rest by HostWorker.
  class Worker : public HostWorker<Scalar, lane::Lane<Scalar, lane>, lane> {
    using Base = HostWorker<Scalar, lane::Lane<Scalar, lane>, lane>;

   public:
    using Panel = typename Base::Panel;  ///< rows of one weight
    using Base::targets;

    /// out[to, to + to_count) += factor[from, from + from_count) x [to, to + to_count)ᵀ · in[from,
    /// from + from_count)
    void propagate(Matrix& out, Index to, Index to_count, const Matrix& factor, const Matrix& in,
                   Index from, Index from_count) const {
      cpu::add_product(out.view().middle_rows(to, to_count),
                       factor.view().block(from, to, from_count, to_count),
                       in.view().middle_rows(from, from_count));
    }

    /// V_b = W_b + T_b·R_bb⁻¹ for positions [first, last): the weights that would compensate for
    /// all columns rounded so far.
    Matrix targets(kernel::LeftLooking /*form*/, const Matrix& factor, const Panel& panel,
                   Index first, Index last) const {
      const Index count = last - first;
      Matrix v(count, panel.weight.cols());
      auto values = cpu::block(v, 0, 0, count, v.cols());
      values = cpu::block(panel.carry, first, 0, count, v.cols());
      cpu::block(factor, first, first, count, count)
          .transpose()
          .template triangularView<Eigen::Lower>()
          .solveInPlace(values);
      values += cpu::block(panel.weight, first, 0, count, v.cols());
      return v;
    }

    /// m ← (R·Rᵀ)⁻¹·m in place.
    void solve_factor(const Matrix& factor, Matrix& m) const {
      auto x = cpu::block(m, 0, 0, m.rows(), m.cols());
      const auto r = cpu::block(factor, 0, 0, factor.rows(), factor.cols());
      r.template triangularView<Eigen::Upper>().solveInPlace(x);
      r.transpose().template triangularView<Eigen::Lower>().solveInPlace(x);
    }

    /// out[first, first + rows) += factor[first, first + rows)·in, factor upper triangular
    void multiply(Matrix& out, Index first, Index rows, const Matrix& factor,
                  const Matrix& in) const {
      const Index depth = in.rows() - first;
      cpu::add_product(out.view().middle_rows(first, rows),
                       factor.view().block(first, first, rows, depth).transposed(),
                       in.view().middle_rows(first, depth));
    }

    /// Columns of R that `energy` takes at a time.
    static constexpr Index energy_width = 256;
    /// ‖A·R‖² = tr(A·R·Rᵀ·Aᵀ) of each section, A input-major.
    std::vector<double> energy(const Matrix& factor, const Matrix& a, const Panel& panel) const {
      const Index n = a.rows();
      double total = 0;
      for (Index b = 0; b < n; b += energy_width) {
        const Index count = (std::min)(energy_width, n - b);
        auto y = Matrix::zeros(count, a.cols());
        cpu::add_product(y.view(), factor.view().block(0, b, b + count, count),
                         a.view().middle_rows(0, b + count));
        const auto squares = Base::squares(y, panel);
        total = std::accumulate(squares.front().begin(), squares.front().end(), total);
      }
      return {total};
    }
  };

  /// Zeros, [rows, cols].
  Matrix zeros(Index rows, Index cols) const { return Matrix::zeros(rows, cols); }

  /// A copy of a host matrix, any strides.
  template <class T>
  Matrix upload(MatrixView<const T> from) const {
    Matrix matrix(from.rows(), from.cols());
    for_strips(from.rows(), 64, [&](Index r) {
      for (Index c = 0; c < from.cols(); ++c)
        matrix(r, c) = static_cast<Scalar>(to_float(from(r, c)));
    });
    return matrix;
  }

  /// Copies to the host, any strides.
  template <class T>
  void download(const Matrix& from, MatrixView<T> to) const {
    for_strips(from.rows(), 64, [&](Index r) {
      for (Index c = 0; c < from.cols(); ++c) to(r, c) = static_cast<T>(from(r, c));
    });
  }

  /// The largest magnitude; infinite if an element is not finite.
  template <class T>
  double largest(MatrixView<const T> matrix) const {
    std::vector<double> of_row(static_cast<std::size_t>(matrix.rows()));
    for_strips(matrix.rows(), 16,
               [&](Index r) { of_row[std::size_t(r)] = largest_in_row<Scalar>(matrix, r); });
    return of_row.empty() ? 0 : *std::max_element(of_row.begin(), of_row.end());
  }

  /// sum += Xᵀ·diag(token_weights)·X, upper triangle, in slices of tokens: each tile of the
  /// triangle is one product per slice, summed in the order of tokens.
  template <class T>
  void accumulate(Matrix& sum, MatrixView<const T> x, const float* token_weights) const {
    const bool exact_in_halves = std::is_same_v<T, bfloat16> && !token_weights;
    const bool tiles = cpu::use_tiles<Scalar>(precision_ == Precision::split || exact_in_halves);
    // Our own product reads either layout, matrix tiles are packed from rows.
    const bool usable = std::is_same_v<T, Scalar> && !token_weights &&
                        (x.col_stride() == 1 || (x.row_stride() == 1 && !tiles));
    Matrix slice = usable ? Matrix{} : Matrix((std::min)(slice_tokens, x.rows()), x.cols());
    for (Index begin = 0; begin < x.rows(); begin += slice_tokens) {
      const Index tokens = (std::min)(slice_tokens, x.rows() - begin);
      MatrixView<const Scalar> part(slice.data(), tokens, x.cols());
      if constexpr (std::is_same_v<T, Scalar>)
        if (usable) part = x.middle_rows(begin, tokens);
      if (!usable)
        for_strips(tokens, 16, [&](Index t) {
          const Scalar scale =
              token_weights ? std::sqrt(static_cast<Scalar>(token_weights[begin + t])) : Scalar(1);
          for (Index i = 0; i < x.cols(); ++i)
            slice(t, i) = static_cast<Scalar>(to_float(x(begin + t, i))) * scale;
        });
      cpu::add_gram(executor_, sum.view(), part, tiles);
    }
  }

  /// sum += aᵀ·b, the whole matrix.
  void accumulate_cross(Matrix& sum, MatrixView<const Scalar> a, MatrixView<const Scalar> b) const {
    cpu::add_cross(executor_, sum.view(), a, b,
                   cpu::use_tiles<Scalar>(precision_ == Precision::split));
  }

  /// sum += other.
  void add(Matrix& sum, const Matrix& other) const {
    for_strips(sum.rows(), 64, [&](Index r) {
      for (Index c = 0; c < sum.cols(); ++c) sum(r, c) += other(r, c);
    });
  }

  /// The diagonal of a square matrix.
  std::vector<double> diagonal(const Matrix& matrix) const {
    std::vector<double> values(static_cast<std::size_t>(matrix.rows()));
    for (Index i = 0; i < matrix.rows(); ++i)
      values[std::size_t(i)] = static_cast<double>(matrix(i, i));
    return values;
  }

  /// factor · from[order, order] + diag(added), upper triangle, zeros below.
  Matrix arrange(const Matrix& from, std::span<const Index> order, double factor,
                 std::span<const double> added) const {
    return arrange_as<Scalar>(from, order, factor, added);
  }

  /// h = R·Rᵀ in place, R upper triangular, zeros below: the position of the pivot that failed, or
  /// -1.
  Index factorize(Matrix& h) const {
    return cpu::ReversedCholesky<Scalar, Executor>(executor_, h).run();
  }

  /// arrange and factorize in double precision; R goes to `r`.
  Index factorize_in_double(const Matrix& from, std::span<const Index> order, double factor,
                            std::span<const double> added, Matrix& r) const {
    auto exact = arrange_as<double>(from, order, factor, added);
    const Index failed = cpu::ReversedCholesky<double, Executor>(executor_, exact).run();
    r = Matrix(from.rows(), from.rows());
    convert(exact, r);
    return failed;
  }

  /// R⁻¹ of an upper triangular R.
  Matrix invert_triangular(const Matrix& r) const { return cpu::inverse(executor_, r); }

  /// The order of Order::min_pivot.
  std::vector<Index> pivot_order(const Matrix& h) const {
    HostMatrix<double> exact(h.rows(), h.cols());
    convert(h, exact);
    return cpu::min_pivot_order(executor_, exact);
  }

  /// panel(worker, first row, rows) for the panels that make up all rows.
  template <class F>
  void for_panels(Index rows, F&& panel) const {
    const Index width = panel_rows(rows);
    executor_.parallel_for((rows + width - 1) / width, [&](Index i) {
      Worker worker;
      panel(worker, i * width, (std::min)(width, rows - i * width));
    });
  }

  /// job(i) for independent jobs.
  template <class F>
  void for_each(Index jobs, F&& job) const {
    executor_.parallel_for(jobs, job);
  }

  /// Panels: enough of them for many threads, each with enough rows for a fast product. Scratch:
  /// losses and, one after the other, the columns that a group's grid is fitted to and what
  /// measuring takes.
  Footprint footprint(Index rows, Index cols, const Params& params) const {
    constexpr Index scalar = sizeof(Scalar);
    const Index height = panel_rows(rows), group = effective_group_size(params, cols);
    const bool dynamic = params.groups == Groups::dynamic && group < cols;
    const Index measuring = height * (params.measure == Measure::none ? 0
                                      : uses_sketch(params, cols)     ? sketch_directions
                                                                      : Worker::energy_width);
    return {
        .panel_rows = height,
        .concurrency = executor_.concurrency(),
        .product_bytes = cpu::product_bytes<Scalar>(max_panel_rows),
        .accumulate_bytes = cpu::gram_bytes<Scalar>(executor_, cols) + slice_tokens * cols * scalar,
        .scratch_bytes =
            cols * Index(sizeof(double)) +
            (std::max)(group * (lane + 1 + (dynamic ? height : 0)), measuring) * scalar};
  }

 private:
  static constexpr Index slice_tokens = 2048;  // tokens converted at a time
  static constexpr Index max_panel_rows = 256;

  static Index panel_rows(Index rows) {
    return std::clamp<Index>((rows / 16 + lane - 1) / lane * lane, 2 * lane, max_panel_rows);
  }

  /// Each task takes a few adjacent inputs, whose elements above the diagonal share cache lines,
  /// and writes whole cache lines of their rows.
  template <class T>
  HostMatrix<T> arrange_as(const Matrix& from, std::span<const Index> order, double factor,
                           std::span<const double> added) const {
    constexpr Index together = 16;
    const Index n = from.rows();
    HostMatrix<T> to(n, n);
    std::vector<Index> position(static_cast<std::size_t>(n));
    for (Index p = 0; p < n; ++p) position[std::size_t(order[std::size_t(p)])] = p;
    executor_.parallel_for((n + together - 1) / together, [&](Index task) {
      const Index first = task * together, count = (std::min)(together, n - first);
      Index input[together];  // sorted by place in the result, which is zero below its diagonal
      std::iota(input, input + count, first);
      const auto place = [&](Index i) { return position[std::size_t(input[i])]; };
      std::sort(input, input + count, [&](Index a, Index b) {
        return position[std::size_t(a)] < position[std::size_t(b)];
      });
      Scalar line[together][together] = {};
      Index rows = 0;  // that have begun
      for (Index begin = 0; begin < n; begin += together) {
        const Index width = (std::min)(together, n - begin);
        while (rows < count && place(rows) < begin + width) ++rows;
        for (Index j = 0; j < width; ++j) {
          const Index b = order[std::size_t(begin + j)];
          for (Index i = 0; i < rows; ++i)
            line[i][j] = from((std::min)(input[i], b), (std::max)(input[i], b));
        }
        for (Index i = 0; i < rows; ++i) {
          T* const out = to.row(place(i)) + begin;
          for (Index j = 0; j < width; ++j)
            out[j] = static_cast<T>(factor) * static_cast<T>(line[i][j]);
        }
      }
      for (Index i = 0; i < count; ++i) {
        T* const out = to.row(place(i));
        std::fill_n(out, place(i), T(0));
        out[place(i)] += static_cast<T>(added[std::size_t(place(i))]);
      }
    });
    return to;
  }

  template <class From, class To>
  void convert(const HostMatrix<From>& from, HostMatrix<To>& to) const {
    for_strips(from.rows(), 64, [&](Index r) {
      for (Index c = 0; c < from.cols(); ++c) to(r, c) = static_cast<To>(from(r, c));
    });
  }

  template <class F>
  void for_strips(Index rows, Index strip, F&& row) const {
    executor_.parallel_for((rows + strip - 1) / strip, [&](Index i) {
      for (Index r = i * strip; r < (std::min)(rows, (i + 1) * strip); ++r) row(r);
    });
  }

  Executor executor_;
  Precision precision_;
};

/// The CPU in single precision, on all its processors.
using Cpu = BasicCpu<exec::Threads>;

}  // namespace GPTQ_SIMD
}  // namespace gptq::backend
