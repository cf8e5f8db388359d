// SPDX-License-Identifier: MIT

#include <gptq/pack/awq.hpp>
#include <gptq/pack/compressed_tensors.hpp>

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
