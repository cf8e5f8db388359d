// SPDX-License-Identifier: MIT

// Calibration in two processes, each with its share of the text: their Hessians are merged from
// files. The program starts itself twice; on a cluster it would be one process per machine.

#include <gptq/gptq.hpp>

#include <cstdlib>
#include <filesystem>
#include <iomanip>
#include <iostream>
#include <sstream>
#include <string>

namespace fs = std::filesystem;
using Backend = gptq::backend::Cpu;

constexpr gptq::Index inputs = 96, tokens[] = {1000, 2000};

/// The activations of a process: the same in each run, different in each process.
Eigen::MatrixXf activations(int process) {
  return Eigen::MatrixXf::NullaryExpr(tokens[process], inputs, [=](gptq::Index t, gptq::Index i) {
    return std::sin(static_cast<float>((t + 1) * (i + 3) + 1000 * process));
  });
}

fs::path file_of(const fs::path& folder, int process) {
  return folder / ("part" + std::to_string(process) + ".hessian");
}

int main(int argc, char** argv) {
  const Backend backend;
  const fs::path folder = argc > 1 ? fs::path(argv[1]) : fs::temp_directory_path();
  if (argc > 2) {  // one of the two: calibrate, save, end
    const int process = std::atoi(argv[2]);
    const Eigen::MatrixXf seen = activations(process);
    gptq::Hessian hessian(inputs, backend);
    hessian.add(seen);
    gptq::save_hessian(hessian, file_of(folder, process));
    return 0;
  }

  std::ostringstream both;
  for (const char* process : {"0 & first=$!; ", "1 && wait $first"})
    both << std::quoted(argv[0]) << ' ' << std::quoted(folder.string()) << ' ' << process;
  if (std::system(both.str().c_str()) != 0) return 1;
  auto merged = gptq::load_hessian(file_of(folder, 0), backend);
  merged.merge(gptq::load_hessian(file_of(folder, 1), backend));
  gptq::save_hessian(merged, folder / "merged.hessian");

  gptq::Hessian whole(inputs, backend);
  for (const int process : {0, 1}) {
    const Eigen::MatrixXf seen = activations(process);
    whole.add(seen);
  }
  std::cout << "tokens: " << merged.tokens() << '\n';
  for (gptq::Index i = 0; i < inputs; ++i)
    if (std::abs(merged.sum()(i, i) - whole.sum()(i, i)) > 1e-5f * whole.sum()(i, i)) return 1;
  return merged.tokens() == tokens[0] + tokens[1] ? 0 : 1;
}
