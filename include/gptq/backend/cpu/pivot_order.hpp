// SPDX-License-Identifier: MIT
#pragma once

// Order::min_pivot: which column to round last, second to last, and so on. A blocked Cholesky
// factorization that picks the smallest pivot, in double precision because that is the unstable
// direction. Ties keep the natural order.

#include <gptq/backend/cpu/packed_product.hpp>
#include <gptq/backend/host/matrix.hpp>
#include <gptq/config.hpp>

#include <algorithm>  // std::reverse
#include <cmath>      // std::sqrt
#include <utility>    // std::as_const
#include <vector>

namespace gptq::backend {
inline namespace GPTQ_SIMD {
namespace cpu {

/// The column solved at each position.
/// \param h  symmetric, upper triangle; overwritten
template <class Executor>
std::vector<Index> min_pivot_order(const Executor& executor, HostMatrix<double>& h) {
  constexpr Index width = 64, strip = 128;
  const Index n = h.rows();
  for (Index i = 0; i < n; ++i)
    for (Index j = 0; j < i; ++j) h(i, j) = h(j, i);
  std::vector<double> pivot(static_cast<std::size_t>(n));
  for (Index i = 0; i < n; ++i) pivot[std::size_t(i)] = h(i, i);
  std::vector<bool> picked(static_cast<std::size_t>(n), false);
  std::vector<Index> order;
  HostMatrix<double> factor(width, n);  // rows of Lᵀ not yet subtracted from h
  for (Index done = 0; done < n; done += width) {
    const Index count = (std::min)(width, n - done);
    for (Index k = 0; k < count; ++k) {
      Index best = -1;
      for (Index j = 0; j < n; ++j)
        if (!picked[std::size_t(j)] &&
            (best < 0 || pivot[std::size_t(j)] <= pivot[std::size_t(best)]))
          best = j;
      picked[std::size_t(best)] = true;
      order.push_back(best);
      // l = (H − earlier columns)_best / √pivot; a pivot lost to rounding carries nothing on.
      const double p = pivot[std::size_t(best)], root = p > 0 ? 1 / std::sqrt(p) : 0;
      double* row = factor.row(k);
      std::copy_n(h.row(best), n, row);
      for (Index i = 0; i < k; ++i) {
        const double* earlier = factor.row(i);
        const double at_best = earlier[best];
        for (Index j = 0; j < n; ++j) row[j] -= at_best * earlier[j];
      }
      for (Index j = 0; j < n; ++j)
        row[j] = picked[std::size_t(j)] && j != best ? 0 : row[j] * root;
      for (Index j = 0; j < n; ++j) pivot[std::size_t(j)] -= row[j] * row[j];
    }
    executor.parallel_for((n + strip - 1) / strip, [&](Index i) {
      const Index first = i * strip, rows = (std::min)(strip, n - first);
      const auto rest = std::as_const(factor).view().middle_rows(0, count);
      add_product<Sign::minus, double>(h.view().middle_rows(first, rows),
                                       rest.middle_cols(first, rows), rest);
    });
  }
  std::reverse(order.begin(), order.end());
  return order;
}

}  // namespace cpu
}  // namespace GPTQ_SIMD
}  // namespace gptq::backend
