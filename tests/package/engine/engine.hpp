// SPDX-License-Identifier: MIT
#pragma once

// A library with gptq types in its interface.

#include <gptq/quantizer.hpp>
#include <gptq/scheme/affine.hpp>

namespace engine {

using Quantized = gptq::QuantizedMatrix<gptq::scheme::Int4>;

Quantized compress(gptq::MatrixView<const float> weight, gptq::MatrixView<const float> activations);

}  // namespace engine
