// SPDX-License-Identifier: MIT

#include "suite.hpp"

#include <gptq/exec/serial.hpp>

using gptq::backend::BasicCpu;

TEST_CASE("backend::Reference conforms", "[conformance]") {
  test::test_backend(gptq::backend::Reference{}, 1e-12);
}
TEST_CASE("backend::Cpu conforms", "[conformance]") {
  test::test_backend(gptq::backend::Cpu{}, 5e-6);
}
TEST_CASE("backend::BasicCpu<Serial> conforms", "[conformance]") {
  test::test_backend(BasicCpu<gptq::exec::Serial>{}, 5e-6);
}
TEST_CASE("backend::BasicCpu in double precision conforms", "[conformance]") {
  test::test_backend(BasicCpu<gptq::exec::Threads, double>{}, 1e-12);
}
