// SPDX-License-Identifier: MIT
#pragma once

// The NF4 layout of bitsandbytes: two codes per byte along the rows, one number per block.

#include <gptq/pack/byte_rows.hpp>
#include <gptq/pack/level_view.hpp>

#include <cstdint>
#include <string_view>
#include <vector>

namespace gptq::pack {

/// A linear layer as stored in the file. Row-major: blocks are of the weight as one long row.
struct Nf4Tensors {
  Index in = 0, out = 0, block = 0;
  std::vector<std::uint8_t> weight{};  ///< [out·in/2]: the even element in the high half
  std::vector<float> absmax{};         ///< [out·in/block], the scales; fp32
};

/// Checks a layer against the layout's own requirements.
/// \param block  weights that share a scale
/// \throws InvalidArgument  names the layer, the number and the rule
inline void require_nf4_shape(Index in, Index block, std::string_view name) {
  using gptq::detail::require;
  require(block >= 32 && block <= 4096 && (block & (block - 1)) == 0, "groups of ", block, " of ",
          name, ": bitsandbytes has blocks of 32, 64, 128 ... 4096");
  require(in % block == 0, "in_features = ", in, " of ", name, " is not a multiple of ", block,
          ": blocks would go across rows");
}

/// Packs a quantized weight.
/// \param backend  whose threads on the host pack
/// \throws InvalidArgument  the shape or the groups do not fit the layout
template <class B = HostPacking>
Nf4Tensors to_nf4(const LevelView& q, std::string_view name = "the layer", const B& backend = {}) {
  gptq::detail::require(q.kind == Levels::nf4, name, " does not have the levels of NF4");
  require_nf4_shape(q.in(), q.group_size, name);
  require_contiguous_groups(q, "bitsandbytes", name);
  Nf4Tensors t{.in = q.in(), .out = q.out(), .block = q.group_size};
  t.weight = byte_rows(
      t.out, t.in / 2,
      [&](Index o, Index j) { return q.codes(o, 2 * j) << 4 | q.codes(o, 2 * j + 1); }, backend);
  for (Index o = 0; o < t.out; ++o)
    for (Index g = 0; g < q.groups(); ++g) t.absmax.push_back(q.scales(o, g));
  return t;
}

/// The codes and scales in the file.
/// \throws FormatError  sizes do not match, or blocks go across rows
inline LevelCodes codes_of(const Nf4Tensors& t, std::string_view name) {
  gptq::detail::require<FormatError>(t.block > 0 && t.in % 2 == 0 && t.in % t.block == 0, name,
                                     ": rows of ", t.in, " are no whole blocks of ", t.block);
  require_size(t.weight, t.out, t.in / 2, "bytes", name, "weight");
  const Index blocks = t.in / t.block;
  require_size(t.absmax, t.out, blocks, "elements", name, "absmax");
  return level_codes(
      {.kind = Levels::nf4, .in = t.in, .out = t.out, .group_size = t.block},
      [&](Index o, Index i) {
        const unsigned byte = t.weight[std::size_t((o * t.in + i) / 2)];
        return i % 2 == 0 ? byte >> 4 : byte & 15u;
      },
      [&](Index o, Index g) { return t.absmax[std::size_t(o * blocks + g)]; });
}

}  // namespace gptq::pack
