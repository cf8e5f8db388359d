#!/bin/sh
# SPDX-License-Identifier: MIT
# Registers and stack of the kernels, as ptxas reports them, stay within what docs/cuda.md plans with.
#   sh resources.sh NVCC INCLUDE
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat >"$folder/kernels.cu" <<'SOURCE'
#include <gptq/backend/cuda/kernels.cuh>
#include <gptq/scheme/affine.hpp>
#include <gptq/scheme/codebook.hpp>
GPTQ_CUDA_SCHEME(gptq::scheme::Affine<4>);
GPTQ_CUDA_SCHEME(gptq::scheme::NF4);
#include <gptq/model/cuda/decoder.cu>
SOURCE
for architecture in 80 90; do
  "$1" -std=c++20 --expt-relaxed-constexpr -O3 -I"$2" -arch=sm_$architecture -Xptxas -v -cubin "$folder/kernels.cu" \
    -o "$folder/kernels.cubin" >"$folder/report" 2>&1 || { cat "$folder/report"; exit 1; }
  awk -v architecture=$architecture '
    /Compiling entry function/ { kernel = $0; total++ }
    /bytes stack frame/ {
      stack = $0; sub(/ bytes stack frame.*/, "", stack); sub(/^[^0-9]*/, "", stack)
      if ($0 !~ / 0 bytes spill stores, 0 bytes spill loads/) { print kernel, "spills:", $0; bad++ }
      # Tables and patterns have arrays that are walked; the dense solver of affine grids has none.
      most_stack = kernel ~ /5SolveINS_6kernel[0-9]+[A-Za-z]+ELb0E.*6Affine/ ? 0 : 256
      if (stack + 0 > most_stack) { print kernel, "has a stack of", stack; bad++ }
    }
    /Used [0-9]+ registers/ {
      match($0, /Used [0-9]+/); registers = substr($0, RSTART + 5, RLENGTH - 5) + 0
      limit = 64
      if (kernel ~ /5Solve/) { solve++; limit = 136 }
      if (kernel ~ /6Attend/) { attend++; limit = 80 }
      if (registers > limit) { print kernel, "uses", registers, "registers of", limit; bad++ }
      if (registers > most) most = registers
    }
    END {
      print "sm_" architecture ": " total " kernels, " solve " of them solve; at most " most " registers, no spills"
      if (solve < 16 || attend < 3) { print "kernels are missing"; bad++ }
      exit bad > 0
    }' "$folder/report"
done
