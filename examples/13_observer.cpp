// SPDX-License-Identifier: MIT

// An observer sees each block of columns as the solver leaves it: the weights that were rounded,
// grids and codes. Here it finds how far compensation moved the weights of each column.

#include <gptq/gptq.hpp>

#include <algorithm>
#include <iostream>
#include <mutex>

int main() {
  using Backend = gptq::backend::Cpu;
  const Eigen::MatrixXf weight = Eigen::MatrixXf::Random(64, 128);
  const Eigen::MatrixXf noise = Eigen::MatrixXf::Random(512, 128);
  Eigen::MatrixXf activations = noise;
  activations.colwise() += noise.col(0);
  const Backend backend;
  gptq::Hessian hessian(128, backend);
  hessian.add(activations);
  const gptq::Quantizer<gptq::scheme::Int4, Backend> quantizer({.group_size = 32});
  const auto factor = quantizer.factorize(hessian);

  std::mutex mutex;  // panels of rows are solved in parallel
  std::vector<double> moved(128);
  const auto look = [&](const gptq::SolvedBlock<float>& block) {
    const std::lock_guard lock(mutex);
    for (gptq::Index p = 0; p < block.targets.rows(); ++p)
      for (gptq::Index r = 0; r < block.targets.cols(); ++r) {
        const gptq::Index column = block.columns[std::size_t(p)];
        const double before = static_cast<double>(weight(block.first_row + r, column));
        const double after = static_cast<double>(block.targets(p, r)) * block.weight_unit;
        moved[std::size_t(column)] += (after - before) * (after - before);
      }
  };
  quantizer.quantize(gptq::view(weight), factor, "layer", {}, {.observer = look});

  const auto first = static_cast<std::size_t>(factor.layout.column(0));
  const auto most = std::max_element(moved.begin(), moved.end());
  std::cout << "the first column moved by " << moved[first] << ", column " << most - moved.begin()
            << " by " << *most << '\n';
  return moved[first] == 0 && *most > 0 ? 0 : 1;
}
