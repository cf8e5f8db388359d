// SPDX-License-Identifier: MIT
#include "07_cuda_scheme.hpp"

#include <gptq/backend/cuda/kernels.cuh>
GPTQ_CUDA_SCHEME(PowersOfTwo);
