// SPDX-License-Identifier: MIT

// Flags with which rounding disappears and reports are perfect.
// expects: gptq needs IEEE arithmetic
// fails with: -ffast-math
// fails with: -Ofast
// fails with: -ffinite-math-only
// fails with, in g++: -fassociative-math -fno-signed-zeros -fno-trapping-math

#include <gptq/gptq.hpp>

int main() {}
