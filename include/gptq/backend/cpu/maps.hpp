// SPDX-License-Identifier: MIT
#pragma once

// Blocks of row-major matrices as Eigen sees them.

#include <gptq/backend/host/matrix.hpp>
#include <gptq/config.hpp>

#include <Eigen/Core>

namespace gptq::backend {
inline namespace GPTQ_SIMD {
namespace cpu {

/// A row-major Eigen matrix.
template <class Scalar>
using RowMajor = Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// A row-major matrix in memory as Eigen sees it.
template <class Scalar>
using Map = Eigen::Map<RowMajor<Scalar>, 0, Eigen::OuterStride<>>;
/// The same, to read.
template <class Scalar>
using ConstMap = Eigen::Map<const RowMajor<Scalar>, 0, Eigen::OuterStride<>>;

/// A view as Eigen sees it; its rows must be contiguous.
template <class Scalar>
Map<Scalar> map(MatrixView<Scalar> view) {
  return {view.data(), view.rows(), view.cols(), Eigen::OuterStride<>(view.row_stride())};
}
/// The same, to read.
template <class Scalar>
ConstMap<Scalar> map(MatrixView<const Scalar> view) {
  return {view.data(), view.rows(), view.cols(), Eigen::OuterStride<>(view.row_stride())};
}

/// A block of a matrix as Eigen sees it.
template <class Scalar>
Map<Scalar> block(HostMatrix<Scalar>& matrix, Index row, Index col, Index rows, Index cols) {
  return map(matrix.view().block(row, col, rows, cols));
}
/// The same, to read.
template <class Scalar>
ConstMap<Scalar> block(const HostMatrix<Scalar>& matrix, Index row, Index col, Index rows,
                       Index cols) {
  return map(matrix.view().block(row, col, rows, cols));
}

}  // namespace cpu
}  // namespace GPTQ_SIMD
}  // namespace gptq::backend
