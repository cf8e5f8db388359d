// SPDX-License-Identifier: MIT

// A column order of your own: any permutation of the inputs. Here by the contribution of an input's
// weights and activations together, |w|²·h, instead of the activations alone.

#include <gptq/gptq.hpp>

#include <algorithm>
#include <iostream>
#include <numeric>

int main() {
  using Backend = gptq::backend::Cpu;
  const Eigen::MatrixXf weight = Eigen::MatrixXf::Random(64, 128);
  Eigen::MatrixXf activations = Eigen::MatrixXf::Random(512, 128);
  for (int i = 0; i < 128; ++i) activations.col(i) *= 0.2f + static_cast<float>(i % 7);
  const Backend backend;
  gptq::Hessian hessian(128, backend);
  hessian.add(activations);

  const std::vector<double> h = backend.diagonal(hessian.sum());
  const Eigen::VectorXf w = weight.colwise().squaredNorm();
  std::vector<gptq::Index> order(128);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](gptq::Index a, gptq::Index b) {
    return static_cast<double>(w[a]) * h[std::size_t(a)] >
           static_cast<double>(w[b]) * h[std::size_t(b)];
  });

  const gptq::Quantizer<gptq::scheme::Int4, Backend> quantizer({.group_size = 32});
  const auto factor =
      quantizer.factorize(hessian, order);  // one factor for all weights that read it
  const auto mine = quantizer.quantize(weight, factor);
  const auto act = quantizer.quantize(weight, hessian);
  std::cout << "relative output error: " << mine.report().relative_error << ", in act order "
            << act.report().relative_error << '\n';
  return mine.report().relative_error < mine.report().rtn_relative_error ? 0 : 1;
}
