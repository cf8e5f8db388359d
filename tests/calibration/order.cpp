// SPDX-License-Identifier: MIT

#include <gptq/backend/cpu.hpp>
#include <gptq/backend/reference.hpp>
#include <gptq/factor/factor.hpp>
#include <gptq/factor/order.hpp>
#include <gptq/kernel/column_layout.hpp>

#include "../support/catch.hpp"

using gptq::Index;
using Columns = std::vector<Index>;

TEST_CASE("act order rounds the largest diagonal first", "[order]") {
  const std::vector<double> diagonal{1, 9, 4, 2, 8, 3, 7, 5};
  CHECK(gptq::column_order(gptq::Order::act, diagonal, 4) == Columns{1, 4, 6, 7, 2, 5, 3, 0});
  CHECK(gptq::column_order(gptq::Order::natural, diagonal, 4) == Columns{0, 1, 2, 3, 4, 5, 6, 7});
}

TEST_CASE("ties keep the natural order", "[order]") {
  CHECK(gptq::column_order(gptq::Order::act, std::vector<double>{2, 5, 2, 5, 2, 0, 0}, 4) ==
        Columns{1, 3, 0, 2, 4, 5, 6});
  CHECK(gptq::column_order(gptq::Order::group_aware, std::vector<double>{2, 5, 2, 5, 2, 5, 1, 1},
                           2) == Columns{1, 0, 3, 2, 5, 4, 6, 7});
}

TEMPLATE_TEST_CASE("smallest pivots first: ties keep the natural order too", "[order]",
                   gptq::backend::Cpu, gptq::backend::Reference) {
  std::vector<float> sum(70 * 70, 0.0f);
  Columns expected;
  for (Index i = 0; i < 70; ++i) sum[static_cast<std::size_t>(i * 71)] = i % 10 == 3 ? 2.0f : 1.0f;
  for (Index i = 3; i < 70; i += 10) expected.push_back(i);
  for (Index i = 0; i < 70; ++i)
    if (i % 10 != 3) expected.push_back(i);
  const auto factor = gptq::factorize(
      gptq::Hessian<TestType>::from_sum(gptq::MatrixView<const float>(sum.data(), 70, 70), 1, 1),
      {.group_size = -1, .order = gptq::Order::min_pivot});
  CHECK(Columns(factor.layout.order().begin(), factor.layout.order().end()) == expected);
}

TEST_CASE("groups are of adjacent columns of the weight, with any order", "[order]") {
  const gptq::ColumnLayout layout({4, 1, 0, 6, 2, 5, 3}, 3);
  CHECK(layout.groups() == 3);
  CHECK(Columns(layout.group().begin(), layout.group().end()) == Columns{1, 0, 0, 2, 0, 1, 1});
  // positions of the columns 0, 1, 2 / 3, 4, 5 / 6
  CHECK(Columns(layout.members(0).begin(), layout.members(0).end()) == Columns{2, 1, 4});
  CHECK(Columns(layout.members(1).begin(), layout.members(1).end()) == Columns{6, 0, 5});
  CHECK(Columns(layout.members(2).begin(), layout.members(2).end()) == Columns{3});
}
