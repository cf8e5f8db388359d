// SPDX-License-Identifier: MIT
#pragma once

// Eigen matrices as views, without a copy, and quantized matrices as Eigen matrices.

#include <gptq/quantized_matrix.hpp>

#include <Eigen/Core>

namespace gptq {

/// A view of any Eigen matrix, map or block that has its numbers in memory, in either storage
/// order.
template <class Derived>
auto view(const Eigen::DenseBase<Derived>& matrix) {
  static_assert((Derived::Flags & Eigen::DirectAccessBit) != 0,
                "gptq: view() needs a matrix, a map or a block: evaluate an expression first, it "
                "has no numbers in memory");
  return detail::view_of(matrix.derived());
}

/// Deleted: a temporary would be gone before the view is used.
template <class Derived>
void view(const Eigen::PlainObjectBase<Derived>&& matrix) = delete;

/// The dequantized weights of a quantized matrix, [rows, cols].
template <class S>
Eigen::MatrixXf to_eigen(const QuantizedMatrix<S>& quantized) {
  Eigen::MatrixXf out(quantized.rows(), quantized.cols());
  quantized.dequantize({out.data(), out.rows(), out.cols(), 1, out.rows()});
  return out;
}

}  // namespace gptq
