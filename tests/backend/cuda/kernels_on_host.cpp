// SPDX-License-Identifier: MIT

// The kernels, run on the host by device.cuh's loops.

#include <gptq/backend/cuda/instantiations.cu>
