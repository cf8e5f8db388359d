// SPDX-License-Identifier: MIT
// expects: Backend<.*Threads|Threads' does not satisfy 'Backend'

#include <gptq/backend/cpu.hpp>
#include <gptq/quantizer.hpp>

#ifdef GPTQ_TEST_FAIL
using Backend = gptq::exec::Threads;  // an executor is not a backend
#else
using Backend = gptq::backend::BasicCpu<gptq::exec::Threads>;
#endif

gptq::Hessian<Backend> hessian(64);
