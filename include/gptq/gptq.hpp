// SPDX-License-Identifier: MIT
#pragma once

// The library in one include: quantize one weight matrix with Eigen on the CPU. Model files,
// tokenizers and other backends have headers of their own.

#include <gptq/backend/concept.hpp>
#include <gptq/backend/cpu.hpp>
#include <gptq/backend/reference.hpp>
#include <gptq/baseline/obq.hpp>
#include <gptq/baseline/pruning.hpp>
#include <gptq/baseline/rtn.hpp>
#include <gptq/calibration/activation_range.hpp>
#include <gptq/calibration/convolution.hpp>
#include <gptq/calibration/hessian.hpp>
#include <gptq/calibration/hessian_file.hpp>
#include <gptq/calibration/per_token.hpp>
#include <gptq/core/error.hpp>
#include <gptq/core/half.hpp>
#include <gptq/core/matrix_view.hpp>
#include <gptq/core/params.hpp>
#include <gptq/core/report.hpp>
#include <gptq/eigen.hpp>
#include <gptq/exec/concept.hpp>
#include <gptq/exec/serial.hpp>
#include <gptq/exec/threads.hpp>
#include <gptq/factor/target.hpp>
#include <gptq/parity.hpp>
#include <gptq/quantized_matrix.hpp>
#include <gptq/quantizer.hpp>
#include <gptq/scheme/affine.hpp>
#include <gptq/scheme/codebook.hpp>
#include <gptq/scheme/concept.hpp>
#include <gptq/scheme/minifloat.hpp>
#include <gptq/version.hpp>

#if defined(GPTQ_COMPILED)
#include <gptq/compiled.hpp>
#endif
