// SPDX-License-Identifier: MIT

#include "../support/catch.hpp"
#include "../support/layer.hpp"

#include <limits>

using gptq::Index;
using test::calibrate;
using test::random_layer;
using Cpu = gptq::backend::Cpu;

namespace {

/// The normalised Hessian of a backend, upper triangle.
template <class B>
test::Matrix read(const gptq::Hessian<B>& hessian) {
  const Index n = hessian.in_features();
  std::vector<double> raw(static_cast<std::size_t>(n * n));
  hessian.backend().download(hessian.sum(), gptq::MatrixView<double>(raw.data(), n, n));
  test::Matrix h(n, n);
  for (Index i = 0; i < n; ++i)
    for (Index j = i; j < n; ++j)
      h(i, j) = raw[static_cast<std::size_t>(i * n + j)] / hessian.tokens();
  return h;
}

double relative_difference(const test::Matrix& a, const test::Matrix& b) {
  double difference = 0, size = 0;
  for (Index i = 0; i < a.rows; ++i)
    for (Index j = i; j < a.cols; ++j)
      difference += std::pow(a(i, j) - b(i, j), 2), size += std::pow(b(i, j), 2);
  return std::sqrt(difference / size);
}

}  // namespace

TEST_CASE("a Hessian is the mean of x xT over all tokens, however they are batched", "[hessian]") {
  const auto layer = random_layer({.out = 1, .in = 150, .tokens = 700});
  const auto expected = test::hessian_of(layer);
  CHECK(relative_difference(read(calibrate<Cpu>(layer)), expected) < 1e-6);
  for (const Index chunk : {1, 7, 256, 699}) {
    gptq::Hessian<Cpu> pieces(150);
    for (Index t = 0; t < 700; t += chunk)
      pieces.add(layer.x().middle_rows(t, std::min(chunk, 700 - t)));
    CHECK(pieces.tokens() == 700);
    CHECK(relative_difference(read(pieces), expected) < 1e-6);
  }
}

TEST_CASE("activations with strides or in 16 bits give the Hessian of the same numbers in float",
          "[hessian]") {
  auto layer = random_layer({.out = 1, .in = 64, .tokens = 90});
  std::vector<gptq::bfloat16> bf16;
  std::vector<gptq::float16> fp16;
  for (const float x : layer.activations_f) {
    bf16.push_back(gptq::to_bfloat16(x));
    fp16.push_back(gptq::to_float16(gptq::to_float(bf16.back())));
  }
  for (std::size_t i = 0; i < bf16.size(); ++i) layer.activations_f[i] = gptq::to_float(bf16[i]);
  const auto expected = read(calibrate<Cpu>(layer));

  gptq::Hessian<Cpu> from_bf16(64), from_fp16(64), from_columns(64);
  from_bf16.add(gptq::MatrixView<const gptq::bfloat16>(bf16.data(), 90, 64));
  from_fp16.add(gptq::MatrixView<const gptq::float16>(fp16.data(), 90, 64));
  std::vector<float> columns(90 * 64);
  for (Index t = 0; t < 90; ++t)
    for (Index i = 0; i < 64; ++i) columns[static_cast<std::size_t>(i * 90 + t)] = layer.x()(t, i);
  from_columns.add(gptq::MatrixView<const float>(columns.data(), 90, 64, 1, 90));
  // products of bfloat16 are exact either way; the order of the sums may differ
  CHECK(relative_difference(read(from_bf16), expected) < 1e-6);
  CHECK(relative_difference(read(from_columns), expected) == 0);
  // halves have fewer exponents: the largest outliers may have become infinite and the smallest
  // numbers zero
  CHECK(relative_difference(read(from_fp16), expected) < 1e-3);
}

TEST_CASE("sums over many tokens are those of double precision", "[hessian]") {
  for (const Index tokens : {1, 700, 50000}) {
    const auto layer = random_layer({.out = 1, .in = 48, .tokens = tokens});
    std::vector<gptq::bfloat16> bf16;
    std::vector<float> rounded;
    for (const float x : layer.activations_f) {
      bf16.push_back(gptq::to_bfloat16(x));
      rounded.push_back(gptq::to_float(bf16.back()));
    }
    const auto difference = [&](const auto& numbers, gptq::Precision precision) {
      using T = typename std::remove_cvref_t<decltype(numbers)>::value_type;
      const gptq::MatrixView<const T> x(numbers.data(), tokens, 48);
      gptq::Hessian<Cpu> fast(48, Cpu(gptq::exec::Threads(2), precision));
      gptq::Hessian<gptq::backend::Reference> exact(48);
      fast.add(x);
      exact.add(x);
      return relative_difference(read(fast), read(exact));
    };
    for (const auto precision : {gptq::Precision::single, gptq::Precision::split}) {
      INFO(tokens << " tokens, precision " << static_cast<int>(precision));
      CHECK(difference(bf16, precision) < 1e-6);
      CHECK(difference(rounded, precision) < 1e-6);
      CHECK(difference(layer.activations_f, precision) <
            (precision == gptq::Precision::single ? 1e-6 : 1e-5));
    }
  }
}

TEST_CASE("token weights count: zero leaves a token out, two counts it twice", "[hessian]") {
  const auto layer = random_layer({.out = 1, .in = 48, .tokens = 60});
  std::vector<float> mask(60, 1.0f);
  for (Index t = 40; t < 60; ++t) mask[static_cast<std::size_t>(t)] = 0;
  gptq::Hessian<Cpu> masked(48), head(48);
  masked.add(layer.x(), mask);
  head.add(layer.x().middle_rows(0, 40));
  CHECK(masked.tokens() == 40);
  CHECK(relative_difference(read(masked), read(head)) < 1e-6);

  // Tokens that do not count may hold anything.
  auto padded = layer;
  for (std::size_t i = 40 * 48; i < padded.activations_f.size(); ++i)
    padded.activations_f[i] = i % 2 ? std::numeric_limits<float>::quiet_NaN() : 1e38f;
  padded.activations_f[7 * 48 + 3] = std::numeric_limits<float>::infinity();
  mask[7] = 0;
  gptq::Hessian<Cpu> with_padding(48), without(48);
  with_padding.add(padded.x(), mask);
  without.add(layer.x().middle_rows(0, 7));
  without.add(layer.x().middle_rows(8, 32));
  CHECK(with_padding.tokens() == 39);
  CHECK(with_padding.sequences() == 1);
  CHECK(relative_difference(read(with_padding), read(without)) < 1e-6);
  for (std::size_t i = 40 * 48; i < padded.activations_f.size(); ++i)  // finite, but no more
    padded.activations_f[i] = -3e38f;
  padded.activations_f[7 * 48 + 3] = 1e30f;
  with_padding.add(padded.x(), mask);
  CHECK(with_padding.tokens() == 2 * 39);
  without.merge(without);
  CHECK(relative_difference(read(with_padding), read(without)) < 1e-6);
  padded.activations_f[9 * 48 + 5] = std::numeric_limits<float>::quiet_NaN();
  CHECK_THAT(error_of<gptq::NumericalError>([&] { with_padding.add(padded.x(), mask); }),
             ContainsSubstring("activations(9, 5) = nan"));
  CHECK(with_padding.tokens() == 2 * 39);
  with_padding.add(layer.x().middle_rows(0, 0));
  CHECK(with_padding.sequences() == 2);

  gptq::Hessian<Cpu> weighted(48), repeated(48);
  const std::vector<float> twice(60, 2.0f);
  weighted.add(layer.x(), twice);
  repeated.add(layer.x());
  repeated.add(layer.x());
  CHECK(weighted.tokens() == repeated.tokens());
  CHECK(relative_difference(read(weighted), read(repeated)) < 1e-6);

  CHECK_THAT(error_of<gptq::InvalidArgument>(
                 [&] { weighted.add(layer.x(), std::vector<float>(59, 1.0f)); }),
             ContainsSubstring("59 entries for 60 tokens"));
  std::vector<float> negative(60, 1.0f);
  negative[3] = -1;
  CHECK_THAT(error_of<gptq::InvalidArgument>([&] { weighted.add(layer.x(), negative); }),
             ContainsSubstring("token_weights[3] = -1"));
  const double sequences = weighted.sequences();
  CHECK_THAT(error_of<gptq::InvalidArgument>(
                 [&] { weighted.add(layer.x(), std::vector<float>(60, 0.0f)); }),
             ContainsSubstring("token_weights are all zero: none of the 60 tokens counts"));
  CHECK(weighted.sequences() == sequences);
  weighted.add(layer.x().middle_rows(0, 0), std::vector<float>{});
  CHECK(weighted.sequences() == sequences);
}

TEST_CASE("merged Hessians are weighted by their tokens", "[hessian]") {
  const auto layer = random_layer({.out = 1, .in = 40, .tokens = 100});
  gptq::Hessian<Cpu> a(40), b(40);
  a.add(layer.x().middle_rows(0, 13));
  b.add(layer.x().middle_rows(13, 87));
  b.add(layer.x().middle_rows(0, 0));
  a.merge(b);
  a.merge(gptq::Hessian<Cpu>(40));
  CHECK(a.tokens() == 100);
  CHECK(a.sequences() == 2);
  CHECK(a.largest() == (std::max)(calibrate<Cpu>(layer).largest(), b.largest()));
  CHECK(relative_difference(read(a), read(calibrate<Cpu>(layer))) < 1e-6);
  CHECK_THAT(error_of<gptq::InvalidArgument>([&] { a.merge(gptq::Hessian<Cpu>(41)); }),
             ContainsSubstring("41 inputs"));
}

TEST_CASE("activations that are not finite are refused with their position and leave no trace",
          "[hessian]") {
  auto layer = random_layer({.out = 1, .in = 32, .tokens = 20});
  gptq::Hessian<Cpu> hessian(32);
  hessian.add(layer.x());
  const auto before = read(hessian);
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    layer.activations_f[7 * 32 + 5] = bad;
    const auto text = error_of<gptq::NumericalError>([&] { hessian.add(layer.x()); });
    CHECK_THAT(text, ContainsSubstring("activations(7, 5)") && ContainsSubstring("is not finite"));
  }
  CHECK(hessian.tokens() == 20);
  CHECK(relative_difference(read(hessian), before) == 0);
  CHECK_THAT(error_of<gptq::InvalidArgument>([&] { hessian.add(layer.x().middle_cols(0, 31)); }),
             ContainsSubstring("31 columns"));
  CHECK_THROWS_AS(gptq::Hessian<Cpu>(0), gptq::InvalidArgument);
}

TEST_CASE("a Hessian has the same bits for any number of threads", "[hessian][determinism]") {
  const auto layer = random_layer({.out = 1, .in = 333, .tokens = 1100});
  const auto first = read(calibrate<Cpu>(layer, Cpu(gptq::exec::Threads(1))));
  for (const int threads : {2, 3, 8})
    CHECK(read(calibrate<Cpu>(layer, Cpu(gptq::exec::Threads(threads)))).data == first.data);
}
