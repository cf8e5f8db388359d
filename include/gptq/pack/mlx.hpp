// SPDX-License-Identifier: MIT
#pragma once

// The affine layout of MLX: codes packed along the inputs, weight = scale · code + bias.

#include <gptq/core/half.hpp>
#include <gptq/pack/affine_view.hpp>
#include <gptq/pack/bitstream.hpp>

#include <cmath>  // std::nearbyint
#include <cstdint>
#include <string_view>
#include <vector>

namespace gptq::pack {

/// A linear layer as stored in the file. Row-major.
struct MlxTensors {
  Index in = 0, out = 0, groups = 0;
  int bits = 0;
  std::vector<std::uint32_t> weight{};  ///< [out, in·bits/32]
  std::vector<float> scales{};          ///< [out, groups]; fp16 in files
  std::vector<float> biases{};          ///< [out, groups]; fp16 in files: −scale · zero
};

/// Checks a layer against the layout's own requirements.
/// \throws InvalidArgument  names the layer, the number and the rule
inline void require_mlx_shape(Index in, Index group_size, int bits, std::string_view name) {
  using gptq::detail::require;
  require(bits == 2 || bits == 4 || bits == 8, "bits = ", bits, " of ", name,
          ": the MLX format has 2, 4 and 8 bits");
  require(group_size == 32 || group_size == 64 || group_size == 128, "groups of ", group_size,
          " of ", name, ": the MLX format has groups of 32, 64 and 128");
  require(in % group_size == 0, "in_features = ", in, " of ", name, " is not a multiple of ",
          group_size, ": the MLX format has no short groups");
}

/// Packs a quantized weight.
/// \param backend  whose threads on the host pack
/// \throws InvalidArgument  the shape or the groups do not fit the layout, or a number would be
///                          rounded: with zero points, biases hardly ever are fp16 numbers
template <class B = HostPacking>
MlxTensors to_mlx(const AffineView& q, std::string_view name = "the layer", const B& backend = {}) {
  require_mlx_shape(q.in(), q.group_size, q.bits, name);
  require_contiguous_groups(q, "mlx", name);
  require_storable(q, ScaleType::fp16, name);
  MlxTensors t{.in = q.in(), .out = q.out(), .groups = q.groups(), .bits = q.bits};
  const Index words = word_count(t.in, t.bits);
  t.weight.resize(static_cast<std::size_t>(t.out * words));
  pack_codes(q, MatrixView<std::uint32_t>(t.weight.data(), t.out, words).transposed(), backend);
  t.scales.resize(static_cast<std::size_t>(t.out * t.groups));
  t.biases.resize(t.scales.size());
  for (Index o = 0; o < t.out; ++o)
    for (Index g = 0; g < t.groups; ++g) {
      const float bias = -q.scales(o, g) * q.zeros(o, g);
      gptq::detail::require(is_number_of(bias, ScaleType::fp16), "the bias ", bias, " of ", name,
                            ", row ", o, ", group ", g,
                            " would be rounded to fp16: the MLX format holds symmetric grids only");
      t.scales[std::size_t(o * t.groups + g)] = q.scales(o, g);
      t.biases[std::size_t(o * t.groups + g)] = bias;
    }
  return t;
}

/// Checks the sizes of all tensors.
/// \throws FormatError  they do not match
inline void require_sizes(const MlxTensors& t, std::string_view name) {
  gptq::detail::require<FormatError>(
      t.bits >= 2 && t.bits <= 8 && t.groups > 0 && t.in % t.groups == 0, name, ": ", t.bits,
      " bits in ", t.groups, " groups");
  require_size(t.weight, t.out, word_count(t.in, t.bits), "elements", name, "weight");
  require_size(t.scales, t.out, t.groups, "elements", name, "scales");
  require_size(t.biases, t.out, t.groups, "elements", name, "biases");
}

/// The weights [out, in] that a loader computes: scale · code + bias, which may be no grid with a
/// zero point.
/// \throws FormatError  sizes do not match
inline void dequantize(const MlxTensors& t, MatrixView<float> weight, std::string_view name) {
  require_sizes(t, name);
  const Index words = word_count(t.in, t.bits), size = t.in / t.groups;
  for (Index o = 0; o < t.out; ++o)
    for (Index i = 0; i < t.in; ++i) {
      const auto word = [&](Index w) { return t.weight[std::size_t(o * words + w)]; };
      const auto group = std::size_t(o * t.groups + i / size);
      weight(o, i) =
          t.scales[group] * static_cast<float>(unpack(word, i, t.bits)) + t.biases[group];
    }
}

/// The codes and grids in the file, if they are what other formats have.
/// \throws FormatError  sizes do not match, or a bias is no whole number of scales
inline AffineCodes codes_of(const MlxTensors& t, std::string_view name) {
  require_sizes(t, name);
  const Index words = word_count(t.in, t.bits);
  return affine_codes(
      {.bits = t.bits,
       .in = t.in,
       .out = t.out,
       .group_index = contiguous_groups(t.in, t.in / t.groups)},
      t.groups,
      [&](Index o, Index i) {
        return unpack([&](Index w) { return t.weight[std::size_t(o * words + w)]; }, i, t.bits);
      },
      [&](Index o, Index g) {
        const float scale = t.scales[std::size_t(o * t.groups + g)],
                    bias = t.biases[std::size_t(o * t.groups + g)], zero = -bias / scale;
        gptq::detail::require<FormatError>(
            scale != 0 && zero == std::nearbyint(zero) && scale * zero == -bias, name,
            ": the bias ", bias, " of row ", o, ", group ", g, " is no multiple of the scale ",
            scale, ": the grid has no zero, which other formats need");
        return zero;
      },
      [&](Index o, Index g) { return t.scales[std::size_t(o * t.groups + g)]; }, name);
}

}  // namespace gptq::pack
