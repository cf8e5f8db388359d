// SPDX-License-Identifier: MIT

// Properties of any layer with any parameters: shapes, magnitudes, spectra and parameters are
// random, from seeds.

#include "../support/catch.hpp"
#include "../support/layer.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <random>
#include <type_traits>
#include <vector>

using gptq::Groups;
using gptq::Index;
using gptq::MatrixView;
using gptq::Order;
using gptq::Params;
using gptq::Range;
using gptq::Solver;
using gptq::scheme::Affine;
using gptq::scheme::Asymmetric;
using gptq::scheme::Int4;
using gptq::scheme::NF4;
using test::Layer;
using test::Matrix;
using test::quantize;
using Cpu = gptq::backend::Cpu;
using Reference = gptq::backend::Reference;

namespace {

class Dice {
 public:
  explicit Dice(int seed) : random_(static_cast<std::uint32_t>(seed)) {}
  Index pick(Index low, Index high) {
    return low + static_cast<Index>(random_() % static_cast<unsigned>(high - low + 1));
  }
  bool chance(Index one_in) { return pick(1, one_in) == 1; }
  template <class T>
  T among(std::initializer_list<T> values) {
    return values.begin()[pick(0, static_cast<Index>(values.size()) - 1)];
  }

 private:
  std::mt19937 random_;
};

/// A random layer that may have one row, one column, fewer tokens than inputs, outliers of 1e4,
/// dead and duplicate inputs, rows that are all equal or all zero.
Layer any_layer(Dice& dice, int seed) {
  const test::LayerOptions o{.out = dice.chance(8) ? 1 : dice.pick(1, 40),
                             .in = dice.chance(8) ? 1 : dice.pick(1, 150),
                             .tokens = dice.pick(1, 300),
                             .seed = static_cast<std::uint32_t>(seed),
                             .correlation = 0.1 * static_cast<double>(dice.pick(0, 9)),
                             .outlier = std::pow(10.0, static_cast<double>(dice.pick(0, 4)))};
  Layer layer = test::random_layer(o);
  const auto input = [&](Index c, const auto& value) {
    for (Index t = 0; t < o.tokens; ++t) layer.activations(t, c) = value(t);
  };
  if (dice.chance(3)) input(dice.pick(0, o.in - 1), [](Index) { return 0.0; });
  if (dice.chance(3)) {
    const Index from = dice.pick(0, o.in - 1);
    input(dice.pick(0, o.in - 1), [&](Index t) { return layer.activations(t, from); });
  }
  const auto row = [&](Index r, double factor) {
    const double value = layer.weight(0, 0);
    for (Index c = 0; c < o.in; ++c) layer.weight(r, c) = value * factor;
  };
  if (dice.chance(4)) row(dice.pick(0, o.out - 1), 1);
  if (dice.chance(4)) row(dice.pick(0, o.out - 1), 0);
  test::round_to_float(layer);
  return layer;
}

Params any_params(Dice& dice, Index in_features) {
  Params p;
  p.group_size = dice.among<Index>({-1, 4, 16, 32, 128});
  p.allow_tail_group = true;
  p.order = dice.among({Order::natural, Order::act, Order::group_aware, Order::min_pivot});
  p.groups = dice.among({Groups::static_, Groups::dynamic});
  p.solver = dice.among({Solver::left_looking, Solver::lazy_batch});
  p.range = dice.among({Range::minmax, Range::mse, Range::weighted});
  p.block_size = dice.among<Index>({4, 16, 128});
  p.damping = dice.among({0.01, 0.1, 1e-4});
  p.damping_rule = dice.among({gptq::DampingRule::mean_diagonal, gptq::DampingRule::own_diagonal});
  p.factor_in_double = dice.chance(3);
  p.scale_type = dice.among({gptq::ScaleType::fp32, gptq::ScaleType::bf16, gptq::ScaleType::fp16});
  p.signed_scales = dice.chance(2);
  if (p.order == Order::natural && in_features % 8 == 0 && p.group_size != 4 && p.block_size != 4 &&
      dice.chance(2))
    p.sparsity = dice.among<gptq::Sparsity>({{1, 2}, {2, 4}, {3, 4}, {4, 8}});
  if (!dice.chance(4)) return p;
  p.parity.samples = dice.among({gptq::SampleCount::tokens, gptq::SampleCount::twice_tokens,
                                 gptq::SampleCount::twice_sequences});
  p.parity.dead_inputs = dice.among(
      {gptq::DeadInputs::mean_last, gptq::DeadInputs::unit, gptq::DeadInputs::unit_last});
  p.parity.stale_group_scales =
      p.solver == Solver::lazy_batch && p.groups == Groups::dynamic && dice.chance(2);
  p.parity.one_sided_range = dice.chance(2);
  p.parity.round_with_zero = dice.chance(2);
  p.parity.narrow_range = dice.chance(2);
  p.parity.dead_weights_in_range = p.group_size == -1 && dice.chance(2);
  p.parity.zero_dead_weights = dice.chance(2);
  return p;
}

/// Calls f with one of the schemes.
template <class F>
void with_scheme(Dice& dice, const F& f) {
  switch (dice.pick(0, 10)) {
    case 0: return f(Affine<2>{});
    case 1: return f(Affine<3>{});
    case 2: return f(Int4{});
    case 3: return f(Affine<5>{});
    case 4: return f(Asymmetric<6>{});
    case 5: return f(Affine<7>{});
    case 6: return f(Affine<8>{});
    case 7: return f(Asymmetric<4>{});
    case 8: return f(gptq::scheme::Float8{});
    case 9: return f(gptq::scheme::Float4{});
    default: return f(NF4{});
  }
}

}  // namespace

TEST_CASE("results are sound, whatever the input", "[solver][property]") {
  const int seed = GENERATE(range(0, 400));
  Dice dice(seed);
  const Layer layer = any_layer(dice, seed);
  Params params = any_params(dice, layer.weight.cols);
  INFO(layer.weight.rows << " x " << layer.weight.cols << ", " << layer.activations.rows
                         << " tokens, order " << static_cast<int>(params.order) << ", groups "
                         << static_cast<int>(params.groups) << " of " << params.group_size
                         << ", solver " << static_cast<int>(params.solver));
  with_scheme(dice, [&](auto scheme) {
    using S = decltype(scheme);
    if constexpr (!requires { scheme.with(params.parity); })  // quirks of affine grids
      params.parity.one_sided_range = params.parity.round_with_zero = params.parity.narrow_range =
          false;
    const auto q = quantize<S, Cpu>(layer, params, Cpu(gptq::exec::Threads(1)));
    for (Index r = 0; r < q.rows(); ++r) {
      for (Index g = 0; g < q.groups(); ++g) {
        REQUIRE(std::isfinite(q.scales()(r, g)));
        REQUIRE(q.scales()(r, g) != 0);
      }
      for (Index c = 0; c < q.cols(); ++c) REQUIRE(q.codes()(r, c) <= S::max_code);
    }

    // The losses are those of the weights that a loader gets.
    const Matrix h = test::hessian_of(layer), d = test::error_of_weight(layer, q);
    const double energy = test::quadratic_form(layer.weight, h);
    const double counted = params.parity.samples == gptq::SampleCount::tokens ? 1
                           : params.parity.samples == gptq::SampleCount::twice_tokens
                               ? 2
                               : 2 * q.report().tokens;
    CHECK(q.report().loss / counted ==
          Approx(test::quadratic_form(d, h)).epsilon(1e-2).margin(1e-5 * energy));
    double columns = 0;
    for (const double loss : q.column_loss()) {
      REQUIRE(loss >= 0);
      columns += loss;
    }
    CHECK(q.report().damped_loss == Approx(columns));

    // Dead inputs cost nothing; their weights are rounded, or zero if asked for.
    Index dead = 0;
    for (Index c = 0; c < q.cols(); ++c) {
      if (h(c, c) != 0) continue;
      ++dead;
      CHECK(q.column_loss()[static_cast<std::size_t>(c)] == 0);
      const bool zero = params.parity.zero_dead_weights || !params.sparsity.dense();
      const auto g = q.group_index()[static_cast<std::size_t>(c)];
      for (Index r = 0; r < q.rows(); ++r) {
        if (zero) REQUIRE(q(r, c) == 0);
        else
          REQUIRE(static_cast<float>(q.codes()(r, c)) ==
                  q.scheme().encode(static_cast<float>(layer.weight(r, c)),
                                    {q.scales()(r, g), q.zeros()(r, g)}));
      }
    }
    CHECK(q.report().damping.dead_columns == dead);

    if (!params.sparsity.dense())
      for (Index r = 0; r < q.rows(); ++r)
        for (Index c = 0; c < q.cols(); c += params.sparsity.of) {
          Index zeros = 0;
          for (Index k = c; k < c + params.sparsity.of; ++k) zeros += q(r, k) == 0;
          REQUIRE(zeros >= params.sparsity.zeros);
        }

    // Threads only share the work.
    const auto again =
        quantize<S, Cpu>(layer, params, Cpu(gptq::exec::Threads(dice.among({2, 3, 8}))));
    CHECK(test::code_differences(q, again) == 0);
    CHECK(q.report().damped_loss == again.report().damped_loss);
  });
}

TEST_CASE("a weight inside its grid is off by at most half a step, and losses are those errors",
          "[solver][property][identity]") {
  Index inside = 0, all = 0;
  for (int seed = 1000; seed < 1100; ++seed) {
    INFO("seed " << seed);
    Dice dice(seed);
    const Layer layer = any_layer(dice, seed);
    Params params = any_params(dice, layer.weight.cols);
    params.groups = Groups::static_;
    params.sparsity = {};
    params.parity = {};
    const auto hessian = test::calibrate<Reference>(layer);
    const gptq::Quantizer<Asymmetric<4>, Reference> quantizer(params);
    const auto factor = quantizer.factorize(hessian);
    const auto q = quantizer.quantize(layer.w(), factor);
    const Matrix d = test::error_of_weight(layer, q);
    Index beyond = 0;
    double total = 0;
    for (Index p = 0; p < q.cols(); ++p) {
      if (factor.layout.dead(p)) continue;
      const Index c = factor.layout.column(p);
      for (Index r = 0; r < q.rows(); ++r) {
        double miss = 0;  // ((W − Q)·R)_p: the column's rounding error times √d
        double size = 0;  // magnitude of the terms, which have 24 bits in a loader
        for (Index k = 0; k <= p; ++k) {
          const Index at = factor.layout.column(k);
          miss += d(r, at) * factor.r(k, p);
          size += std::abs(layer.weight(r, at) * factor.r(k, p));
        }
        total += miss * miss;
        const double step = std::abs(
            static_cast<double>(q.scales()(r, q.group_index()[static_cast<std::size_t>(c)])));
        const double half = step / 2 * factor.r(p, p) * (1 + 1e-5) + 1e-7 * size;
        const bool at_end = q.codes()(r, c) == 0 || q.codes()(r, c) == 15;
        inside += !at_end;
        if (!at_end) REQUIRE(std::abs(miss) <= half);
        beyond += at_end && std::abs(miss) > half;
      }
    }
    all += q.rows() * q.cols();
    CHECK(total == Approx(q.report().damped_loss).epsilon(1e-4).margin(1e-12));
    // More than half a step beyond the ends counts as clipped.
    CHECK(static_cast<double>(beyond) <=
          q.report().clipped * static_cast<double>(q.rows() * q.cols()) + 0.5);
  }
  CHECK(inside > all / 2);
}

TEST_CASE("compensation beats rounding to nearest on the same grids", "[solver][property]") {
  int better = 0, layers = 0;
  double logs = 0;
  for (int seed = 3000; seed < 3100; ++seed) {
    Dice dice(seed);
    const Layer layer = any_layer(dice, seed);
    if (layer.weight.cols < 16) continue;
    const Params params{.group_size = 16,
                        .allow_tail_group = true,
                        .order = dice.among({Order::natural, Order::act, Order::group_aware}),
                        .range = Range::minmax};
    const auto report = quantize<Asymmetric<3>, Cpu>(layer, params).report();
    if (!(report.rtn_relative_error > 0)) continue;
    ++layers;
    better += report.relative_error <= report.rtn_relative_error;
    logs += std::log(report.relative_error / report.rtn_relative_error);
  }
  CHECK(layers > 60);
  CHECK(better >= layers * 95 / 100);
  CHECK(logs / layers < std::log(0.7));
}

TEST_CASE("a weight times a power of two has the same codes, from 1e-30 to 1e30",
          "[solver][property]") {
  const int seed = GENERATE(range(2000, 2060));
  Dice dice(seed);
  const Layer layer = any_layer(dice, seed);
  Params params = any_params(dice, layer.weight.cols);
  params.scale_type = gptq::ScaleType::fp32;  // other types lack the range
  params.parity = {};
  with_scheme(dice, [&](auto scheme) {
    using S = decltype(scheme);
    const auto hessian = test::calibrate<Cpu>(layer);
    const gptq::Quantizer<S, Cpu> quantizer(params);
    const auto plain = quantizer.quantize(layer.w(), hessian);
    const auto holds_a_number = [&](Index r, Index g) {
      for (Index c = 0; c < plain.cols(); ++c)
        if (plain.group_index()[static_cast<std::size_t>(c)] == g && plain(r, c) != 0) return true;
      return false;
    };
    for (const int exponent : {-95, -20, 20, 100}) {
      INFO("2^" << exponent);
      std::vector<float> scaled = layer.weight_f;
      for (float& w : scaled) w = std::ldexp(w, exponent);
      const auto q = quantizer.quantize(
          MatrixView<const float>(scaled.data(), layer.weight.rows, layer.weight.cols), hessian);
      CHECK(test::code_differences(plain, q) == 0);
      const double squared = std::ldexp(1.0, 2 * exponent);
      CHECK(q.report().damped_loss == Approx(plain.report().damped_loss * squared));
      for (Index r = 0; r < q.rows(); ++r)
        for (Index g = 0; g < q.groups(); ++g)
          // The grid of an all-zero group is the same in any unit.
          if (holds_a_number(r, g))
            REQUIRE(q.scales()(r, g) == std::ldexp(plain.scales()(r, g), exponent));
    }
  });
}

TEST_CASE("a Hessian times a power of four has the same codes and relative errors",
          "[solver][property][fault29]") {
  for (int seed = 2500; seed < 2520; ++seed) {
    Dice dice(seed);
    const Layer layer = test::random_layer(
        {.out = 24, .in = 48, .tokens = 200, .seed = static_cast<std::uint32_t>(seed)});
    Params params = any_params(dice, 48);
    params.parity = {};
    params.scale_type = gptq::ScaleType::fp16;
    params.estimate_condition = true;
    const Matrix h = test::hessian_of(layer);
    const auto with = [&](int exponent) {
      std::vector<float> sum;
      for (const double x : h.data) sum.push_back(std::ldexp(static_cast<float>(x), exponent));
      const auto hessian =
          gptq::Hessian<Cpu>::from_sum(MatrixView<const float>(sum.data(), 48, 48), 1);
      return gptq::Quantizer<Int4, Cpu>(params).quantize(layer.w(), hessian);
    };
    const auto plain = with(0);
    for (const int exponent : {-100, -32, 32, 114}) {
      INFO("seed " << seed << ", 2^" << exponent);
      const auto q = with(exponent);
      CHECK(test::code_differences(plain, q) == 0);
      const gptq::Report &a = plain.report(), &b = q.report();
      CHECK(b.relative_error == Approx(a.relative_error).epsilon(1e-4));
      CHECK(b.rtn_relative_error == Approx(a.rtn_relative_error).epsilon(1e-4));
      CHECK(b.damped_loss == Approx(std::ldexp(a.damped_loss, exponent)).epsilon(1e-4));
      CHECK(b.paper_error == Approx(std::ldexp(a.paper_error, exponent)).epsilon(1e-4));
      CHECK(b.damping.lambda == Approx(std::ldexp(a.damping.lambda, exponent)));
      CHECK(b.damping.condition == Approx(a.damping.condition).epsilon(1e-3));
    }
  }
}

TEST_CASE("the target of asymmetric calibration does not depend on the scale of the activations",
          "[solver][property][fault29]") {
  const Layer layer = test::random_layer({.out = 8, .in = 32, .tokens = 100});
  const auto aimed = [&](float factor) {
    std::vector<float> x = layer.activations_f, shifted = x;
    for (float& value : x) value *= factor;
    for (std::size_t i = 0; i < x.size(); ++i) shifted[i] = 0.1f * x[(i * 7 + 3) % x.size()];
    const MatrixView<const float> view(x.data(), 100, 32), difference(shifted.data(), 100, 32);
    gptq::Hessian<Cpu> hessian(32);
    hessian.add(view);
    gptq::CrossMoment<Cpu> cross(32, 32);
    cross.add(difference, view);
    std::vector<float> weight = layer.weight_f;
    gptq::aim_at_full_precision<Cpu>(MatrixView<float>(weight.data(), 8, 32),
                                     gptq::factorize(hessian, {.group_size = 16}),
                                     {.inputs = &cross});
    return weight;
  };
  const auto plain = aimed(1);
  for (const float factor : {0x1p-30f, 0x1p30f}) {
    const auto other = aimed(factor);
    double moved = 0, apart = 0;
    for (std::size_t i = 0; i < plain.size(); ++i) {
      moved = std::max(moved, static_cast<double>(std::abs(plain[i] - layer.weight_f[i])));
      apart = std::max(apart, static_cast<double>(std::abs(plain[i] - other[i])));
    }
    CHECK(moved > 1e-4);
    CHECK(apart < 1e-3 * moved);
  }
}

TEST_CASE("counts that no Hessian can have are refused", "[solver][property][fault29]") {
  const std::vector<float> sum{1, 0, 0, 1};
  const MatrixView<const float> view(sum.data(), 2, 2);
  const std::vector<float> w{0.5f, -0.3f};
  const MatrixView<const float> weight(w.data(), 1, 2);
  const auto quantized = [&](double tokens, double sequences, gptq::SampleCount samples) {
    Params params{.group_size = -1};
    params.parity.samples = samples;
    return gptq::Quantizer<Int4, Cpu>(params).quantize(
        weight, gptq::Hessian<Cpu>::from_sum(view, tokens, sequences));
  };
  CHECK_THROWS_WITH(quantized(4, 0, gptq::SampleCount::twice_sequences),
                    ContainsSubstring("4 tokens in no sequences"));
  CHECK_THROWS_AS(quantized(1e-310, 1, gptq::SampleCount::tokens), gptq::NumericalError);
}

TEST_CASE("activations whose squares overflow or underflow are refused",
          "[solver][property][errors]") {
  Layer layer = test::random_layer({.out = 4, .in = 32, .tokens = 60});
  const auto scaled = [&](float factor) {
    std::vector<float> x = layer.activations_f;
    for (float& v : x) v *= factor;
    return x;
  };
  const auto plain = quantize<Int4, Cpu>(layer, {.group_size = 16});
  for (const float factor : {0x1p-40f, 0x1p40f}) {
    const auto x = scaled(factor);
    gptq::Hessian<Cpu> hessian(32);
    hessian.add(MatrixView<const float>(x.data(), 60, 32));
    const auto q = gptq::Quantizer<Int4, Cpu>({.group_size = 16}).quantize(layer.w(), hessian);
    CHECK(test::code_differences(plain, q) == 0);
  }
  const auto large = scaled(1e25f), small = scaled(1e-30f);
  gptq::Hessian<Cpu> hessian(32);
  CHECK_THROWS_WITH(hessian.add(MatrixView<const float>(large.data(), 60, 32)),
                    ContainsSubstring("may not fit the backend's numbers"));
  CHECK(hessian.tokens() == 0);
  hessian.add(MatrixView<const float>(small.data(), 60, 32));
  CHECK_THROWS_WITH((gptq::Quantizer<Int4, Cpu>({.group_size = 16}).quantize(layer.w(), hessian)),
                    ContainsSubstring("their squares vanish"));
  // In double precision both fit.
  using Double = gptq::backend::BasicCpu<gptq::exec::Threads, double>;
  for (const auto& x : {large, small}) {
    gptq::Hessian<Double> exact(32);
    exact.add(MatrixView<const float>(x.data(), 60, 32));
    const auto q = gptq::Quantizer<Int4, Double>({.group_size = 16}).quantize(layer.w(), exact);
    CHECK(test::code_differences(plain, q) <= 1);
  }
}

TEST_CASE("single precision is good enough, whatever is wrong with the inputs",
          "[solver][property]") {
  constexpr Index n = 120;
  struct Case {
    const char* name;
    Index tokens;
    double outlier;
    bool dead, duplicate;
  };
  for (const auto& c :
       {Case{"outliers", 400, 1e4, false, false},
        Case{"fewer tokens than inputs", 40, 15, false, false},
        Case{"one token", 1, 1, false, false}, Case{"dead", 400, 15, true, false},
        Case{"duplicates", 400, 15, false, true}, Case{"everything", 60, 1e4, true, true}}) {
    INFO(c.name);
    Layer layer =
        test::random_layer({.out = 24, .in = n, .tokens = c.tokens, .outlier = c.outlier});
    for (Index t = 0; t < c.tokens; ++t) {
      if (c.dead) layer.activations(t, 11) = layer.activations(t, 90) = 0;
      if (c.duplicate) layer.activations(t, 33) = layer.activations(t, 34);
    }
    test::round_to_float(layer);
    for (const Solver solver : {Solver::left_looking, Solver::lazy_batch}) {
      Params params{.group_size = 40};
      params.solver = solver;
      const auto fast = quantize<Int4, Cpu>(layer, params);
      const auto exact = quantize<Int4, Reference>(layer, params);
      CHECK(fast.report().damping.retries == 0);
      CHECK(fast.report().damped_loss <= 1.02 * exact.report().damped_loss);
    }
  }
}

TEST_CASE("condition numbers 1e2 to 1e10: single precision is good enough, or the report says so",
          "[solver][property]") {
  constexpr Index n = 96, out = 12, tokens = 200;
  for (const double exponent : {2.0, 4.0, 6.0, 7.0, 8.0, 10.0})
    for (const double damping : {0.01, 1e-6}) {
      INFO("condition 1e" << exponent << ", damping " << damping);
      Layer layer = test::random_layer({.out = out, .in = n, .tokens = tokens, .outlier = 1});
      // X = Z·D·Q: Z noise, D a decreasing diagonal whose square has this condition, Q a rotation
      // of all inputs (a product of reflections).
      std::mt19937 random(7);
      std::normal_distribution<double> normal;
      for (double& x : layer.activations.data) x = normal(random);
      for (Index t = 0; t < tokens; ++t)
        for (Index c = 0; c < n; ++c)
          layer.activations(t, c) *=
              std::pow(10.0, -exponent / 2 * static_cast<double>(c) / static_cast<double>(n - 1));
      for (int reflection = 0; reflection < 3; ++reflection) {
        std::vector<double> axis(n);
        double norm = 0;
        for (double& v : axis) v = normal(random), norm += v * v;
        for (Index t = 0; t < tokens; ++t) {
          double along = 0;
          for (Index c = 0; c < n; ++c)
            along += layer.activations(t, c) * axis[static_cast<std::size_t>(c)];
          for (Index c = 0; c < n; ++c)
            layer.activations(t, c) -= 2 * along / norm * axis[static_cast<std::size_t>(c)];
        }
      }
      test::round_to_float(layer);
      Params params{.group_size = 32};
      params.damping = damping;
      params.estimate_condition = true;
      const auto fast = quantize<Int4, Cpu>(layer, params);
      const auto exact = quantize<Int4, Reference>(layer, params);
      CHECK(std::isfinite(fast.report().loss));
      CHECK(fast.report().damping.fraction >= damping);
      CHECK(fast.report().damping.condition > 1);
      // With hardly any damping, compensation can push weights off their grids, which costs more
      // than it gains.
      if (damping == 0.01) CHECK(fast.report().relative_error < fast.report().rtn_relative_error);
      if (exponent <= 7 && fast.report().damping.retries == 0)
        CHECK(fast.report().damped_loss <= 1.02 * exact.report().damped_loss);
      if (exponent <= 7) CHECK(fast.report().damping.retries == 0);
    }
}
