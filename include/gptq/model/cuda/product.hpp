// SPDX-License-Identifier: MIT
#pragma once

// Products of a decoder on an NVIDIA GPU, in any precision, of matrices wherever they are.

#include <gptq/backend/cuda/copies.hpp>
#include <gptq/backend/cuda/device_matrix.hpp>
#include <gptq/backend/cuda/launch.hpp>
#include <gptq/backend/cuda/operations.hpp>
#include <gptq/core/half.hpp>
#include <gptq/core/precision.hpp>

#include <memory>
#include <span>
#include <utility>  // std::as_const

namespace gptq::model::cuda {

using RuntimePointer = std::shared_ptr<backend::cuda::Runtime>;

/// Copies a matrix, on the device or not, in the order of the stream.
inline void copy(const backend::cuda::Runtime& runtime, MatrixView<float> to,
                 MatrixView<const float> from) {
  if (from.empty()) return;
  const auto pitch = [](const auto& m) {  // the stride of a single row is arbitrary
    return sizeof(float) * std::size_t(m.rows() > 1 ? m.row_stride() : m.cols());
  };
  backend::cuda::check(
      cudaMemcpy2DAsync(to.data(), pitch(to), from.data(), pitch(from),
                        sizeof(float) * std::size_t(from.cols()),
                        static_cast<std::size_t>(from.rows()), cudaMemcpyDefault, runtime.stream()),
      "cudaMemcpy2DAsync");
}

/// A matrix in device memory: itself if it is there, else a copy.
class Borrowed {
 public:
  Borrowed(const RuntimePointer& runtime, MatrixView<const float> from) : view_(from) {
    if (from.empty() || runtime->is_on_device(from.data())) return;
    copy_ = backend::cuda::DeviceMatrix<float>(runtime, from.rows(), from.cols());
    copy(*runtime, copy_.view(), from);
    view_ = std::as_const(copy_).view();
  }
  Borrowed(const RuntimePointer& runtime, std::span<const float> from)
      : Borrowed(runtime,
                 MatrixView<const float>(from.data(), 1, static_cast<Index>(from.size()))) {}

  MatrixView<const float> view() const { return view_; }
  /// Null if there is nothing.
  const float* data() const { return view_.empty() ? nullptr : view_.data(); }

 private:
  backend::cuda::DeviceMatrix<float> copy_;
  MatrixView<const float> view_;
};

/// A float is the sum of two bfloat16 numbers and a remainder below 2⁻¹⁶ of it.
struct Halves {
  backend::cuda::DeviceMatrix<bfloat16> high, low;

  /// \param x  on the device
  Halves(const RuntimePointer& runtime, MatrixView<const float> x)
      : high(runtime, x.rows(), x.cols()), low(runtime, x.rows(), x.cols()) {
    backend::cuda::DeviceMatrix<float> dense;
    const float* numbers = x.data();
    if (x.row_stride() != x.cols()) {
      dense = backend::cuda::DeviceMatrix<float>(runtime, x.rows(), x.cols());
      copy(*runtime, dense.view(), x);
      numbers = dense.data();
    }
    backend::cuda::split(runtime->stream(), numbers, x.size(), high.data(), low.data());
  }
};

/// Product of operands rounded to 16 bits.
template <class T>
void rounded_product(const RuntimePointer& runtime, MatrixView<float> y, MatrixView<const float> x,
                     MatrixView<const float> weight, bool add) {
  backend::cuda::DeviceMatrix<T> left(runtime, x.rows(), x.cols()),
      right(runtime, weight.rows(), weight.cols());
  backend::cuda::narrow(runtime->stream(), x, left.data());
  backend::cuda::narrow(runtime->stream(), weight, right.data());
  backend::cuda::multiply_transposed<T>(*runtime, y, std::as_const(left).view(),
                                        std::as_const(right).view(), add);
}

/// y = x·Wᵀ, or y += x·Wᵀ; y is on the device.
inline void product(const RuntimePointer& runtime, Precision precision, MatrixView<float> y,
                    MatrixView<const float> x, MatrixView<const float> weight, bool add) {
  const Borrowed left(runtime, x), right(runtime, weight);
  const auto plain = [&](auto a, auto b, bool more) {
    backend::cuda::multiply_transposed(*runtime, y, a, b, more);
  };
  switch (precision) {
    case Precision::single: return plain(left.view(), right.view(), add);
    case Precision::bfloat16:
      return rounded_product<bfloat16>(runtime, y, left.view(), right.view(), add);
    case Precision::float16:
      return rounded_product<float16>(runtime, y, left.view(), right.view(), add);
    case Precision::split: break;
  }
  const Halves a(runtime, left.view()), b(runtime, right.view());
  plain(a.high.view(), b.high.view(), add);
  plain(a.high.view(), b.low.view(), true);
  plain(a.low.view(), b.high.view(), true);
}

}  // namespace gptq::model::cuda
