// SPDX-License-Identifier: MIT

#include <gptq/lane/lane.hpp>

#include "../support/catch.hpp"

#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace lane = gptq::lane;

TEMPLATE_TEST_CASE("a lane computes what its rows compute one by one", "[lane]", float, double) {
  using T = TestType;
  using Lane = lane::Lane<T, 64 / sizeof(T)>;
  std::mt19937 random(3);
  std::normal_distribution<T> normal(0, 10);
  for (int round = 0; round < 200; ++round) {
    T x[Lane::size], y[Lane::size], out[Lane::size];
    for (int i = 0; i < Lane::size; ++i) x[i] = normal(random), y[i] = normal(random);
    if (round % 3 == 0)
      x[0] = T(0.5), x[1] = T(1.5), x[2] = T(-2.5), x[3] = T(1e12), x[4] = T(-1e12);
    const Lane a = lane::load(x, Lane{}), b = lane::load(y, Lane{});
    const auto same = [&](const Lane& lane, auto&& scalar) {
      lane::store(out, lane);
      for (int i = 0; i < Lane::size; ++i) CHECK(out[i] == scalar(x[i], y[i]));
    };
    same(a + b, [](T p, T q) { return p + q; });
    same(a / b, [](T p, T q) { return p / q; });
    same(-a, [](T p, T) { return -p; });
    same(min(a, b), [](T p, T q) { return lane::min(p, q); });
    same(max(a, b), [](T p, T q) { return lane::max(p, q); });
    same(abs(a), [](T p, T) { return std::abs(p); });
    same(round_even(a), [](T p, T) { return std::nearbyint(p); });
    same(lane::clamp<Lane>(a, Lane(-3), Lane(4)), [](T p, T) { return lane::clamp<T>(p, -3, 4); });
    same(select(a < b, a, b), [](T p, T q) { return p < q ? p : q; });
    same(power(abs(a), 2.4f),
         [](T p, T) { return static_cast<T>(std::pow(std::abs(p), static_cast<T>(2.4f))); });
    same(map(a, [](float p) { return p < 0 ? 1.0f : p; }),
         [](T p, T) { return p < 0 ? T(1) : static_cast<T>(static_cast<float>(p)); });
    double sum = 0;
    int below = 0;
    for (int i = 0; i < 5; ++i) sum += static_cast<double>(x[i]), below += x[i] < y[i];
    CHECK(lane::sum(a, 5) == sum);
    CHECK(lane::count(a, a < b, 5) == below);
    for (int i = 5; i < Lane::size; ++i) sum += static_cast<double>(x[i]), below += x[i] < y[i];
    double size = 0;
    for (const T value : x) size += std::abs(static_cast<double>(value));
    CHECK(std::abs(lane::sum(a, Lane::size) - sum) <= 1e-14 * size);
    CHECK(lane::count(a, a < b, Lane::size) == below);
    CHECK(any(a < b) == (below > 0));
    CHECK_FALSE(any(a < a));
    std::uint8_t codes[Lane::size];
    lane::store_codes(codes, lane::clamp<Lane>(round_even(a), Lane(0), Lane(255)));
    for (int i = 0; i < Lane::size; ++i)
      CHECK(codes[i] == lane::clamp<T>(std::nearbyint(x[i]), 0, 255));
  }
}

TEST_CASE("any is true if a single row is", "[lane]") {
  using Lane = lane::Lane<float, 16>;
  for (int i = 0; i < Lane::size; ++i) {
    float x[Lane::size] = {};
    x[i] = 1;
    CHECK(any(lane::load(x, Lane{}) > Lane(0)));
  }
}

TEST_CASE("rounding takes ties to even, in lanes as in scalars", "[lane]") {
  using Lane = lane::Lane<float, 16>;
  const float ties[16] = {0.5f, 1.5f, 2.5f, 3.5f,  -0.5f, -1.5f,       -2.5f,      -3.5f,
                          6.5f, 7.5f, 8.5f, 14.5f, 15.5f, 0.49999997f, 4194303.5f, -4194303.5f};
  const float expected[16] = {0, 2, 2, 4, 0, -2, -2, -4, 6, 8, 8, 14, 16, 0, 4194304, -4194304};
  float out[16];
  lane::store(out, round_even(lane::load(ties, Lane{})));
  for (int i = 0; i < 16; ++i) {
    CHECK(out[i] == expected[i]);
    CHECK(lane::round_even(ties[i]) == expected[i]);
  }
}

TEST_CASE("clamping gives a number in range even for NaN", "[lane]") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  CHECK(lane::clamp<float>(nan, 0, 15) == 0.0f);
  float out[16], in[16] = {};
  in[3] = nan;
  lane::store(out, lane::clamp<lane::Lane<float, 16>>(lane::load(in, lane::Lane<float, 16>{}), 1.0f,
                                                      15.0f));
  CHECK(out[3] == 1.0f);
}
