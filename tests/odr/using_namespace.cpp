// SPDX-License-Identifier: MIT

// Names that users give to their own types do not clash with the library's.

#include <gptq/gptq.hpp>

using namespace gptq;
using Backend = gptq::backend::Cpu;
using Scheme = gptq::scheme::Int4;
using Executor = gptq::exec::Threads;

QuantizedMatrix<Scheme> quantize(MatrixView<const float> weight, MatrixView<const float> x) {
  Hessian hessian(weight.cols(), Backend(Executor(1)));
  hessian.add(x);
  return Quantizer<Scheme, Backend>({.group_size = 32}).quantize(weight, hessian);
}
