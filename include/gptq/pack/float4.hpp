// SPDX-License-Identifier: MIT
#pragma once

// The NVFP4 and MXFP4 layouts of compressed-tensors: 4-bit floats, E2M1, two per byte, in blocks
// with a scale of 8 bits.

#include <gptq/core/minifloat.hpp>
#include <gptq/pack/byte_rows.hpp>
#include <gptq/pack/level_view.hpp>

#include <cmath>  // std::ilogb, std::ldexp
#include <cstdint>
#include <string_view>
#include <vector>

namespace gptq::pack {

/// The types of blocks in 4-bit floats.
enum class Float4Kind {
  nvfp4,  ///< blocks of 16, scales in E4M3 times one number per weight
  mxfp4,  ///< blocks of 32, scales in E8M0: powers of two
};

/// Inputs per block.
constexpr Index block_size(Float4Kind kind) { return kind == Float4Kind::nvfp4 ? 16 : 32; }

/// A linear layer as stored in the file. Row-major.
struct Float4Tensors {
  Float4Kind kind = Float4Kind::nvfp4;
  Index in = 0, out = 0;
  std::vector<std::uint8_t> weight_packed{};  ///< [out, in/2]: the even input in the low half
  std::vector<std::uint8_t> weight_scale{};   ///< [out, in/16] in E4M3, or [out, in/32] in E8M0
  /// NVFP4: what scales are divided by; a power of two in files that we write, so that every
  /// engine computes the same numbers.
  float weight_global_scale = 1;
};

/// Checks a layer against the layout's own requirements.
/// \throws InvalidArgument  names the layer and the rule
inline void require_float4_shape(Float4Kind kind, Index in, std::string_view name) {
  gptq::detail::require(in % block_size(kind) == 0, "in_features = ", in, " of ", name,
                        " is not a multiple of ", block_size(kind), ": the blocks are whole");
}

/// Packs a quantized weight.
/// \param backend  whose threads on the host pack
/// \throws InvalidArgument  the groups are not the blocks of the type, or a scale would be rounded
template <class B = HostPacking>
Float4Tensors to_float4(const LevelView& q, Float4Kind kind, std::string_view name = "the layer",
                        const B& backend = {}) {
  require_float4_shape(kind, q.in(), name);
  gptq::detail::require(q.kind == Levels::e2m1 && q.group_size == block_size(kind), name,
                        " has groups of ", q.group_size, "; the blocks have ", block_size(kind));
  require_contiguous_groups(q, "float4", name);
  const bool nv = kind == Float4Kind::nvfp4;
  require_storable(q, nv ? ScaleType::fp8_e4m3 : ScaleType::power_of_two, name);
  Float4Tensors t{.kind = kind, .in = q.in(), .out = q.out()};
  t.weight_packed = byte_rows(
      t.out, t.in / 2,
      [&](Index o, Index j) {
        return scheme::Float4::pattern(q.codes(o, 2 * j)) |
               scheme::Float4::pattern(q.codes(o, 2 * j + 1)) << 4;
      },
      backend);
  t.weight_scale = byte_rows(
      t.out, q.groups(),
      [&](Index o, Index g) {
        const float scale = q.scales(o, g);
        return nv ? Float8E4M3::ordinal(scale / q.scale_unit) : std::ilogb(scale) + 127;
      },
      backend);
  if (!nv) return t;
  t.weight_global_scale = 1 / q.scale_unit;
  gptq::detail::require(is_number_of(t.weight_global_scale, ScaleType::power_of_two),
                        "the unit of the scales of ", name, ", ", q.scale_unit,
                        ", is not a power of two");
  return t;
}

/// The codes and scales in the file.
/// \throws FormatError  sizes do not match, or a scale is not a number
inline LevelCodes codes_of(const Float4Tensors& t, std::string_view name) {
  const Index block = block_size(t.kind), blocks = t.in / block;
  const bool nv = t.kind == Float4Kind::nvfp4;
  gptq::detail::require<FormatError>(t.in % block == 0, name, ": ", t.in,
                                     " inputs are not whole blocks of ", block);
  require_size(t.weight_packed, t.out, t.in / 2, "bytes", name, "weight_packed");
  require_size(t.weight_scale, t.out, blocks, "bytes", name, "weight_scale");
  return level_codes(
      {.kind = Levels::e2m1,
       .in = t.in,
       .out = t.out,
       .group_size = block,
       .scale_unit = 1 / t.weight_global_scale},
      [&](Index o, Index i) {
        const int byte = t.weight_packed[std::size_t(o * (t.in / 2) + i / 2)],
                  bits = i % 2 == 0 ? byte & 15 : byte >> 4, magnitude = bits & 7;
        return Float4E2M1::max_ordinal + (bits & 8 ? -magnitude : magnitude);
      },
      [&](Index o, Index g) {
        const int bits = t.weight_scale[std::size_t(o * blocks + g)];
        gptq::detail::require<FormatError>(bits <= (nv ? Float8E4M3::max_ordinal : 254), name,
                                           ": the scale of row ", o, ", block ", g,
                                           " is not a positive number");
        return nv ? Float8E4M3::value(bits) / t.weight_global_scale : std::ldexp(1.0f, bits - 127);
      });
}

}  // namespace gptq::pack
