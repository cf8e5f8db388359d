// SPDX-License-Identifier: MIT

// The one source of gptq::compiled.

#include <gptq/compiled.hpp>

GPTQ_COMPILED_ALL();
