// SPDX-License-Identifier: MIT
#pragma once

// What depends on the compiler and its target, read here and nowhere else.

// Marks what runs on the host and on a GPU: schemes, lanes and the column kernel.
#if defined(__CUDACC__)
#define GPTQ_HD __host__ __device__
#else
#define GPTQ_HD
#endif

// Whether the compiler is nvcc, and whether it compiles for the device just now.
#if defined(__CUDACC__)
#define GPTQ_CUDA_COMPILER 1
#else
#define GPTQ_CUDA_COMPILER 0
#endif
#if defined(__CUDA_ARCH__)
#define GPTQ_ON_DEVICE 1
#else
#define GPTQ_ON_DEVICE 0
#endif

// Before a loop of `count` steps that must not be one on a GPU: arrays that it walks stay in
// registers there. Hosts decide for themselves.
#if defined(__CUDACC__)
#define GPTQ_PRAGMA(text) _Pragma(#text)
#define GPTQ_UNROLL(count) GPTQ_PRAGMA(unroll count)
#else
#define GPTQ_UNROLL(count)
#endif

// Whether the compiler may use the matrix tiles of Intel processors (-march=sapphirerapids and
// newer, or native there).
#if defined(__AMX_TILE__) && defined(__AMX_BF16__) && defined(__AVX512BF16__) && \
    defined(__AVX512BW__) && defined(__linux__) && !defined(__CUDACC__)
#define GPTQ_AMX 1
#else
#define GPTQ_AMX 0
#endif

// Names what the code for a processor depends on, for an inline namespace around it: where sources
// that are compiled for different processors hand each other a backend, they do not link. (They
// must not meet in one program anyway: Eigen keeps one version of its code for all of them.)
#if GPTQ_AMX
#define GPTQ_SIMD simd_amx
#elif defined(__AVX512F__)
#define GPTQ_SIMD simd_avx512
#elif defined(__AVX__)
#define GPTQ_SIMD simd_avx
#else
#define GPTQ_SIMD simd_128
#endif
