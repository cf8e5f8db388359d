// SPDX-License-Identifier: MIT

// A scheme of your own on an NVIDIA GPU: the scheme is in a header, its kernels in a source of four
// lines that nvcc compiles (07_cuda_scheme.cu), and here the backend is one word.

#include "07_cuda_scheme.hpp"

#include <gptq/backend/cuda.hpp>
#include <gptq/gptq.hpp>

#include <cstdio>

using Backend = gptq::backend::Cuda;

int main() {
  if (gptq::backend::cuda::device_count() == 0) {
    std::printf("SKIPPED: no CUDA device\n");
    return 0;
  }
  const Eigen::MatrixXf weight = Eigen::MatrixXf::Random(64, 128);
  const Eigen::MatrixXf activations = Eigen::MatrixXf::Random(512, 128);
  const Backend gpu;
  gptq::Hessian hessian(128, gpu);
  hessian.add(activations);
  const auto layer =
      gptq::Quantizer<PowersOfTwo, Backend>({.group_size = 32}).quantize(weight, hessian);
  std::printf("relative output error of powers of two: %.4f, round to nearest %.4f\n",
              layer.report().relative_error, layer.report().rtn_relative_error);
  return layer.report().relative_error < layer.report().rtn_relative_error ? 0 : 1;
}
