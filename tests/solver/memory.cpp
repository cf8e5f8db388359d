// SPDX-License-Identifier: MIT

// Heap use of quantization compared with the memory plan.

#include "../support/allocations.hpp"
#include "../support/catch.hpp"
#include "../support/layer.hpp"
#include "../support/numbers.hpp"

#include <vector>

using gptq::Index;
using gptq::MatrixView;
using gptq::MemoryPlan;
using gptq::Order;
using gptq::Params;
using gptq::Solver;
using gptq::scheme::Int4;
using test::Allocations;
using test::random_numbers;
using Cpu = gptq::backend::Cpu;
using Reference = gptq::backend::Reference;

namespace {

struct Variant {
  const char* name;
  Params params;
};

std::vector<Variant> variants() {
  std::vector<Variant> all{{"plain", {}},        {"double", {}},    {"lazy", {}},
                           {"lazy, double", {}}, {"min-pivot", {}}, {"unmeasured", {}},
                           {"dynamic", {}},      {"sparse", {}},    {"short groups", {}},
                           {"whole rows", {}}};
  all[1].params.factor_in_double = all[3].params.factor_in_double = true;
  all[2].params.solver = all[3].params.solver = Solver::lazy_batch;
  all[4].params.order = Order::min_pivot;
  all[5].params.measure = gptq::Measure::none;
  all[6].params.groups = gptq::Groups::dynamic;
  all[7].params.order = Order::natural;
  all[7].params.sparsity = {2, 4};
  all[8].params.group_size = 16;
  all[9].params.group_size = -1;
  return all;
}

/// A heap block is rounded up and has a header.
bool within(double measured, Index planned, double share) {
  return measured <= static_cast<double>(planned) * (1 + share) &&
         measured >= static_cast<double>(planned) * (1 - share);
}

}  // namespace

TEST_CASE("the memory plan matches actual use, stage by stage", "[memory]") {
  if (!Allocations::counted()) return skip("this heap cannot be counted");
  constexpr Index n = 1536, tokens = 300;
  for (const Index rows : {Index{200}, Index{1100}})
    for (const int threads : {1, 2}) {
      const Cpu backend{gptq::exec::Threads(threads)};
      auto weight = random_numbers(rows * n), activations = random_numbers(tokens * n);
      for (Index t = 0; t < tokens; ++t)  // dead inputs take no more memory
        activations[static_cast<std::size_t>(t * n + 3)] = 0;
      gptq::Hessian<Cpu> hessian(n, backend);
      hessian.add(MatrixView<const float>(activations.data(), tokens, n));
      for (const Variant& variant : variants()) {
        INFO(variant.name << ", " << rows << " rows, " << threads << " threads");
        const MemoryPlan plan = memory_plan(rows, n, variant.params, backend);
        const gptq::Quantizer<Int4, Cpu> quantizer(variant.params);

        Allocations::reset();
        const auto factor = quantizer.factorize(hessian);
        const auto factorize = static_cast<double>(Allocations::now().peak);
        CAPTURE(factorize, plan.factorize_peak());
        CHECK(within(factorize, plan.factorize_peak(), 0.1));

        Allocations::reset();
        const auto result =
            quantizer.quantize(MatrixView<const float>(weight.data(), rows, n), factor);
        const auto solve = static_cast<double>(Allocations::now().peak + plan.factor);
        CAPTURE(solve, plan.solve_peak());
        CHECK(within(solve, plan.solve_peak(), 0.1));
        CHECK(result.report().peak_bytes == plan.peak());
      }
    }
}

TEST_CASE("the plan for experts matches what one call takes for all of them", "[memory]") {
  if (!Allocations::counted()) return skip("this heap cannot be counted");
  constexpr Index n = 768, rows = 192, count = 9;
  const auto weight = random_numbers(rows * n), activations = random_numbers(200 * n);
  for (const int threads : {1, 2, 3}) {
    const Cpu backend{gptq::exec::Threads(threads)};
    gptq::Hessian<Cpu> hessian(n, backend);
    hessian.add(MatrixView<const float>(activations.data(), 200, n));
    const std::vector<MatrixView<const float>> weights(count, {weight.data(), rows, n});
    const std::vector<const gptq::Hessian<Cpu>*> hessians(count, &hessian);
    for (const Variant& variant : variants()) {
      INFO(variant.name << ", " << threads << " threads");
      const MemoryPlan plan = memory_plan(count, rows, n, variant.params, backend);
      Allocations::reset();
      const auto results = gptq::Quantizer<Int4, Cpu>(variant.params)
                               .quantize(std::span<const MatrixView<const float>>(weights),
                                         std::span<const gptq::Hessian<Cpu>* const>(hessians));
      const auto taken = static_cast<double>(Allocations::now().peak);
      CAPTURE(taken, plan.peak(), results.size());
      // With several threads, how much exists at once depends on timing.
      CHECK(taken <= 1.1 * static_cast<double>(plan.peak()));
      CHECK(taken >= (threads == 1 ? 0.9 : 0.5) * static_cast<double>(plan.peak()));
    }
  }
}

TEST_CASE("activations in either layout are used in place, with the same result", "[memory]") {
  if (!Allocations::counted()) return skip("this heap cannot be counted");
  constexpr Index n = 1024, tokens = 2048;
  const auto rows = random_numbers(tokens * n);
  std::vector<float> columns(rows.size());
  for (Index t = 0; t < tokens; ++t)
    for (Index i = 0; i < n; ++i)
      columns[std::size_t(i * tokens + t)] = rows[std::size_t(t * n + i)];
  const Cpu backend{gptq::exec::Threads(1)};
  gptq::Hessian<Cpu> a(n, backend), b(n, backend);
  a.add(MatrixView<const float>(rows.data(), tokens, n));
  Allocations::reset();
  b.add(MatrixView<const float>(columns.data(), n, tokens).transposed());
  CHECK(Allocations::now().peak < tokens * n * Index(sizeof(float)) / 2);
  for (Index i = 0; i < n; ++i)
    for (Index j = i; j < n; ++j) REQUIRE(a.sum()(i, j) == b.sum()(i, j));
}

TEST_CASE("calibration takes the planned memory, however many tokens there are", "[memory]") {
  if (!Allocations::counted()) return skip("this heap cannot be counted");
  constexpr Index n = 512, tokens = 6000;
  std::vector<gptq::bfloat16> activations;
  for (const float x : random_numbers(tokens * n)) activations.push_back(gptq::to_bfloat16(x));
  const Cpu backend{gptq::exec::Threads(2)};
  const MemoryPlan plan = memory_plan(64, n, Params{}, backend);
  gptq::Hessian<Cpu> hessian(n, backend);
  Allocations::reset();
  hessian.add(MatrixView<const gptq::bfloat16>(activations.data(), tokens, n));
  const auto taken = Allocations::now().peak;
  CHECK(taken <= plan.calibrate * 11 / 10);
  CHECK(taken >= plan.calibrate / 2);
  CHECK(plan.hessian == n * n * 4);
}

TEST_CASE("the plain solve has one square array, and raised damping does not add another",
          "[memory]") {
  if (!Allocations::counted()) return skip("this heap cannot be counted");
  constexpr Index n = 1024, rows = 64;
  const auto weight = random_numbers(rows * n);
  // Two equal tokens: rank one, so that the tiny damping must be raised.
  std::vector<float> activations = random_numbers(n);
  activations.insert(activations.end(), activations.begin(), activations.begin() + n);
  gptq::Hessian<Cpu> hessian(n, Cpu(gptq::exec::Threads(1)));
  hessian.add(MatrixView<const float>(activations.data(), 2, n));
  for (const auto policy : {gptq::OnFailure::damp, gptq::OnFailure::round_to_nearest}) {
    Params params;
    params.damping = policy == gptq::OnFailure::damp ? 1e-9 : 1e-30;
    params.on_failure = policy;
    const gptq::Quantizer<Int4, Cpu> quantizer(params);
    Allocations::reset();
    const auto q = quantizer.quantize(MatrixView<const float>(weight.data(), rows, n), hessian);
    const auto taken = Allocations::now();
    INFO(q.report().damping.retries << " retries");
    CHECK(q.report().damping.retries > 0);
    CHECK(taken.largest <= n * n * 4 + 4096);
    CHECK(taken.peak < 2 * n * n * 4);
  }
}

TEST_CASE("no caller's matrix is copied as a whole", "[memory]") {
  if (!Allocations::counted()) return skip("this heap cannot be counted");
  constexpr Index rows = 4096, n = 192, tokens = 12000;
  const Cpu backend{gptq::exec::Threads(2)};
  const auto numbers = random_numbers((std::max)(rows, tokens) * 2 * n);
  const std::vector<double> doubles(numbers.begin(), numbers.end());
  const auto check = [&](const auto* data) {
    using T = std::remove_pointer_t<decltype(data)>;
    const auto views = [&](Index count) {
      return std::vector<MatrixView<T>>{{data, count, n},
                                        MatrixView<T>(data, n, count).transposed(),
                                        {data, count, n, 2 * n, 1},
                                        {data, count, n, 2 * n, 2}};
    };
    for (const auto& activations : views(tokens)) {
      gptq::Hessian<Cpu> hessian(n, backend);
      Allocations::reset();
      hessian.add(activations);
      CHECK(Allocations::now().peak < tokens * n * Index(sizeof(float)) / 2);
    }
    gptq::Hessian<Cpu> hessian(n, backend);
    hessian.add(MatrixView<T>(data, 500, n));
    const auto first =
        gptq::Quantizer<Int4, Cpu>({.group_size = 64}).quantize(views(rows)[0], hessian);
    for (const auto& weight : views(rows)) {
      Allocations::reset();
      const auto q = gptq::Quantizer<Int4, Cpu>({.group_size = 64}).quantize(weight, hessian);
      // Codes are a byte per weight, and the largest allocation.
      CHECK(Allocations::now().largest <= rows * n + 4096);
      CHECK(q.rows() == rows);
    }
  };
  check(numbers.data());
  check(doubles.data());
}
