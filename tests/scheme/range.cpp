// SPDX-License-Identifier: MIT

#include <gptq/lane/lane.hpp>
#include <gptq/scheme/affine.hpp>
#include <gptq/scheme/range.hpp>

#include "../support/catch.hpp"

#include <random>
#include <vector>

using gptq::Index;
using gptq::Range;
using gptq::ScaleType;
using gptq::scheme::Affine;
using gptq::scheme::Asymmetric;
using gptq::scheme::Grid;
using gptq::scheme::RangeSearch;

namespace {

struct Group {
  std::vector<float> weights, importance;
};

Group random_group(unsigned seed, std::size_t size = 64) {
  std::mt19937 random(seed);
  std::student_t_distribution<float> heavy(4);
  std::exponential_distribution<float> positive(1);
  Group group;
  for (std::size_t i = 0; i < size; ++i) {
    group.weights.push_back(heavy(random));
    group.importance.push_back(positive(random));
  }
  return group;
}

template <class S>
Grid<float> fit(const Group& g, const RangeSearch& search) {
  return gptq::scheme::fit_grid<float>(
      S{}, [&](Index j) { return g.weights[static_cast<std::size_t>(j)]; },
      [&](Index j) { return g.importance[static_cast<std::size_t>(j)]; },
      static_cast<Index>(g.weights.size()), search);
}

template <class S>
double loss(const Group& g, const Grid<float>& grid) {
  double total = 0;
  for (std::size_t j = 0; j < g.weights.size(); ++j) {
    const double e =
        static_cast<double>(g.weights[j] - S{}.decode(S{}.encode(g.weights[j], grid), grid));
    total += static_cast<double>(g.importance[j]) * e * e;
  }
  return total;
}

}  // namespace

TEMPLATE_TEST_CASE("the weighted search is never worse than min-max and usually much better",
                   "[range]", Affine<2>, Affine<3>, Affine<4>, Affine<8>, Asymmetric<2>,
                   Asymmetric<4>) {
  double searched = 0, plain = 0;
  for (unsigned seed = 0; seed < 50; ++seed) {
    const Group g = random_group(seed);
    const double a = loss<TestType>(g, fit<TestType>(g, {Range::weighted, true, ScaleType::fp16}));
    const double b = loss<TestType>(g, fit<TestType>(g, {Range::minmax, true, ScaleType::fp16}));
    CHECK(a <= b * 1.00001);
    searched += a, plain += b;
  }
  CHECK(searched < (TestType::bits == 8 ? 0.99 : 0.85) * plain);
}

TEST_CASE("negative scales lower the loss of symmetric grids and are used only if allowed",
          "[range]") {
  double with = 0, without = 0;
  int negative = 0;
  for (unsigned seed = 0; seed < 100; ++seed) {
    const Group g = random_group(seed);
    const auto either = fit<Affine<4>>(g, {Range::weighted, true, ScaleType::fp16});
    const auto positive = fit<Affine<4>>(g, {Range::weighted, false, ScaleType::fp16});
    CHECK(positive.scale > 0);
    negative += either.scale < 0;
    with += loss<Affine<4>>(g, either), without += loss<Affine<4>>(g, positive);
  }
  CHECK(negative > 20);
  CHECK(negative < 80);
  CHECK(with < 0.96 * without);
}

TEST_CASE("the search finds the exact grid of weights that are on one", "[range]") {
  std::mt19937 random(4);
  for (int round = 0; round < 20; ++round) {
    Group g;
    const float scale = gptq::to_float(gptq::to_float16(0.013f * static_cast<float>(round + 1)));
    for (int j = 0; j < 64; ++j) {
      g.weights.push_back(scale * (static_cast<float>(random() % 16) - 8));
      g.importance.push_back(1);
    }
    g.weights[0] = -8 * scale;
    const auto grid = fit<Affine<4>>(g, {Range::weighted, true, ScaleType::fp16});
    CHECK(loss<Affine<4>>(g, grid) == 0);
  }
}

TEST_CASE("scales found by the search are storable", "[range]") {
  for (unsigned seed = 0; seed < 30; ++seed) {
    const auto grid = fit<Affine<3>>(random_group(seed), {Range::weighted, true, ScaleType::fp16});
    CHECK(gptq::to_float(gptq::to_float16(grid.scale)) == grid.scale);
    const auto asymmetric =
        fit<Asymmetric<3>>(random_group(seed), {Range::weighted, true, ScaleType::fp16});
    CHECK(asymmetric.zero >= 0);
    CHECK(asymmetric.zero <= 7);
    CHECK(asymmetric.zero == std::nearbyint(asymmetric.zero));
  }
}

TEST_CASE("a group of zeros has a usable grid that represents them exactly", "[range]") {
  const Group zeros{std::vector<float>(32, 0.0f), std::vector<float>(32, 1.0f)};
  for (const Range range : {Range::minmax, Range::weighted}) {
    const auto grid = fit<Affine<4>>(zeros, {range, true, ScaleType::fp16});
    CHECK(grid.scale != 0);
    CHECK(Affine<4>{}.decode(Affine<4>{}.encode(0.0f, grid), grid) == 0.0f);
  }
}

TEST_CASE("a lane of groups is fitted like its groups one by one", "[range]") {
  using Lane = gptq::lane::Lane<float, 16>;
  std::vector<Group> groups;
  for (unsigned seed = 0; seed < 16; ++seed) groups.push_back(random_group(seed + 7));
  for (const auto& g : groups) CHECK(g.weights.size() == 64);
  const auto lane_fit = [&]<class S>(S scheme) {
    const auto grid = gptq::scheme::fit_grid<Lane>(
        scheme,
        [&](Index j) {
          Lane x;
          for (int i = 0; i < 16; ++i)
            x.v[i] = groups[static_cast<std::size_t>(i)].weights[static_cast<std::size_t>(j)];
          return x;
        },
        [&](Index j) { return groups[0].importance[static_cast<std::size_t>(j)]; }, 64,
        {Range::weighted, true, ScaleType::fp16});
    for (int i = 0; i < 16; ++i) {
      Group one = groups[static_cast<std::size_t>(i)];
      one.importance = groups[0].importance;
      const auto expected = fit<S>(one, {Range::weighted, true, ScaleType::fp16});
      // Sums are rounded differently if the compiler fuses multiplication and addition, so near
      // ties may go either way.
      CHECK(loss<S>(one, {grid.scale.v[i], grid.zero.v[i]}) <= loss<S>(one, expected) * 1.001);
    }
  };
  lane_fit(Affine<4>{});
  lane_fit(Asymmetric<3>{});
}

TEST_CASE("the weighted search comes close to trying every scale", "[range]") {
  const auto excess = [](auto scheme, unsigned groups) {
    using S = decltype(scheme);
    const auto zero = static_cast<float>(1 << (S::bits - 1));
    double searched = 0, best = 0;
    for (unsigned seed = 0; seed < groups; ++seed) {
      const Group g = random_group(seed, 128);
      float largest = 0;
      for (const float w : g.weights) largest = (std::max)(largest, std::abs(w));
      double least = loss<S>(g, {2 * largest, zero});
      for (std::uint16_t bits = 1; bits < 0x7c00; ++bits) {
        const float scale = gptq::to_float(gptq::float16{bits});
        if (scale * zero < 0.2f * largest || scale > 2 * largest) continue;  // far too small, large
        for (const float sign : {1.0f, -1.0f})
          least = (std::min)(least, loss<S>(g, {sign * scale, zero}));
      }
      searched += loss<S>(g, fit<S>(g, {Range::weighted, true, ScaleType::fp16}));
      best += least;
    }
    return searched / best - 1;
  };
  CHECK(excess(Affine<2>{}, 40) < 0.002);
  CHECK(excess(Affine<3>{}, 40) < 0.006);
  CHECK(excess(Affine<4>{}, 40) < 0.001);
  // The coarser the search is relative to the steps of the grid, the more it misses.
  CHECK(excess(Affine<8>{}, 20) < 0.03);
}
