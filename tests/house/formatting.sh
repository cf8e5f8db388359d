#!/bin/sh
# SPDX-License-Identifier: MIT
# Checks that every source is formatted as clang-format 14 does.
#
#   sh tests/house/formatting.sh          reports the files that differ
#   sh tests/house/formatting.sh --mend   rewrites them
set -eu
cd "$(dirname "$0")/../.."
for formatter in clang-format-14 clang-format none; do
  "$formatter" --version 2>/dev/null | grep -q 'version 14\.' && break
done
if [ $formatter = none ]; then
  echo "SKIPPED: clang-format 14 is not installed, and others format differently"
  exit 0
fi
sources() { find include examples tests benchmarks \( -name '*.hpp' -o -name '*.cpp' -o -name '*.cuh' -o -name '*.cu' \) -print0; }
if [ "${1:-}" = --mend ]; then
  sources | xargs -0 "$formatter" -i
else
  sources | xargs -0 "$formatter" --dry-run --Werror
fi
