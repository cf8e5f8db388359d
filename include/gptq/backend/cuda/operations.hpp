// SPDX-License-Identifier: MIT
#pragma once

// The matrix operations of cuBLAS and cuSOLVER in terms of row-major matrices, which those
// libraries read as transposes.

#include <gptq/backend/cuda/copies.hpp>
#include <gptq/core/half.hpp>

#include <algorithm>  // std::min
#include <cmath>      // std::isfinite
#include <limits>
#include <span>
#include <type_traits>
#include <vector>

namespace gptq::backend::cuda {

/// A block of a matrix.
template <class T>
MatrixView<T> part(DeviceMatrix<T>& m, Index row, Index col, Index rows, Index cols) {
  return {m.row(row) + col, rows, cols, m.cols(), 1};
}
/// The same, to read.
template <class T>
MatrixView<const T> part(const DeviceMatrix<T>& m, Index row, Index col, Index rows, Index cols) {
  return {m.row(row) + col, rows, cols, m.cols(), 1};
}

/// The type as cuBLAS names it.
template <class T>
constexpr cudaDataType_t data_type = std::is_same_v<T, float>      ? CUDA_R_32F
                                     : std::is_same_v<T, double>   ? CUDA_R_64F
                                     : std::is_same_v<T, bfloat16> ? CUDA_R_16BF
                                                                   : CUDA_R_16F;

/// A dimension as the int that cuBLAS takes.
/// \throws InvalidArgument  it is too large
inline int small(Index size) {
  detail::require(size <= std::numeric_limits<int>::max(), "a matrix dimension of ", size,
                  " is too large for cuBLAS");
  return static_cast<int>(size);
}

/// out += leftᵀ·right, sums in single precision: left [depth, rows], right [depth, cols], out
/// [rows, cols], rows contiguous. Single products of 16-bit numbers are exact.
template <class T>
void add_product(const Runtime& runtime, MatrixView<float> out, MatrixView<const T> left,
                 MatrixView<const T> right) {
  if (out.empty() || left.rows() == 0) return;
  const float one = 1;
  // Read as transposes: outᵀ += rightᵀ·left.
  check(
      cublasGemmEx(runtime.blas(), CUBLAS_OP_N, CUBLAS_OP_T, small(out.cols()), small(out.rows()),
                   small(left.rows()), &one, right.data(), data_type<T>, small(right.row_stride()),
                   left.data(), data_type<T>, small(left.row_stride()), &one, out.data(),
                   CUDA_R_32F, small(out.row_stride()), CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
      "cublasGemmEx");
}

/// The same in single precision, for views that convert.
inline void add_product(const Runtime& runtime, MatrixView<float> out, MatrixView<const float> left,
                        MatrixView<const float> right) {
  add_product<float>(runtime, out, left, right);
}

/// Strides from one product to the next, in elements.
struct Steps {
  /// Of each matrix.
  Index out, left, right;
};

/// The same for `count` products at once.
template <class T>
void add_products(const Runtime& runtime, MatrixView<float> out, MatrixView<const T> left,
                  MatrixView<const T> right, Index count, const Steps& steps) {
  if (out.empty() || left.rows() == 0) return;
  if (count == 1) return add_product(runtime, out, left, right);
  const float one = 1;
  check(cublasGemmStridedBatchedEx(runtime.blas(), CUBLAS_OP_N, CUBLAS_OP_T, small(out.cols()),
                                   small(out.rows()), small(left.rows()), &one, right.data(),
                                   data_type<T>, small(right.row_stride()), steps.right,
                                   left.data(), data_type<T>, small(left.row_stride()), steps.left,
                                   &one, out.data(), CUDA_R_32F, small(out.row_stride()), steps.out,
                                   small(count), CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
        "cublasGemmStridedBatchedEx");
}

/// y = x·wᵀ, or y += x·wᵀ with `add`: x [rows, depth], w [cols, depth], y [rows, cols], rows
/// contiguous, sums in single precision.
template <class T>
void multiply_transposed(const Runtime& runtime, MatrixView<float> y, MatrixView<const T> x,
                         MatrixView<const T> w, bool add) {
  if (y.empty()) return;
  const float one = 1, keep = add ? 1.0f : 0.0f;
  // Read as transposes: yᵀ = w·xᵀ.
  check(cublasGemmEx(runtime.blas(), CUBLAS_OP_T, CUBLAS_OP_N, small(y.cols()), small(y.rows()),
                     small(x.cols()), &one, w.data(), data_type<T>, small(w.row_stride()), x.data(),
                     data_type<T>, small(x.row_stride()), &keep, y.data(), CUDA_R_32F,
                     small(y.row_stride()), CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
        "cublasGemmEx");
}

/// Whether R or Rᵀ is applied to a panel's matrix m, whose rows are positions.
enum class Factor {
  plain,       ///< mᵀ·R, or mᵀ·R⁻¹
  transposed,  ///< mᵀ·Rᵀ, or mᵀ·R⁻ᵀ
};

/// mᵀ ← mᵀ·op(R)⁻¹ in place, R upper triangular.
inline void solve_triangular(const Runtime& runtime, Factor which, MatrixView<const float> r,
                             MatrixView<float> m) {
  if (m.empty()) return;
  const float one = 1;
  // cuBLAS sees mᵀ and Rᵀ, which is lower triangular.
  check(cublasStrsm(runtime.blas(), CUBLAS_SIDE_RIGHT, CUBLAS_FILL_MODE_LOWER,
                    which == Factor::plain ? CUBLAS_OP_T : CUBLAS_OP_N, CUBLAS_DIAG_NON_UNIT,
                    small(m.cols()), small(m.rows()), &one, r.data(), small(r.row_stride()),
                    m.data(), small(m.row_stride())),
        "cublasStrsm");
}

/// out -= op(r)·m for `count` of them at once: plain: r [depth, rows], transposed: r [rows, depth];
/// m [depth, cols], out [rows, cols].
inline void subtract_products(const Runtime& runtime, Factor which, MatrixView<float> out,
                              MatrixView<const float> r, MatrixView<const float> m, Index count,
                              const Steps& steps) {
  if (out.empty() || m.rows() == 0) return;
  const float one = 1, minus = -1;
  // Read as transposes: outᵀ -= mᵀ·op(r)ᵀ.
  check(cublasGemmStridedBatchedEx(
            runtime.blas(), CUBLAS_OP_N, which == Factor::plain ? CUBLAS_OP_T : CUBLAS_OP_N,
            small(out.cols()), small(out.rows()), small(m.rows()), &minus, m.data(), CUDA_R_32F,
            small(m.row_stride()), steps.right, r.data(), CUDA_R_32F, small(r.row_stride()),
            steps.left, &one, out.data(), CUDA_R_32F, small(out.row_stride()), steps.out,
            small(count), CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
        "cublasGemmStridedBatchedEx");
}

/// solve_triangular for `count` of them at once, each with a factor of its own.
inline void solve_triangular_all(const std::shared_ptr<Runtime>& runtime, Factor which,
                                 MatrixView<const float> r, MatrixView<float> m, Index count,
                                 Index next_r, Index next_m) {
  if (m.empty()) return;
  if (count == 1) return solve_triangular(*runtime, which, r, m);
  constexpr Index block = 512;  // the size that cuBLAS's batched trsm is fast for
  const Index n = r.rows(), blocks = (n + block - 1) / block;
  const bool plain = which == Factor::plain;
  for (Index step = 0; step < blocks; ++step) {
    const Index first = (plain ? step : blocks - 1 - step) * block,
                last = (std::min)(first + block, n), size = last - first;
    const MatrixView<float> mine = m.middle_rows(first, size);
    const MatrixView<const float> solved =
        plain ? m.middle_rows(0, first) : m.middle_rows(last, n - last);
    const auto between =
        plain ? r.block(0, first, first, size) : r.block(first, last, size, n - last);
    subtract_products(*runtime, which, mine, between, solved, count, {next_m, next_r, next_m});
    std::vector<const float*> factors;
    std::vector<float*> places;
    for (Index i = 0; i < count; ++i) {
      factors.push_back(&r(first, first) + i * next_r);
      places.push_back(mine.data() + i * next_m);
    }
    const auto on_device = to_device_vector(runtime, std::span<const float* const>(factors));
    const auto to = to_device_vector(runtime, std::span<float* const>(places));
    const float one = 1;
    check(cublasStrsmBatched(runtime->blas(), CUBLAS_SIDE_RIGHT, CUBLAS_FILL_MODE_LOWER,
                             plain ? CUBLAS_OP_T : CUBLAS_OP_N, CUBLAS_DIAG_NON_UNIT,
                             small(m.cols()), small(size), &one, on_device.data(),
                             small(r.row_stride()), to.data(), small(m.row_stride()), small(count)),
          "cublasStrsmBatched");
  }
}

/// out += a·b
inline void add_plain_product(const Runtime& runtime, MatrixView<float> out,
                              MatrixView<const float> a, MatrixView<const float> b) {
  if (out.empty()) return;
  const float one = 1;
  // Read as transposes: outᵀ += bᵀ·aᵀ.
  check(cublasGemmEx(runtime.blas(), CUBLAS_OP_N, CUBLAS_OP_N, small(out.cols()), small(out.rows()),
                     small(b.rows()), &one, b.data(), CUDA_R_32F, small(b.row_stride()), a.data(),
                     CUDA_R_32F, small(a.row_stride()), &one, out.data(), CUDA_R_32F,
                     small(out.row_stride()), CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
        "cublasGemmEx");
}

/// The last position whose pivot is lost to rounding, or -1, from the diagonals of H and R.
template <class T>
Index lost_pivot(const std::vector<double>& before, const std::vector<double>& roots) {
  for (Index k = static_cast<Index>(roots.size()) - 1; k >= 0; --k) {
    const double pivot = roots[std::size_t(k)] * roots[std::size_t(k)];
    const double least = std::numeric_limits<T>::epsilon() * before[std::size_t(k)];
    if (!(pivot > least) || !std::isfinite(pivot)) return k;
  }
  return -1;
}

/// The Cholesky factorization of a row-major lower triangle in place, m = L·Lᵀ.
/// \return  the first position whose pivot is not positive, or -1
template <class T>
Index cholesky(const std::shared_ptr<Runtime>& runtime, DeviceMatrix<T>& m) {
  const Index n = m.rows();
  std::size_t on_device = 0, on_host = 0;
  const cublasFillMode_t upper = CUBLAS_FILL_MODE_UPPER;  // of the transpose
  check(cusolverDnXpotrf_bufferSize(runtime->solver(), runtime->solver_options(), upper, n,
                                    data_type<T>, m.data(), n, data_type<T>, &on_device, &on_host),
        "cusolverDnXpotrf_bufferSize");
  DeviceMatrix<std::uint8_t> workspace(runtime, 1, static_cast<Index>(on_device));
  std::vector<std::uint8_t> host_workspace(on_host);
  auto info = DeviceMatrix<int>::zeros(runtime, 1, 1);
  check(cusolverDnXpotrf(runtime->solver(), runtime->solver_options(), upper, n, data_type<T>,
                         m.data(), n, data_type<T>, workspace.data(), on_device,
                         host_workspace.data(), on_host, info.data()),
        "cusolverDnXpotrf");
  const int failed = to_vector(*runtime, info).front();
  detail::require<CudaError>(failed >= 0, "cusolverDnXpotrf: argument ", -failed, " is invalid");
  return failed - 1;
}

/// The same for stacked matrices, in single precision.
/// \return  for each, the first position whose pivot is not positive, or -1
inline std::vector<Index> cholesky_of_all(const std::shared_ptr<Runtime>& runtime,
                                          DeviceMatrix<float>& stack) {
  const Index n = stack.cols(), matrices = stack.rows() / n;
  std::vector<float*> places;
  for (Index i = 0; i < matrices; ++i) places.push_back(stack.row(i * n));
  auto pointers = to_device_vector(runtime, std::span<float* const>(places));
  auto info = DeviceMatrix<int>::zeros(runtime, 1, matrices);
  check(cusolverDnSpotrfBatched(runtime->solver(), CUBLAS_FILL_MODE_UPPER, small(n),
                                pointers.data(), small(n), info.data(), small(matrices)),
        "cusolverDnSpotrfBatched");
  std::vector<Index> failed;
  for (const int status : to_vector(*runtime, info)) {
    detail::require<CudaError>(status >= 0, "cusolverDnSpotrfBatched: argument ", -status,
                               " is invalid");
    failed.push_back(status - 1);
  }
  return failed;
}

}  // namespace gptq::backend::cuda
