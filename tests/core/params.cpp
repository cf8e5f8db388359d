// SPDX-License-Identifier: MIT

#include <gptq/parity.hpp>

#include "../support/catch.hpp"

#include <limits>

using gptq::InvalidArgument;
using gptq::Params;

TEST_CASE("params out of range are refused with the field, the value and the legal range",
          "[params]") {
  const auto message = [](const Params& params) {
    return error_of<InvalidArgument>([&] { params.validate(); });
  };
  CHECK_THAT(message({.group_size = 0}),
             ContainsSubstring("group_size = 0") && ContainsSubstring("-1"));
  CHECK_THAT(message({.group_size = -2}), ContainsSubstring("group_size = -2"));
  CHECK_THAT(message({.damping = 0}),
             ContainsSubstring("damping = 0") && ContainsSubstring("positive"));
  CHECK_THAT(message({.damping = std::numeric_limits<double>::quiet_NaN()}),
             ContainsSubstring("damping = nan"));
  CHECK_THAT(message({.block_size = 0}), ContainsSubstring("block_size = 0"));
  CHECK_THAT(message({.parity = {.stale_group_scales = true}}),
             ContainsSubstring("stale_group_scales") && ContainsSubstring("lazy_batch"));
  Params stale{.groups = gptq::Groups::static_, .solver = gptq::Solver::lazy_batch};
  stale.parity.stale_group_scales = true;
  CHECK_THAT(message(stale), ContainsSubstring("requires Groups::dynamic"));
  CHECK_THAT(message({.group_size = 64, .parity = {.dead_weights_in_range = true}}),
             ContainsSubstring("requires group_size = -1, but it is 64"));
  for (const auto& [zeros, of] : {std::pair{2, 0}, {0, 4}, {-3, 0}, {5, 4}, {1, 3}, {-1, 4}}) {
    Params sparse{.order = gptq::Order::natural};
    sparse.sparsity = {zeros, of};
    CHECK_THAT(message(sparse),
               ContainsSubstring(gptq::detail::message("sparsity = ", zeros, " zeros of ", of)));
  }
  for (const gptq::Index size : {-1, 64})
    for (const auto groups : {gptq::Groups::static_, gptq::Groups::dynamic})
      CHECK_NOTHROW(gptq::parity::paper(size, groups).validate());
  CHECK_NOTHROW(Params{}.validate());
}

TEST_CASE("a group size that does not divide names the sizes that do", "[params]") {
  const auto text = error_of<InvalidArgument>(
      [] { gptq::require_divisible({.group_size = 96}, 576 + 64, "model.layers.0.mlp.up_proj"); });
  CHECK_THAT(text, ContainsSubstring("group_size = 96") && ContainsSubstring("in_features = 640") &&
                       ContainsSubstring("model.layers.0.mlp.up_proj"));
  CHECK_THAT(text, ContainsSubstring("16, 32, 64, 128") && ContainsSubstring("allow_tail_group"));
  CHECK_NOTHROW(gptq::require_divisible({.group_size = 96, .allow_tail_group = true}, 640, ""));
  CHECK_NOTHROW(gptq::require_divisible({.group_size = -1}, 77, ""));
}
