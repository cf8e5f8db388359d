// SPDX-License-Identifier: MIT

// Convolutions and transposed weights: linear layers in other shapes.

#include "../support/catch.hpp"
#include "../support/layer.hpp"
#include "../support/numbers.hpp"

#include <vector>

using gptq::Convolution;
using gptq::ConvolutionHessian;
using gptq::Index;
using gptq::MatrixView;
using gptq::scheme::Int4;
using test::Matrix;
using test::random_numbers;
using Cpu = gptq::backend::Cpu;
using Reference = gptq::backend::Reference;

namespace {

/// The convolution itself, from its definition: output [out, positions].
Matrix convolve(const Convolution& s, const std::vector<float>& weight, Index out,
                const std::vector<float>& image, Index height, Index width) {
  const Index tall = s.height.positions(height), wide = s.width.positions(width);
  const Index per_group = s.channels / s.groups, out_per_group = out / s.groups;
  Matrix y(out, tall * wide);
  for (Index o = 0; o < out; ++o)
    for (Index v = 0; v < tall; ++v)
      for (Index u = 0; u < wide; ++u)
        for (Index c = 0; c < per_group; ++c)
          for (Index i = 0; i < s.height.kernel; ++i)
            for (Index j = 0; j < s.width.kernel; ++j) {
              const Index row = v * s.height.stride + i * s.height.dilation - s.height.padding;
              const Index col = u * s.width.stride + j * s.width.dilation - s.width.padding;
              if (row < 0 || row >= height || col < 0 || col >= width) continue;
              const Index channel = o / out_per_group * per_group + c;
              y(o, v * wide + u) +=
                  double{weight[static_cast<std::size_t>(
                      ((o * per_group + c) * s.height.kernel + i) * s.width.kernel + j)]} *
                  double{image[static_cast<std::size_t>((channel * height + row) * width + col)]};
            }
  return y;
}

const Convolution shapes[] = {
    {.channels = 6, .height = {.kernel = 3}, .width = {.kernel = 3}},
    {.channels = 6,
     .height = {.kernel = 3, .stride = 2, .padding = 1},
     .width = {.kernel = 2, .stride = 3, .padding = 2}},
    {.channels = 6, .groups = 2, .height = {.kernel = 3, .padding = 2, .dilation = 2}},
    {.channels = 6, .groups = 6, .height = {.kernel = 3}, .width = {.kernel = 3, .padding = 1}},
    {.channels = 6, .groups = 3, .width = {.kernel = 5, .stride = 2, .padding = 4, .dilation = 3}},
};

}  // namespace

TEST_CASE("the Hessian of a convolution measures its outputs", "[convolution]") {
  for (const Convolution& shape : shapes) {
    const bool flat = shape.height.kernel == 1;  // Conv1d
    const Index height = flat ? 1 : 9, width = flat ? 31 : 7, out = 12;
    INFO("groups " << shape.groups << ", stride " << shape.width.stride);
    const auto weight = random_numbers(out * shape.in_features(), 3);
    ConvolutionHessian<Reference> hessian(shape);
    double energy = 0, positions = 0;
    for (std::uint32_t sample = 0; sample < 3; ++sample) {
      const auto image = random_numbers(shape.channels * height * width, 10 + sample);
      hessian.add(MatrixView<const float>(image.data(), shape.channels, height * width), height);
      const Matrix y = convolve(shape, weight, out, image, height, width);
      for (const double x : y.data) energy += x * x;
      positions += static_cast<double>(y.cols);
    }
    // Σ over groups of tr(W_g · ΣXᵀX · W_gᵀ) is the energy of all outputs.
    double through_hessian = 0;
    const Index rows = out / shape.groups, n = shape.in_features();
    for (Index g = 0; g < shape.groups; ++g) {
      CHECK(hessian.group(g).tokens() == positions);
      CHECK(hessian.group(g).sequences() == 3);
      Matrix h(n, n), w(rows, n);
      for (Index i = 0; i < n; ++i)
        for (Index j = 0; j < n; ++j)
          h(i, j) = hessian.group(g).sum()(std::min(i, j), std::max(i, j));
      for (Index r = 0; r < rows; ++r)
        for (Index c = 0; c < n; ++c)
          w(r, c) = double{weight[static_cast<std::size_t>((g * rows + r) * n + c)]};
      through_hessian += test::quadratic_form(w, h);
    }
    CHECK(through_hessian == Approx(energy).epsilon(1e-10));
  }
}

TEST_CASE("a convolution is quantized group by group, better than by rounding", "[convolution]") {
  const Convolution shape{.channels = 8,
                          .groups = 2,
                          .height = {.kernel = 3, .padding = 1},
                          .width = {.kernel = 3, .padding = 1}};
  const auto weight = random_numbers(10 * shape.in_features(), 5);
  const MatrixView<const float> view(weight.data(), 10, shape.in_features());
  ConvolutionHessian<Cpu> hessian(shape);
  for (std::uint32_t sample = 0; sample < 4; ++sample) {
    auto image = random_numbers(8 * 256, 20 + sample);
    for (std::size_t i = 1; i < image.size(); ++i) image[i] += 0.9f * image[i - 1];  // smooth
    // Channels last, as in another framework: the same numbers, other strides.
    std::vector<float> last(image.size());
    for (Index c = 0; c < 8; ++c)
      for (Index p = 0; p < 256; ++p)
        last[static_cast<std::size_t>(p * 8 + c)] = image[static_cast<std::size_t>(c * 256 + p)];
    hessian.add(MatrixView<const float>(last.data(), 256, 8).transposed(), 16);
  }
  const gptq::Quantizer<Int4, Cpu> quantizer({.group_size = -1});
  const auto groups = gptq::quantize(quantizer, view, hessian);
  REQUIRE(groups.size() == 2);
  for (Index g = 0; g < 2; ++g) {
    const auto& q = groups[static_cast<std::size_t>(g)];
    CHECK(q.rows() == 5);
    CHECK(q.report().relative_error < 0.6 * q.report().rtn_relative_error);
    const auto alone = quantizer.quantize(view.middle_rows(g * 5, 5), hessian.group(g));
    CHECK(test::code_differences(q, alone) == 0);
  }
}

TEST_CASE("Hessians of a convolution add up", "[convolution]") {
  const Convolution shape{.channels = 2, .groups = 2, .width = {.kernel = 3}};
  const auto a = random_numbers(40, 1), b = random_numbers(30, 2);
  ConvolutionHessian<Reference> first(shape), second(shape), both(shape);
  first.add(MatrixView<const float>(a.data(), 2, 20));
  second.add(MatrixView<const float>(b.data(), 2, 15));
  both.add(MatrixView<const float>(a.data(), 2, 20));
  both.add(MatrixView<const float>(b.data(), 2, 15));
  first.merge(second);
  for (Index g = 0; g < 2; ++g)
    for (Index i = 0; i < 3; ++i)
      CHECK(first.group(g).sum()(i, 2) == Approx(both.group(g).sum()(i, 2)).epsilon(1e-12));
  CHECK(first.group(1).tokens() == 18 + 13);
  const Convolution tall{.channels = 2, .groups = 2, .height = {.kernel = 3}};
  CHECK_THROWS_AS(first.merge(ConvolutionHessian<Reference>(tall)), gptq::InvalidArgument);

  // The same image in 16 bits, which represent its numbers exactly.
  std::vector<float> coarse;
  std::vector<gptq::bfloat16> half;
  for (const float x : a) {
    half.push_back(gptq::to_bfloat16(x));
    coarse.push_back(gptq::to_float(half.back()));
  }
  ConvolutionHessian<Reference> from_half(shape), from_float(shape);
  from_half.add(MatrixView<const gptq::bfloat16>(half.data(), 2, 20));
  from_float.add(MatrixView<const float>(coarse.data(), 2, 20));
  CHECK(from_half.group(1).sum()(0, 2) == from_float.group(1).sum()(0, 2));
}

TEST_CASE("a weight stored as [in, out] can be passed as a transposed view", "[convolution]") {
  const test::Layer layer = test::random_layer({.out = 20, .in = 64});
  std::vector<float> conv1d(layer.weight_f.size());  // as Hugging Face's Conv1D stores it
  for (Index r = 0; r < 20; ++r)
    for (Index c = 0; c < 64; ++c)
      conv1d[static_cast<std::size_t>(c * 20 + r)] =
          layer.weight_f[static_cast<std::size_t>(r * 64 + c)];
  const auto hessian = test::calibrate<Cpu>(layer);
  const gptq::Quantizer<Int4, Cpu> quantizer({.group_size = 32});
  const auto plain = quantizer.quantize(layer.w(), hessian);
  const auto transposed =
      quantizer.quantize(MatrixView<const float>(conv1d.data(), 64, 20).transposed(), hessian);
  CHECK(test::code_differences(plain, transposed) == 0);
}

TEST_CASE("impossible convolutions are refused", "[convolution][errors]") {
  const auto refused = [](const Convolution& shape, const char* text) {
    CHECK_THROWS_WITH(ConvolutionHessian<Cpu>(shape), ContainsSubstring(text));
  };
  refused({.channels = 6, .groups = 4}, "groups = 4");
  refused({.channels = 6, .width = {.kernel = 0}}, "kernel = 0");
  refused({.channels = 6, .height = {.stride = 0}}, "stride = 0");
  refused({.channels = 6, .height = {.padding = -1}}, "padding = -1");

  ConvolutionHessian<Cpu> hessian(
      {.channels = 2, .groups = 2, .height = {.kernel = 3}, .width = {.kernel = 3}});
  std::vector<float> image(2 * 16, 1.0f);
  const auto add = [&](Index channels, Index pixels, Index height) {
    hessian.add(MatrixView<const float>(image.data(), channels, pixels), height);
  };
  CHECK_THROWS_WITH(add(1, 16, 4), ContainsSubstring("1 channels, the convolution 2"));
  CHECK_THROWS_WITH(add(2, 16, 3),
                    ContainsSubstring("16 pixels, which are not a multiple of 3 rows"));
  CHECK_THROWS_WITH(add(2, 16, 8), ContainsSubstring("smaller than the kernel"));
  image[21] = std::nanf("");
  CHECK_THROWS_WITH(add(2, 16, 4), ContainsSubstring("image(1, 5) = nan"));
  image[21] = 1e25f;  // in the second group: the first must not have added the image either
  CHECK_THROWS_WITH(add(2, 16, 4), ContainsSubstring("activations of up to 1e+25"));
  CHECK(hessian.group(0).tokens() == 0);
  CHECK_THROWS_WITH(gptq::quantize(gptq::Quantizer<Int4, Cpu>(),
                                   MatrixView<const float>(image.data(), 3, 9), hessian),
                    ContainsSubstring("2 groups of the convolution do not divide the 3 rows"));
}
