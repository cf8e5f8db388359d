#!/bin/sh
# SPDX-License-Identifier: MIT
# Measures the CUDA backend on the GPU of this machine, in a few minutes. Needs nvcc alone.
#   sh benchmarks/gpu.sh [FOLDER]     the program and its output go to FOLDER, build/gpu without one
set -eu
cd "$(dirname "$0")/.."
folder=${1:-build/gpu}
mkdir -p "$folder"
nvcc -std=c++20 --expt-relaxed-constexpr -O3 -arch="${GPTQ_GPU_ARCH:-native}" -Iinclude benchmarks/gpu.cu \
  include/gptq/backend/cuda/instantiations.cu -lcublas -lcusolver -o "$folder/gptq_gpu_benchmarks"
"$folder/gptq_gpu_benchmarks" | tee "$folder/gpu.txt"
