// SPDX-License-Identifier: MIT
#pragma once

// GPTQ as the paper describes it, in plain double-precision loops with an explicit inverse at every
// step: rounds the columns in the given order and spreads each error over the remaining columns
// (OBQ with a fixed order). Slow, and shares no code with the library: the oracle for the codes.

#include "layer.hpp"

#include <functional>
#include <vector>

namespace test {

/// Inverse of a symmetric positive definite matrix by Gauss-Jordan elimination.
inline Matrix inverse(Matrix a) {
  const Index n = a.rows;
  Matrix b(n, n);
  for (Index i = 0; i < n; ++i) b(i, i) = 1;
  for (Index k = 0; k < n; ++k) {
    Index pivot = k;
    for (Index r = k + 1; r < n; ++r)
      if (std::abs(a(r, k)) > std::abs(a(pivot, k))) pivot = r;
    for (Index c = 0; c < n; ++c) {
      std::swap(a(k, c), a(pivot, c));
      std::swap(b(k, c), b(pivot, c));
    }
    const double scale = 1 / a(k, k);
    for (Index c = 0; c < n; ++c) a(k, c) *= scale, b(k, c) *= scale;
    for (Index r = 0; r < n; ++r) {
      if (r == k) continue;
      const double f = a(r, k);
      for (Index c = 0; c < n; ++c) a(r, c) -= f * a(k, c), b(r, c) -= f * b(k, c);
    }
  }
  return b;
}

/// \param damped  H + λI, in the weight's own column order
/// \param order   columns in the order in which they are rounded
/// \param round   round(weight, row, column, value): the rounded weight; `weight` as compensated by
///                then
inline Matrix paper_gptq_in_view(
    Matrix weight, const Matrix& damped, const std::vector<Index>& order,
    const std::function<double(const Matrix&, Index, Index, double)>& round) {
  const auto n = static_cast<Index>(order.size());
  Matrix out(weight.rows, n);
  for (Index step = 0; step < n; ++step) {
    Matrix rest(n - step, n - step);
    for (Index i = step; i < n; ++i)
      for (Index j = step; j < n; ++j)
        rest(i - step, j - step) =
            damped(order[static_cast<std::size_t>(i)], order[static_cast<std::size_t>(j)]);
    const Matrix inv = inverse(rest);
    const Index column = order[static_cast<std::size_t>(step)];
    for (Index r = 0; r < weight.rows; ++r) {
      out(r, column) = round(weight, r, column, weight(r, column));
      const double error = (weight(r, column) - out(r, column)) / inv(0, 0);
      for (Index j = step + 1; j < n; ++j)
        weight(r, order[static_cast<std::size_t>(j)]) -= error * inv(0, j - step);
    }
  }
  return out;
}

/// \param round   round(row, column, value): the rounded weight
inline Matrix paper_gptq(Matrix weight, const Matrix& damped, const std::vector<Index>& order,
                         const std::function<double(Index, Index, double)>& round) {
  return paper_gptq_in_view(
      std::move(weight), damped, order,
      [&](const Matrix&, Index r, Index c, double value) { return round(r, c, value); });
}

/// H with a fraction of its mean diagonal added, as with Params::damping.
inline Matrix damped(const Layer& layer, double fraction = 0.01) {
  Matrix h = hessian_of(layer);
  double mean = 0;
  for (Index i = 0; i < h.rows; ++i) mean += h(i, i) / static_cast<double>(h.rows);
  for (Index i = 0; i < h.rows; ++i) h(i, i) += fraction * mean;
  return h;
}

/// round(row, column, value): the nearest number on the grid that `q` has there. `q` must outlive
/// it.
template <class S>
auto round_on_grids_of(const gptq::QuantizedMatrix<S>& q) {
  return [&q](Index r, Index c, double x) {
    const Index g = q.group_index()[static_cast<std::size_t>(c)];
    const gptq::scheme::Grid<double> grid{static_cast<double>(q.scales()(r, g)),
                                          static_cast<double>(q.zeros()(r, g))};
    return q.scheme().decode(q.scheme().encode(x, grid), grid);
  };
}

}  // namespace test
