#!/bin/sh
# SPDX-License-Identifier: MIT
# Registers, stack and shared memory of the kernels, as reported by ptxas and their launchers, stay within
# the plan in docs/cuda.md.
#   sh resources.sh NVCC INCLUDE
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat >"$folder/kernels.cu" <<'SOURCE'
#include <gptq/backend/cuda/kernels.cuh>
#include <gptq/backend/cuda/matrix_kernels.cuh>
#include <gptq/scheme/affine.hpp>
#include <gptq/scheme/codebook.hpp>
#include <gptq/scheme/minifloat.hpp>
GPTQ_CUDA_SCHEME(gptq::scheme::Affine<4>);
GPTQ_CUDA_SCHEME(gptq::scheme::Asymmetric<4>);
GPTQ_CUDA_SCHEME(gptq::scheme::NF4);
GPTQ_CUDA_SCHEME(gptq::scheme::Float4);
#include <gptq/model/cuda/decoder.cu>
namespace gptq::backend::cuda {
template void load_panel(cudaStream_t, MatrixView<const bfloat16>, float, const Index*,
                         const std::uint8_t*, Index, Index, float*);
template void load_panels(cudaStream_t, const MatrixView<const float>*, Index, Index, float,
                          const Index*, const std::uint8_t*, Index, const Sections&, Index, float*);
template void largest_of_rows(cudaStream_t, MatrixView<const float>, float*);
template void arrange(cudaStream_t, const float*, Index, const Index*, double, const double*, double*);
template void narrow(cudaStream_t, MatrixView<const float>, bfloat16*);
// What the launchers request beyond what a kernel declares.
using Solver = kernels::Solve<kernel::LeftLooking, kernel::Blocks::dense, true, scheme::Affine<4>>;
static_assert(Solver::threads == 64 && Solver::shared_bytes(128) == 64 << 10);
static_assert(kernels::LoadPanel<float>::threads == 256 && kernels::LoadPanel<float>::shared_bytes <= 5 << 10);
using Attention = model::cuda::kernels::Attend<32, 4>;
static_assert(Attention::threads == 256 && Attention{{.head_dim = 128, .value_dim = 128}}.shared() <= 72 << 10);
}
SOURCE
known=$("$1" --list-gpu-code)
architectures=
more=
if [ -n "${GPTQ_TEST_ALL:-}" ]; then more="80 120"; fi
for a in 75 90 $more; do
  case $known in
    *sm_$a*) architectures="$architectures $a" ;;
    *) echo "this nvcc does not know sm_$a" ;;
  esac
done
for a in $architectures; do
  "$1" -std=c++20 --expt-relaxed-constexpr -O3 -Werror all-warnings -I"$2" -arch=sm_"$a" -Xptxas -v -cubin "$folder/kernels.cu" \
    -o "$folder/$a.cubin" >"$folder/$a.txt" 2>&1 || echo "sm_$a: not compiled" >>"$folder/$a.txt" &
done
wait
for a in $architectures; do
  if grep 'not compiled' "$folder/$a.txt"; then
    cat "$folder/$a.txt"
    exit 1
  fi
  awk -v architecture="$a" '
    /Compiling entry function/ { kernel = $0; total++ }
    /bytes stack frame/ {
      stack = $0; sub(/ bytes stack frame.*/, "", stack); sub(/^[^0-9]*/, "", stack)
      if ($0 !~ / 0 bytes spill stores, 0 bytes spill loads/) { print kernel, "spills:", $0; bad++ }
      # Tables and patterns are arrays in memory; the dense solver of affine grids has none.
      most_stack = kernel ~ /5Solve[^ ]*6BlocksE1E.*6Affine/ ? 0 : 256
      if (stack + 0 > most_stack) { print kernel, "has a stack of", stack; bad++ }
    }
    /Used [0-9]+ registers/ {
      match($0, /Used [0-9]+/); registers = substr($0, RSTART + 5, RLENGTH - 5) + 0
      limit = 64
      if (kernel ~ /5Solve/) { solve++; limit = 144 }
      if (kernel ~ /6Attend/) { attend++; limit = 80 }
      if (/bytes smem/) { print kernel, "has shared memory of its own:", $0; bad++ }
      if (kernel ~ /LoadPanel/) load++
      if (registers > limit) { print kernel, "uses", registers, "registers of", limit; bad++ }
      if (registers > most) most = registers
    }
    END {
      print "sm_" architecture ": " total " kernels, " solve " of them solve; at most " most " registers, no spills"
      if (solve < 32 || attend < 3 || load < 2) { print "kernels are missing"; bad++ }
      exit bad > 0
    }' "$folder/$a.txt"
done
