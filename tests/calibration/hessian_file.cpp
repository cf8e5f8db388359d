// SPDX-License-Identifier: MIT

// Hessians written to and read from files, and files that are not Hessians.

#include <gptq/calibration/hessian_file.hpp>

#include "../support/catch.hpp"
#include "../support/files.hpp"
#include "../support/layer.hpp"

using gptq::Hessian;
using gptq::Index;
using Cpu = gptq::backend::Cpu;
using Reference = gptq::backend::Reference;

TEST_CASE("a Hessian is the same after writing and reading it", "[hessian]") {
  const test::TemporaryFolder folder;
  const auto layer = test::random_layer({.out = 8, .in = 72});
  auto hessian = test::calibrate<Cpu>(layer);
  hessian.add(layer.x());
  gptq::save_hessian(hessian, folder / "h");
  const auto read = gptq::load_hessian<Cpu>(folder / "h");
  CHECK(read.tokens() == hessian.tokens());
  CHECK(read.sequences() == 2);
  for (Index i = 0; i < 72; ++i)
    for (Index j = i; j < 72; ++j) CHECK(read.sum()(i, j) == hessian.sum()(i, j));
  CHECK(folder.names().size() == 1);

  // In double precision, and from one backend to the other.
  gptq::save_hessian(test::calibrate<Reference>(layer), folder / "d");
  const auto exact = gptq::load_hessian<Reference>(folder / "d");
  CHECK(exact.sum()(3, 9) == test::calibrate<Reference>(layer).sum()(3, 9));
  auto merged = gptq::load_hessian<Cpu>(folder / "d");
  merged.merge(read);
  CHECK(merged.tokens() == 3 * 256);
}

TEST_CASE("an empty Hessian, large sums and small activations survive a file", "[hessian]") {
  const test::TemporaryFolder folder;
  const auto layer = test::random_layer({.out = 4, .in = 16, .tokens = 40});
  auto merged = test::calibrate<Cpu>(layer);
  const double tokens = merged.tokens();
  Hessian<Cpu> idle(16);
  gptq::save_hessian(idle, folder / "idle");
  const auto read = gptq::load_hessian<Cpu>(folder / "idle");
  CHECK(read.tokens() == 0);
  CHECK(read.sequences() == 0);
  merged.merge(read);
  CHECK(merged.tokens() == tokens);
  CHECK_THROWS_WITH(
      (gptq::Quantizer<gptq::scheme::Int4, Cpu>({.group_size = 16}).quantize(layer.w(), read)),
      ContainsSubstring("has seen no tokens"));

  // Sums beyond the range of single precision, in a backend that can hold them.
  using Double = gptq::backend::BasicCpu<gptq::exec::Serial, double>;
  const std::vector<double> large(32, 1e30);
  Hessian<Double> wide(16);
  wide.add(gptq::MatrixView<const double>(large.data(), 2, 16));
  gptq::save_hessian(wide, folder / "wide");
  CHECK(gptq::load_hessian<Double>(folder / "wide").sum()(3, 5) == Approx(2e60));
  CHECK_THAT(error_of<gptq::NumericalError>([&] { gptq::load_hessian<Cpu>(folder / "wide"); }),
             ContainsSubstring((folder / "wide").string() + ": sum(0, 0)"));

  // That squares have underflowed is known even after reading a file.
  const std::vector<float> small(32, 1e-25f);
  Hessian<Cpu> vanished(16);
  vanished.add(gptq::MatrixView<const float>(small.data(), 2, 16));
  gptq::save_hessian(vanished, folder / "vanished");
  const auto back = gptq::load_hessian<Cpu>(folder / "vanished");
  CHECK(back.largest() == vanished.largest());
  CHECK_THROWS_WITH(
      (gptq::Quantizer<gptq::scheme::Int4, Cpu>({.group_size = 16}).quantize(layer.w(), back)),
      ContainsSubstring("their squares vanish"));
}

TEST_CASE("Hessians whose sum could overflow are not merged", "[hessian]") {
  const auto one = [](float x) {
    Hessian<Cpu> hessian(4);
    const std::vector<float> token(4, x);
    hessian.add(gptq::MatrixView<const float>(token.data(), 1, 4));
    return hessian;
  };
  auto a = one(1.5e19f);
  const auto b = one(-1.5e19f);
  CHECK_THROWS_AS(a.merge(b), gptq::NumericalError);
  CHECK(a.tokens() == 1);
  CHECK(a.sum()(0, 0) == Approx(2.25e38));
}

TEST_CASE("files that are not Hessians are refused with the reason", "[hessian]") {
  const test::TemporaryFolder folder;
  const auto path = folder / "h";
  gptq::save_hessian(test::calibrate<Cpu>(test::random_layer({.out = 1, .in = 16})), path);
  const std::string good = gptq::io::read_file(path);
  const auto refused = [&](std::string bytes, const char* says) {
    gptq::io::write_file(path, bytes);
    CHECK_THAT(error_of<gptq::FormatError>([&] { gptq::load_hessian<Cpu>(path); }),
               ContainsSubstring(path.string()) && ContainsSubstring(says));
  };
  const auto with = [&](std::size_t at, const std::string& bytes) {
    std::string bad = good;
    return bad.replace(at, bytes.size(), bytes);
  };
  refused("", "not a Hessian file");
  refused(with(0, "X"), "GPTQHESS");
  refused(with(8, "\x07"), "version 7");
  refused(with(12, "\x05"), "numbers of 5 bytes");
  refused(with(16, std::string(8, '\xff')), "in_features");
  refused(good.substr(0, good.size() - 1), "bytes");
  refused(good + "x", "bytes");
  refused(with(100, "\x55"), "damaged");
  CHECK_THROWS_AS(gptq::load_hessian<Cpu>(folder / "none"), gptq::IoError);
  CHECK_THROWS_AS(
      gptq::save_hessian(test::calibrate<Cpu>(test::random_layer()), folder / "no/such/h"),
      gptq::IoError);
}

TEST_CASE("a sum computed elsewhere makes a Hessian, if it can be one", "[hessian]") {
  const auto layer = test::random_layer({.out = 6, .in = 32});
  const auto h = test::hessian_of(layer);
  const std::vector<float> sum(h.data.begin(), h.data.end());
  const gptq::MatrixView<const float> view(sum.data(), 32, 32);
  const auto made = Hessian<Cpu>::from_sum(view, 1);
  const gptq::Quantizer<gptq::scheme::Int4, Cpu> quantizer({.group_size = 16});
  CHECK(test::code_differences(quantizer.quantize(layer.w(), made),
                               quantizer.quantize(layer.w(), test::calibrate<Cpu>(layer))) <= 1);
  CHECK_THROWS_AS(Hessian<Cpu>::from_sum(view.middle_rows(0, 8), 1), gptq::InvalidArgument);
  CHECK_THROWS_WITH(Hessian<Cpu>::from_sum(view, 0),
                    ContainsSubstring("a sum over no tokens is zero"));
  CHECK_THROWS_AS(Hessian<Cpu>::from_sum(view, -1), gptq::InvalidArgument);
  CHECK_THROWS_WITH(Hessian<Cpu>::from_sum(view, 5, 0),
                    ContainsSubstring("5 tokens in no sequences"));
  auto bad = sum;
  bad[33] = -1;
  CHECK_THROWS_AS(Hessian<Cpu>::from_sum(gptq::MatrixView<const float>(bad.data(), 32, 32), 1),
                  gptq::InvalidArgument);
  bad[33] = NAN;
  CHECK_THROWS_AS(Hessian<Cpu>::from_sum(gptq::MatrixView<const float>(bad.data(), 32, 32), 1),
                  gptq::NumericalError);
}

TEST_CASE(
    "experts quantized in one call have the results of single ones, with any number of threads",
    "[quantizer]") {
  std::vector<test::Layer> layers;
  for (std::uint32_t seed = 1; seed <= 7; ++seed)
    layers.push_back(test::random_layer({.out = 24, .in = 64, .seed = seed}));
  const gptq::Quantizer<gptq::scheme::Int4, Cpu> quantizer({.group_size = 32});
  for (const int threads : {1, 2, 5}) {
    const Cpu backend{gptq::exec::Threads(threads)};
    std::vector<Hessian<Cpu>> hessians;
    std::vector<gptq::MatrixView<const float>> weights;
    std::vector<const Hessian<Cpu>*> inputs;
    for (const auto& layer : layers) hessians.push_back(test::calibrate<Cpu>(layer, backend));
    for (std::size_t i = 0; i < layers.size(); ++i) {
      weights.push_back(layers[i].w());
      inputs.push_back(&hessians[i]);
    }
    const std::span<const gptq::MatrixView<const float>> all(weights);
    const std::span<const Hessian<Cpu>* const> of(inputs);
    double last = 0;
    const auto together = quantizer.quantize(all, of, [&](auto, double done, double total) {
      CHECK(total == 7);
      last = done;
      return true;
    });
    CHECK(last == 7);
    for (std::size_t i = 0; i < layers.size(); ++i)
      CHECK(test::code_differences(together[i], quantizer.quantize(weights[i], hessians[i])) == 0);
    CHECK_THROWS_AS(quantizer.quantize(all, of.first(3)), gptq::InvalidArgument);
    CHECK_THROWS_AS(quantizer.quantize(all, of, [](auto, double done, double) { return done < 3; }),
                    gptq::Cancelled);
  }
}

TEST_CASE("a solve can be watched and stopped", "[quantizer]") {
  const auto layer = test::random_layer({.out = 300, .in = 64});
  const auto hessian = test::calibrate<Cpu>(layer);
  const gptq::Quantizer<gptq::scheme::Int4, Cpu> quantizer({.group_size = 32});
  double done = 0;
  quantizer.quantize(layer.w(), hessian, "w", [&](std::string_view stage, double now, double) {
    if (stage == "quantize") done = now;
    return true;
  });
  CHECK(done == 300);
  CHECK_THROWS_AS(
      quantizer.quantize(layer.w(), hessian, "w", [](auto, double, double) { return false; }),
      gptq::Cancelled);
}
