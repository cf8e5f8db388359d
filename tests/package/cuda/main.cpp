// SPDX-License-Identifier: MIT

// A plain C++ program with Eigen matrices, a scheme of its own, and a part in CUDA.

#include "thirds.hpp"

#include <gptq/backend/cuda.hpp>
#include <gptq/gptq.hpp>

#include <iostream>

double error_of_layer();
#ifdef WITH_DECODER
bool multiplies_on_device();
#endif

int main() {
  using gptq::backend::Cuda;
  if (gptq::backend::cuda::device_count() == 0) {
    std::cout << "no CUDA device: compiled and linked only\n";
    return 0;
  }
  const Eigen::MatrixXf weight = Eigen::MatrixXf::Random(32, 64),
                        activations = Eigen::MatrixXf::Random(200, 64);
  gptq::Hessian hessian(weight.cols(), Cuda());
  hessian.add(gptq::view(activations));
  const auto layer = gptq::Quantizer<gptq::scheme::Int4, Cuda>({.group_size = 32})
                         .quantize(gptq::view(weight), hessian);
  const auto own =
      gptq::Quantizer<Thirds, Cuda>({.group_size = 32}).quantize(gptq::view(weight), hessian);
#ifdef WITH_DECODER
  if (!multiplies_on_device()) return 1;
#endif
  std::cout << "relative output errors " << layer.report().relative_error << ", "
            << own.report().relative_error << ", " << error_of_layer() << "\n";
  return layer.report().relative_error < 0.02 && own.report().relative_error < 0.3 &&
                 error_of_layer() < 0.02
             ? 0
             : 1;
}
