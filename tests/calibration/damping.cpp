// SPDX-License-Identifier: MIT

#include "../support/catch.hpp"
#include "../support/layer.hpp"
#include "../support/paper.hpp"

using gptq::Index;
using gptq::OnFailure;
using gptq::Order;
using test::random_layer;
using Cpu = gptq::backend::Cpu;
using Reference = gptq::backend::Reference;

namespace {

/// Inputs that are all equal, except for one correlation above 1: no activations have such a sum.
gptq::Hessian<Reference> broken_hessian(Index n, double correlation) {
  struct Access : gptq::Hessian<Reference> {
    explicit Access(Index size) : gptq::Hessian<Reference>(size) {}
  };
  Access hessian(n);
  std::vector<float> one(static_cast<std::size_t>(n), 1.0f);
  hessian.add(gptq::MatrixView<const float>(one.data(), 1, n));
  const_cast<Reference::Matrix&>(hessian.sum())(0, n - 1) = correlation;
  return hessian;
}

}  // namespace

TEST_CASE(
    "damping adds a fraction of the mean diagonal, and the factor is that of the damped Hessian",
    "[damping]") {
  const auto layer = random_layer({.in = 40, .tokens = 200});
  const auto h = test::hessian_of(layer);
  double mean = 0;
  for (Index i = 0; i < 40; ++i) mean += h(i, i) / 40;
  const auto factor =
      gptq::factorize(test::calibrate<Reference>(layer), {.group_size = -1, .damping = 0.03});
  CHECK(factor.damping.fraction == 0.03);
  CHECK(factor.damping.lambda == Approx(0.03 * mean));
  CHECK(factor.damping.retries == 0);
  // R·Rᵀ = H + λI in solving order
  for (Index i = 0; i < 40; ++i)
    for (Index j = i; j < 40; ++j) {
      double sum = 0;
      for (Index k = j; k < 40; ++k) sum += factor.r(i, k) * factor.r(j, k);
      const Index a = factor.layout.column(i), b = factor.layout.column(j);
      CHECK(sum == Approx(h(a, b) + (i == j ? factor.damping.lambda : 0)).margin(1e-9 * mean));
    }
}

TEST_CASE("pivots are the conditional variances given all later columns", "[damping]") {
  const auto layer = random_layer({.in = 12, .tokens = 60});
  const auto factor = gptq::factorize(test::calibrate<Reference>(layer),
                                      {.group_size = -1, .order = Order::natural});
  auto h = test::hessian_of(layer);
  for (Index i = 0; i < 12; ++i) h(i, i) += factor.damping.lambda;
  // d_j is the reciprocal of the diagonal element of j in the inverse of H[j.., j..].
  for (Index j = 0; j < 12; ++j) {
    test::Matrix rest(12 - j, 12 - j);
    for (Index a = j; a < 12; ++a)
      for (Index b = j; b < 12; ++b) rest(a - j, b - j) = h(std::min(a, b), std::max(a, b));
    // conditional variance given columns > j
    CHECK(factor.layout.pivots()[static_cast<std::size_t>(j)] ==
          Approx(1 / test::inverse(rest)(0, 0)));
  }
}

TEST_CASE("inputs that were always zero are dead: counted, factored, last in act order",
          "[damping]") {
  auto layer = random_layer({.in = 32, .tokens = 100});
  for (Index t = 0; t < 100; ++t) layer.activations(t, 3) = layer.activations(t, 20) = 0;
  test::round_to_float(layer);
  const auto factor =
      gptq::factorize(test::calibrate<Cpu>(layer), {.group_size = -1, .order = Order::act});
  CHECK(factor.damping.dead_columns == 2);
  CHECK(factor.layout.column(30) == 3);
  CHECK(factor.layout.column(31) == 20);
  CHECK(factor.layout.dead(30));
  CHECK_FALSE(factor.layout.dead(29));
}

TEST_CASE("a Hessian without tokens is refused", "[damping]") {
  CHECK_THAT(error_of<gptq::InvalidArgument>(
                 [] { gptq::factorize(gptq::Hessian<Cpu>(8), {.group_size = -1}); }),
             ContainsSubstring("no tokens"));
}

TEST_CASE("a Hessian that cannot be factored is handled as requested, never silently",
          "[damping]") {
  const auto hessian = broken_hessian(6, 30);
  SECTION("error") {
    const auto text = error_of<gptq::NumericalError>(
        [&] { gptq::factorize(hessian, {.group_size = -1, .on_failure = OnFailure::error}); });
    CHECK_THAT(text, ContainsSubstring("pivot of input") && ContainsSubstring("damping 0.01") &&
                         ContainsSubstring("0 retries"));
  }
  SECTION("more damping, by factors of four up to ten times the mean") {
    const auto text = error_of<gptq::NumericalError>(
        [&] { gptq::factorize(hessian, {.group_size = -1, .on_failure = OnFailure::damp}); });
    CHECK_THAT(text, ContainsSubstring("damping 2.56") && ContainsSubstring("4 retries"));
  }
  SECTION("round to nearest, and the report says so") {
    const auto factor =
        gptq::factorize(hessian, {.group_size = -1, .on_failure = OnFailure::round_to_nearest});
    CHECK(factor.damping.round_to_nearest);
    CHECK(factor.damping.retries == 4);
    const auto layer = random_layer({.out = 4, .in = 6});
    const gptq::Params params{
        .group_size = -1, .on_failure = OnFailure::round_to_nearest, .range = gptq::Range::minmax};
    const auto result =
        gptq::Quantizer<gptq::scheme::Int4, Reference>(params).quantize(layer.w(), hessian);
    CHECK(result.report().damping.round_to_nearest);
    CHECK(result.report().damping.lambda == 0);
    CHECK(std::isnan(result.report().loss));  // and no meaningless figures
    CHECK(std::isnan(result.report().damped_loss));
    CHECK(std::isnan(result.report().paper_error));
    CHECK(std::isnan(result.report().relative_error));
    const auto rtn =
        gptq::baseline::round_to_nearest<gptq::scheme::Int4>(layer.w(), params, Reference{});
    CHECK(test::code_differences(result, rtn) == 0);
  }
}

TEST_CASE("escalated damping that helps is reported", "[damping]") {
  const auto factor = gptq::factorize(broken_hessian(6, 1.1), {.group_size = -1});
  CHECK(factor.damping.retries == 2);
  CHECK(factor.damping.fraction == Approx(0.16));
  CHECK(factor.damping.lambda == Approx(0.16));
  CHECK_FALSE(factor.damping.round_to_nearest);
}
