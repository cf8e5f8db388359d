// SPDX-License-Identifier: MIT
#pragma once

// Optimal Brain Quantization: GPTQ's direct ancestor, row by row, with a choice of the next weight.

#include <gptq/baseline/inverse_hessian.hpp>

#include <limits>
#include <span>

namespace gptq::baseline {

/// A weight rounded to its grid.
struct Rounded {
  Dense weight;     ///< [rows, n]
  double loss = 0;  ///< tr(ΔW·H·ΔWᵀ)
};

/// OBQ (Frantar, Singh, Alistarh 2022): of the remaining weights, the one with the smallest
/// (w_q − round(w_q))² / [H⁻¹]_qq is rounded, and the others compensate. n³ operations per row.
///
/// \param weight   [rows, n]
/// \param hessian  [n, n], damped
/// \param round    round(row, column, value): the nearest number on that grid
/// \param order    a fixed order of the columns, which makes it GPTQ; empty: greedy
/// \throws InvalidArgument  the Hessian does not fit the weight, or the order is not a permutation
/// \throws NumericalError   the Hessian is not positive definite
template <class Round>
Rounded optimal_brain_quantize(MatrixView<const double> weight, MatrixView<const double> hessian,
                               const Round& round, std::span<const Index> order = {}) {
  require_fits(weight, hessian);
  const Index n = weight.cols();
  gptq::detail::require(order.empty() || static_cast<Index>(order.size()) == n, "an order of ",
                        order.size(), " columns for ", n);
  Rounded result{copy_of(weight)};
  const InverseHessian full(hessian);
  for (Index r = 0; r < weight.rows(); ++r) {
    InverseHessian inverse(full);
    double* row = result.weight.row(r);
    for (Index step = 0; step < n; ++step) {
      Index best = order.empty() ? -1 : order[std::size_t(step)];
      double least = std::numeric_limits<double>::infinity();
      if (order.empty())
        for (Index q = 0; q < n; ++q) {
          if (!inverse.free(q)) continue;
          const double error = row[q] - round(r, q, row[q]);
          const double cost = error * error / inverse(q, q);
          if (cost < least) least = cost, best = q;
        }
      result.loss += inverse.set(row, best, round(r, best, row[best]));
    }
  }
  return result;
}

}  // namespace gptq::baseline
