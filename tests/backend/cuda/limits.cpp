// SPDX-License-Identifier: MIT

// What a real device rarely does on request: be absent, or run out of memory.

#include "../../support/catch.hpp"
#include "../../support/layer.hpp"
#include "host_device.hpp"
#include "ties.hpp"

#include <gptq/backend/cuda.hpp>

#include <numeric>  // std::iota

using gptq::Index;
using gptq::backend::Cuda;

namespace {

/// How often one stream is told to wait for another during the work.
template <class Work>
int waits(const Work& work) {
  const int before = test::host_device().waits;
  work();
  return test::host_device().waits - before;
}

}  // namespace

TEST_CASE("dynamic grids are fitted to the weights that the check of ties assumes", "[cuda]") {
  using gptq::Groups, gptq::Order;
  const auto layer = test::random_layer({.out = 12, .in = 96, .tokens = 300});
  for (const Order order : {Order::natural, Order::act, Order::group_aware, Order::min_pivot}) {
    const gptq::Params params{.group_size = 32, .order = order, .groups = Groups::dynamic};
    const auto q = test::quantize<gptq::scheme::Int4, Cuda>(layer, params);
    const gptq::backend::Reference exact;
    const auto factor = gptq::factorize(test::calibrate(layer, exact), params);
    const auto& layout = factor.layout;
    test::Matrix r(96, 96);
    exact.download(factor.r, gptq::MatrixView<double>(r.data.data(), 96, 96));
    const auto search = gptq::scheme::range_search(params, 1, 1);
    Index apart = 0;
    for (Index row = 0; row < 12; ++row) {
      test::ExactRow solve(r, layout, layer.weight, row);
      for (Index p = 0; p < 96; ++p) {
        const Index g = layout.group()[std::size_t(p)];
        if (p == 0 || layout.group()[std::size_t(p - 1)] != g) {
          const auto members = layout.members(g);
          const auto values = solve.source(g, true);
          const auto grid = gptq::scheme::fit_grid<float>(
              q.scheme(), [&](Index j) { return static_cast<float>(values[std::size_t(j)]); },
              [&](Index j) {
                return static_cast<float>(layout.pivots()[std::size_t(members[std::size_t(j)])]);
              },
              static_cast<Index>(members.size()), search);
          apart += std::abs(grid.scale - q.scales()(row, g)) > 1e-5f * std::abs(grid.scale);
        }
        solve.set(p, static_cast<double>(q(row, layout.column(p))));
      }
    }
    INFO("order " << static_cast<int>(order));
    CHECK(apart <= 1);  // of 36; two scales may be equally good
  }
}

TEST_CASE("another backend's matrix is read in the order of both streams", "[cuda]") {
  const auto layer = test::random_layer({.out = 8, .in = 64, .tokens = 100});
  const Cuda backend;
  auto sum = test::calibrate<Cuda>(layer, backend);
  const auto same = test::calibrate<Cuda>(layer, backend), apart = test::calibrate<Cuda>(layer);
  CHECK(waits([&] { sum.merge(same); }) == 0);
  CHECK(waits([&] { sum.merge(apart); }) == 2);  // for its writes, and before it may be freed
  std::vector<float> numbers(64 * 64);
  const gptq::MatrixView<float> to(numbers.data(), 64, 64);
  CHECK(waits([&] { backend.download(sum.sum(), to); }) == 0);
  CHECK(waits([&] { backend.download(apart.sum(), to); }) == 2);
  test::host_device().devices = 2;
  const auto elsewhere = test::calibrate<Cuda>(layer, Cuda(1));
  test::host_device().devices = 1;
  CHECK_THROWS_WITH(sum.merge(elsewhere), ContainsSubstring("device 1 cannot be read on device 0"));
}

TEST_CASE("an overlapping copy is visible only to those who wait for it", "[cuda]") {
  namespace cuda = gptq::backend::cuda;
  const Cuda backend;
  const auto runtime = backend.runtime();
  const std::vector<float> numbers{1, 2, 3, 4};
  cuda::DeviceMatrix<float> to(runtime, 1, 4);
  cuda::copy_rows(*runtime, gptq::MatrixView<const float>(numbers.data(), 1, 4), false, to.data(),
                  runtime->copies());
  const auto there = [&] { return cuda::to_vector(*runtime, to) == numbers; };
  CHECK_FALSE(there());
  cuda::Event arrived;
  arrived.record(runtime->copies());
  CHECK_FALSE(there());
  arrived.hold(runtime->stream());
  CHECK(there());
}

TEST_CASE("an overlapping copy waits for free memory, and the work waits for the copy", "[cuda]") {
  namespace cuda = gptq::backend::cuda;
  const Cuda backend;
  constexpr Index rows = 5, cols = cuda::staging_bytes / 2 / Index(sizeof(float));
  const auto parts = [&](const float* from) {
    return waits([&] {
      const gptq::MatrixView<const float> matrix(from, rows, cols, 0, 1);  // one row five times
      cuda::for_parts_on_device(backend.runtime(), matrix, [](auto, Index) {});
    });
  };
  const std::vector<float> row(cols);
  CHECK(parts(row.data()) == 2 * rows);
  const auto pinned = cuda::DeviceMatrix<float>::pinned(backend.runtime(), 1, cols);
  CHECK(parts(pinned.data()) == 2 * rows);  // the host reads it, after the device's last write
  const auto all = cuda::DeviceMatrix<float>::pinned(backend.runtime(), 2, cols);
  const gptq::MatrixView<const float> dense(all.data(), 2, cols);
  CHECK(waits([&] { cuda::for_parts_on_device(backend.runtime(), dense, [](auto, Index) {}); }) ==
        1 + 2 * 2);  // the device's queued writes there come first
  struct Stop {};
  std::vector<float> big(2 * std::size_t(cols), 1.0f);
  CHECK_THROWS_AS(cuda::for_parts_on_device(backend.runtime(),
                                            gptq::MatrixView<const float>(big.data(), 2, cols),
                                            [](auto, Index) { throw Stop{}; }),
                  Stop);
}

TEST_CASE("a machine without a device says so", "[cuda]") {
  test::host_device().devices = 0;
  CHECK(gptq::backend::cuda::device_count() == 0);
  try {
    const Cuda backend;
    FAIL("there is no device");
  } catch (const gptq::CudaError& error) {
    CHECK(std::string(error.what()).find("no CUDA device can be used: cudaErrorNoDevice") == 0);
  }
  test::host_device().devices = 1;
}

TEST_CASE("out of memory is reported with the amounts requested and free", "[cuda]") {
  test::host_device().memory = std::size_t{3} << 20;
  {
    const Cuda backend;
    try {
      gptq::Hessian<Cuda> hessian(1024, backend);
      FAIL("it does not fit");
    } catch (const gptq::OutOfMemory& error) {
      CHECK_THAT(error.what(), ContainsSubstring("no memory for 4 MiB more: 3 of 3 MiB are free") &&
                                   ContainsSubstring("a Hessian of 1024 inputs takes 4 MiB"));
    }
  }
  CHECK(test::host_device().used == 0);
  // In a solve, also what the plan proposes.
  const auto layer = test::random_layer({.out = 64, .in = 512, .tokens = 600});
  test::host_device().memory = std::size_t{8} << 30;
  {
    gptq::Params params{.group_size = 128, .solver = gptq::Solver::lazy_batch};
    auto hessian = test::calibrate(layer, Cuda{});
    const gptq::Quantizer<gptq::scheme::Int4, Cuda> quantizer(params);
    test::host_device().memory = test::host_device().used + (std::size_t{1} << 19);
    CHECK_THAT(error_of<gptq::OutOfMemory>([&] { (void)quantizer.quantize(layer.w(), hessian); }),
               ContainsSubstring("has no memory for 1 MiB more: 0 of ") &&
                   ContainsSubstring("a weight of 64 x 512 takes ") &&
                   ContainsSubstring("with Solver::left_looking: ") &&
                   ContainsSubstring("in two halves of its rows"));
    CHECK_THAT(error_of<gptq::OutOfMemory>([&] { (void)quantizer.factorize(hessian); }),
               ContainsSubstring("has no memory for 1 MiB more: 0 of ") &&
                   ContainsSubstring("factoring a Hessian of 512 inputs takes ") &&
                   ContainsSubstring("with Solver::left_looking: "));
    const double tokens = hessian.tokens();
    test::host_device().memory = test::host_device().used + (std::size_t{1} << 19);
    CHECK_THAT(error_of<gptq::OutOfMemory>([&] { hessian.add(layer.x()); }),
               ContainsSubstring("a Hessian of 512 inputs takes 1 MiB, and adding to it at most "));
    CHECK(hessian.tokens() == tokens);
  }
  test::host_device().memory = std::size_t{8} << 30;
  CHECK(test::host_device().used == 0);
}

TEST_CASE("a weight takes no more device memory than planned, and all of it is freed", "[cuda]") {
  test::HostDevice& device = test::host_device();
  // Wide and tall, so that strips of rows and sums over warps count.
  for (const auto& [out, in] : {std::pair<gptq::Index, gptq::Index>{256, 512}, {2100, 192}}) {
    const auto layer = test::random_layer({.out = out, .in = in, .tokens = 600});
    for (const gptq::Solver solver : {gptq::Solver::left_looking, gptq::Solver::lazy_batch}) {
      gptq::Params params{.group_size = 64, .solver = solver};
      const Cuda backend;
      const auto hessian = test::calibrate(layer, backend);
      const std::size_t before = device.used;
      device.peak = before;
      const gptq::Quantizer<gptq::scheme::Int4, Cuda> quantizer(params);
      static_cast<void>(quantizer.quantize(layer.w(), hessian));
      const auto plan = gptq::memory_plan(out, in, params, backend);
      const auto taken = static_cast<gptq::Index>(device.peak - before);
      // Without what is on the host, and cuBLAS's workspace, which takes nothing here.
      const gptq::Index planned = plan.factor + plan.panel * plan.panels;
      INFO(out << " x " << in << ": " << taken << " of " << planned);
      CHECK(taken <= planned);
      CHECK(taken >= planned * 8 / 10);
    }
  }
  // More than is copied at once: takes both halves of the staging memory.
  constexpr Index rows = 16384, cols = 520;
  const Cuda backend;
  const std::vector<float> weight(std::size_t(rows * cols));
  std::vector<Index> order(static_cast<std::size_t>(cols));
  std::iota(order.begin(), order.end(), Index{0});
  const gptq::ColumnLayout layout(order, 65);
  const std::size_t before = device.used;
  device.peak = before;
  const gptq::MatrixView<const float> view(weight.data(), rows, cols);
  const gptq::Section<float> section{view, &layout};
  (void)Cuda::Worker(backend.runtime()).load_panel(std::span(&section, 1), 1);
  const auto taken = static_cast<Index>(device.peak - before);
  CHECK(taken > 9 * rows * cols + gptq::backend::cuda::staging_bytes * 9 / 10);
  CHECK(taken <= gptq::memory_plan(rows, cols, {.group_size = 65}, backend).panel);
  CHECK(device.used == 0);
}

TEST_CASE("refusals by libraries and the host are reported by name, with the free memory",
          "[cuda]") {
  namespace cuda = gptq::backend::cuda;
  CHECK_THAT(error_of<gptq::OutOfMemory>(
                 [] { cuda::check(CUSOLVER_STATUS_ALLOC_FAILED, "cusolverDnXpotrf"); }),
             ContainsSubstring("CUSOLVER_STATUS_ALLOC_FAILED (2, no memory") &&
                 ContainsSubstring("reported at cusolverDnXpotrf: 8192 of 8192 MiB are free"));
  CHECK_THAT(
      error_of<gptq::OutOfMemory>([] { cuda::check(CUBLAS_STATUS_ALLOC_FAILED, "cublasGemmEx"); }),
      ContainsSubstring("reported at cublasGemmEx: 8192 of 8192 MiB are free"));
  CHECK_THAT(error_of<gptq::CudaError>(
                 [] { cuda::check(CUSOLVER_STATUS_INVALID_WORKSPACE, "cusolverDnXpotrf"); }),
             ContainsSubstring("CUSOLVER_STATUS_INVALID_WORKSPACE (31, "));
  const Cuda backend;
  test::host_device().pinnable = 0;
  CHECK_THAT(error_of<gptq::OutOfMemory>(
                 [&] { (void)cuda::DeviceMatrix<float>::pinned(backend.runtime(), 1024, 1024); }),
             ContainsSubstring("the host has no memory to pin for 4 MiB more"));
  test::host_device().pinnable = std::size_t{8} << 30;
}

TEST_CASE("activations are copied while the device works on earlier ones", "[cuda]") {
  const auto layer = test::random_layer({.out = 8, .in = 64, .tokens = 100});
  const Cuda backend;
  auto hessian = test::calibrate(layer, backend);
  // The work waits for the copy, not the copy for the work.
  CHECK(waits([&] { hessian.add(layer.x()); }) == 1);
}

TEST_CASE("a backend works on the device that it was created for", "[cuda]") {
  const auto layer = test::random_layer({.out = 20, .in = 64, .tokens = 200});
  const gptq::Params params{.group_size = 32};
  const auto first = test::quantize<gptq::scheme::Int4, Cuda>(layer, params);
  test::host_device().devices = 2;
  {
    const Cuda second(1);
    const auto other = test::quantize<gptq::scheme::Int4, Cuda>(layer, params, second);
    CHECK(test::code_differences(first, other) == 0);
    const auto sum = test::calibrate(layer, second);
    cudaPointerAttributes attributes{};
    CHECK(cudaPointerGetAttributes(&attributes, sum.sum().data()) == cudaSuccess);
    CHECK(attributes.device == 1);
    int current = -1;
    CHECK(cudaGetDevice(&current) == cudaSuccess);
    CHECK(current == 0);
  }
  test::host_device().devices = 1;
}

TEST_CASE("many experts take no more products than one", "[cuda]") {
  const Cuda backend;
  std::vector<test::Layer> layers;
  std::vector<gptq::Hessian<Cuda>> hessians;
  std::vector<gptq::MatrixView<const float>> weights;
  std::vector<const gptq::Hessian<Cuda>*> pointers;
  for (std::uint32_t i = 0; i < 6; ++i)
    layers.push_back(test::random_layer({.out = 40, .in = 256, .tokens = 300, .seed = i}));
  for (const auto& layer : layers) {
    weights.push_back(layer.w());
    hessians.push_back(test::calibrate(layer, backend));
  }
  for (const auto& hessian : hessians) pointers.push_back(&hessian);
  gptq::Params params{.group_size = 64, .block_size = 32};
  params.measure = gptq::Measure::none;
  const gptq::Quantizer<gptq::scheme::Int4, Cuda> quantizer(params);
  int& products = test::host_device().products;
  const auto count = [&](const auto& work) {
    const int before = products;
    work();
    return products - before;
  };
  const int one = count([&] { (void)quantizer.quantize(weights[0], hessians[0]); });
  CHECK(one == 7);
  CHECK(count([&] {
          (void)quantizer.quantize(std::span<const gptq::MatrixView<const float>>(weights),
                                   std::span<const gptq::Hessian<Cuda>* const>(pointers));
        }) == one);
  gptq::Params own_units{.group_size = 64, .block_size = 32};
  own_units.scale_type = gptq::ScaleType::fp8_e4m3;
  own_units.measure = gptq::Measure::none;
  CHECK(count([&] {
          (void)gptq::Quantizer<gptq::scheme::Int4, Cuda>(own_units).quantize(
              std::span<const gptq::MatrixView<const float>>(weights),
              std::span<const gptq::Hessian<Cuda>* const>(pointers));
        }) == one);
  const auto factor = quantizer.factorize(hessians[0]);
  CHECK(count([&] {
          (void)quantizer.quantize(std::span<const gptq::MatrixView<const float>>(weights), factor);
        }) == one);
}

TEST_CASE("devices that cannot multiply bfloat16 work without it", "[cuda]") {
  test::host_device().capability = 7;
  {
    const auto layer = test::random_layer({.out = 16, .in = 64, .tokens = 200});
    const Cuda backend(0, nullptr, gptq::Precision::split);
    gptq::Hessian<Cuda> hessian(64, backend);
    std::vector<gptq::bfloat16> x;
    for (const float value : layer.activations_f) x.push_back(gptq::to_bfloat16(value));
    hessian.add(gptq::MatrixView<const gptq::bfloat16>(x.data(), 200, 64));
    hessian.add(layer.x());
    const auto q =
        gptq::Quantizer<gptq::scheme::Int4, Cuda>({.group_size = 32}).quantize(layer.w(), hessian);
    CHECK(q.report().relative_error < q.report().rtn_relative_error);
  }
  test::host_device().capability = 9;
}
