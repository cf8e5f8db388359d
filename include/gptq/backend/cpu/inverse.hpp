// SPDX-License-Identifier: MIT
#pragma once

// R⁻¹ of an upper triangular R, for the paper's solver: strips of columns, independent of each
// other.

#include <gptq/backend/cpu/maps.hpp>
#include <gptq/backend/cpu/packed_product.hpp>
#include <gptq/backend/host/matrix.hpp>
#include <gptq/config.hpp>

#include <Eigen/Core>

#include <algorithm>  // std::min
#include <utility>    // std::as_const

namespace gptq::backend {
inline namespace GPTQ_SIMD {
namespace cpu {

/// X with R·X = I, upper triangular, zeros below. Column strip [c, c + w) of X is zero from row
/// c + w on; its blocks are found from the last to the first: X_b = R_bb⁻¹·(I_b − Σ_{k>b}
/// R_bk·X_k).
template <class Executor, class Scalar>
HostMatrix<Scalar> inverse(const Executor& executor, const HostMatrix<Scalar>& r) {
  constexpr Index width = 128;
  const Index n = r.rows(), strips = (n + width - 1) / width;
  auto x = HostMatrix<Scalar>::zeros(n, n);
  executor.parallel_for(strips, [&](Index i) {
    const Index strip = strips - 1 - i;  // the longest first
    const Index col = strip * width, cols = (std::min)(width, n - col);
    for (Index j = col; j < col + cols; ++j) x(j, j) = 1;
    for (Index b = strip; b >= 0; --b) {
      const Index row = b * width, rows = (std::min)(width, n - row), behind = row + rows;
      auto out = block(x, row, col, rows, cols);
      if (behind < col + cols)
        add_product<Sign::minus, Scalar>(
            x.view().block(row, col, rows, cols),
            r.view().block(row, behind, rows, col + cols - behind).transposed(),
            std::as_const(x).view().block(behind, col, col + cols - behind, cols));
      block(r, row, row, rows, rows).template triangularView<Eigen::Upper>().solveInPlace(out);
    }
  });
  return x;
}

}  // namespace cpu
}  // namespace GPTQ_SIMD
}  // namespace gptq::backend
