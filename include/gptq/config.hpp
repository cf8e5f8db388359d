// SPDX-License-Identifier: MIT
#pragma once

// Everything that depends on the compiler and its target, tested here and nowhere else.

// Rounding adds a large number and subtracts it again, reports are differences of nearly equal
// sums, and NaNs are checked for: a compiler that may simplify these makes codes wrong and reports
// perfect.
#if defined(__FAST_MATH__) || defined(__ASSOCIATIVE_MATH__) || defined(_M_FP_FAST) || \
    (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__)
#error \
    "gptq needs IEEE arithmetic: compile without -ffast-math, -Ofast, -fassociative-math and \
-ffinite-math-only (docs/backends.md, Your compiler's flags)"
#endif

// The value of an expression, computed as written before anything is added to it, even by compilers
// that may reorder sums without defining a macro that says so.
#if defined(__has_builtin) && !defined(__CUDACC__)
#if __has_builtin(__builtin_assoc_barrier)
#define GPTQ_AS_IT_STANDS(...) __builtin_assoc_barrier(__VA_ARGS__)
#elif __has_builtin(__arithmetic_fence) && defined(__x86_64__)
#define GPTQ_AS_IT_STANDS(...) __arithmetic_fence(__VA_ARGS__)
#endif
#endif
#ifndef GPTQ_AS_IT_STANDS
#define GPTQ_AS_IT_STANDS(...) (__VA_ARGS__)
#endif

// Marks code that runs on the host and on a GPU: schemes, lanes and the column kernel.
#if defined(__CUDACC__)
#define GPTQ_HD __host__ __device__
#else
#define GPTQ_HD
#endif

// Whether the compiler is nvcc, and whether this is its pass for the device.
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

// On a GPU, fully unrolls the following loop of `count` steps, so that arrays indexed by it stay in
// registers. Host compilers decide for themselves.
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

// The instruction set that code is compiled for, as the name of an inline namespace around it:
// sources that are compiled for different processors and pass each other a backend do not link.
// (They must not be in one program anyway: Eigen's code would be kept in one version for all.)
#if GPTQ_AMX
#define GPTQ_SIMD simd_amx
#elif defined(__AVX512F__)
#define GPTQ_SIMD simd_avx512
#elif defined(__AVX__)
#define GPTQ_SIMD simd_avx
#else
#define GPTQ_SIMD simd_128
#endif
