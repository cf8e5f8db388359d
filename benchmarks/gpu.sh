#!/bin/sh
# SPDX-License-Identifier: MIT
# Measures the CUDA backend on the GPU of this machine, in a few minutes. Needs nvcc alone; where PyTorch and Triton are there
# too, a fused Triton loop of the same algorithm in the same run.
#   sh benchmarks/gpu.sh [FOLDER]     the program and its output go to FOLDER, build/gpu without one
set -eu
command="$0 $*"
cd "$(dirname "$0")/.."
folder=${1:-build/gpu}
nvcc=${NVCC:-$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)}
mkdir -p "$folder"
"$nvcc" -std=c++20 --expt-relaxed-constexpr -O3 -arch="${GPTQ_GPU_ARCH:-native}" -Iinclude benchmarks/gpu.cu \
  include/gptq/backend/cuda/instantiations.cu -lcublas -lcusolver -o "$folder/gptq_gpu_benchmarks"
{
  date -u
  echo "$command, commit $(git rev-parse --short HEAD 2>/dev/null || echo unknown)"
  nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null || echo "no nvidia-smi"
  "$folder/gptq_gpu_benchmarks" || echo "FAILED: benchmarks, $?"
  if python3 -c 'import torch, triton; assert torch.cuda.is_available()' 2>/dev/null; then
    python3 benchmarks/gpu_triton.py || echo "FAILED: the rival, $?"
  else
    echo "SKIPPED: the Triton loop needs Python with PyTorch, Triton and a GPU"
  fi
} 2>&1 | tee "$folder/gpu.txt"
awk '/^own factor\+loop/ { own = $3 }
  /^rival factor\+loop/ { rival = $3 }
  END { if (own > 0 && rival > 0) printf "factor + loop against the fused Triton loop: %.2f times as fast\n", rival / own }' \
  "$folder/gpu.txt" >"$folder/ratio.txt"
cat "$folder/ratio.txt" | tee -a "$folder/gpu.txt"
rm "$folder/ratio.txt"
! grep -q '^FAILED' "$folder/gpu.txt"
