// SPDX-License-Identifier: MIT

// From a Hessian file to a quantized layer, without the calibration text. Run 05 first.

#include <gptq/gptq.hpp>

#include <filesystem>
#include <iostream>

int main(int argc, char** argv) {
  namespace fs = std::filesystem;
  using Backend = gptq::backend::Cpu;
  const fs::path folder = argc > 1 ? fs::path(argv[1]) : fs::temp_directory_path();
  try {
    const auto hessian = gptq::load_hessian(folder / "merged.hessian", Backend());
    const Eigen::MatrixXf weight = Eigen::MatrixXf::Random(48, hessian.in_features());
    for (const auto order : {gptq::Order::natural, gptq::Order::act, gptq::Order::min_pivot}) {
      const gptq::Quantizer<gptq::scheme::Asymmetric<3>, Backend> quantizer(
          {.group_size = 32, .order = order});
      const auto layer = quantizer.quantize(weight, hessian);
      std::cout << "order " << static_cast<int>(order) << ": relative output error "
                << layer.report().relative_error << '\n';
      if (!(layer.report().relative_error < layer.report().rtn_relative_error)) return 1;
    }
  } catch (const gptq::Error& error) {  // says which file, and what is wrong with it
    std::cerr << error.what() << '\n';
    return 1;
  }
  return 0;
}
