// SPDX-License-Identifier: MIT
#pragma once

// What depends on the compiler and its target, read here and nowhere else.

// Marks what runs on the host and on a GPU: schemes, lanes and the column kernel.
#if defined(__CUDACC__)
#define GPTQ_HD __host__ __device__
#else
#define GPTQ_HD
#endif

// Whether the compiler may use the matrix tiles of Intel processors (-march=sapphirerapids and
// newer, or native there).
#if defined(__AMX_TILE__) && defined(__AMX_BF16__) && defined(__AVX512BF16__) && \
    defined(__AVX512BW__) && defined(__linux__) && !defined(__CUDACC__)
#define GPTQ_AMX 1
#else
#define GPTQ_AMX 0
#endif
