// SPDX-License-Identifier: MIT
#pragma once

// The "int-quantized" layout of compressed-tensors: a signed byte per code.

#include <gptq/pack/affine_view.hpp>
#include <gptq/pack/byte_rows.hpp>

#include <cstdint>
#include <string_view>
#include <vector>

namespace gptq::pack {

/// A linear layer as stored in the file. Row-major; bytes are signed there: code − 128.
struct IntQuantizedTensors {
  Index in = 0, out = 0, groups = 0;
  std::vector<std::uint8_t> weight{};             ///< [out, in]
  std::vector<std::uint8_t> weight_zero_point{};  ///< [out, groups]; empty: every zero point is 128
  std::vector<float> weight_scale{};              ///< [out, groups]; fp16 in files that we write
};

/// Packs a quantized weight.
/// \param symmetric  no zero points are stored
/// \param backend    whose threads on the host pack
/// \throws InvalidArgument  the codes do not have 8 bits, the groups are scattered, a symmetric
///                          grid has another zero point, or a number would be rounded
template <class B = HostPacking>
IntQuantizedTensors to_int_quantized(const AffineView& q, bool symmetric,
                                     std::string_view name = "the layer", const B& backend = {}) {
  gptq::detail::require(q.bits == 8, "bits = ", q.bits, " of ", name,
                        ": the int-quantized layout has 8 bits");
  require_contiguous_groups(q, "int-quantized", name);
  require_storable(q, ScaleType::fp16, name);
  if (symmetric) require_middle_zeros(q, name);
  IntQuantizedTensors t{.in = q.in(), .out = q.out(), .groups = q.groups()};
  t.weight = byte_rows(
      t.out, t.in, [&](Index o, Index i) { return q.codes(o, i) ^ 0x80; }, backend);
  t.weight_scale.resize(static_cast<std::size_t>(t.out * t.groups));
  for (Index o = 0; o < t.out; ++o)
    for (Index g = 0; g < t.groups; ++g)
      t.weight_scale[std::size_t(o * t.groups + g)] = q.scales(o, g);
  if (!symmetric)
    t.weight_zero_point = byte_rows(
        t.out, t.groups, [&](Index o, Index g) { return static_cast<int>(q.zeros(o, g)) ^ 0x80; },
        backend);
  return t;
}

/// The codes and grids in the file.
/// \throws FormatError  sizes do not match
inline AffineCodes codes_of(const IntQuantizedTensors& t, std::string_view name) {
  gptq::detail::require<FormatError>(t.groups > 0, name, ": ", t.groups, " groups");
  require_size(t.weight, t.out, t.in, "elements", name, "weight");
  require_size(t.weight_scale, t.out, t.groups, "elements", name, "weight_scale");
  const bool symmetric = t.weight_zero_point.empty();
  if (!symmetric)
    require_size(t.weight_zero_point, t.out, t.groups, "elements", name, "weight_zero_point");
  return affine_codes(
      {.bits = 8,
       .in = t.in,
       .out = t.out,
       .group_index = contiguous_groups(t.in, (t.in + t.groups - 1) / t.groups)},
      t.groups, [&](Index o, Index i) { return t.weight[std::size_t(o * t.in + i)] ^ 0x80; },
      [&](Index o, Index g) {
        return symmetric ? 128 : t.weight_zero_point[std::size_t(o * t.groups + g)] ^ 0x80;
      },
      [&](Index o, Index g) { return t.weight_scale[std::size_t(o * t.groups + g)]; }, name);
}

}  // namespace gptq::pack
