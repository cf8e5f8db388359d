// SPDX-License-Identifier: MIT

#include <gptq/pack/awq.hpp>
#include <gptq/pack/float4.hpp>
#include <gptq/pack/float8.hpp>
#include <gptq/pack/int_quantized.hpp>
#include <gptq/pack/mlx.hpp>
#include <gptq/pack/nf4.hpp>
#include <gptq/pack/pack_quantized.hpp>

#include "../support/catch.hpp"
#include "../support/layer.hpp"
#include "../support/quantized.hpp"

using gptq::Index;
using gptq::scheme::Affine;
using gptq::scheme::Asymmetric;
using test::made;
using Cpu = gptq::backend::Cpu;
using Words = std::vector<std::uint32_t>;

namespace {

/// Packs a quantized layer and checks that the file's numbers are the solver's, bit for bit.
template <class S, class Pack>
void check_layout(Index group, const Pack& pack) {
  const auto layer = test::random_layer({.out = 64, .in = 96, .tokens = 120});
  const auto q = test::quantize<S, Cpu>(layer, {.group_size = group});
  std::vector<float> back(64 * 96);
  gptq::pack::dequantize(pack(gptq::pack::affine_view(q)),
                         gptq::MatrixView<float>(back.data(), 64, 96), "layer");
  for (Index r = 0; r < 64; ++r)
    for (Index c = 0; c < 96; ++c) REQUIRE(back[static_cast<std::size_t>(r * 96 + c)] == q(r, c));
}

const auto in_awq = [](const auto& view) { return gptq::pack::to_awq(view); };

auto in_words(bool symmetric) {
  return [=](const auto& view) { return gptq::pack::to_pack_quantized(view, symmetric); };
}

template <class F>
std::string layout_refusal(const F& f) {
  return error_of<gptq::InvalidArgument>(f);
}

}  // namespace

TEST_CASE("AWQ: what is packed is what was rounded", "[awq]") {
  for (const Index group : {32, 96, -1}) {
    check_layout<Affine<4>>(group, in_awq);
    check_layout<Asymmetric<4>>(group, in_awq);
  }
}

TEST_CASE("AWQ: the order of outputs in a word", "[awq]") {
  // Code (output + input) mod 16, as AutoAWQ packs it.
  const auto q = made<Asymmetric<4>>(
      8, 8, 8, [](Index o, Index i) { return (o + i) % 16; }, [](Index o, Index) { return o; },
      0.5f);
  const auto t = gptq::pack::to_awq(gptq::pack::affine_view(q));
  CHECK(t.qweight == Words{0x75316420, 0x86427531, 0x97538642, 0xA8649753, 0xB975A864, 0xCA86B975,
                           0xDB97CA86, 0xECA8DB97});
  CHECK(t.qzeros == Words{0x75316420});
}

TEST_CASE("AWQ: what the layout cannot hold is refused", "[awq]") {
  const auto zero = [](Index, Index) { return 0; };
  const auto pack = [](const auto& q) {
    return layout_refusal([&] { gptq::pack::to_awq(gptq::pack::affine_view(q), "up_proj"); });
  };
  CHECK_THAT(pack(made<Asymmetric<3>>(8, 8, 8, zero, zero, 1)),
             ContainsSubstring("bits = 3 of up_proj: the AWQ format has 4 bits"));
  CHECK_THAT(pack(made<Asymmetric<4>>(12, 8, 8, zero, zero, 1)),
             ContainsSubstring("out_features = 12 of up_proj is not a multiple of 8"));
  CHECK_THAT(pack(made<Asymmetric<4>>(8, 12, 8, zero, zero, 1)),
             ContainsSubstring("the AWQ format has no short groups"));
  CHECK_THAT(pack(made<Asymmetric<4>>(8, 8, 8, zero, zero, 0.1f)),
             ContainsSubstring("would be rounded to fp16"));
  auto scattered = made<Asymmetric<4>>(8, 8, 4, zero, zero, 1);
  scattered.group_index()[2] = 1;
  CHECK_THAT(pack(scattered), ContainsSubstring("input 2 of up_proj is in group 1"));
  CHECK_THAT(error_of<gptq::FormatError>([&] {
               std::vector<float> w(64);
               gptq::pack::dequantize(
                   gptq::pack::AwqTensors{.in = 8, .out = 8, .groups = 1, .qweight = Words(7)},
                   gptq::MatrixView<float>(w.data(), 8, 8), "x");
             }),
             ContainsSubstring("x: qweight has 7 elements; expected 8 x 1"));
}

TEST_CASE("compressed-tensors: what is packed is what was rounded", "[compressed_tensors]") {
  for (const Index group : {32, 96, -1}) {
    check_layout<Affine<2>>(group, in_words(true));
    check_layout<Affine<3>>(group, in_words(true));
    check_layout<Affine<4>>(group, in_words(true));
    check_layout<Affine<8>>(group, in_words(true));
    check_layout<Asymmetric<2>>(group, in_words(false));
    check_layout<Asymmetric<3>>(group, in_words(false));
    check_layout<Asymmetric<4>>(group, in_words(false));
    check_layout<Asymmetric<8>>(group, in_words(false));
  }
  check_layout<Affine<5>>(32, in_words(true));
}

TEST_CASE("compressed-tensors: words along the inputs, zero points along the outputs",
          "[compressed_tensors]") {
  const auto q = made<Asymmetric<4>>(
      8, 16, 16, [](Index, Index i) { return i; }, [](Index o, Index) { return o; }, 1);
  const auto t = gptq::pack::to_pack_quantized(gptq::pack::affine_view(q), false);
  CHECK(Words(t.weight_packed.begin(), t.weight_packed.begin() + 2) ==
        Words{0x76543210, 0xFEDCBA98});
  CHECK(t.weight_zero_point == Words{0x76543210});
  CHECK(t.weight_g_idx.empty());
  const auto three = made<Affine<3>>(
      1, 32, 32, [](Index, Index i) { return i % 8; }, [](Index, Index) { return 4; }, 1);
  CHECK(gptq::pack::to_pack_quantized(gptq::pack::affine_view(three), true).weight_packed ==
        Words{0x88FAC688, 0xC688FAC6, 0xFAC688FA});
}

TEST_CASE("compressed-tensors: scattered groups have an index", "[compressed_tensors]") {
  const auto layer = test::random_layer({.out = 32, .in = 64, .tokens = 200});
  const auto q = test::quantize<Asymmetric<4>, Cpu>(
      layer, {.group_size = 16, .order = gptq::Order::act, .groups = gptq::Groups::dynamic});
  const auto t = gptq::pack::to_pack_quantized(gptq::pack::affine_view(q), false);
  REQUIRE(t.weight_g_idx.size() == 64);
  std::vector<float> back(32 * 64);
  gptq::pack::dequantize(t, gptq::MatrixView<float>(back.data(), 32, 64), "layer");
  for (Index r = 0; r < 32; ++r)
    for (Index c = 0; c < 64; ++c) REQUIRE(back[static_cast<std::size_t>(r * 64 + c)] == q(r, c));
}

TEST_CASE("compressed-tensors: a symmetric module has the middle for a zero point",
          "[compressed_tensors]") {
  const auto q = made<Asymmetric<4>>(
      8, 16, 16, [](Index, Index) { return 0; }, [](Index o, Index) { return o == 3 ? 7 : 8; }, 1);
  CHECK_THAT(layout_refusal([&] {
               gptq::pack::to_pack_quantized(gptq::pack::affine_view(q), true, "up_proj");
             }),
             ContainsSubstring("zero point 7 of up_proj, row 3, group 0 is not 8"));
}

TEST_CASE("int-quantized: what is packed is what was rounded, in signed bytes",
          "[compressed_tensors]") {
  const auto in_bytes = [](bool symmetric) {
    return [=](const auto& view) { return gptq::pack::to_int_quantized(view, symmetric); };
  };
  for (const Index group : {32, 96, -1}) {
    check_layout<Affine<8>>(group, in_bytes(true));
    check_layout<Asymmetric<8>>(group, in_bytes(false));
  }
  const auto q = made<Asymmetric<8>>(
      1, 4, 4, [](Index, Index i) { return i == 3 ? 255 : 127 + i; },
      [](Index, Index) { return 125; }, 1);
  const auto t = gptq::pack::to_int_quantized(gptq::pack::affine_view(q), false);
  CHECK(t.weight == std::vector<std::uint8_t>{0xFF, 0x00, 0x01, 0x7F});  // -1, 0, 1, 127
  CHECK(t.weight_zero_point == std::vector<std::uint8_t>{0xFD});         // -3
  CHECK_THAT(layout_refusal([&] {
               gptq::pack::to_int_quantized(gptq::pack::affine_view(q), true, "up_proj");
             }),
             ContainsSubstring("zero point 125 of up_proj, row 0, group 0 is not 128"));
  const auto four = made<Affine<4>>(
      1, 4, 4, [](Index, Index i) { return i; }, [](Index, Index) { return 8; }, 1);
  CHECK_THAT(layout_refusal([&] {
               gptq::pack::to_int_quantized(gptq::pack::affine_view(four), true, "up_proj");
             }),
             ContainsSubstring("bits = 4 of up_proj: the int-quantized layout has 8 bits"));
}

TEST_CASE("MLX: what is packed is what was rounded", "[mlx]") {
  const auto in_mlx = [](const auto& view) { return gptq::pack::to_mlx(view); };
  check_layout<Affine<2>>(32, in_mlx);
  check_layout<Affine<4>>(32, in_mlx);
  check_layout<Affine<8>>(32, in_mlx);
  const auto q = made<Affine<4>>(
      2, 32, 32, [](Index o, Index i) { return (o + i) % 16; }, [](Index, Index) { return 8; },
      0.5f);
  const auto t = gptq::pack::to_mlx(gptq::pack::affine_view(q));
  CHECK(Words(t.weight.begin(), t.weight.begin() + 2) == Words{0x76543210, 0xFEDCBA98});
  CHECK(t.scales == std::vector<float>{0.5f, 0.5f});
  CHECK(t.biases == std::vector<float>{-4, -4});
}

TEST_CASE("MLX: what the layout cannot hold is refused", "[mlx]") {
  const auto pack = [](const auto& q) {
    return layout_refusal([&] { gptq::pack::to_mlx(gptq::pack::affine_view(q), "up_proj"); });
  };
  const auto zero = [](Index, Index) { return 0; };
  CHECK_THAT(pack(made<Asymmetric<3>>(8, 32, 32, zero, zero, 1)),
             ContainsSubstring("bits = 3 of up_proj: the MLX format has 2, 4 and 8 bits"));
  CHECK_THAT(pack(made<Asymmetric<4>>(8, 32, 16, zero, zero, 1)),
             ContainsSubstring("groups of 16 of up_proj: the MLX format has groups of 32, 64"));
  CHECK_THAT(pack(made<Asymmetric<4>>(8, 48, 32, zero, zero, 1)),
             ContainsSubstring("the MLX format has no short groups"));
  const float odd = 1 + 0x1p-10f;  // times 13 needs more digits than fp16 has
  CHECK_THAT(pack(made<Asymmetric<4>>(
                 8, 32, 32, zero, [](Index, Index) { return 13; }, odd)),
             ContainsSubstring("row 0, group 0 would be rounded to fp16"));
}

namespace {

/// The same as check_layout, for numbers that are not integers.
template <class S, class Pack>
void check_levels(const gptq::Params& params, const Pack& pack) {
  const auto layer = test::random_layer({.out = 64, .in = 96, .tokens = 120});
  const auto q = test::quantize<S, Cpu>(layer, params);
  std::vector<float> back(64 * 96);
  gptq::pack::dequantize(pack(gptq::pack::level_view(q)),
                         gptq::MatrixView<float>(back.data(), 64, 96), "layer");
  for (Index r = 0; r < 64; ++r)
    for (Index c = 0; c < 96; ++c) REQUIRE(back[static_cast<std::size_t>(r * 96 + c)] == q(r, c));
}

auto in_float4(gptq::pack::Float4Kind kind) {
  return [=](const auto& view) { return gptq::pack::to_float4(view, kind, "up_proj"); };
}

}  // namespace

TEST_CASE("4-bit floats: what is packed is what was rounded", "[compressed_tensors]") {
  using gptq::pack::Float4Kind, gptq::scheme::Float4;
  const gptq::Params nvfp4{.group_size = 16, .scale_type = gptq::ScaleType::fp8_e4m3},
      mxfp4{.group_size = 32, .scale_type = gptq::ScaleType::power_of_two};
  check_levels<Float4>(nvfp4, in_float4(Float4Kind::nvfp4));
  check_levels<Float4>(mxfp4, in_float4(Float4Kind::mxfp4));
  CHECK_THAT(layout_refusal([&] { check_levels<Float4>(mxfp4, in_float4(Float4Kind::nvfp4)); }),
             ContainsSubstring("up_proj has groups of 32; the blocks have 16"));
  CHECK_THAT(layout_refusal([&] {
               check_levels<Float4>({.group_size = 32, .scale_type = gptq::ScaleType::fp32},
                                    in_float4(Float4Kind::mxfp4));
             }),
             ContainsSubstring("would be rounded to power_of_two"));
}

TEST_CASE("4-bit floats: two per byte, scales in their own 8-bit types", "[compressed_tensors]") {
  using gptq::pack::Float4Kind;
  // -1.5 and 6 in turn.
  auto q = made<gptq::scheme::Float4>(
      1, 32, 16, [](Index, Index i) { return i % 2 == 0 ? 4 : 14; }, [](Index, Index) { return 0; },
      0.5f);
  q.set_scale_unit(0x1p-8f);
  const auto nv = gptq::pack::to_float4(gptq::pack::level_view(q), Float4Kind::nvfp4);
  CHECK(nv.weight_packed == std::vector<std::uint8_t>(16, 0x7B));
  CHECK(nv.weight_scale == std::vector<std::uint8_t>{0x70, 0x70});  // 128 in E4M3
  CHECK(nv.weight_global_scale == 256);
  auto mx = made<gptq::scheme::Float4>(
      1, 32, 32, [](Index, Index) { return 7; }, [](Index, Index) { return 0; }, 0.125f);
  CHECK(gptq::pack::to_float4(gptq::pack::level_view(mx), Float4Kind::mxfp4).weight_scale ==
        std::vector<std::uint8_t>{124});
  q.set_scale_unit(3);
  CHECK_THROWS_AS(gptq::pack::to_float4(gptq::pack::level_view(q), Float4Kind::nvfp4),
                  gptq::InvalidArgument);
}

TEST_CASE("the unit of fp8 scales is a power of two", "[compressed_tensors]") {
  const gptq::scheme::Float4 scheme;
  for (const double largest : {0.01, 1.0, 2688.0, 2689.0, 1e6}) {
    const float unit = gptq::scale_unit(scheme, gptq::ScaleType::fp8_e4m3, largest);
    int exponent = 0;
    CHECK(std::frexp(unit, &exponent) == 0.5f);
    CHECK(6 * 448 * double(unit) >= largest * (1 - 1e-6));
    CHECK(6 * 448 * double(unit) < 2 * largest * (1 + 1e-6));
  }
}

TEST_CASE("8-bit floats: what is packed is what was rounded", "[compressed_tensors]") {
  const auto layer = test::random_layer({.out = 64, .in = 96, .tokens = 120});
  const auto q = test::quantize<gptq::scheme::Float8, Cpu>(
      layer, {.group_size = -1, .scale_type = gptq::ScaleType::bf16});
  const auto t = gptq::pack::to_float8(gptq::pack::level_view(q));
  for (Index r = 0; r < 64; ++r)
    for (Index c = 0; c < 96; ++c) {
      const auto bits = t.weight[static_cast<std::size_t>(r * 96 + c)];
      const float magnitude = gptq::Float8E4M3::value(bits & 0x7f);
      REQUIRE(t.weight_scale[std::size_t(r)] * (bits & 0x80 ? -magnitude : magnitude) == q(r, c));
    }
}

TEST_CASE("NF4: what is packed is what was rounded, high halves first", "[nf4]") {
  using gptq::scheme::NF4;
  const gptq::Params params{.group_size = 32, .scale_type = gptq::ScaleType::fp32};
  check_levels<NF4>(params, [](const auto& view) { return gptq::pack::to_nf4(view); });
  const auto q = made<NF4>(
      1, 32, 32, [](Index, Index i) { return i % 16; }, [](Index, Index) { return 0; }, 0.1f);
  const auto t = gptq::pack::to_nf4(gptq::pack::level_view(q));
  CHECK(std::vector<std::uint8_t>(t.weight.begin(), t.weight.begin() + 8) ==
        std::vector<std::uint8_t>{0x01, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD, 0xEF});
  CHECK(t.absmax == std::vector<float>{0.1f});
  const auto wide = made<NF4>(
      1, 96, 48, [](Index, Index) { return 0; }, [](Index, Index) { return 0; }, 1);
  CHECK_THAT(layout_refusal([&] { gptq::pack::to_nf4(gptq::pack::level_view(wide), "up_proj"); }),
             ContainsSubstring("groups of 48 of up_proj: bitsandbytes has blocks of 32, 64"));
}
