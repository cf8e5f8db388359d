// SPDX-License-Identifier: MIT

// What a real device seldom does on request: be absent, and run out of memory.

#include "../../support/catch.hpp"
#include "../../support/layer.hpp"
#include "host_device.hpp"

#include <gptq/backend/cuda.hpp>

using gptq::backend::Cuda;

TEST_CASE("a machine without a device says so", "[cuda]") {
  test::host_device().devices = 0;
  CHECK(gptq::backend::cuda::device_count() == 0);
  try {
    const Cuda backend;
    FAIL("there is none");
  } catch (const gptq::CudaError& error) {
    CHECK(std::string(error.what()).find("no CUDA device can be used: cudaErrorNoDevice") == 0);
  }
  test::host_device().devices = 1;
}

TEST_CASE("too little memory is told with what was asked for and what there is", "[cuda]") {
  test::host_device().memory = std::size_t{3} << 20;
  {
    const Cuda backend;
    try {
      gptq::Hessian<Cuda> hessian(1024, backend);
      FAIL("it does not fit");
    } catch (const gptq::OutOfMemory& error) {
      CHECK(std::string(error.what()).find("no memory for 4 MiB more: 3 of 3 MiB are free") !=
            std::string::npos);
    }
  }
  CHECK(test::host_device().used == 0);
  // In a solve: what the plan proposes.
  const auto layer = test::random_layer({.out = 64, .in = 512, .tokens = 600});
  test::host_device().memory = std::size_t{8} << 30;
  {
    gptq::Params params{.group_size = 128, .solver = gptq::Solver::lazy_batch};
    const auto hessian = test::calibrate(layer, Cuda{});
    const gptq::Quantizer<gptq::scheme::Int4, Cuda> quantizer(params);
    test::host_device().memory = test::host_device().used + (std::size_t{1} << 19);
    CHECK_THAT(error_of<gptq::OutOfMemory>([&] { (void)quantizer.quantize(layer.w(), hessian); }),
               ContainsSubstring("has no memory for 1 MiB more: 0 of ") &&
                   ContainsSubstring("a weight of 64 x 512 takes ") &&
                   ContainsSubstring("with Solver::left_looking: ") &&
                   ContainsSubstring("in two halves of its rows"));
  }
  test::host_device().memory = std::size_t{8} << 30;
  CHECK(test::host_device().used == 0);
}

TEST_CASE("a weight takes no more of the device than the plan says, and all of it is given back",
          "[cuda]") {
  const auto layer = test::random_layer({.out = 256, .in = 512, .tokens = 600});
  test::HostDevice& device = test::host_device();
  for (const gptq::Solver solver : {gptq::Solver::left_looking, gptq::Solver::lazy_batch}) {
    gptq::Params params{.group_size = 128, .solver = solver};
    const Cuda backend;
    const auto hessian = test::calibrate(layer, backend);
    const std::size_t before = device.used;
    device.peak = before;
    const gptq::Quantizer<gptq::scheme::Int4, Cuda> quantizer(params);
    static_cast<void>(quantizer.quantize(layer.w(), hessian));
    const auto plan = gptq::memory_plan(256, 512, params, backend);
    CHECK(static_cast<gptq::Index>(device.peak - before) <= plan.peak());
  }
  CHECK(device.used == 0);
}
