// SPDX-License-Identifier: MIT

// q, k and v read the same input: one Hessian, one factorization, three layers, several bit widths.

#include <gptq/gptq.hpp>

#include <iostream>

int main() {
  using Backend = gptq::backend::Cpu;
  const Eigen::MatrixXf activations = Eigen::MatrixXf::Random(1024, 256);
  const Eigen::MatrixXf q = Eigen::MatrixXf::Random(256, 256), k = Eigen::MatrixXf::Random(64, 256),
                        v = Eigen::MatrixXf::Random(64, 256);

  const Backend backend;
  gptq::Hessian hessian(256, backend);
  hessian.add(activations);

  const gptq::Params params{.group_size = 64};
  const gptq::Quantizer<gptq::scheme::Int4, Backend> four_bits(params);
  const gptq::Quantizer<gptq::scheme::Int8, Backend> eight_bits(params);

  // The factor serves every weight and every scheme with the same order, group size and damping.
  // Quantizing never changes it or the Hessian.
  const auto factor = four_bits.factorize(hessian);
  const double q_error = four_bits.quantize(q, factor, "q").report().relative_error;
  const double k_error = four_bits.quantize(k, factor, "k").report().relative_error;
  const double v_error = eight_bits.quantize(v, factor, "v").report().relative_error;
  std::cout << "relative output error: q " << q_error << ", k " << k_error << ", v in 8 bits "
            << v_error << '\n';
  return v_error < q_error && v_error < k_error ? 0 : 1;
}
