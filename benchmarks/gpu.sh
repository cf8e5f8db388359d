#!/bin/sh
# SPDX-License-Identifier: MIT
# Measures the CUDA backend on the GPU of this machine, in a few minutes. Needs nvcc alone; where PyTorch and Triton are there
# too, a fused Triton loop of the same algorithm in the same run.
#   sh benchmarks/gpu.sh [FOLDER]     the program and its output go to FOLDER, build/gpu without one
set -eu
cd "$(dirname "$0")/.."
folder=${1:-build/gpu}
mkdir -p "$folder"
nvcc -std=c++20 --expt-relaxed-constexpr -O3 -arch="${GPTQ_GPU_ARCH:-native}" -Iinclude benchmarks/gpu.cu \
  include/gptq/backend/cuda/instantiations.cu -lcublas -lcusolver -o "$folder/gptq_gpu_benchmarks"
{
  date -u
  nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null || echo "no nvidia-smi"
  "$folder/gptq_gpu_benchmarks"
  if python3 -c 'import torch, triton; assert torch.cuda.is_available()' 2>/dev/null; then
    python3 benchmarks/gpu_triton.py || echo "the rival failed"
  else
    echo "SKIPPED: the Triton loop needs Python with PyTorch, Triton and a GPU"
  fi
} >"$folder/gpu.txt" 2>&1
awk '{ print }
  /^own factor\+loop/ { own = $3 }
  /^rival factor\+loop/ { rival = $3 }
  END { if (own > 0 && rival > 0) printf "factor + loop against the fused Triton loop: %.2f times as fast\n", rival / own }' \
  "$folder/gpu.txt" | tee "$folder/gpu.all"
mv "$folder/gpu.all" "$folder/gpu.txt"
