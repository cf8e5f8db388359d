// SPDX-License-Identifier: MIT

// Your own form of the solver: what one column does, and in which sequence blocks are solved. Here
// the left-looking form, but columns compensate for only a part of the errors of earlier ones.

#include <gptq/gptq.hpp>

#include <iostream>

struct Cautious : gptq::solver::LeftLooking {
  struct Step : gptq::kernel::LeftLooking {
    template <class T, class Scalar>
    static GPTQ_HD T target(const T& weight, const T& correction, Scalar pivot) {
      return weight + correction * T(Scalar(0.7f) / pivot);
    }
  };
};

int main() {
  using Backend = gptq::backend::Cpu;
  using gptq::scheme::Int4;
  const Eigen::MatrixXf weight = Eigen::MatrixXf::Random(64, 128);
  const Eigen::MatrixXf noise = Eigen::MatrixXf::Random(512, 128);
  Eigen::MatrixXf activations = noise;
  activations.colwise() += noise.col(0);
  const Backend backend;
  gptq::Hessian hessian(128, backend);
  hessian.add(activations);
  const gptq::Params params{.group_size = 32};
  const auto whole = gptq::Quantizer<Int4, Backend>(params).quantize(weight, hessian);
  const auto part = gptq::Quantizer<Int4, Backend, Cautious>(params).quantize(weight, hessian);
  const auto error = [&](const auto& layer) {  // ‖X·ΔWᵀ‖²
    Eigen::MatrixXf rounded(64, 128);
    layer.dequantize(gptq::MatrixView<float>(rounded.data(), 64, 128, 1, 64));
    return (activations * (weight - rounded).transpose()).squaredNorm();
  };
  std::cout << "output error of full compensation: " << error(whole) << ", of 70 %: " << error(part)
            << '\n';
  return error(whole) < error(part) ? 0 : 1;
}
