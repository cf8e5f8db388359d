#!/bin/sh
# SPDX-License-Identifier: MIT
# An object of a program that links gptq::compiled refers to the library's solver and contains none itself.
#   sh leans_on_library.sh NM OBJECT
set -eu
symbols=$("$1" -C "$2")
echo "$symbols" | grep -q " U .*gptq::solver::round<" || { echo "the solver is not asked for"; exit 1; }
if echo "$symbols" | grep -q " [TtWw] .*gptq::\(kernel::solve_columns\|factorize\)<"; then
  echo "the solver was compiled here too"
  exit 1
fi
