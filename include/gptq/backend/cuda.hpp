// SPDX-License-Identifier: MIT
#pragma once

// backend::Cuda: matrices in the memory of an NVIDIA GPU, multiplied by cuBLAS, factored by
// cuSOLVER and solved by the same kernels that the CPU runs. Any C++ compiler can use it; link
// gptq::cuda.

#include <gptq/backend/concept.hpp>
#include <gptq/backend/cuda/batches.hpp>
#include <gptq/backend/cuda/operations.hpp>
#include <gptq/backend/cuda/worker.hpp>
#include <gptq/core/precision.hpp>
#include <gptq/exec/threads.hpp>

#include <algorithm>  // std::min_element
#include <cmath>      // std::isfinite
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>  // std::move
#include <vector>

namespace gptq::backend {

/// A handle: copies share the stream, the memory pool and the library handles. Only one thread at a
/// time may use them; another backend on the same device is independent.
///
/// Weights and activations may be on the host or on the device. Data on the device must be complete
/// when it is passed, and stay unchanged until runtime()->synchronize() or the next call that
/// returns numbers; unless its producer shares this backend's stream, which orders the accesses.
class Cuda {
 public:
  using Scalar = float;                        ///< of all computations
  using Matrix = cuda::DeviceMatrix<float>;    ///< in device memory
  using Worker = cuda::Worker;                 ///< solves panels
  static constexpr bool must_be_named = true;  ///< no default: see default_backend

  /// \param stream     null: creates its own; else the caller's, which must outlive all copies
  /// \param precision  of XᵀX from single-precision activations: `split` takes three products of
  ///                   bfloat16 parts, with a relative error of about 4e-6. 16-bit activations are
  ///                   multiplied exactly on tensor cores either way.
  /// \throws CudaError  no device can be used; the message says why
  /// \throws InvalidArgument  there is no such device; the precision is neither single nor split
  explicit Cuda(int device = 0, cudaStream_t stream = nullptr,
                Precision precision = Precision::single)
      : runtime_(std::make_shared<cuda::Runtime>(device, stream)),
        has_bfloat16_(runtime_->has_bfloat16()),
        precision_(has_bfloat16_ ? precision : Precision::single) {
    require_exact_operands(precision);
  }

  /// Its number.
  int device() const { return runtime_->device(); }
  /// The model name of the device.
  std::string name() const { return runtime_->name(); }
  /// In which all work is queued.
  cudaStream_t stream() const { return runtime_->stream(); }
  /// What all copies share.
  const std::shared_ptr<cuda::Runtime>& runtime() const { return runtime_; }

  /// Zeros, [rows, cols].
  Matrix zeros(Index rows, Index cols) const {
    const cuda::DeviceScope scope(device());
    return Matrix::zeros(runtime_, rows, cols);
  }

  /// A copy of a host matrix, any strides.
  template <class T>
  Matrix upload(MatrixView<const T> from) const {
    const cuda::DeviceScope scope(device());
    Matrix matrix(runtime_, from.rows(), from.cols());
    cuda::for_parts_on_device(runtime_, from, [&](MatrixView<const T> some, Index first) {
      cuda::convert(stream(), some, nullptr, matrix.row(first));
    });
    return matrix;
  }

  /// A copy of a host matrix for several readers, if it fits the memory reserved for staging.
  template <class T>
  std::optional<cuda::DeviceMatrix<T>> stage(MatrixView<const T> from) const {
    if (from.empty() || from.size() * Index(sizeof(T)) > cuda::staging_bytes ||
        runtime_->is_on_device(from.data()))
      return std::nullopt;
    const cuda::DeviceScope scope(device());
    return cuda::arriving_copy(runtime_, from);
  }

  /// Copies to the host, any strides.
  template <class T>
  void download(const Matrix& from, MatrixView<T> to) const {
    const cuda::DeviceScope scope(device());
    const cuda::Reading reading(runtime_, from);
    cuda::download(*runtime_, from, to);
  }

  /// The largest magnitude; infinite if an element is not finite.
  template <class T>
  double largest(MatrixView<const T> matrix) const {
    double most = 0;
    for (const float x : largest_of_rows(matrix)) most = (std::max)(most, static_cast<double>(x));
    return most;
  }

  /// One element of a matrix that may be on the device.
  template <class T>
  float element(MatrixView<const T> matrix, Index row, Index col) const {
    T value{};
    cuda::check(cudaMemcpyAsync(&value, &matrix(row, col), sizeof(T), cudaMemcpyDefault, stream()),
                "cudaMemcpyAsync");
    runtime_->synchronize();
    return static_cast<float>(to_float(value));
  }

  /// sum += Xᵀ·diag(token_weights)·X, block by block of the upper triangle; 16-bit activations as
  /// they are, others in single precision or split.
  template <class T>
  void accumulate(Matrix& sum, MatrixView<const T> x, const float* token_weights) const {
    const cuda::DeviceScope scope(device());
    Matrix roots;  // of the weights
    if (token_weights) {
      std::vector<float> root(static_cast<std::size_t>(x.rows()));
      for (std::size_t t = 0; t < root.size(); ++t) root[t] = std::sqrt(token_weights[t]);
      roots = cuda::to_device_vector(runtime_, std::span<const float>(root));
    }
    cuda::for_parts_on_device(runtime_, x, [&](MatrixView<const T> some, Index first) {
      for (Index t = 0; t < some.rows(); t += tokens_at_once) {
        const Index tokens = (std::min)(tokens_at_once, some.rows() - t);
        add_gram_of(sum, some.middle_rows(t, tokens),
                    token_weights ? roots.data() + first + t : nullptr);
      }
    });
  }

  /// sum += aᵀ·b
  void accumulate_cross(Matrix& sum, MatrixView<const float> a, MatrixView<const float> b) const {
    const cuda::DeviceScope scope(device());
    for (Index t = 0; t < a.rows(); t += tokens_at_once) {
      const Index tokens = (std::min)(tokens_at_once, a.rows() - t);
      const Matrix left = upload(a.middle_rows(t, tokens)),
                   right = upload(b.middle_rows(t, tokens));
      cuda::add_product(*runtime_, sum.view(), left.view(), right.view());
    }
  }

  /// sum += other.
  void add(Matrix& sum, const Matrix& other) const {
    const cuda::DeviceScope scope(device());
    const cuda::Reading reading(runtime_, other);
    cuda::sum(stream(), sum.data(), other.data(), sum.size(), sum.data());
  }

  /// The diagonal of a square matrix.
  std::vector<double> diagonal(const Matrix& matrix) const {
    const cuda::DeviceScope scope(device());
    return diagonal_of(matrix);
  }

  /// factor · from[order, order] + diag(added), upper triangle, zeros below.
  Matrix arrange(const Matrix& from, std::span<const Index> order, double factor,
                 std::span<const double> added) const {
    const cuda::DeviceScope scope(device());
    return arrange_as<float>(from, order, factor, added);
  }

  /// h = R·Rᵀ in place, R upper triangular, zeros below: the position of the pivot that failed, or
  /// -1.
  Index factorize(Matrix& h) const {
    const cuda::DeviceScope scope(device());
    return factor(h);
  }

  /// arrange and factorize in double precision; R goes to `r`.
  Index factorize_in_double(const Matrix& from, std::span<const Index> order, double scale,
                            std::span<const double> added, Matrix& r) const {
    const cuda::DeviceScope scope(device());
    auto exact = arrange_as<double>(from, order, scale, added);
    const Index failed = factor(exact);
    r = Matrix(runtime_, from.rows(), from.rows());
    cuda::convert(stream(), std::as_const(exact).view(), nullptr, r.data());
    return failed;
  }

  /// R⁻¹ of an upper triangular R.
  Matrix invert_triangular(const Matrix& r) const {
    const cuda::DeviceScope scope(device());
    const Index n = r.rows();
    // (R⁻ᵀ)ᵀ = R⁻¹ from the identity, which is its own transpose.
    auto inverse = Matrix::zeros(runtime_, n, n);
    cuda::fill_diagonals(stream(), 1, n, 1, inverse.data());
    cuda::solve_triangular(*runtime_, cuda::Factor::transposed, r.view(), inverse.view());
    return inverse;
  }

  /// The order of Order::min_pivot. One step per column; the host picks the smallest pivot.
  std::vector<Index> pivot_order(const Matrix& h) const {
    const cuda::DeviceScope scope(device());
    const Index n = h.rows();
    std::vector<double> left = diagonal_of(h);
    auto pivots = cuda::to_device_vector(runtime_, std::span<const double>(left));
    cuda::DeviceMatrix<double> factor(runtime_, n, n);
    std::vector<Index> order(static_cast<std::size_t>(n));
    for (Index done = 0; done < n; ++done) {
      // The last of equal ones: ties keep the natural order.
      const auto smallest = std::min_element(left.rbegin(), left.rend());
      const Index best = left.rend() - smallest - 1;
      order[std::size_t(n - 1 - done)] = best;
      cuda::pivot_row(stream(), h.data(), n, done, best, *smallest, factor.data(), pivots.data());
      left = cuda::to_vector(*runtime_, pivots);
    }
    return order;
  }

  /// Operations on several weights at once.
  using Batches = cuda::Batches;
  /// Operations on several weights at once, on the same stream.
  Batches batches() const { return Batches(runtime_); }
  /// Whether the other one is a copy of this, so that one stream orders their work.
  bool shares(const Cuda& other) const { return runtime_ == other.runtime_; }

  /// Threads of the process, for work on the host.
  const exec::Threads& host() const { return host_; }

  /// panel(worker, first row, rows) for the panels that make up all rows.
  template <class F>
  void for_panels(Index rows, F&& panel) const {
    const cuda::DeviceScope scope(device());
    const Index width = panel_rows(rows);
    for (Index first = 0; first < rows; first += width) {
      Worker worker(runtime_);
      panel(worker, first, (std::min)(width, rows - first));
    }
  }

  /// job(i) for independent jobs.
  template <class F>
  void for_each(Index jobs, F&& job) const {
    for (Index i = 0; i < jobs; ++i) job(i);
  }

  /// What a weight [rows, cols] takes.
  Footprint footprint(Index rows, Index cols, const Params& params) const {
    const Index height = panel_rows(rows);
    return {.panel_rows = height,
            .product_bytes = Index{32} << 20,  // cuBLAS's own, at most
            .accumulate_bytes =
                2 * cuda::staging_bytes + 2 * tokens_at_once * cols * Index(sizeof(float)),
            .scratch_bytes = Worker::scratch_bytes(height, cols, params)};
  }

 private:
  static constexpr Index tokens_at_once = 4096;

  static Index panel_rows(Index rows) { return (std::min)(rows, Index{16384}); }

  template <class T>
  std::vector<float> largest_of_rows(MatrixView<const T> matrix) const {
    const cuda::DeviceScope scope(device());
    Matrix of_row(runtime_, 1, matrix.rows());
    if (matrix.cols() == 0) return std::vector<float>(std::size_t(matrix.rows()), 0.0f);
    cuda::for_parts_on_device(runtime_, matrix, [&](MatrixView<const T> some, Index first) {
      cuda::largest_of_rows(stream(), some, of_row.data() + first);
    });
    return cuda::to_vector(*runtime_, of_row);
  }

  template <class T>
  void add_gram_of(Matrix& sum, MatrixView<const T> x, const float* roots) const {
    constexpr bool sixteen_bits = std::is_same_v<T, bfloat16> || std::is_same_v<T, float16>;
    const bool multiplies = !std::is_same_v<T, bfloat16> || has_bfloat16_;
    if constexpr (sixteen_bits || std::is_same_v<T, float>)
      if (x.col_stride() == 1 && x.row_stride() >= x.cols() && !roots && multiplies &&
          (sixteen_bits || precision_ == Precision::single))
        return add_gram(sum, x, x);  // already as cuBLAS reads it
    Matrix dense(runtime_, x.rows(), x.cols());
    cuda::convert(stream(), x, roots, dense.data());
    if (precision_ == Precision::single)
      return add_gram(sum, std::as_const(dense).view(), std::as_const(dense).view());
    cuda::DeviceMatrix<bfloat16> high(runtime_, x.rows(), x.cols()),
        low(runtime_, x.rows(), x.cols());
    cuda::split(stream(), dense.data(), dense.size(), high.data(), low.data());
    const auto h = std::as_const(high).view(), l = std::as_const(low).view();
    add_gram(sum, h, h);
    add_gram(sum, h, l);
    add_gram(sum, l, h);
  }

  /// The upper triangle of sum += aᵀ·b: halves the matrix until its diagonal blocks are small, and
  /// computes all blocks of a size in one launch.
  template <class T>
  void add_gram(Matrix& sum, MatrixView<const T> a, MatrixView<const T> b) const {
    const Index n = sum.rows();
    Index leaves = 1;
    while (n / leaves > 1024) leaves *= 2;
    const Index leaf = leaves == 1 ? n : n / leaves / 128 * 128, main = leaf * leaves;
    const auto add = [&](Index count, Index size, Index from_diagonal) {
      const Index on = size + from_diagonal;  // from one to the next, down and across
      cuda::add_products<T>(*runtime_, cuda::part(sum, 0, from_diagonal, size, size),
                            a.middle_cols(0, size), b.middle_cols(from_diagonal, size), count,
                            {on * (n + 1), on, on});
    };
    for (Index size = main / 2, count = 1; size >= leaf; size /= 2, count *= 2)
      add(count, size, size);
    add(leaves, leaf, 0);
    if (main < n)
      cuda::add_product(*runtime_, cuda::part(sum, 0, main, n, n - main), a.middle_cols(0, n),
                        b.middle_cols(main, n - main));
  }

  template <class T>
  std::vector<double> diagonal_of(const cuda::DeviceMatrix<T>& m) const {
    const auto n = static_cast<std::size_t>(m.rows());
    cuda::DeviceMatrix<T> diagonal(runtime_, 1, m.rows());  // gathered first: one copy to the host
    cuda::check(cudaMemcpy2DAsync(diagonal.data(), sizeof(T), m.data(),
                                  sizeof(T) * std::size_t(m.cols() + 1), sizeof(T), n,
                                  cudaMemcpyDeviceToDevice, stream()),
                "cudaMemcpy2DAsync");
    const std::vector<T> values = cuda::to_vector(*runtime_, diagonal);
    return {values.begin(), values.end()};
  }

  template <class T>
  cuda::DeviceMatrix<T> arrange_as(const Matrix& from, std::span<const Index> order, double factor,
                                   std::span<const double> added) const {
    const Index n = from.rows();
    const auto places = cuda::to_device_vector(runtime_, order);
    const auto more = cuda::to_device_vector(runtime_, added);
    cuda::DeviceMatrix<T> to(runtime_, n, n);
    cuda::arrange(stream(), from.data(), n, places.data(), factor, more.data(), to.data());
    return to;
  }

  /// H = R·Rᵀ from the reversed matrix, whose lower factor L is R reversed.
  /// \return  the position of the first pivot that is lost to rounding, or -1
  template <class T>
  Index factor(cuda::DeviceMatrix<T>& h) const {
    const Index n = h.rows();
    const std::vector<double> before = diagonal_of(h);
    cuda::reverse(stream(), h.data(), h.size());
    const Index failed = cuda::cholesky(runtime_, h);
    cuda::reverse(stream(), h.data(), h.size());
    cuda::clear_lower(stream(), h.data(), n, 1);  // the library may have used it
    if (failed >= 0) return n - 1 - failed;
    return cuda::lost_pivot<T>(before, diagonal_of(h));
  }

  std::shared_ptr<cuda::Runtime> runtime_;
  bool has_bfloat16_;
  Precision precision_;
  exec::Threads host_;
};

}  // namespace gptq::backend
