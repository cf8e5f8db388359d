// SPDX-License-Identifier: MIT

#include <gptq/gptq.hpp>

#include <iostream>

int main() {
  const Eigen::MatrixXf weight = Eigen::MatrixXf::Random(32, 64),
                        activations = Eigen::MatrixXf::Random(200, 64);
  gptq::Hessian<gptq::backend::Cpu> hessian(weight.cols());
  hessian.add(gptq::view(activations));
  const auto layer = gptq::Quantizer<gptq::scheme::Int4, gptq::backend::Cpu>({.group_size = 32})
                         .quantize(gptq::view(weight), hessian);
  std::cout << "relative output error " << layer.report().relative_error << "\n";
  return layer.report().relative_error < 0.02 ? 0 : 1;
}
