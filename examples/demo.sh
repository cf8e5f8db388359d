#!/bin/sh
# SPDX-License-Identifier: MIT
# Builds gptq and quantizes the model in examples/demo_model to 4, 3 and 2 bits: what it costs, beside rounding to
# nearest. Installs what is missing on Debian.
set -eu
cd "$(dirname "$0")/.."
. cmake/dependencies.sh
# shellcheck disable=SC2086
need_packages $build_packages

if [ ! -f build/CMakeCache.txt ]; then
  cmake -S . -B build -G Ninja -DCMAKE_BUILD_TYPE=Release -DGPTQ_BUILD_TESTS=OFF >/dev/null
fi
echo "building build/gptq"
cmake --build build --target gptq_program >build/build.log 2>&1 || { tail -n 30 build/build.log; exit 1; }

model=examples/demo_model
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

perplexity() { build/gptq eval "$1" --text $model/heldout.txt --sequence-length 512 --quiet | sed -n 's/^perplexity: //p'; }
megabytes() { awk "BEGIN { printf \"%.2f MB\", $(cat "$1"/*.safetensors | wc -c) / 1e6 }"; }

full=$(perplexity $model)
cost() { awk "BEGIN { printf \"%+.1f %%\", ($1 / $full - 1) * 100 }"; }

line() { printf '| %-24s | %10s | %8s | %8s | %7s |\n' "$@"; }
echo
line "" perplexity cost size time
line ------------------------ ---------: -------: -------: ------:
line "full precision (bf16)" "$full" "" "$(megabytes $model)" ""
for bits in 4 3 2; do
  for method in rtn gptq; do
    # Two bits have four levels: a zero point for each group uses them better.
    grid=--sym
    [ $bits = 2 ] && grid=--asym
    start=$(date +%s%N)
    build/gptq quantize $model --out "$work/$method$bits" --method $method --bits $bits $grid \
      --calibration $model/calibration.txt --samples 64 --sequence-length 512 --quiet >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
    seconds=$(awk "BEGIN { printf \"%.1f s\", ($(date +%s%N) - $start) / 1e9 }")
    name="round to nearest"
    [ $method = gptq ] && name=GPTQ
    after=$(perplexity "$work/$method$bits")
    line "$bits bits, $name" "$after" "$(cost "$after")" "$(megabytes "$work/$method$bits")" "$seconds"
  done
done
echo
echo "Quantize your own:  build/gptq quantize MODEL --out OUT --calibration text.txt"
