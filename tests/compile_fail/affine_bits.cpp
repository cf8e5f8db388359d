// SPDX-License-Identifier: MIT
// expects: gptq: an affine scheme has 2 to 8 bits

#include <gptq/scheme/affine.hpp>

#ifdef GPTQ_TEST_FAIL
constexpr int bits = 9;
#else
constexpr int bits = 8;
#endif

int codes() { return gptq::scheme::Affine<bits>::max_code; }
