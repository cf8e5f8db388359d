// SPDX-License-Identifier: MIT
#pragma once

// What depends on the compiler, read here and nowhere else.

// Marks what runs on the host and on a GPU: schemes, lanes and the column kernel.
#if defined(__CUDACC__)
#define GPTQ_HD __host__ __device__
#else
#define GPTQ_HD
#endif
