// SPDX-License-Identifier: MIT

// The decoder's operations on a device, if there is one.

#include <gptq/model/cuda_operations.hpp>

bool multiplies_on_device() {
  if (gptq::backend::cuda::device_count() == 0) return true;
  const gptq::model::CudaOperations operations{gptq::backend::Cuda{}};
  const std::vector<float> one(4, 1.0f);
  const gptq::MatrixView<const float> x(one.data(), 2, 2);
  return operations.squared_norm(operations.matmul(x, x).view()) == 16;
}
