// SPDX-License-Identifier: MIT

// Calibration in two processes, each with half of the text: their Hessians meet in files.

#include <gptq/gptq.hpp>

#include <filesystem>
#include <iostream>

namespace fs = std::filesystem;
using Backend = gptq::backend::Cpu;

/// What each process does with the activations that it has seen.
void calibrate(const Eigen::MatrixXf& activations, const fs::path& file) {
  gptq::Hessian<Backend> hessian(activations.cols());
  hessian.add(gptq::view(activations));
  gptq::save_hessian(hessian, file);
}

int main(int argc, char** argv) {
  const fs::path folder = argc > 1 ? fs::path(argv[1]) : fs::temp_directory_path();
  const Eigen::MatrixXf activations = Eigen::MatrixXf::Random(3000, 96);
  calibrate(activations.topRows(1000), folder / "first.hessian");
  calibrate(activations.bottomRows(2000), folder / "second.hessian");

  auto merged = gptq::load_hessian<Backend>(folder / "first.hessian");
  merged.merge(gptq::load_hessian<Backend>(folder / "second.hessian"));
  gptq::save_hessian(merged, folder / "merged.hessian");

  gptq::Hessian<Backend> whole(96);
  whole.add(gptq::view(activations));
  std::cout << "tokens: " << merged.tokens() << '\n';
  for (gptq::Index i = 0; i < 96; ++i)
    if (std::abs(merged.sum()(i, i) - whole.sum()(i, i)) > 1e-5f * whole.sum()(i, i)) return 1;
  return merged.tokens() == 3000 ? 0 : 1;
}
