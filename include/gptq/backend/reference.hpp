// SPDX-License-Identifier: MIT
#pragma once

// backend::Reference: plain loops in double precision. The oracle that other backends are tested
// against, and the example to read before writing one.

#include <gptq/backend/concept.hpp>
#include <gptq/backend/host/worker.hpp>

#include <algorithm>  // std::min_element
#include <cmath>      // std::sqrt
#include <limits>
#include <numeric>  // std::iota
#include <span>
#include <vector>

namespace gptq::backend {

/// The plainest backend: loops, one thread, double precision.
class Reference {
 public:
  using Scalar = double;              ///< of all computations
  using Matrix = HostMatrix<double>;  ///< in host memory

  /// Solves a panel of rows.
  class Worker : public HostWorker<double, double, 1> {
   public:
    using HostWorker::targets;

    /// out[to, to + to_count) += factor[from, from + from_count) x [to, to + to_count)ᵀ · in[from,
    /// from + from_count)
    void propagate(Matrix& out, Index to, Index to_count, const Matrix& factor, const Matrix& in,
                   Index from, Index from_count) const {
      for (Index j = to; j < to + to_count; ++j)
        for (Index k = from; k < from + from_count; ++k)
          for (Index r = 0; r < in.cols(); ++r) out(j, r) += factor(k, j) * in(k, r);
    }

    /// V_b = W_b + T_b·R_bb⁻¹ for positions [first, last): the weights that would compensate for
    /// all columns rounded so far.
    Matrix targets(kernel::LeftLooking /*form*/, const Matrix& factor, const Panel& panel,
                   Index first, Index last) const {
      Matrix v(last - first, panel.weight.cols());
      for (Index r = 0; r < v.cols(); ++r)
        for (Index j = first; j < last; ++j) {
          double x = panel.carry(j, r);
          for (Index k = first; k < j; ++k)
            x -= (v(k - first, r) - panel.weight(k, r)) * factor(k, j);
          v(j - first, r) = panel.weight(j, r) + x / factor(j, j);
        }
      return v;
    }

    /// m ← (R·Rᵀ)⁻¹·m in place.
    void solve_factor(const Matrix& factor, Matrix& m) const {
      const Index n = m.rows();
      for (Index c = 0; c < m.cols(); ++c) {
        for (Index j = n - 1; j >= 0; --j) {
          for (Index k = j + 1; k < n; ++k) m(j, c) -= factor(j, k) * m(k, c);
          m(j, c) /= factor(j, j);
        }
        for (Index j = 0; j < n; ++j) {
          for (Index k = 0; k < j; ++k) m(j, c) -= factor(k, j) * m(k, c);
          m(j, c) /= factor(j, j);
        }
      }
    }

    /// out[first, first + rows) += factor[first, first + rows)·in, factor upper triangular
    void multiply(Matrix& out, Index first, Index rows, const Matrix& factor,
                  const Matrix& in) const {
      for (Index i = first; i < first + rows; ++i)
        for (Index k = i; k < in.rows(); ++k)
          for (Index c = 0; c < in.cols(); ++c) out(i, c) += factor(i, k) * in(k, c);
    }

    /// ‖A·R‖² = tr(A·R·Rᵀ·Aᵀ), A input-major, for the single section.
    std::vector<double> energy(const Matrix& factor, const Matrix& a, const Panel& panel) const {
      double total = 0;
      for (Index r = 0; r < panel.rows; ++r)
        for (Index j = 0; j < a.rows(); ++j) {
          double x = 0;
          for (Index k = 0; k <= j; ++k) x += a(k, r) * factor(k, j);
          total += x * x;
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
    for (Index r = 0; r < from.rows(); ++r)
      for (Index c = 0; c < from.cols(); ++c)
        matrix(r, c) = static_cast<double>(to_float(from(r, c)));
    return matrix;
  }

  /// Copies to the host, any strides.
  template <class T>
  void download(const Matrix& from, MatrixView<T> to) const {
    for (Index r = 0; r < from.rows(); ++r)
      for (Index c = 0; c < from.cols(); ++c) to(r, c) = static_cast<T>(from(r, c));
  }

  /// The largest magnitude; infinite if an element is not finite.
  template <class T>
  double largest(MatrixView<const T> matrix) const {
    double value = 0;
    for (Index r = 0; r < matrix.rows(); ++r)
      value = (std::max)(value, largest_in_row<Scalar>(matrix, r));
    return value;
  }

  /// sum += Xᵀ·diag(token_weights)·X, upper triangle; token_weights may be null.
  template <class T>
  void accumulate(Matrix& sum, MatrixView<const T> x, const float* token_weights) const {
    for (Index t = 0; t < x.rows(); ++t)
      for (Index i = 0; i < x.cols(); ++i) {
        const double scaled =
            static_cast<double>(to_float(x(t, i))) * (token_weights ? token_weights[t] : 1.0f);
        for (Index j = i; j < x.cols(); ++j)
          sum(i, j) += scaled * static_cast<double>(to_float(x(t, j)));
      }
  }

  /// sum += aᵀ·b.
  template <class T>
  void accumulate_cross(Matrix& sum, MatrixView<const T> a, MatrixView<const T> b) const {
    for (Index t = 0; t < a.rows(); ++t)
      for (Index i = 0; i < a.cols(); ++i)
        for (Index j = 0; j < b.cols(); ++j)
          sum(i, j) +=
              static_cast<double>(to_float(a(t, i))) * static_cast<double>(to_float(b(t, j)));
  }

  /// sum += other.
  void add(Matrix& sum, const Matrix& other) const {
    for (Index i = 0; i < sum.rows() * sum.cols(); ++i) sum.data()[i] += other.data()[i];
  }

  /// The diagonal of a square matrix.
  std::vector<double> diagonal(const Matrix& matrix) const {
    std::vector<double> values(static_cast<std::size_t>(matrix.rows()));
    for (Index i = 0; i < matrix.rows(); ++i) values[std::size_t(i)] = matrix(i, i);
    return values;
  }

  /// factor · from[order, order] + diag(added), upper triangle, zeros below.
  Matrix arrange(const Matrix& from, std::span<const Index> order, double factor,
                 std::span<const double> added) const {
    const Index n = from.rows();
    Matrix to = zeros(n, n);
    for (Index i = 0; i < n; ++i)
      for (Index j = i; j < n; ++j) {
        const Index a = order[std::size_t(i)], b = order[std::size_t(j)];
        to(i, j) = factor * from((std::min)(a, b), (std::max)(a, b)) +
                   (i == j ? added[std::size_t(i)] : 0.0);
      }
    return to;
  }

  /// h = R·Rᵀ in place, R upper triangular, zeros below: the position of the pivot that failed, or
  /// -1.
  Index factorize(Matrix& h) const {
    for (Index k = h.rows() - 1; k >= 0; --k) {
      const double original = h(k, k);
      double pivot = original;
      for (Index l = k + 1; l < h.rows(); ++l) pivot -= h(k, l) * h(k, l);
      if (!(pivot > std::numeric_limits<double>::epsilon() * original)) return k;
      h(k, k) = std::sqrt(pivot);
      for (Index i = 0; i < k; ++i) {
        double x = h(i, k);
        for (Index l = k + 1; l < h.rows(); ++l) x -= h(i, l) * h(k, l);
        h(i, k) = x / h(k, k);
      }
    }
    return -1;
  }

  /// arrange and factorize in double precision; R goes to `r`.
  Index factorize_in_double(const Matrix& from, std::span<const Index> order, double factor,
                            std::span<const double> added, Matrix& r) const {
    r = arrange(from, order, factor, added);
    return factorize(r);
  }

  /// R⁻¹ of an upper triangular R.
  Matrix invert_triangular(const Matrix& r) const {
    const Index n = r.rows();
    Matrix x = zeros(n, n);
    for (Index c = 0; c < n; ++c)
      for (Index j = c; j >= 0; --j) {
        x(j, c) = j == c ? 1 : 0;
        for (Index k = j + 1; k <= c; ++k) x(j, c) -= r(j, k) * x(k, c);
        x(j, c) /= r(j, j);
      }
    return x;
  }

  /// Explicit Schur complements: the smallest diagonal element goes last.
  std::vector<Index> pivot_order(const Matrix& h) const {
    const Index n = h.rows();
    Matrix a(n, n);
    for (Index i = 0; i < n; ++i)
      for (Index j = 0; j < n; ++j) a(i, j) = h((std::min)(i, j), (std::max)(i, j));
    std::vector<Index> left(static_cast<std::size_t>(n)), order(left.size());
    std::iota(left.begin(), left.end(), Index{0});
    for (Index p = n - 1; p >= 0; --p) {
      auto smallest = left.begin();  // the last of equal ones: ties keep the natural order
      for (auto i = left.begin(); i != left.end(); ++i)
        if (a(*i, *i) <= a(*smallest, *smallest)) smallest = i;
      const Index k = *smallest;
      left.erase(smallest);
      order[std::size_t(p)] = k;
      if (!(a(k, k) > 0)) continue;
      for (const Index i : left)
        for (const Index j : left) a(i, j) -= a(i, k) * a(k, j) / a(k, k);
    }
    return order;
  }

  /// job(i) for independent jobs.
  template <class F>
  void for_each(Index jobs, F&& job) const {
    for (Index i = 0; i < jobs; ++i) job(i);
  }

  /// What a weight [rows, cols] takes.
  Footprint footprint(Index rows, Index cols, const Params& /*params*/) const {
    return {.panel_rows = rows, .scratch_bytes = cols * Index(sizeof(double))};
  }

  /// panel(worker, first row, rows) for the panels that make up all rows.
  template <class F>
  void for_panels(Index rows, F&& panel) const {
    Worker worker;
    panel(worker, Index{0}, rows);
  }
};

}  // namespace gptq::backend
