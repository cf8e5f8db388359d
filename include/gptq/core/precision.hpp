// SPDX-License-Identifier: MIT
#pragma once

// Precision: how products of single-precision matrices may be computed.

namespace gptq {

enum class Precision {
  single,  ///< IEEE single precision throughout
  /// Floats split into two bfloat16 parts where the processor has matrix tiles (AMX): a relative
  /// error of about 4e-6 in a product, at several times the speed. Elsewhere the same as `single`.
  split,
};

}  // namespace gptq
