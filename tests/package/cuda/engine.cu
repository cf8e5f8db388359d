// SPDX-License-Identifier: MIT

// A user who works in CUDA: activations that never leave the device.

#include <gptq/backend/cuda.hpp>
#include <gptq/quantizer.hpp>
#include <gptq/scheme/affine.hpp>

#include <vector>

static __global__ void activate(float* x, int count) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < count) x[i] = static_cast<float>((i * 7919) % 101) / 50 - 1;
}

double error_of_layer() {
  constexpr gptq::Index tokens = 300, in = 64, out = 32;
  const gptq::backend::Cuda backend;
  float* x = nullptr;
  if (cudaMalloc(&x, sizeof(float) * tokens * in) != cudaSuccess) return 1;
  activate<<<tokens * in / 64, 64>>>(x, tokens * in);
  if (cudaDeviceSynchronize() != cudaSuccess) return 1;
  gptq::Hessian<gptq::backend::Cuda> hessian(in, backend);
  hessian.add(gptq::MatrixView<const float>(x, tokens, in));
  std::vector<float> weight(out * in);
  for (std::size_t i = 0; i < weight.size(); ++i) weight[i] = static_cast<float>((i * 31) % 17) - 8;
  const gptq::Quantizer<gptq::scheme::Int4, gptq::backend::Cuda> quantizer({.group_size = 32});
  const auto layer =
      quantizer.quantize(gptq::MatrixView<const float>(weight.data(), out, in), hessian);
  cudaFree(x);
  return layer.report().relative_error;
}
