// SPDX-License-Identifier: MIT
#pragma once

// cuda::Batches: operations on several matrices of the same size at once, in one launch.

#include <gptq/backend/cuda/launch.hpp>
#include <gptq/backend/cuda/operations.hpp>

#include <algorithm>  // std::clamp
#include <memory>
#include <span>
#include <utility>  // std::move
#include <vector>

namespace gptq::backend::cuda {

/// Operations on several matrices at once. The matrices of a batch are stacked: [matrices · n, n].
class Batches {
 public:
  using Matrix = DeviceMatrix<float>;  ///< on the device

  /// On the runtime's stream.
  explicit Batches(std::shared_ptr<Runtime> runtime) : runtime_(std::move(runtime)) {}

  /// How many weights [rows, cols] with a Hessian each to take at once.
  Index batch_size(Index rows, Index cols, Solver solver) const {
    const Index factors =
        Index(sizeof(float)) * cols * cols * (solver == Solver::lazy_batch ? 2 : 1);
    const Index one = factors + 12 * cols * padded(rows, solve_threads);
    return std::clamp<Index>(static_cast<Index>(runtime_->available() / 2) / one, 1, 1024);
  }

  /// The diagonals of matrices of the same size.
  std::vector<std::vector<double>> diagonals(std::span<const Matrix* const> matrices) const {
    const DeviceScope scope(runtime_->device());
    std::vector<const float*> places;
    for (const Matrix* matrix : matrices) places.push_back(matrix->data());
    return diagonals_at(places, matrices.front()->rows());
  }

  /// arrange() for several matrices; the result, orders and additions are stacked.
  Matrix arrange_all(std::span<const Matrix* const> from, std::span<const Index> orders,
                     std::span<const double> factors, std::span<const double> added) const {
    const DeviceScope scope(runtime_->device());
    const Index n = from.front()->rows(), matrices = static_cast<Index>(from.size());
    std::vector<const float*> places;
    for (const Matrix* matrix : from) places.push_back(matrix->data());
    const auto pointers = to_device_vector(runtime_, std::span<const float* const>(places));
    const auto order = to_device_vector(runtime_, orders);
    const auto factor = to_device_vector(runtime_, factors),
               more = to_device_vector(runtime_, added);
    Matrix to(runtime_, matrices * n, n);
    cuda::arrange_all(runtime_->stream(), pointers.data(), matrices, n, order.data(), factor.data(),
                      more.data(), to.data());
    return to;
  }

  /// factorize() for stacked matrices: for each, the position whose pivot is lost, or -1, and the
  /// diagonal of R.
  std::vector<Index> factorize_all(Matrix& stack,
                                   std::vector<std::vector<double>>& diagonals_of_r) const {
    const DeviceScope scope(runtime_->device());
    const Index n = stack.cols(), matrices = stack.rows() / n;
    std::vector<const float*> places;
    for (Index i = 0; i < matrices; ++i) places.push_back(stack.row(i * n));
    const auto before = diagonals_at(places, n);
    cuda::reverse(runtime_->stream(), stack.data(), n * n, matrices);
    std::vector<Index> failed = cholesky_of_all(runtime_, stack);
    cuda::reverse(runtime_->stream(), stack.data(), n * n, matrices);
    cuda::clear_lower(runtime_->stream(), stack.data(), n, matrices);  // cuSOLVER's workspace
    diagonals_of_r = diagonals_at(places, n);
    for (std::size_t i = 0; i < failed.size(); ++i)
      failed[i] =
          failed[i] >= 0 ? n - 1 - failed[i] : lost_pivot<float>(before[i], diagonals_of_r[i]);
    return failed;
  }

  /// Matrix `at` of a stack.
  Matrix copy_of(const Matrix& stack, Index at) const {
    const DeviceScope scope(runtime_->device());
    Matrix one(runtime_, stack.cols(), stack.cols());
    check(cudaMemcpyAsync(one.data(), stack.row(at * stack.cols()), one.bytes(),
                          cudaMemcpyDeviceToDevice, runtime_->stream()),
          "cudaMemcpyAsync");
    return one;
  }

  /// Replaces factor `at` of a stack.
  void replace(Matrix& stack, Index at, const Matrix& r) const {
    const DeviceScope scope(runtime_->device());
    check(cudaMemcpyAsync(stack.row(at * stack.cols()), r.data(), r.bytes(),
                          cudaMemcpyDeviceToDevice, runtime_->stream()),
          "cudaMemcpyAsync");
  }

  /// invert_triangular() for stacked matrices.
  Matrix invert_all(const Matrix& stack) const {
    const DeviceScope scope(runtime_->device());
    const Index n = stack.cols();
    auto inverse = Matrix::zeros(runtime_, stack.rows(), n);
    cuda::fill_diagonals(runtime_->stream(), 1, n, stack.rows() / n, inverse.data());
    solve_triangular_all(runtime_, Factor::transposed, part(stack, 0, 0, n, n),
                         part(inverse, 0, 0, n, n), stack.rows() / n, n * n, n * n);
    return inverse;
  }

 private:
  /// Diagonals of n x n matrices.
  std::vector<std::vector<double>> diagonals_at(const std::vector<const float*>& matrices,
                                                Index n) const {
    Matrix all(runtime_, static_cast<Index>(matrices.size()), n);
    const auto pointers = to_device_vector(runtime_, std::span<const float* const>(matrices));
    cuda::diagonals(runtime_->stream(), pointers.data(), all.rows(), n, all.data());
    const std::vector<float> values = to_vector(*runtime_, all);
    std::vector<std::vector<double>> result;
    for (Index i = 0; i < all.rows(); ++i)
      result.emplace_back(values.begin() + i * n, values.begin() + (i + 1) * n);
    return result;
  }

  std::shared_ptr<Runtime> runtime_;
};

}  // namespace gptq::backend::cuda
