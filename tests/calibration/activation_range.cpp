// SPDX-License-Identifier: MIT

#include "../support/catch.hpp"

#include <gptq/calibration/activation_range.hpp>
#include <gptq/calibration/per_token.hpp>

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <vector>

using gptq::ActivationObserver;
using gptq::ActivationParams;
using gptq::ActivationRange;
using gptq::Index;
using gptq::scheme::Symmetry;
using Floats = std::vector<float>;
using Grid = gptq::scheme::Grid<float>;

namespace {

constexpr auto both = {Symmetry::symmetric, Symmetry::asymmetric};
constexpr auto observers = {ActivationObserver::minmax, ActivationObserver::moving_average,
                            ActivationObserver::percentile, ActivationObserver::mse,
                            ActivationObserver::entropy};
constexpr auto order_free = {ActivationObserver::minmax, ActivationObserver::percentile,
                             ActivationObserver::mse, ActivationObserver::entropy};

gptq::MatrixView<const float> as_tokens(const Floats& numbers, Index features = 1) {
  return {numbers.data(), static_cast<Index>(numbers.size()) / features, features};
}

ActivationRange observed(const Floats& numbers, const ActivationParams& params) {
  ActivationRange range(params);
  range.add(as_tokens(numbers));
  return range;
}

struct Stream {
  std::string name;
  Floats numbers;
};

std::vector<Stream> streams(std::size_t count) {
  std::vector<Stream> all;
  const auto draw = [&](const char* name, auto next) {
    std::mt19937 random(7);
    Floats numbers(count);
    for (float& x : numbers) x = static_cast<float>(next(random));
    all.push_back({name, numbers});
  };
  draw("uniform", std::uniform_real_distribution<double>(-3, 3));
  draw("normal", std::normal_distribution<double>());
  draw("heavy tails", std::student_t_distribution<double>(3));
  draw("positive", std::exponential_distribution<double>(0.1));
  draw("negative", std::exponential_distribution<double>(4));
  for (float& x : all.back().numbers) x = -x;
  draw("silu", std::normal_distribution<double>(0, 3));
  for (float& x : all.back().numbers) x /= 1 + std::exp(-x);
  return all;
}

/// A matrix of another library.
struct Foreign {
  const Floats& numbers;
  Index row_count, col_count;

  const float* data() const { return numbers.data(); }
  Index rows() const { return row_count; }
  Index cols() const { return col_count; }
  Index rowStride() const { return col_count; }
  Index colStride() const { return 1; }
};

double largest(const Floats& numbers) {
  double most = 0;
  for (const float x : numbers) most = std::max(most, std::abs(static_cast<double>(x)));
  return most;
}

double nearest(double x, const Grid& grid, int bits) {
  const double code = std::clamp(
      std::nearbyint(x / static_cast<double>(grid.scale)) + static_cast<double>(grid.zero), 0.0,
      static_cast<double>((1 << bits) - 1));
  return (code - static_cast<double>(grid.zero)) * static_cast<double>(grid.scale);
}

double squared_error(const Floats& numbers, const Grid& grid, int bits) {
  double sum = 0;
  for (const float x : numbers) {
    const double e = static_cast<double>(x) - nearest(static_cast<double>(x), grid, bits);
    sum += e * e;
  }
  return sum;
}

/// The grid of a range that contains zero, by the formulas of docs/activations.md.
Grid grid_of(double low, double high, int bits, Symmetry symmetry) {
  const double levels = (1 << bits) - 1;
  if (symmetry == Symmetry::symmetric)
    return {static_cast<float>(2 * std::max(-low, high) / levels),
            static_cast<float>(1 << (bits - 1))};
  const auto scale = static_cast<float>((high - low) / levels);
  return {scale, static_cast<float>(std::nearbyint(-low / static_cast<double>(scale)))};
}

/// The width of a histogram's bins: the smallest power of two that is wide enough.
double bin_width(double low, double high, Index bins) {
  double width = 0x1p-180;
  while (std::floor(high / width) - std::floor(low / width) + 1 > static_cast<double>(bins))
    width *= 2;
  return width;
}

/// The numbers in bins of this width from bin `first` to that of the largest number, or of zero.
std::vector<double> counted(const std::vector<double>& numbers, double width, Index first) {
  std::vector<double> counts(static_cast<std::size_t>(1 - first));
  for (const double x : numbers) {
    const auto bin = static_cast<std::size_t>(static_cast<Index>(std::floor(x / width)) - first);
    if (bin >= counts.size()) counts.resize(bin + 1);
    ++counts[bin];
  }
  return counts;
}

/// KL(P ‖ Q) of the bins [first, last), bin by bin.
double divergence(const std::vector<double>& counts, std::size_t first, std::size_t last,
                  std::size_t levels) {
  const std::vector<double> inside(counts.begin() + static_cast<Index>(first),
                                   counts.begin() + static_cast<Index>(last));
  auto p = inside;
  p.front() = std::accumulate(counts.begin(), counts.begin() + static_cast<Index>(first) + 1, 0.0);
  p.back() = std::accumulate(counts.begin() + static_cast<Index>(last) - 1, counts.end(), 0.0);
  const std::size_t bins = inside.size();
  const auto level = [&](std::size_t bin) { return bin * levels / bins; };
  std::vector<double> mass(levels), used(levels);
  for (std::size_t i = 0; i < bins; ++i) mass[level(i)] += inside[i], used[level(i)] += p[i] > 0;
  const double p_total = std::accumulate(p.begin(), p.end(), 0.0),
               q_total = std::accumulate(inside.begin(), inside.end(), 0.0);
  double sum = 0;
  for (std::size_t i = 0; i < bins; ++i)
    if (p[i] > 0) {
      const double q = mass[level(i)] / used[level(i)] / q_total;
      sum += p[i] / p_total * std::log(p[i] / p_total / q);  // infinite if q is zero
    }
  return sum;
}

bool same(const Grid& a, const Grid& b) { return a.scale == b.scale && a.zero == b.zero; }

}  // namespace

TEST_CASE("minmax covers just what was seen, and zero", "[activations]") {
  for (const auto& [name, numbers] : streams(3000)) {
    const auto [least, most] = std::minmax_element(numbers.begin(), numbers.end());
    const double low = std::min(static_cast<double>(*least), 0.0),
                 high = std::max(static_cast<double>(*most), 0.0);
    const auto range = observed(numbers, {});
    CHECK(range.tokens() == 3000);
    CHECK(range.low() == static_cast<double>(*least));
    CHECK(range.high() == static_cast<double>(*most));
    for (int bits = 2; bits <= 8; ++bits)
      for (const Symmetry symmetry : both) {
        INFO(name << ", " << bits << " bits");
        const Grid grid = range.grid(bits, symmetry), expected = grid_of(low, high, bits, symmetry);
        CHECK(grid.scale == expected.scale);
        CHECK(grid.zero == expected.zero);
        double worst = 0;
        for (const float x : numbers)
          worst = std::max(worst, std::abs(static_cast<double>(x) -
                                           nearest(static_cast<double>(x), grid, bits)));
        // The rounding of a zero point clips up to half a step at one end.
        const bool shifted = symmetry == Symmetry::asymmetric && low < 0 && high > 0;
        CHECK(worst <= (shifted ? 1.00001 : 0.50001) * static_cast<double>(grid.scale));
      }
  }
}

TEST_CASE("activations of all types and strides give the grid of the same numbers in float",
          "[activations]") {
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  Floats numbers(40 * 24), columns(numbers.size());
  std::vector<double> wide;
  std::vector<gptq::bfloat16> bf16;
  std::vector<gptq::float16> fp16;
  for (float& x : numbers) {
    bf16.push_back(gptq::to_bfloat16(normal(random)));
    x = gptq::to_float(bf16.back());
    wide.push_back(static_cast<double>(x));
    fp16.push_back(gptq::to_float16(x));
  }
  for (std::size_t i = 0; i < numbers.size(); ++i)  // a padded, column-major copy
    columns[i % 24 * 40 + i / 24] = numbers[i];
  for (const ActivationObserver observer : observers) {
    INFO(name(observer));
    const ActivationParams params{.observer = observer, .percentile = 99};
    const Grid expected = observed(numbers, params).grid(8, Symmetry::asymmetric);
    const auto grid_from = [&](const auto& view) {
      ActivationRange range(params);
      range.add(view);
      CHECK(range.tokens() == 40);
      return range.grid(8, Symmetry::asymmetric);
    };
    CHECK(same(grid_from(gptq::MatrixView<const double>(wide.data(), 40, 24)), expected));
    CHECK(same(grid_from(gptq::MatrixView<const gptq::bfloat16>(bf16.data(), 40, 24)), expected));
    CHECK(same(grid_from(gptq::MatrixView<gptq::bfloat16>(bf16.data(), 40, 24)), expected));
    CHECK(same(grid_from(gptq::MatrixView<const float>(columns.data(), 40, 24, 1, 40)), expected));
    CHECK(same(grid_from(Foreign{numbers, 40, 24}), expected));
    const Grid halves = grid_from(gptq::MatrixView<const gptq::float16>(fp16.data(), 40, 24));
    CHECK(halves.scale == Approx(expected.scale).epsilon(1e-3));  // some are subnormal halves
    // every second feature alone
    Floats even;
    for (std::size_t i = 0; i < numbers.size(); i += 2) even.push_back(numbers[i]);
    CHECK(same(grid_from(gptq::MatrixView<const float>(numbers.data(), 40, 12, 24, 2)),
               observed(even, params).grid(8, Symmetry::asymmetric)));
  }
}

TEST_CASE("the moving average follows its recursion, a call a step", "[activations]") {
  const auto numbers = streams(500)[1].numbers;
  for (const double momentum : {0.0, 0.5, 0.9}) {
    ActivationRange range({.observer = ActivationObserver::moving_average, .momentum = momentum});
    double low = 0, high = 0;
    for (Index step = 0; step < 5; ++step) {
      const auto call = as_tokens(numbers).middle_rows(step * 100, 100);
      range.add(call);
      range.add(call.middle_rows(0, 0));  // no step
      double least = 1e9, most = -1e9;
      for (Index t = 0; t < 100; ++t) {
        least = std::min(least, static_cast<double>(call(t, 0)));
        most = std::max(most, static_cast<double>(call(t, 0)));
      }
      low = step == 0 ? least : momentum * low + (1 - momentum) * least;
      high = step == 0 ? most : momentum * high + (1 - momentum) * most;
      CHECK(range.low() == Approx(low).epsilon(1e-12));
      CHECK(range.high() == Approx(high).epsilon(1e-12));
    }
    const Grid grid = range.grid(8, Symmetry::asymmetric),
               expected = grid_of(low, high, 8, Symmetry::asymmetric);
    CHECK(grid.scale == Approx(expected.scale).epsilon(1e-6));
    CHECK(grid.zero == expected.zero);
  }
}

TEST_CASE("a percentile is that of the sorted numbers, up to the edge of its bin",
          "[activations]") {
  for (const auto& [name, numbers] : streams(20000))
    for (const double percentile : {60.0, 99.0, 99.9, 99.99}) {
      INFO(name << ", " << percentile);
      std::vector<double> sorted(numbers.begin(), numbers.end()), sizes;
      std::sort(sorted.begin(), sorted.end());
      for (const double x : sorted) sizes.push_back(std::abs(x));
      std::sort(sizes.begin(), sizes.end());
      const auto rank = static_cast<std::size_t>(std::ceil(percentile * 20000 / 100));
      const double width = bin_width(std::min(sorted[0], 0.0), std::max(sorted.back(), 0.0), 4096);
      const auto range =
          observed(numbers, {.observer = ActivationObserver::percentile, .percentile = percentile});

      const double reach = static_cast<double>(range.grid().scale) * 127.5;
      CHECK(reach >= sizes[rank - 1] * (1 - 1e-6));
      CHECK(reach <= sizes[rank - 1] + width * (1 + 1e-6));

      const Grid grid = range.grid(8, Symmetry::asymmetric);
      const double high = std::max(sorted[rank - 1], 0.0),
                   low = std::min(sorted[20000 - rank], 0.0);
      const auto scale = static_cast<double>(grid.scale);
      CHECK(scale * 255 >= (high - low) * (1 - 1e-6));
      CHECK(scale * 255 <= high - low + 2 * width * (1 + 1e-6));
      CHECK(std::abs(static_cast<double>(grid.zero) * scale + low) <= 0.500001 * scale + width);
    }
}

TEST_CASE("the hundredth percentile is minmax", "[activations]") {
  for (const auto& [name, numbers] : streams(1000))
    for (const Symmetry symmetry : both) {
      INFO(name);
      CHECK(same(observed(numbers, {.observer = ActivationObserver::percentile, .percentile = 100})
                     .grid(8, symmetry),
                 observed(numbers, {}).grid(8, symmetry)));
    }
}

TEST_CASE("the squared error of a histogram is that of its numbers", "[activations]") {
  for (const auto& [name, numbers] : streams(100000)) {
    const auto range = observed(numbers, {});
    const double low = std::min(range.low(), 0.0), high = std::max(range.high(), 0.0);
    gptq::detail::ActivationHistogram histogram(4096);
    histogram.cover(low, high);
    for (const float x : numbers) histogram.add(static_cast<double>(x));
    for (const int bits : {2, 4, 6})
      for (const double share : {1.0, 0.5, 0.1})  // with much clipped, and with nothing
        for (const Symmetry symmetry : both) {
          INFO(name << ", " << bits << " bits, " << share);
          const Grid grid = grid_of(low * share, high * share, bits, symmetry);
          CHECK(gptq::detail::squared_error(
                    histogram, {static_cast<double>(grid.scale), static_cast<double>(grid.zero)},
                    bits) == Approx(squared_error(numbers, grid, bits)).epsilon(0.02));
        }
  }
}

// The best of many clips owes some of its lead to luck, most where steps are small: with 8 bits
// about half of the 1 %.
TEST_CASE("mse is within 1 % of the best symmetric clip", "[activations]") {
  for (const auto& [name, numbers] : streams(100000)) {
    const auto range = observed(numbers, {.observer = ActivationObserver::mse});
    const double reach = largest(numbers);
    for (const int bits : {2, 4, 8}) {
      double best = std::numeric_limits<double>::infinity();
      for (int step = 1; step <= 250; ++step) {
        const double end = reach * step / 250;
        best = std::min(
            best, squared_error(numbers, grid_of(-end, end, bits, Symmetry::symmetric), bits));
      }
      const double error = squared_error(numbers, range.grid(bits), bits);
      INFO(name << ", " << bits << " bits: " << error / best);
      CHECK(error <= (bits == 8 ? 1.01 : 1.002) * best);
    }
  }
}

TEST_CASE("mse is within 1 % of the best asymmetric clip of all pairs of ends", "[activations]") {
  for (const auto& [name, numbers] : streams(30000)) {
    const auto range = observed(numbers, {.observer = ActivationObserver::mse});
    const double low = std::min(range.low(), 0.0), high = std::max(range.high(), 0.0);
    for (const int bits : {2, 4, 8}) {
      double best = std::numeric_limits<double>::infinity();
      const int steps = low == 0 || high == 0 ? 250 : 40;
      for (int i = low == 0 ? steps : 1; i <= steps; ++i)
        for (int j = high == 0 ? steps : 1; j <= steps; ++j)
          best = std::min(best, squared_error(numbers,
                                              grid_of(low * i / steps, high * j / steps, bits,
                                                      Symmetry::asymmetric),
                                              bits));
      const Grid grid = range.grid(bits, Symmetry::asymmetric);
      const double error = squared_error(numbers, grid, bits);
      INFO(name << ", " << bits << " bits: " << error / best);
      CHECK(error <= (bits == 8 ? 1.01 : 1.002) * best);
    }
  }
}

TEST_CASE("entropy has the smallest divergence of all symmetric clips", "[activations]") {
  for (const auto& [name, numbers] : streams(50000))
    for (const int bits : {4, 8}) {
      INFO(name << ", " << bits << " bits");
      const auto range = observed(numbers, {.observer = ActivationObserver::entropy, .bins = 2048});
      const double width = bin_width(std::min(range.low(), 0.0), std::max(range.high(), 0.0), 2048);
      std::vector<double> sizes;
      for (const float x : numbers) sizes.push_back(std::abs(static_cast<double>(x)));
      const auto counts = counted(sizes, width, 0);
      const std::size_t levels = std::size_t{1} << (bits - 1);
      double least = std::numeric_limits<double>::infinity(), most = 0;
      for (std::size_t end = levels; end <= counts.size(); ++end) {
        const double kl = divergence(counts, 0, end, levels);
        least = std::min(least, kl);
        if (std::isfinite(kl)) most = std::max(most, kl);
      }
      const double reach = static_cast<double>(range.grid(bits).scale) * ((1 << bits) - 1) / 2;
      const auto chosen = static_cast<std::size_t>(std::ceil(reach / width * (1 - 1e-6)));
      REQUIRE(chosen >= levels);
      REQUIRE(chosen <= counts.size());
      CHECK(divergence(counts, 0, chosen, levels) == Approx(least).epsilon(1e-9).margin(1e-12));
      CHECK(most > 1.5 * least);  // it matters which
    }
}

TEST_CASE("entropy has the smallest divergence of all asymmetric clips of one reach",
          "[activations]") {
  for (const auto& [name, numbers] : streams(50000)) {
    INFO(name);
    const auto range = observed(numbers, {.observer = ActivationObserver::entropy, .bins = 2048});
    const double low = std::min(range.low(), 0.0), high = std::max(range.high(), 0.0);
    const double width = bin_width(low, high, 2048);
    const auto below = static_cast<Index>(-std::floor(low / width));
    const auto counts = counted({numbers.begin(), numbers.end()}, width, -below);
    const auto bins = static_cast<Index>(counts.size());
    double least = std::numeric_limits<double>::infinity(), span = 0;
    for (Index reach = std::max(below, bins - below); reach > 0; --reach) {
      const Index first = std::max(below - reach, Index{0}), last = std::min(below + reach, bins);
      if (last - first < 256) continue;
      const double kl =
          divergence(counts, static_cast<std::size_t>(first), static_cast<std::size_t>(last), 256);
      if (kl < least * (1 - 1e-9)) {
        least = kl;
        const double end = static_cast<double>(reach) * width;
        span = std::min(high, end) - std::max(low, -end);
      }
    }
    CHECK(static_cast<double>(range.grid(8, Symmetry::asymmetric).scale) * 255 ==
          Approx(span).epsilon(1e-6));
  }
}

TEST_CASE("entropy may leave just as many bins as levels", "[activations]") {
  Floats numbers{1500.5f};             // bins of width 1
  for (int bin = 0; bin < 128; ++bin)  // that no two can share a level without loss
    numbers.insert(numbers.end(), bin % 2 ? 10 : 300, static_cast<float>(bin) + 0.5f);
  const auto range = observed(numbers, {.observer = ActivationObserver::entropy, .bins = 2048});
  CHECK(range.grid().scale == Approx(2 * 128 / 255.0));
}

TEST_CASE("what counts is which numbers were seen, not their order or calls", "[activations]") {
  for (auto& [name, numbers] : streams(4000))
    for (const ActivationObserver observer : order_free) {
      INFO(name << ", " << gptq::name(observer));
      const ActivationParams params{.observer = observer, .percentile = 99.5, .bins = 512};
      const auto whole = observed(numbers, params);
      auto rising = numbers;  // the range widens with every call
      std::sort(rising.begin(), rising.end(),
                [](float a, float b) { return std::abs(a) < std::abs(b); });
      for (const Floats& order : {numbers, rising})
        for (const Index chunk : {1, 7, 1000, 3999}) {
          ActivationRange pieces(params);
          for (Index t = 0; t < 4000; t += chunk)
            pieces.add(as_tokens(order).middle_rows(t, std::min(chunk, 4000 - t)));
          CHECK(pieces.tokens() == 4000);
          for (const Symmetry symmetry : both)
            CHECK(same(pieces.grid(8, symmetry), whole.grid(8, symmetry)));
        }
    }
}

TEST_CASE("a moving average depends on the calls", "[activations]") {
  const auto numbers = streams(4000)[1].numbers;
  ActivationRange pieces({.observer = ActivationObserver::moving_average});
  for (Index t = 0; t < 4000; t += 500) pieces.add(as_tokens(numbers).middle_rows(t, 500));
  CHECK(pieces.grid().scale <
        observed(numbers, {.observer = ActivationObserver::moving_average}).grid().scale);
}

TEST_CASE("merged ranges have seen what each of them has", "[activations]") {
  for (auto& [name, numbers] : streams(3000))
    for (const ActivationObserver observer : order_free) {
      INFO(name << ", " << gptq::name(observer));
      const ActivationParams params{.observer = observer, .percentile = 99.5, .bins = 512};
      for (std::size_t i = 0; i < 1000; ++i) numbers[i] *= 1e-3f;  // bins of other widths
      const auto grids_equal = [&](const ActivationRange& a, const ActivationRange& b) {
        for (const Symmetry symmetry : both) CHECK(same(a.grid(8, symmetry), b.grid(8, symmetry)));
        CHECK(a.tokens() == b.tokens());
      };
      const auto whole = observed(numbers, params);
      const auto view = as_tokens(numbers);
      ActivationRange small(params), large(params), empty(params);
      small.add(view.middle_rows(0, 1000));
      large.add(view.middle_rows(1000, 2000));
      auto a = small, b = large;
      a.merge(large);
      b.merge(small);
      grids_equal(a, whole);
      grids_equal(b, whole);
      CHECK(a.low() == whole.low());
      CHECK(a.high() == whole.high());
      a.merge(empty);
      empty.merge(b);
      grids_equal(a, whole);
      grids_equal(empty, whole);
      CHECK(empty.low() == whole.low());
      CHECK(empty.high() == whole.high());
      auto twice = whole;
      twice.add(view);
      a.merge(a);
      grids_equal(a, twice);
    }
}

TEST_CASE(
    "a merged range has the wider bins of the two, even if the edges of all bins would fit "
    "narrower ones",
    "[activations]") {
  // 513.5 needs 514 bins of width 1; the lower edge of its bin of width 2 needs 513.
  const Floats wide(100, 513.5f), narrow{1, 300};
  const ActivationParams params{
      .observer = ActivationObserver::percentile, .percentile = 60, .bins = 513};
  auto merged = observed(narrow, params), whole = merged;
  merged.merge(observed(wide, params));
  whole.add(as_tokens(wide));
  CHECK(same(merged.grid(), whole.grid()));
  CHECK(merged.grid().scale == Approx(2 * 513.5 / 255));
}

TEST_CASE("activations of any size give the grid of their size", "[activations]") {
  for (const auto& [name, numbers] : streams(2000))
    for (const ActivationObserver observer : observers)
      for (const float size : {0x1p-80f, 0x1p80f}) {
        INFO(name << ", " << gptq::name(observer) << ", " << size);
        auto sized = numbers;
        for (float& x : sized) x *= size;
        const ActivationParams params{.observer = observer, .percentile = 99, .bins = 512};
        const auto expected = observed(numbers, params), range = observed(sized, params);
        for (const Symmetry symmetry : both) {
          const Grid grid = range.grid(8, symmetry);
          CHECK(grid.scale == expected.grid(8, symmetry).scale * size);
          CHECK(grid.zero == expected.grid(8, symmetry).zero);
        }
      }
}

TEST_CASE("every stream gives a grid that works", "[activations]") {
  const float tiny = std::numeric_limits<float>::denorm_min();
  const std::vector<Stream> degenerate{{"zeros", Floats(50)},
                                       {"one zero", {0}},
                                       {"one positive value", Floats(50, 0.3f)},
                                       {"one negative value", Floats(50, -7)},
                                       {"huge", {FLT_MAX, -FLT_MAX, 1}},
                                       {"one huge value", {FLT_MAX}},
                                       {"one tiny value", {tiny}},
                                       {"tiny", {tiny, -1e-42f, 0}},
                                       {"huge and tiny", {-1e38f, tiny, 1e-20f}},
                                       {"an outlier", [] {
                                          Floats x(5000, 0.01f);
                                          x[77] = -1e6f;
                                          return x;
                                        }()}};
  for (const auto& [name, numbers] : degenerate)
    for (const ActivationObserver observer : observers)
      for (const Symmetry symmetry : both)
        for (int bits = 2; bits <= 8; ++bits) {
          INFO(name << ", " << gptq::name(observer) << ", " << bits << " bits");
          const Grid grid = observed(numbers, {.observer = observer}).grid(bits, symmetry);
          const float codes = static_cast<float>(1 << bits);
          CHECK(std::isfinite(grid.scale));
          CHECK(grid.scale >= FLT_MIN);
          CHECK(grid.zero == std::nearbyint(grid.zero));
          CHECK((grid.zero >= 0 && grid.zero < codes));
          // no wider than what was seen
          const double reach = largest(numbers);
          if (reach > 1e-30)
            CHECK(static_cast<double>(grid.scale) * static_cast<double>(codes - 1) <=
                  2.000001 * reach);
          // one value is never clipped away
          if (name.find("one") == 0 && reach > 1e-30)
            for (const float x : numbers)
              CHECK(std::abs(nearest(static_cast<double>(x), grid, bits) -
                             static_cast<double>(x)) <= 0.50001 * static_cast<double>(grid.scale));
          if (reach == 0) CHECK(grid.scale == grid_of(-1, 1, bits, symmetry).scale);
        }
}

TEST_CASE("what percentile, mse and entropy leave out is the outlier", "[activations]") {
  auto numbers = streams(20000)[1].numbers;
  const double before = largest(numbers);
  numbers[77] = 100;
  for (const Symmetry symmetry : both) {
    const auto reach = [&](ActivationObserver observer) {
      const Grid grid =
          observed(numbers, {.observer = observer, .percentile = 99.9}).grid(4, symmetry);
      return static_cast<double>(grid.scale) * (15 - static_cast<double>(grid.zero) + 0.5);
    };
    CHECK(reach(ActivationObserver::minmax) > 90);
    CHECK(reach(ActivationObserver::percentile) < before + 1);
    CHECK(reach(ActivationObserver::entropy) < 2 * before);
    CHECK(reach(ActivationObserver::mse) < 5 * before);
  }
}

TEST_CASE("activations that no grid can hold are refused with their place and leave no trace",
          "[activations]") {
  for (const ActivationObserver observer : observers) {
    auto numbers = streams(200)[1].numbers;
    ActivationRange range({.observer = observer});
    range.add(as_tokens(numbers, 10));
    const Grid before = range.grid(8, Symmetry::asymmetric);
    const auto refused = [&](const auto& view) {
      return error_of<gptq::NumericalError>([&] { range.add(view); });
    };
    numbers[0] = 1e9f;  // comes first, and is not observed either
    numbers[73] = -std::numeric_limits<float>::quiet_NaN();
    CHECK(refused(as_tokens(numbers, 10)) == "activations(7, 3) = nan is not finite");
    CHECK(refused(as_tokens(numbers, 10).transposed()) == "activations(3, 7) = nan is not finite");
    numbers[73] = -std::numeric_limits<float>::infinity();
    CHECK(refused(as_tokens(numbers, 10)) == "activations(7, 3) = -inf is not finite");
    const std::vector<double> wide{1, 1e300};
    CHECK(refused(gptq::MatrixView<const double>(wide.data(), 1, 2)) ==
          "activations(0, 1) = 1e+300 does not fit a float");
    const std::vector<gptq::float16> half{gptq::to_float16(1e6f)};
    CHECK(refused(gptq::MatrixView<const gptq::float16>(half.data(), 1, 1)) ==
          "activations(0, 0) = inf is not finite");
    CHECK(range.tokens() == 20);
    CHECK(same(range.grid(8, Symmetry::asymmetric), before));
  }
}

TEST_CASE("ranges refuse by name what they cannot do", "[activations]") {
  const auto refused = [](const auto& f) { return error_of<gptq::InvalidArgument>(f); };
  ActivationRange range({.observer = ActivationObserver::mse});
  CHECK_THAT(refused([&] { range.grid(); }),
             ContainsSubstring("no activations were observed (mse"));
  range.add(as_tokens({}));
  CHECK_THAT(refused([&] { range.grid(); }), ContainsSubstring("no activations were observed"));
  range.add(as_tokens({1, 2}));
  for (const int bits : {-1, 0, 1, 9, 32})
    CHECK(refused([&] { range.grid(bits); }) ==
          "bits = " + std::to_string(bits) + " must be 2 to 8");

  ActivationRange average({.observer = ActivationObserver::moving_average});
  CHECK_THAT(refused([&] { average.merge(average); }),
             ContainsSubstring("moving_average ranges cannot be merged"));
  CHECK_THAT(
      refused([&] { range.merge(ActivationRange({.observer = ActivationObserver::entropy})); }),
      ContainsSubstring("different parameters: entropy, momentum 0.9, percentile 99.99, 4096 "
                        "bins into mse"));
  CHECK_THAT(refused([&] {
               range.merge(ActivationRange({.observer = ActivationObserver::mse, .bins = 512}));
             }),
             ContainsSubstring("512 bins into"));

  for (const double momentum : {-0.1, 1.0, std::nan("")})
    CHECK_THAT(refused([&] { ActivationRange({.momentum = momentum}); }),
               ContainsSubstring("momentum = ") && ContainsSubstring("must be in [0, 1)"));
  for (const double percentile : {50.0, 100.1, std::nan("")})
    CHECK_THAT(refused([&] { ActivationRange({.percentile = percentile}); }),
               ContainsSubstring("percentile = ") && ContainsSubstring("above 50 and up to 100"));
  for (const Index bins : {Index{0}, Index{511}, Index{1} << 21})
    CHECK_THAT(refused([&] { ActivationRange({.bins = bins}); }),
               ContainsSubstring("bins = " + std::to_string(bins) + " must be 512 to 1048576"));
}

TEST_CASE("a token's grid is that of a range that has seen it alone", "[activations]") {
  const auto numbers = streams(600)[5].numbers;
  const auto x = as_tokens(numbers, 30);
  Floats columns(numbers.size());
  for (Index t = 0; t < 20; ++t)
    for (Index i = 0; i < 30; ++i) columns[static_cast<std::size_t>(i * 20 + t)] = x(t, i);
  for (const int bits : {2, 4, 8})
    for (const Symmetry symmetry : both) {
      const auto grids = gptq::per_token_grids(x, bits, symmetry);
      const auto from_columns = gptq::per_token_grids(
          gptq::MatrixView<const float>(columns.data(), 20, 30, 1, 20), bits, symmetry);
      REQUIRE(grids.size() == 20);
      CHECK(same(gptq::per_token_grids(Foreign{numbers, 20, 30}, bits, symmetry)[7], grids[7]));
      REQUIRE(from_columns.size() == 20);
      for (Index t = 0; t < 20; ++t) {
        const auto token = static_cast<std::size_t>(t);
        ActivationRange alone;
        alone.add(x.middle_rows(t, 1));
        CHECK(same(grids[token], alone.grid(bits, symmetry)));
        CHECK(same(from_columns[token], grids[token]));
      }
    }
}

TEST_CASE("a scheme encodes and decodes activations on the grid of their token", "[activations]") {
  const auto numbers = streams(600)[2].numbers;
  const auto x = as_tokens(numbers, 30);
  const auto grids = gptq::per_token_grids(x);
  const gptq::scheme::Int8 int8;
  for (Index t = 0; t < 20; ++t) {
    const Grid& grid = grids[static_cast<std::size_t>(t)];
    CHECK(int8.decode(int8.encode(0.0f, grid), grid) == 0);
    for (Index i = 0; i < 30; ++i)
      CHECK(std::abs(int8.decode(int8.encode(x(t, i), grid), grid) - x(t, i)) <=
            0.5001f * grid.scale);
  }
}

TEST_CASE("tokens without a grid are refused", "[activations]") {
  Floats numbers(60, 1.0f);
  CHECK(gptq::per_token_grids(as_tokens({}, 10)).empty());
  CHECK(error_of<gptq::InvalidArgument>([&] {
          gptq::per_token_grids(gptq::MatrixView<const float>(numbers.data(), 6, 0));
        }) == "6 tokens without features have no ranges");
  CHECK(error_of<gptq::InvalidArgument>([&] {
          gptq::per_token_grids(as_tokens(numbers, 10), 9);
        }) == "bits = 9 must be 2 to 8");
  numbers[42] = std::numeric_limits<float>::infinity();
  CHECK(error_of<gptq::NumericalError>([&] { gptq::per_token_grids(as_tokens(numbers, 10)); }) ==
        "activations(4, 2) = inf is not finite");
}
