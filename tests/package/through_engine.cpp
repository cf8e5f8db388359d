// SPDX-License-Identifier: MIT

// Uses a library that uses gptq, and gptq itself.

#include <engine.hpp>
#include <gptq/gptq.hpp>

int main() {
  const Eigen::MatrixXf weight = Eigen::MatrixXf::Random(32, 64),
                        activations = Eigen::MatrixXf::Random(200, 64);
  const auto theirs = engine::compress(gptq::view(weight), gptq::view(activations));
  gptq::Hessian<gptq::backend::Cpu> hessian(64);
  hessian.add(gptq::view(activations));
  const auto ours = gptq::Quantizer<gptq::scheme::Int4, gptq::backend::Cpu>({.group_size = 32})
                        .quantize(gptq::view(weight), hessian);
  for (gptq::Index r = 0; r < 32; ++r)
    for (gptq::Index c = 0; c < 64; ++c)
      if (ours.codes()(r, c) != theirs.codes()(r, c)) return 1;
  return 0;
}
