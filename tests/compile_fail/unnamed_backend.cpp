// SPDX-License-Identifier: MIT

// A backend that owns resources is never created implicitly.
// expects: gptq: name the backend

#include <gptq/gptq.hpp>

struct Device : gptq::backend::Cpu {
  static constexpr bool must_be_named = true;
};

int main() {
  const Device device;
#ifdef GPTQ_TEST_FAIL
  const gptq::Hessian<Device> hessian(32);
#else
  const gptq::Hessian<Device> hessian(32, device);
#endif
  return hessian.in_features() == 32 ? 0 : 1;
}
