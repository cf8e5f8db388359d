#!/bin/sh
# SPDX-License-Identifier: MIT
# Runs one fuzz target: first the inputs that once failed, then new ones. Prints a row of the table in docs/reliability.md:
# target, executions, executions per second, coverage (edges and comparisons), findings. Findings and the corpus stay in the
# build folder, under findings/ and corpus/; a later run continues from there.
#
#   cmake --preset fuzz && cmake --build build-fuzz
#   sh tests/fuzz/run.sh TARGET SECONDS [BUILD_FOLDER/tests/fuzz]
#
# SECONDS 0: only the inputs that once failed.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
target=$1 seconds=$2
built=$(cd "${3:-$here/../../build-fuzz/tests/fuzz}" && pwd)
made=$built/../../fuzz_inputs
findings=$built/findings/$target corpus=$built/corpus/$target
mkdir -p "$findings" "$corpus"

# The harness keeps its files in memory. Children of an aborted run leave theirs behind.
memory=/dev/shm
[ -d $memory ] && [ -w $memory ] || memory=${TMPDIR:-/tmp}
TMPDIR=$(mktemp -d "$memory/gptq-fuzz-$target-XXXXXX")
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT
trap 'exit 130' INT TERM HUP

export ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=0:detect_stack_use_after_return=0
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
fuzzer="$built/fuzz_$target -timeout=10 -rss_limit_mb=2048 -malloc_limit_mb=1024 -artifact_prefix=$findings/"

failed=0
for input in "$here/regressions/$target"/* "$made/regressions/$target"/*; do
  [ -f "$input" ] || continue
  # shellcheck disable=SC2086
  if ! $fuzzer "$input" >"$built/$target.regression.log" 2>&1; then
    echo "fails again: $input"
    grep -E -m 2 'ERROR|runtime error|SUMMARY|does not hold' "$built/$target.regression.log" || tail -n 3 "$built/$target.regression.log"
    failed=$((failed + 1))
  fi
done
[ "$seconds" -gt 0 ] || exit $((failed > 0))

touch "$built/$target.start"
# A separate process for the inputs: a finding is kept, and the run goes on.
# shellcheck disable=SC2086
$fuzzer -fork=1 -ignore_crashes=1 -ignore_ooms=1 -ignore_timeouts=1 -max_total_time="$seconds" -max_len=16384 \
  -dict="$made/$target.dict" "$corpus" "$made/seeds/$target" >"$built/$target.log" 2>&1 || true
found=$(find "$findings" -type f -newer "$built/$target.start" | wc -l)
awk -v target="$target" -v seconds="$seconds" -v found="$found" '
  /^#[0-9]+: cov:/ { executions = substr($1, 2) + 0; coverage = $3 }
  END { printf "| %s | %d | %d | %d | %d | %d |\n", target, executions, seconds, executions / seconds, coverage, found
        exit executions == 0 }' "$built/$target.log" || { tail -n 5 "$built/$target.log"; failed=$((failed + 1)); }
if [ "$found" -gt 0 ]; then
  find "$findings" -type f -newer "$built/$target.start"
  grep -E 'ERROR: |runtime error|does not hold' "$built/$target.log" | sed 's/^==[0-9]*==//' | sort | uniq -c | sort -rn | head -n 10
fi
[ $((failed + found)) -eq 0 ]
