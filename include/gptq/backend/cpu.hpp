// SPDX-License-Identifier: MIT
#pragma once

// backend::Cpu: Eigen for the matrix products, lanes for the row solver, an executor for the processors.
//
// Every task works on a tile whose shape depends on the matrix alone and calls Eigen on one thread, so any number
// of threads gives the same bits. (With OpenMP switched on, Eigen may split a product inside a task; see openmp.hpp.)

#include <gptq/backend/cpu/cholesky.hpp>
#include <gptq/backend/cpu/tiles.hpp>
#include <gptq/backend/host_worker.hpp>
#include <gptq/exec/threads.hpp>
#include <gptq/kernel/lane.hpp>

#include <Eigen/Core>

#include <atomic>
#include <cmath>  // std::sqrt
#include <span>
#include <type_traits>
#include <utility>  // std::move
#include <vector>

namespace gptq::backend {

/// \tparam Executor_  exec::Threads, exec::Serial, exec::OpenMP or your own
/// \tparam Scalar_    float; double computes everything in double precision at twice the memory and time
template <class Executor_ = exec::Threads, class Scalar_ = float>
class BasicCpu {
  static constexpr int lane = 64 / sizeof(Scalar_);

 public:
  using Executor = Executor_;
  using Scalar = Scalar_;
  using Matrix = HostMatrix<Scalar>;

  explicit BasicCpu(Executor executor = Executor{}) : executor_(std::move(executor)) {}

  const Executor& executor() const { return executor_; }

  class Worker : public HostWorker<Scalar, kernel::Lane<Scalar, lane>, lane> {
   public:
    using Panel = typename HostWorker<Scalar, kernel::Lane<Scalar, lane>, lane>::Panel;

    /// out[to, to + to_count) += factor[from, from + from_count) x [to, to + to_count)ᵀ · in[from, from + from_count)
    void propagate(Matrix& out, Index to, Index to_count, const Matrix& factor, const Matrix& in, Index from,
                   Index from_count) const {
      cpu::block(out, to, 0, to_count, out.cols()).noalias() +=
          cpu::block(factor, from, to, from_count, to_count).transpose() * cpu::block(in, from, 0, from_count, in.cols());
    }

    /// V_b = W_b + T_b·R_bb⁻¹ for positions [first, last): the weights that would make up for all columns rounded so far.
    Matrix compensate(const Matrix& factor, const Panel& panel, Index first, Index last) const {
      const Index count = last - first;
      Matrix v(count, panel.weight.cols());
      auto values = cpu::block(v, 0, 0, count, v.cols());
      values = cpu::block(panel.residual, first, 0, count, v.cols());
      cpu::block(factor, first, first, count, count).transpose().template triangularView<Eigen::Lower>().solveInPlace(values);
      values += cpu::block(panel.weight, first, 0, count, v.cols());
      return v;
    }

    /// ‖A·R‖² = tr(A·R·Rᵀ·Aᵀ), A input-major
    double energy(const Matrix& factor, const Matrix& a) const {
      constexpr Index width = 256;
      const Index n = a.rows();
      cpu::RowMajor<Scalar> y(width, a.cols());
      double total = 0;
      for (Index b = 0; b < n; b += width) {
        const Index count = (std::min)(width, n - b);
        auto out = y.topRows(count);
        out.noalias() = cpu::block(factor, b, b, count, count).transpose().template triangularView<Eigen::Lower>() *
                        cpu::block(a, b, 0, count, a.cols());
        if (b > 0) out.noalias() += cpu::block(factor, 0, b, b, count).transpose() * cpu::block(a, 0, 0, b, a.cols());
        for (Index j = 0; j < count; ++j) total += static_cast<double>(out.row(j).squaredNorm());
      }
      return total;
    }
  };

  Matrix zeros(Index rows, Index cols) const { return Matrix::zeros(rows, cols); }

  template <class T>
  Matrix upload(MatrixView<const T> from) const {
    Matrix matrix(from.rows(), from.cols());
    for_strips(from.rows(), 64, [&](Index r) {
      for (Index c = 0; c < from.cols(); ++c) matrix(r, c) = static_cast<Scalar>(to_float(from(r, c)));
    });
    return matrix;
  }

  template <class T>
  void download(const Matrix& from, MatrixView<T> to) const {
    for_strips(from.rows(), 64, [&](Index r) {
      for (Index c = 0; c < from.cols(); ++c) to(r, c) = static_cast<T>(from(r, c));
    });
  }

  /// Position (row · cols + col) of the first element that is not finite, or -1.
  template <class T>
  Index find_non_finite(MatrixView<const T> matrix) const {
    std::atomic<Index> found{matrix.size()};
    for_strips(matrix.rows(), 16, [&](Index r) {
      const Index at = find_non_finite_in_row(matrix, r);
      for (Index seen = found; at >= 0 && at < seen && !found.compare_exchange_weak(seen, at);) {
      }
    });
    return found < matrix.size() ? found.load() : -1;
  }

  /// Adds XᵀX in slices of tokens: each tile of the triangle is one product per slice, summed in the order of tokens.
  template <class T>
  void accumulate(Matrix& sum, MatrixView<const T> x, const float* token_weights) const {
    const Index n = x.cols();
    const auto tiles = cpu::upper_tiles(n, cpu::tile_size(n));
    const bool usable = std::is_same_v<T, Scalar> && x.col_stride() == 1 && !token_weights;
    Matrix slice = usable ? Matrix{} : Matrix((std::min)(slice_tokens, x.rows()), n);
    for (Index begin = 0; begin < x.rows(); begin += slice_tokens) {
      const Index tokens = (std::min)(slice_tokens, x.rows() - begin);
      if (!usable)
        for_strips(tokens, 16, [&](Index t) {
          const Scalar scale = token_weights ? std::sqrt(static_cast<Scalar>(token_weights[begin + t])) : Scalar(1);
          for (Index i = 0; i < n; ++i) slice(t, i) = static_cast<Scalar>(to_float(x(begin + t, i))) * scale;
        });
      const Scalar* data = slice.data();
      Index stride = n;
      if constexpr (std::is_same_v<T, Scalar>)
        if (usable) data = &x(begin, 0), stride = x.row_stride();
      const auto part = [&](Index token, Index count, Index col, Index cols) {
        return Eigen::Map<const cpu::RowMajor<Scalar>, 0, Eigen::OuterStride<>>(data + token * stride + col, count, cols,
                                                                                Eigen::OuterStride<>(stride));
      };
      executor_.parallel_for(static_cast<Index>(tiles.size()), [&](Index i) {
        const cpu::Tile& tile = tiles[std::size_t(i)];
        for (Index t = 0; t < tokens; t += chunk_tokens) {
          const Index count = (std::min)(chunk_tokens, tokens - t);
          cpu::block(sum, tile.row, tile.col, tile.rows, tile.cols).noalias() +=
              part(t, count, tile.row, tile.rows).transpose() * part(t, count, tile.col, tile.cols);
        }
      });
    }
  }

  void add(Matrix& sum, const Matrix& other) const {
    for_strips(sum.rows(), 64, [&](Index r) {
      for (Index c = 0; c < sum.cols(); ++c) sum(r, c) += other(r, c);
    });
  }

  std::vector<double> diagonal(const Matrix& matrix) const {
    std::vector<double> values(static_cast<std::size_t>(matrix.rows()));
    for (Index i = 0; i < matrix.rows(); ++i) values[std::size_t(i)] = static_cast<double>(matrix(i, i));
    return values;
  }

  Matrix arrange(const Matrix& from, std::span<const Index> order, double factor, std::span<const double> added) const {
    const Index n = from.rows();
    Matrix to(n, n);
    for_strips(n, 32, [&](Index i) {
      const Index a = order[std::size_t(i)];
      std::fill_n(to.row(i), i, Scalar(0));
      for (Index j = i; j < n; ++j) {
        const Index b = order[std::size_t(j)];
        to(i, j) = static_cast<Scalar>(factor) * from((std::min)(a, b), (std::max)(a, b));
      }
      to(i, i) += static_cast<Scalar>(added[std::size_t(i)]);
    });
    return to;
  }

  Index factorize(Matrix& h) const { return cpu::ReversedCholesky<Scalar, Executor>(executor_, h).run(); }

  template <class F>
  void for_panels(Index rows, F&& panel) const {
    const Index width = panel_rows(rows);
    executor_.parallel_for((rows + width - 1) / width, [&](Index i) {
      Worker worker;
      panel(worker, i * width, (std::min)(width, rows - i * width));
    });
  }

  /// Rows per panel: enough panels for many threads, enough rows for a fast product.
  static Index panel_rows(Index rows) { return std::clamp<Index>((rows / 16 + lane - 1) / lane * lane, 2 * lane, 256); }

 private:
  static constexpr Index slice_tokens = 2048;  // converted at a time
  static constexpr Index chunk_tokens = 512;   // summed inside one product

  template <class F>
  void for_strips(Index rows, Index strip, F&& row) const {
    executor_.parallel_for((rows + strip - 1) / strip, [&](Index i) {
      for (Index r = i * strip; r < (std::min)(rows, (i + 1) * strip); ++r) row(r);
    });
  }

  Executor executor_;
};

using Cpu = BasicCpu<exec::Threads>;

}  // namespace gptq::backend
