// SPDX-License-Identifier: MIT

// The decoder's kernels, run on the host by device.cuh's loops.

#include <gptq/model/cuda/decoder.cu>
