// SPDX-License-Identifier: MIT

#include <gptq/pack/gptq.hpp>

#include "../support/catch.hpp"
#include "../support/layer.hpp"
#include "../support/quantized.hpp"

using gptq::Index;
using gptq::pack::GptqFormat;
using gptq::scheme::Affine;
using gptq::scheme::Asymmetric;
using test::made;
using Cpu = gptq::backend::Cpu;

namespace {

template <class S>
void check_round_trip(GptqFormat format, Index group) {
  const auto layer = test::random_layer({.out = 64, .in = 96, .tokens = 120});
  const auto q = test::quantize<S, Cpu>(layer, {.group_size = group});
  const auto t = gptq::pack::to_gptq(q, format);
  std::vector<float> back(64 * 96);
  gptq::pack::dequantize(t, format, gptq::MatrixView<float>(back.data(), 64, 96), "layer");
  for (Index r = 0; r < 64; ++r)
    for (Index c = 0; c < 96; ++c) REQUIRE(back[static_cast<std::size_t>(r * 96 + c)] == q(r, c));
}

}  // namespace

TEST_CASE("packing and reading back gives the solver's weights, bit for bit", "[gptq]") {
  for (const Index group : {32, 96, -1}) {
    check_round_trip<Affine<2>>(GptqFormat::v1, group);
    check_round_trip<Affine<3>>(GptqFormat::v1, group);
    check_round_trip<Affine<4>>(GptqFormat::v1, group);
    check_round_trip<Affine<8>>(GptqFormat::v1, group);
    check_round_trip<Asymmetric<2>>(GptqFormat::v2, group);
    check_round_trip<Asymmetric<3>>(GptqFormat::v2, group);
    check_round_trip<Asymmetric<4>>(GptqFormat::v2, group);
    check_round_trip<Asymmetric<8>>(GptqFormat::v2, group);
  }
}

TEST_CASE("packed weights have the reported loss, for every order and kind of group", "[gptq]") {
  const auto layer = test::random_layer({.out = 64, .in = 96, .tokens = 300});
  const auto h = test::hessian_of(layer);
  using gptq::Groups, gptq::Order;
  for (const Order order : {Order::natural, Order::act, Order::group_aware, Order::min_pivot})
    for (const Groups groups : {Groups::static_, Groups::dynamic})
      for (const Index size : {32, 40, -1}) {  // 40: a short last group
        const gptq::Params params{
            .group_size = size, .allow_tail_group = true, .order = order, .groups = groups};
        INFO("order " << static_cast<int>(order) << ", groups " << static_cast<int>(groups)
                      << " of " << size);
        const auto q = test::quantize<Asymmetric<3>, Cpu>(layer, params);
        const auto t = gptq::pack::to_gptq(q, GptqFormat::v2);
        bool scattered = false;
        for (Index c = 0; c < 96; ++c)
          scattered |= t.g_idx[static_cast<std::size_t>(c)] != c / (size == -1 ? 96 : size);
        CHECK(scattered == (size != -1 && gptq::needs_group_index(params)));
        std::vector<float> back(64 * 96);
        gptq::pack::dequantize(t, GptqFormat::v2, gptq::MatrixView<float>(back.data(), 64, 96),
                               "layer");
        test::Matrix error(64, 96);
        for (Index r = 0; r < 64; ++r)
          for (Index c = 0; c < 96; ++c) {
            const float w = back[static_cast<std::size_t>(r * 96 + c)];
            REQUIRE(w == q(r, c));
            error(r, c) = layer.weight(r, c) - static_cast<double>(w);
          }
        CHECK(test::quadratic_form(error, h) == Approx(q.report().loss).epsilon(2e-3));
      }
}

TEST_CASE("a layer of 32 x 32 packs to the published words", "[gptq]") {
  const auto q = made<Affine<4>>(
      32, 32, 32, [](Index o, Index i) { return (i + o) % 16; }, [](Index, Index) { return 8; },
      0.5f);
  const auto t = gptq::pack::to_gptq(q, GptqFormat::v1);
  const std::vector<std::uint32_t> first_row{0x76543210, 0x87654321, 0x98765432, 0xA9876543,
                                             0xBA987654, 0xCBA98765, 0xDCBA9876, 0xEDCBA987};
  CHECK(std::vector<std::uint32_t>(t.qweight.begin(), t.qweight.begin() + 8) == first_row);
  CHECK(t.qzeros == std::vector<std::uint32_t>(4, 0x77777777));
  CHECK(t.scales[0] == 0.5f);
  CHECK(t.g_idx == std::vector<std::int32_t>(32, 0));
  CHECK(q(0, 0) == -4.0f);
}

TEST_CASE("the zero words of symmetric grids are the published ones", "[gptq]") {
  const auto words = [](auto scheme, GptqFormat format) {
    using S = decltype(scheme);
    return gptq::pack::to_gptq(made<S>(
                                   32, 32, 32, [](Index, Index) { return 0; },
                                   [](Index, Index) { return 1 << (S::bits - 1); }, 1.0f),
                               format)
        .qzeros;
  };
  using Words = std::vector<std::uint32_t>;
  CHECK(words(Affine<2>{}, GptqFormat::v1) == Words(2, 0x55555555));
  CHECK(words(Affine<2>{}, GptqFormat::v2) == Words(2, 0xAAAAAAAA));
  CHECK(words(Affine<3>{}, GptqFormat::v1) == Words{0xDB6DB6DB, 0xB6DB6DB6, 0x6DB6DB6D});
  CHECK(words(Affine<3>{}, GptqFormat::v2) == Words{0x24924924, 0x49249249, 0x92492492});
  CHECK(words(Affine<4>{}, GptqFormat::v2) == Words(4, 0x88888888));
  CHECK(words(Affine<8>{}, GptqFormat::v1) == Words(8, 0x7F7F7F7F));
  CHECK(words(Affine<8>{}, GptqFormat::v2) == Words(8, 0x80808080));
}

TEST_CASE("zero points are converted field by field", "[gptq]") {
  const auto q = made<Asymmetric<4>>(
      32, 32, 32, [](Index, Index) { return 0; }, [](Index o, Index) { return o % 8 + 1; }, 1.0f);
  CHECK(gptq::pack::to_gptq(q, GptqFormat::v2).qzeros == std::vector<std::uint32_t>(4, 0x87654321));
  CHECK(gptq::pack::to_gptq(q, GptqFormat::v1).qzeros == std::vector<std::uint32_t>(4, 0x76543210));
}

TEST_CASE("a zero point of zero fits format v2 and is refused in v1", "[gptq]") {
  const auto q = made<Asymmetric<4>>(
      32, 32, 32, [](Index, Index) { return 3; }, [](Index o, Index) { return o == 9 ? 0 : 7; },
      1.0f);
  CHECK_THAT(
      error_of<gptq::InvalidArgument>([&] { gptq::pack::to_gptq(q, GptqFormat::v1, "up_proj"); }),
      ContainsSubstring("zero point 0 of up_proj, row 9, group 0") && ContainsSubstring("v2"));
  const auto t = gptq::pack::to_gptq(q, GptqFormat::v2);
  CHECK(t.qzeros[1] == 0x77777707);
  std::vector<float> back(32 * 32);
  gptq::pack::dequantize(t, GptqFormat::v2, gptq::MatrixView<float>(back.data(), 32, 32),
                         "up_proj");
  CHECK(back[9 * 32] == 3.0f);
}

TEST_CASE("an act-order g_idx is followed", "[gptq]") {
  gptq::pack::GptqTensors t{.in = 8, .out = 8, .groups = 2, .bits = 4};
  t.qweight.assign(8, 0x76543210);
  t.qzeros.assign(2, 0);
  t.scales.assign(16, 1.0f);
  std::fill_n(t.scales.begin() + 8, 8, 10.0f);
  t.g_idx = {1, 0, 1, 1, 0, 1, 0, 0};
  std::vector<float> w(64);
  gptq::pack::dequantize(t, GptqFormat::v2, gptq::MatrixView<float>(w.data(), 8, 8), "x");
  for (Index i = 0; i < 8; ++i)
    CHECK(w[static_cast<std::size_t>(i)] ==
          static_cast<float>(i) * (t.g_idx[static_cast<std::size_t>(i)] ? 10.0f : 1.0f));
  t.g_idx[3] = 2;
  CHECK_THAT(error_of<gptq::FormatError>([&] {
               gptq::pack::dequantize(t, GptqFormat::v2, gptq::MatrixView<float>(w.data(), 8, 8),
                                      "x");
             }),
             ContainsSubstring("x: g_idx[3] = 2 is not one of 2 groups"));
}

TEST_CASE("shapes that the format cannot hold are refused before packing", "[gptq]") {
  CHECK_THAT(
      error_of<gptq::InvalidArgument>([] { gptq::pack::require_gptq_shape(48, 64, 4, "k_proj"); }),
      ContainsSubstring("in_features = 48 of k_proj"));
  CHECK_THAT(
      error_of<gptq::InvalidArgument>([] { gptq::pack::require_gptq_shape(64, 40, 4, "k_proj"); }),
      ContainsSubstring("out_features = 40 of k_proj"));
  CHECK_THAT(
      error_of<gptq::InvalidArgument>([] { gptq::pack::require_gptq_shape(64, 64, 5, "k_proj"); }),
      ContainsSubstring("bits = 5"));
}

TEST_CASE("scales that a file would round are not packed", "[gptq]") {
  const auto code = [](Index, Index) { return 1; };
  const auto packed = [&](float scale, float zero, gptq::ScaleType type) {
    const auto q = made<Asymmetric<4>>(
        32, 32, 32, code, [&](Index r, Index) { return r == 5 ? zero : 3; }, scale);
    return error_of<gptq::InvalidArgument>([&] {
      gptq::pack::to_gptq(q, GptqFormat::v2, "up_proj", gptq::pack::HostPacking{}, type);
    });
  };
  const auto half = 0.3332519531f, brain = 0.333984375f;
  const auto fits = [&](float scale, gptq::ScaleType type) {
    const auto q = made<Asymmetric<4>>(
        32, 32, 32, code, [](Index, Index) { return 3; }, scale);
    CHECK_NOTHROW(
        gptq::pack::to_gptq(q, GptqFormat::v2, "up_proj", gptq::pack::HostPacking{}, type));
  };
  fits(half, gptq::ScaleType::fp16);
  fits(brain, gptq::ScaleType::bf16);
  fits(1.0f / 3, gptq::ScaleType::fp32);
  CHECK_THAT(
      packed(1.0f / 3, 3, gptq::ScaleType::fp16),
      ContainsSubstring("scale 0.333333 of up_proj, row 0, group 0 would be rounded to fp16"));
  CHECK_THAT(packed(half, 3, gptq::ScaleType::bf16), ContainsSubstring("would be rounded to bf16"));
  CHECK_THAT(packed(1, 3, gptq::ScaleType::power_of_two),
             ContainsSubstring("has no scales in power_of_two"));
  for (const float zero : {2.5f, -1.0f, 16.0f, NAN})
    CHECK_THAT(packed(half, zero, gptq::ScaleType::fp16),
               ContainsSubstring("of up_proj, row 5, group 0 is not one of 0 .. 15"));
}
