// SPDX-License-Identifier: MIT
#pragma once

// The "pack-quantized" layout of compressed-tensors (llm-compressor, vLLM): integer codes packed
// along the inputs, a row per output.

#include <gptq/core/half.hpp>
#include <gptq/pack/affine_view.hpp>
#include <gptq/pack/bitstream.hpp>

#include <cstdint>
#include <string_view>
#include <vector>

namespace gptq::pack {

/// A linear layer as stored in the file. Row-major.
struct PackQuantizedTensors {
  Index in = 0, out = 0, groups = 0;
  int bits = 0;
  std::vector<std::uint32_t> weight_packed{};      ///< [out, in·bits/32, rounded up]
  std::vector<std::uint32_t> weight_zero_point{};  ///< [out·bits/32, rounded up, groups]; empty if
                                                   ///< every zero point is 2^(bits − 1)
  std::vector<float> weight_scale{};               ///< [out, groups]; fp16 in files that we write
  std::vector<std::int32_t> weight_g_idx{};        ///< [in], or empty: groups are contiguous
};

/// Packs a quantized weight.
/// \param symmetric  no zero points are stored
/// \param backend    whose threads on the host pack
/// \throws InvalidArgument  a symmetric grid has another zero point, or a number would be rounded
template <class B = HostPacking>
PackQuantizedTensors to_pack_quantized(const AffineView& q, bool symmetric,
                                       std::string_view name = "the layer", const B& backend = {}) {
  require_storable(q, ScaleType::fp16, name);
  if (symmetric) require_middle_zeros(q, name);
  PackQuantizedTensors t{.in = q.in(), .out = q.out(), .groups = q.groups(), .bits = q.bits};
  if (first_scattered(q) >= 0) t.weight_g_idx.assign(q.group_index.begin(), q.group_index.end());
  const Index words = word_count(t.in, t.bits);
  t.weight_packed.resize(static_cast<std::size_t>(t.out * words));
  pack_codes(q, MatrixView<std::uint32_t>(t.weight_packed.data(), t.out, words).transposed(),
             backend);
  t.weight_scale.resize(static_cast<std::size_t>(t.out * t.groups));
  for (Index o = 0; o < t.out; ++o)
    for (Index g = 0; g < t.groups; ++g)
      t.weight_scale[std::size_t(o * t.groups + g)] = q.scales(o, g);
  if (symmetric) return t;
  const Index zero_words = word_count(t.out, t.bits);
  t.weight_zero_point.resize(static_cast<std::size_t>(zero_words * t.groups));
  pack_rows([&](Index o, Index g) { return static_cast<int>(q.zeros(o, g)); }, t.out, t.bits,
            MatrixView<std::uint32_t>(t.weight_zero_point.data(), zero_words, t.groups));
  return t;
}

/// The codes and grids in the file.
/// \throws FormatError  sizes do not match, or a group is out of range
inline AffineCodes codes_of(const PackQuantizedTensors& t, std::string_view name) {
  gptq::detail::require<FormatError>(t.bits >= 2 && t.bits <= 8 && t.groups > 0, name, ": ", t.bits,
                                     " bits in ", t.groups, " groups");
  const Index words = word_count(t.in, t.bits), zero_words = word_count(t.out, t.bits);
  require_size(t.weight_packed, t.out, words, "elements", name, "weight_packed");
  require_size(t.weight_scale, t.out, t.groups, "elements", name, "weight_scale");
  const bool symmetric = t.weight_zero_point.empty();
  if (!symmetric)
    require_size(t.weight_zero_point, zero_words, t.groups, "elements", name, "weight_zero_point");
  if (!t.weight_g_idx.empty())
    require_size(t.weight_g_idx, 1, t.in, "elements", name, "weight_g_idx");
  return affine_codes(
      {.bits = t.bits,
       .in = t.in,
       .out = t.out,
       .group_index = t.weight_g_idx.empty()
                          ? contiguous_groups(t.in, (t.in + t.groups - 1) / t.groups)
                          : t.weight_g_idx},
      t.groups,
      [&](Index o, Index i) {
        return unpack([&](Index w) { return t.weight_packed[std::size_t(o * words + w)]; }, i,
                      t.bits);
      },
      [&](Index o, Index g) {
        if (symmetric) return std::uint32_t{1} << (t.bits - 1);
        return unpack([&](Index w) { return t.weight_zero_point[std::size_t(w * t.groups + g)]; },
                      o, t.bits);
      },
      [&](Index o, Index g) { return t.weight_scale[std::size_t(o * t.groups + g)]; }, name);
}

}  // namespace gptq::pack
