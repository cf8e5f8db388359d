// SPDX-License-Identifier: MIT

// Given grids, such as the scales of a checkpoint, a range observer or a super-block. Here a layer
// already rounded to nearest is rounded again on the same grids, so that only codes change.

#include <gptq/gptq.hpp>

#include <iostream>

int main() {
  using Backend = gptq::backend::Cpu;
  using Scheme = gptq::scheme::Asymmetric<4>;
  const Eigen::MatrixXf weight = Eigen::MatrixXf::Random(64, 128);
  const Eigen::MatrixXf noise = Eigen::MatrixXf::Random(512, 128);
  Eigen::MatrixXf activations = noise;
  activations.colwise() += 2 * noise.col(0);  // correlated inputs
  const Backend backend;
  gptq::Hessian hessian(128, backend);
  hessian.add(activations);

  const gptq::Params params{.group_size = 32, .measure = gptq::Measure::full};
  const auto theirs = gptq::baseline::round_to_nearest<Scheme>(
      gptq::view(weight), {.group_size = 32, .range = gptq::Range::minmax}, backend);

  const gptq::Quantizer<Scheme, Backend> quantizer(params);
  const auto ours = quantizer.quantize(gptq::view(weight), quantizer.factorize(hessian),
                                       gptq::Grids{theirs.scales(), theirs.zeros()});
  for (gptq::Index r = 0; r < ours.rows(); ++r)
    for (gptq::Index g = 0; g < ours.groups(); ++g)
      if (ours.scales()(r, g) != theirs.scales()(r, g)) return 1;
  std::cout << "relative output error on the same grids: " << ours.report().relative_error
            << ", as it was " << ours.report().rtn_relative_error << '\n';
  return ours.report().relative_error < ours.report().rtn_relative_error ? 0 : 1;
}
