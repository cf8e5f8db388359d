#!/bin/sh
# SPDX-License-Identifier: MIT
# Quantizes a model as in the tables in README.md and docs/models.md and prints where the time goes.
#
#   GPTQ_TEST_DATA=FOLDER sh benchmarks/real_model.sh [smollm2|gemma3] [OPTIONS OF gptq quantize]
#
# FOLDER contains calibration.txt and heldout.txt (two parts of the WikiText-2 test set). The models, SmolLM2-135M-Instruct (Q4_1) and
# Gemma 3 270M (Q4_K_M), come from PyPI. GPTQ_PROGRAM is the program, if not build/gptq.
set -eu
cd "$(dirname "$0")/.."
: "${GPTQ_TEST_DATA:?must name a folder with calibration.txt and heldout.txt}"
. tests/real/models.sh
model=smollm2
case ${1:-} in
  smollm2 | gemma3) model=$1 && shift ;;
esac
gguf=$(real_model $model)
program=${GPTQ_PROGRAM:-build/gptq}
[ -x "$program" ] || sh examples/demo.sh >/dev/null

out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
eval="--text $GPTQ_TEST_DATA/heldout.txt --windows 40 --sequence-length 1024 --quiet"
"$program" quantize "$gguf" --out "$out/model" --calibration "$GPTQ_TEST_DATA/calibration.txt" --samples 64 --sequence-length 512 \
  --bits 4 --group-size 64 --quiet --report "$out/report.json" "$@"
echo
echo "full precision"
# shellcheck disable=SC2086
"$program" eval "$gguf" $eval
echo "quantized"
# shellcheck disable=SC2086
"$program" eval "$out/model" $eval
