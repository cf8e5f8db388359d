// SPDX-License-Identifier: MIT
#pragma once

// What the tests of the decoder on a device have in common.

#include <gptq/backend/host/matrix.hpp>
#include <gptq/model/cpu_operations.hpp>
#include <gptq/model/cuda_operations.hpp>

#include "catch.hpp"

#include <cstdio>
#include <random>
#include <utility>  // std::as_const

namespace test::on_device {

using gptq::Index;
using gptq::Precision;
using gptq::backend::Cuda;
using gptq::model::CudaOperations;
using CpuOperations = gptq::model::CpuOperations<>;

inline bool no_device() {
  if (gptq::backend::cuda::device_count() > 0) return false;
  std::printf("SKIPPED: no CUDA device\n");
  return true;
}

using Matrix = gptq::backend::HostMatrix<float>;

inline Matrix random(Index rows, Index cols, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  Matrix m(rows, cols);
  for (Index i = 0; i < rows * cols; ++i) m.data()[i] = normal(random);
  return m;
}

/// An operand as a product of that precision sees it.
inline Matrix rounded(const Matrix& from, Precision precision) {
  Matrix to = random(from.rows(), from.cols(), 0);
  for (Index i = 0; i < from.rows() * from.cols(); ++i) {
    const float x = from.data()[i];
    to.data()[i] = precision == Precision::bfloat16  ? gptq::to_float(gptq::to_bfloat16(x))
                   : precision == Precision::float16 ? gptq::to_float(gptq::to_float16(x))
                                                     : x;
  }
  return to;
}

/// Checks that a device tensor holds these numbers.
inline void require_close(const CudaOperations::Tensor& tensor, const Matrix& expected,
                          double margin) {
  REQUIRE(tensor.rows() == expected.rows());
  REQUIRE(tensor.cols() == expected.cols());
  Matrix host(tensor.rows(), tensor.cols());
  REQUIRE(cudaDeviceSynchronize() == cudaSuccess);  // it was made on another stream
  const Cuda any;
  any.download(tensor, host.view());
  for (Index r = 0; r < host.rows(); ++r)
    for (Index c = 0; c < host.cols(); ++c)
      REQUIRE(host(r, c) == Approx(expected(r, c)).margin(margin));
}

/// Copies to the device with `copy`.
inline CudaOperations::Tensor put(const CudaOperations& gpu, const Matrix& from) {
  auto tensor = gpu.tensor(from.rows(), from.cols());
  gpu.copy(tensor.view(), from.view());
  return tensor;
}

inline CudaOperations operations(Precision precision = Precision::single) {
  return CudaOperations(Cuda{}, gptq::exec::Threads(1), precision);
}

}  // namespace test::on_device
