// SPDX-License-Identifier: MIT
#pragma once

// Pruning, the family's first use: Optimal Brain Damage, Optimal Brain Surgeon and the Optimal
// Brain Compressor. Small and exact, in double precision; for study and as oracles.

#include <gptq/baseline/inverse_hessian.hpp>
#include <gptq/core/params.hpp>

#include <algorithm>  // std::sort
#include <limits>
#include <numeric>  // std::iota

namespace gptq::baseline {

/// A pruned weight.
struct Pruned {
  Dense weight;     ///< [rows, n]
  double loss = 0;  ///< tr(ΔW·H·ΔWᵀ)
};

namespace detail {

inline double loss_of(MatrixView<const double> weight, const Dense& changed,
                      MatrixView<const double> hessian) {
  double loss = 0;
  const Index n = weight.cols();
  for (Index r = 0; r < weight.rows(); ++r)
    for (Index i = 0; i < n; ++i)
      for (Index j = 0; j < n; ++j)
        loss += (weight(r, i) - changed(r, i)) * hessian(i, j) * (weight(r, j) - changed(r, j));
  return loss;
}

}  // namespace detail

/// Optimal Brain Damage (LeCun, Denker, Solla 1990): treats H as diagonal; the saliency of a weight
/// is ½·H_qq·w_q², and the other weights are unchanged.
/// \param weight   [rows, n]
/// \param hessian  [n, n]
/// \param count    weights per row that become zero
inline Pruned prune_obd(MatrixView<const double> weight, MatrixView<const double> hessian,
                        Index count) {
  require_fits(weight, hessian);
  gptq::detail::require(count >= 0 && count <= weight.cols(), "cannot prune ", count, " of ",
                        weight.cols(), " weights per row");
  Pruned result{copy_of(weight)};
  std::vector<Index> order(static_cast<std::size_t>(weight.cols()));
  for (Index r = 0; r < weight.rows(); ++r) {
    const auto saliency = [&](Index q) {
      return 0.5 * hessian(q, q) * weight(r, q) * weight(r, q);
    };
    std::iota(order.begin(), order.end(), Index{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](Index a, Index b) { return saliency(a) < saliency(b); });
    for (Index k = 0; k < count; ++k) result.weight(r, order[std::size_t(k)]) = 0;
  }
  result.loss = detail::loss_of(weight, result.weight, hessian);
  return result;
}

/// Optimal Brain Surgeon (Hassibi, Stork 1993): the weight with the smallest w_q² / (2·[H⁻¹]_qq)
/// becomes zero, all others compensate, and H⁻¹ is recomputed: count·n³ operations per row.
inline Pruned prune_obs(MatrixView<const double> weight, MatrixView<const double> hessian,
                        Index count) {
  require_fits(weight, hessian);
  gptq::detail::require(count >= 0 && count <= weight.cols(), "cannot prune ", count, " of ",
                        weight.cols(), " weights per row");
  Pruned result{copy_of(weight)};
  for (Index r = 0; r < weight.rows(); ++r) {
    double* row = result.weight.row(r);
    std::vector<Index> left(static_cast<std::size_t>(weight.cols()));
    std::iota(left.begin(), left.end(), Index{0});
    for (Index k = 0; k < count; ++k) {
      const auto size = static_cast<Index>(left.size());
      Dense h(size, size), part(1, size);
      for (Index i = 0; i < size; ++i) {
        part(0, i) = row[left[std::size_t(i)]];
        for (Index j = 0; j < size; ++j)
          h(i, j) = hessian(left[std::size_t(i)], left[std::size_t(j)]);
      }
      InverseHessian inverse(h.view());
      Index best = 0;
      for (Index q = 1; q < size; ++q)
        if (part(0, q) * part(0, q) / inverse(q, q) <
            part(0, best) * part(0, best) / inverse(best, best))
          best = q;
      inverse.set(part.row(0), best, 0);
      for (Index i = 0; i < size; ++i) row[left[std::size_t(i)]] = part(0, i);
      left.erase(left.begin() + best);
    }
  }
  result.loss = detail::loss_of(weight, result.weight, hessian);
  return result;
}

/// Optimal Brain Compressor (Frantar, Singh, Alistarh 2022): the same choices, but H⁻¹ is reduced
/// by one step of elimination: n² operations per weight.
/// \param pattern  N:M sparsity: weights are
/// skipped once their pattern has all its zeros
inline Pruned prune_obc(MatrixView<const double> weight, MatrixView<const double> hessian,
                        Index count, Sparsity pattern = {}) {
  require_fits(weight, hessian);
  const Index n = weight.cols();
  gptq::detail::require(pattern.of == 0 || (pattern.of > 0 && n % pattern.of == 0 &&
                                            pattern.zeros >= 0 && pattern.zeros <= pattern.of),
                        "a pattern of ", pattern.zeros, " zeros of ", pattern.of, " for ", n,
                        " inputs: `of` must divide them, and zeros be at most `of`");
  const Index most = pattern.of > 0 ? n / pattern.of * pattern.zeros : n;
  gptq::detail::require(count >= 0 && count <= most, "cannot prune ", count, " of ", n,
                        " weights per row, at most ", most);
  Pruned result{copy_of(weight)};
  const InverseHessian full(hessian);
  for (Index r = 0; r < weight.rows(); ++r) {
    InverseHessian inverse(full);
    double* row = result.weight.row(r);
    std::vector<Index> zeros(static_cast<std::size_t>(pattern.of > 0 ? n / pattern.of : 0));
    for (Index k = 0; k < count; ++k) {
      Index best = -1;
      double least = std::numeric_limits<double>::infinity();
      for (Index q = 0; q < n; ++q) {
        if (!inverse.free(q)) continue;
        if (pattern.of > 0 && zeros[std::size_t(q / pattern.of)] >= pattern.zeros) continue;
        const double saliency = row[q] * row[q] / inverse(q, q);
        if (saliency < least) least = saliency, best = q;
      }
      result.loss += inverse.set(row, best, 0);
      if (pattern.of > 0) ++zeros[std::size_t(best / pattern.of)];
    }
  }
  return result;
}

}  // namespace gptq::baseline
