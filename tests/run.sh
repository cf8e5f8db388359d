#!/bin/sh
# SPDX-License-Identifier: MIT
# Builds and runs the tests. Installs what is missing on Debian. The last line counts them:
# N passed, N failed, N skipped.
#
#   sh tests/run.sh          what CI runs
#   sh tests/run.sh --all    with sanitizers, the second compiler, a minute for each fuzz target and more (docs/developing.md)
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

# suite PRESET [OPTION]: configures, builds and tests
suite() {
  echo "== $1: building"
  folder=$(sed -n "/\"name\": \"$1\"/,/binaryDir/s|.*sourceDir}/\\(.*\\)\".*|\\1|p" CMakePresets.json | head -n 1)
  [ -n "$folder" ] || folder=build
  mkdir -p "$folder"
  if ! { cmake --preset "$@" && cmake --build "$folder"; } >"$folder/build.log" 2>&1; then
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

. tests/real/models.sh
if gguf=$(real_model smollm2); then export GPTQ_TEST_GGUF="$PWD/$gguf"; fi
if gemma=$(real_model gemma3); then export GPTQ_TEST_GEMMA="$PWD/$gemma"; fi

# What is random is tried more often, and kernels are compiled for more GPUs.
if [ $all = yes ]; then export GPTQ_RELIABILITY_ROUNDS=8 GPTQ_TEST_ALL=1; fi
# What only a GPU can run takes minutes to compile.
gpu=OFF
if [ $all = yes ] || nvidia-smi -L >/dev/null 2>&1; then gpu=ON; fi
suite ci -DGPTQ_GPU_PROGRAMS=$gpu
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
