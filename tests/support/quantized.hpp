// SPDX-License-Identifier: MIT
#pragma once

// Quantized matrices made up for tests of what stores them.

#include <gptq/quantized_matrix.hpp>

#include <cstdint>

namespace test {

/// A matrix with the codes, zeros and scales that a test wants.
template <class S, class Code, class Zero>
gptq::QuantizedMatrix<S> made(Index out, Index in, Index group, Code code, Zero zero, float scale) {
  gptq::QuantizedMatrix<S> q(out, in, group);
  for (Index o = 0; o < out; ++o) {
    for (Index i = 0; i < in; ++i) q.codes()(o, i) = static_cast<std::uint8_t>(code(o, i));
    for (Index g = 0; g < q.groups(); ++g)
      q.zeros()(o, g) = static_cast<float>(zero(o, g)), q.scales()(o, g) = scale;
  }
  return q;
}

}  // namespace test
