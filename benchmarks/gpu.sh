#!/bin/sh
# SPDX-License-Identifier: MIT
# Measures the CUDA backend on this machine's GPU, in a few minutes. Needs only nvcc. Also uses, if available:
# compute-sanitizer, for all stages at small sizes; the tests with label gpu, if they have been built; PyTorch and Triton, for a
# fused loop of the same algorithm in the same run.
#   sh benchmarks/gpu.sh [FOLDER]     the output goes to FOLDER/<device>-<date>.txt; default: benchmarks/results
#   BUILD=build                       the build tree: the program is built in its gpu/, the tests are expected in its tests/
#   NVCC, GPTQ_GPU_ARCH               the compiler and its -arch (native)
set -eu
command="sh benchmarks/gpu.sh $*"
cd "$(dirname "$0")/.."
build=${BUILD:-build}
nvcc=${NVCC:-$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)}
program=$build/gpu/gptq_gpu_benchmarks
device=
results=$build/gpu  # without a GPU, nothing to keep
if names=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null) && [ -n "$names" ]; then
  device=$(echo "$names" | head -n 1 | tr 'A-Z ' 'a-z-' | tr -cd 'a-z0-9-')
  results=benchmarks/results
fi
folder=${1:-$results}
output=$folder/${device:-no-device}-$(date -u +%Y-%m-%d).txt
mkdir -p "$folder" "$build/gpu"
"$nvcc" -std=c++20 --expt-relaxed-constexpr -O3 -lineinfo -arch="${GPTQ_GPU_ARCH:-native}" -Iinclude benchmarks/gpu.cu \
  include/gptq/backend/cuda/instantiations.cu -lcublas -lcusolver -o "$program"

sanitize() {
  sanitizer=$(command -v compute-sanitizer || echo "$(dirname "$nvcc")/compute-sanitizer")
  if [ ! -x "$sanitizer" ] || [ -z "$device" ]; then
    echo "SKIPPED: compute-sanitizer is missing, or there is no GPU"
    return
  fi
  for tool in memcheck racecheck initcheck synccheck; do
    if "$sanitizer" --tool "$tool" --error-exitcode 99 "$program" --small >"$build/gpu/$tool.txt" 2>&1 &&
      ! grep -q '^SKIPPED' "$build/gpu/$tool.txt"; then
      echo "compute-sanitizer $tool: clean"
    else
      echo "FAILED: compute-sanitizer $tool:"
      tail -n 40 "$build/gpu/$tool.txt"
    fi
  done
}

tests() {
  for name in gptq_tests_gpu gptq_tests_decoder_gpu; do
    if [ -x "$build/tests/$name" ]; then
      "$build/tests/$name" || echo "FAILED: $name, $?"
    else
      echo "SKIPPED: $name is not in $build/tests"
    fi
  done
}

rival() {
  if python3 -c 'import torch, triton; assert torch.cuda.is_available()' 2>/dev/null; then
    python3 benchmarks/gpu_triton.py || echo "FAILED: the rival, $?"
  else
    echo "SKIPPED: the Triton loop needs Python with PyTorch, Triton and a GPU"
  fi
}

{
  date -u
  echo "$command, commit $(git rev-parse --short HEAD 2>/dev/null || echo unknown)"
  nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null || echo "no nvidia-smi"
  "$program" || echo "FAILED: benchmarks, $?"
  rival
  sanitize
  tests
  echo END
} 2>&1 | tee "$output"
awk '/^own factor\+loop/ { own = $3 }
  /^rival factor\+loop/ { rival = $3 }
  END { if (own > 0 && rival > 0) printf "factor + loop against the fused Triton loop: %.2f times as fast\n", rival / own }' \
  "$output" >"$build/gpu/ratio.txt"
tee -a "$output" <"$build/gpu/ratio.txt"
echo "written to $output"
grep -q '^END' "$output" && ! grep -q '^FAILED' "$output"
