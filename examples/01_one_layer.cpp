// SPDX-License-Identifier: MIT

// One layer: calibrate, quantize to 4 bits, check the error, use the result.

#include <gptq/gptq.hpp>

#include <iostream>

int main() {
  using Backend = gptq::backend::Cpu;
  using Scheme = gptq::scheme::Int4;

  // Your weight [out_features, in_features] and the activations that the layer sees [tokens,
  // in_features]. Eigen matrices here; any pointer with strides is a gptq::MatrixView.
  const Eigen::MatrixXf weight = Eigen::MatrixXf::Random(256, 512);
  Eigen::MatrixXf activations = Eigen::MatrixXf::Random(2048, 512);
  for (Eigen::Index j = 1; j < activations.cols(); ++j)
    activations.col(j) += 0.8f * activations.col(j - 1);  // correlated inputs

  const Backend backend;
  gptq::Hessian hessian(weight.cols(), backend);
  hessian.add(activations);

  for (const auto solver : {gptq::Solver::left_looking, gptq::Solver::lazy_batch}) {
    gptq::Params params;
    params.group_size = 128;
    params.measure = gptq::Measure::full;  // exact figures; by default within a few per cent
    params.solver = solver;  // the same codes from both; lazy_batch is the paper's form
    const gptq::Quantizer<Scheme, Backend> quantizer(params);
    const auto layer = quantizer.quantize(weight, hessian, "my layer");

    const gptq::Report& report = layer.report();
    std::cout << "relative output error " << report.relative_error << ", round to nearest "
              << report.rtn_relative_error << ", " << report.snr_db() << " dB, "
              << report.seconds.total << " s\n";

    // Files store codes, scales and zero points; this is the weight that a loader gets from them.
    const Eigen::MatrixXf restored = gptq::to_eigen(layer);
    const Eigen::MatrixXf change = activations * (weight - restored).transpose();
    const float measured = change.squaredNorm() / (activations * weight.transpose()).squaredNorm();
    if (std::abs(measured - report.relative_error) > 0.01 * report.relative_error) return 1;
    if (!(report.relative_error < report.rtn_relative_error)) return 1;
  }
  return 0;
}
