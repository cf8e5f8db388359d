// SPDX-License-Identifier: MIT

// A layout refuses a scheme that it cannot represent.
// expects: GptqScheme

#include <gptq/gptq.hpp>
#include <gptq/pack/gptq.hpp>

int main() {
#ifdef GPTQ_TEST_FAIL
  using Scheme = gptq::scheme::NF4;
#else
  using Scheme = gptq::scheme::Int4;
#endif
  const gptq::QuantizedMatrix<Scheme> quantized(32, 32, 32);
  return gptq::pack::to_gptq(quantized, gptq::pack::GptqFormat::v1).bits == 4 ? 0 : 1;
}
