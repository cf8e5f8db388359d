// SPDX-License-Identifier: MIT
#pragma once

// A sketch of the factor: a few directions P that stand for all of R, so that ‖A·P‖² estimates
// ‖A·R‖² = tr(A·H·Aᵀ) at a fraction of the work.
//
// It holds the directions in which R is large exactly and mixes the rest with random signs, so that
// its square has the right mean (Meyer, Musco, Musco, Woodruff, "Hutch++", 2021, but with a basis
// that depends on R alone and serves all A).

#include <gptq/backend/concept.hpp>

#include <algorithm>  // std::copy_n
#include <cmath>      // std::sqrt
#include <cstdint>
#include <numeric>  // std::accumulate
#include <vector>

namespace gptq {

namespace detail {

/// A matrix on the host, stored by column.
class Directions {
 public:
  Directions(Index rows, Index cols) : rows_(rows), cols_(cols), data_(std::size_t(rows * cols)) {}

  Index rows() const { return rows_; }
  Index cols() const { return cols_; }
  double* column(Index c) { return data_.data() + c * rows_; }
  const double* column(Index c) const { return data_.data() + c * rows_; }
  MatrixView<double> view() { return {data_.data(), rows_, cols_, 1, rows_}; }
  MatrixView<const double> view() const { return {data_.data(), rows_, cols_, 1, rows_}; }

  /// Random signs, the same each time.
  void fill_with_signs(std::uint32_t seed) {
    for (double& x : data_) {
      seed = seed * 1664525u + 1013904223u;
      x = seed >> 31 ? 1 : -1;
    }
  }

  /// x ← x − Q·Qᵀ·x for the first `count` columns of an orthonormal Q.
  static void remove(const Directions& q, Index count, double* x) {
    for (Index k = 0; k < count; ++k) {
      const double* const direction = q.column(k);
      const double share = dot(direction, x, q.rows_);
      for (Index i = 0; i < q.rows_; ++i) x[i] -= share * direction[i];
    }
  }

  /// Gram-Schmidt, twice; linearly dependent columns become zero.
  void orthonormalize() {
    for (Index c = 0; c < cols_; ++c) {
      double* const x = column(c);
      const double before = norm(x);
      remove(*this, c, x);
      remove(*this, c, x);
      const double after = norm(x);
      const double scale = after > 1e-6 * before ? 1 / after : 0;
      for (Index i = 0; i < rows_; ++i) x[i] *= scale;
    }
  }

 private:
  static double dot(const double* x, const double* y, Index count) {
    constexpr Index side_by_side = 16;  // independent sums need not wait for each other
    double partial[side_by_side] = {};
    Index i = 0;
    for (; i + side_by_side <= count; i += side_by_side)
      for (Index k = 0; k < side_by_side; ++k) partial[k] += x[i + k] * y[i + k];
    for (; i < count; ++i) partial[i % side_by_side] += x[i] * y[i];
    return std::accumulate(partial, partial + side_by_side, 0.0);
  }
  double norm(const double* x) const { return std::sqrt(dot(x, x, rows_)); }

  Index rows_, cols_;
  std::vector<double> data_;
};

}  // namespace detail

/// The sketch P of a factor.
/// \param r  upper triangular, zeros below, [n, n]
/// \return   P [n, sketch_directions]
template <backend::Backend B>
typename B::Matrix sketch(const B& backend, const typename B::Matrix& r) {
  using detail::Directions;
  constexpr Index exact = sketch_directions / 2, mixed = sketch_directions - exact;
  const Index n = r.rows();
  using Matrix = typename B::Matrix;
  const auto multiply = [&](const Directions& x, const auto& product) {
    const Matrix from = backend.upload(x.view());
    Matrix to = backend.zeros(n, x.cols());
    backend.for_panels(n, [&](const auto& worker, Index first, Index rows) {
      product(worker, to, first, rows, from);
    });
    Directions y(n, x.cols());
    backend.download(to, y.view());
    return y;
  };
  const auto forward = [&](const auto& worker, Matrix& to, Index first, Index rows,
                           const Matrix& from) { worker.multiply(to, first, rows, r, from); };
  const auto backward = [&](const auto& worker, Matrix& to, Index first, Index rows,
                            const Matrix& from) {
    worker.propagate(to, first, rows, r, from, 0, first + rows);
  };
  // Rᵀ turns random directions towards those in which R is large.
  Directions q(n, exact);
  q.fill_with_signs(1);
  q = multiply(q, backward);
  q.orthonormalize();
  Directions all(n, sketch_directions);
  all.fill_with_signs(2);
  for (Index c = 0; c < sketch_directions; ++c) {
    double* const x = all.column(c);
    if (c < exact) {
      std::copy_n(q.column(c), n, x);
      continue;
    }
    Directions::remove(q, exact, x);
    for (Index i = 0; i < n; ++i) x[i] /= std::sqrt(static_cast<double>(mixed));
  }
  return backend.upload(MatrixView<const double>(multiply(all, forward).view()));
}

}  // namespace gptq
