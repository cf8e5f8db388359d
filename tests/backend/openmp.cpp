// SPDX-License-Identifier: MIT

// In a program compiled with OpenMP, Eigen would run its products on threads of its own. Ours give
// it nothing to parallelize: an executor's threads are the only ones.

#include "../support/catch.hpp"
#include "../support/layer.hpp"

#include <gptq/gptq.hpp>

#include <omp.h>

#include <filesystem>
#include <iterator>
#include <vector>

using gptq::Index;
using Backend = gptq::backend::BasicCpu<gptq::exec::Serial>;

namespace {

/// Of this process.
auto threads() {
  return std::distance(std::filesystem::directory_iterator("/proc/self/task"),
                       std::filesystem::directory_iterator());
}

}  // namespace

TEST_CASE("OpenMP neither changes a bit nor adds a thread", "[backend][determinism]") {
  const auto layer = test::random_layer({.out = 160, .in = 640, .tokens = 900});
  const auto results = [&](int count) {
    omp_set_num_threads(count);
    const auto hessian = test::calibrate<Backend>(layer);
    std::vector<double> all;
    for (const auto solver : {gptq::Solver::left_looking, gptq::Solver::lazy_batch})
      for (const auto order : {gptq::Order::act, gptq::Order::min_pivot}) {
        gptq::Params params{.group_size = 128, .order = order, .solver = solver};
        params.groups = gptq::Groups::dynamic;
        const auto q = test::quantize<gptq::scheme::Int4, Backend>(layer, params);
        all.push_back(q.report().damped_loss);
        all.push_back(q.report().relative_error);
        for (Index r = 0; r < q.rows(); ++r)
          for (Index c = 0; c < q.cols(); ++c) all.push_back(static_cast<double>(q(r, c)));
      }
    const auto factor =
        gptq::factorize(hessian, {.group_size = 128, .solver = gptq::Solver::lazy_batch});
    for (Index i = 0; i < 640; ++i)
      for (Index j = i; j < 640; ++j) {
        all.push_back(static_cast<double>(factor.r(i, j)));
        all.push_back(static_cast<double>(factor.inverse(i, j)));
      }
    std::vector<float> product(160 * 900);
    gptq::backend::cpu::multiply_transposed(gptq::exec::Serial{},
                                            gptq::MatrixView<float>(product.data(), 900, 160),
                                            layer.x(), layer.w(), false, gptq::Precision::single);
    all.insert(all.end(), product.begin(), product.end());
    return all;
  };
  const auto before = threads();
  const auto expected = results(1);
  CHECK((results(4) == expected));
  CHECK(threads() == before);
}
