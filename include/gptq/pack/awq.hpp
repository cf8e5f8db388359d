// SPDX-License-Identifier: MIT
#pragma once

// The AWQ checkpoint layout ("GEMM"): 4 bits, packed along the outputs in an order that suits a
// GPU's unpacking, zero points as they are.

#include <gptq/core/half.hpp>
#include <gptq/pack/affine_view.hpp>

#include <cstdint>
#include <string_view>
#include <vector>

namespace gptq::pack {

/// A linear layer as stored in the file. Row-major.
struct AwqTensors {
  Index in = 0, out = 0, groups = 0;
  std::vector<std::uint32_t> qweight{};  ///< [in, out/8]
  std::vector<std::uint32_t> qzeros{};   ///< [groups, out/8]
  std::vector<float> scales{};           ///< [groups, out]; fp16 in files
};

/// Nibble i of a word holds the output 8 · word + awq_order[i].
inline constexpr int awq_order[8] = {0, 2, 4, 6, 1, 3, 5, 7};

/// Checks a layer against the layout's own requirements.
/// \throws InvalidArgument  names the layer, the size and the rule
inline void require_awq_shape(Index in, Index out, Index group_size, int bits,
                              std::string_view name) {
  using gptq::detail::require;
  require(bits == 4, "bits = ", bits, " of ", name, ": the AWQ format has 4 bits");
  require(out % 8 == 0, "out_features = ", out, " of ", name,
          " is not a multiple of 8, as the AWQ format requires (skip the layer)");
  require(in % group_size == 0, "in_features = ", in, " of ", name, " is not a multiple of ",
          group_size, ": the AWQ format has no short groups");
}

/// Packs a quantized weight.
/// \param backend  whose threads on the host pack
/// \throws InvalidArgument  the shape or the groups do not fit the layout, or a number would be
///                          rounded
template <class B = HostPacking>
AwqTensors to_awq(const AffineView& q, std::string_view name = "the layer", const B& backend = {}) {
  require_awq_shape(q.in(), q.out(), q.group_size, q.bits, name);
  require_contiguous_groups(q, "awq", name);
  require_storable(q, ScaleType::fp16, name);
  const Index words = q.out() / 8;
  AwqTensors t{.in = q.in(), .out = q.out(), .groups = q.groups()};
  const auto word = [](const auto& value) {
    std::uint32_t all = 0;
    for (int i = 0; i < 8; ++i) all |= static_cast<std::uint32_t>(value(awq_order[i])) << (4 * i);
    return all;
  };
  t.qweight.resize(static_cast<std::size_t>(t.in * words));
  for_each_on_host(backend, t.in, [&](Index i) {
    for (Index w = 0; w < words; ++w)
      t.qweight[std::size_t(i * words + w)] = word([&](int k) { return q.codes(8 * w + k, i); });
  });
  t.qzeros.resize(static_cast<std::size_t>(t.groups * words));
  t.scales.resize(static_cast<std::size_t>(t.groups * t.out));
  for (Index g = 0; g < t.groups; ++g) {
    for (Index w = 0; w < words; ++w)
      t.qzeros[std::size_t(g * words + w)] = word([&](int k) { return q.zeros(8 * w + k, g); });
    for (Index o = 0; o < t.out; ++o) t.scales[std::size_t(g * t.out + o)] = q.scales(o, g);
  }
  return t;
}

/// The codes and grids in the file.
/// \throws FormatError  sizes do not match
inline AffineCodes codes_of(const AwqTensors& t, std::string_view name) {
  gptq::detail::require<FormatError>(t.out % 8 == 0 && t.groups > 0 && t.in % t.groups == 0, name,
                                     ": ", t.out, " outputs and ", t.in, " inputs in ", t.groups,
                                     " groups are not of the AWQ format");
  require_size(t.qweight, t.in, t.out / 8, "elements", name, "qweight");
  require_size(t.qzeros, t.groups, t.out / 8, "elements", name, "qzeros");
  require_size(t.scales, t.groups, t.out, "elements", name, "scales");
  int nibble[8];
  for (int i = 0; i < 8; ++i) nibble[awq_order[i]] = i;
  const auto number = [&](const std::vector<std::uint32_t>& words, Index row, Index o) {
    return words[std::size_t(row * (t.out / 8) + o / 8)] >> (4 * nibble[o % 8]) & 15u;
  };
  return affine_codes(
      {.bits = 4,
       .in = t.in,
       .out = t.out,
       .group_index = contiguous_groups(t.in, t.in / t.groups)},
      t.groups, [&](Index o, Index i) { return number(t.qweight, i, o); },
      [&](Index o, Index g) { return number(t.qzeros, g, o); },
      [&](Index o, Index g) { return t.scales[std::size_t(g * t.out + o)]; }, name);
}

}  // namespace gptq::pack
