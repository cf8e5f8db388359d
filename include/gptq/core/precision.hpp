// SPDX-License-Identifier: MIT
#pragma once

// Precision: how products of single-precision matrices may be computed. Sums are always in single
// precision.

#include <gptq/core/error.hpp>

namespace gptq {

enum class Precision {
  single,  ///< IEEE single precision throughout
  /// Floats split into two bfloat16 parts if the processor has matrix tiles (AMX) or the GPU
  /// multiplies bfloat16: a relative error of about 4e-6 in a product, at several times the speed.
  /// Otherwise the same as `single`.
  split,
  bfloat16,  ///< operands rounded to bfloat16, 8 bits; for a decoder, on matrix tiles or a GPU
  float16,   ///< operands rounded to 11 bits, infinite beyond 65504; for a decoder, on a GPU
};

/// For a Hessian: factoring it would amplify rounding errors.
/// \throws InvalidArgument  operands would be rounded to 16 bits
inline void require_exact_operands(Precision precision) {
  detail::require(precision == Precision::single || precision == Precision::split,
                  "a backend multiplies in single precision or with split operands; operands "
                  "rounded to 16 bits are for a decoder");
}

}  // namespace gptq
