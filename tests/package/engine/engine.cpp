// SPDX-License-Identifier: MIT

#include "engine.hpp"

#include <gptq/backend/cpu.hpp>

namespace engine {

Quantized compress(gptq::MatrixView<const float> weight,
                   gptq::MatrixView<const float> activations) {
  gptq::Hessian<gptq::backend::Cpu> hessian(weight.cols());
  hessian.add(activations);
  return gptq::Quantizer<gptq::scheme::Int4, gptq::backend::Cpu>({.group_size = 32})
      .quantize(weight, hessian);
}

}  // namespace engine
