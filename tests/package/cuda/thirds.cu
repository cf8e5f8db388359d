// SPDX-License-Identifier: MIT

#include "thirds.hpp"

#include <gptq/backend/cuda/kernels.cuh>

GPTQ_CUDA_SCHEME(Thirds);
