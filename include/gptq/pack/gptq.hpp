// SPDX-License-Identifier: MIT
#pragma once

// The GPTQ checkpoint layout of GPTQModel, AutoGPTQ and Hugging Face: one linear layer as qweight,
// qzeros, scales, g_idx.

#include <gptq/core/error.hpp>
#include <gptq/core/half.hpp>
#include <gptq/pack/affine_view.hpp>
#include <gptq/pack/bitstream.hpp>

#include <cstdint>
#include <string_view>
#include <vector>

namespace gptq::pack {

/// What the layout can express: weight = scale · (code − zero), codes and zeros of 2, 3, 4 or 8
/// bits.
template <class S>
concept GptqScheme = scheme::is_affine<S> &&
    (S::bits == 2 || S::bits == 3 || S::bits == 4 || S::bits == 8);

/// How zero points are stored: v1 stores zero − 1 (and loaders add 1), v2 stores zero.
enum class GptqFormat { v1, v2 };

/// "gptq" or "gptq_v2", as in the configuration.
constexpr std::string_view checkpoint_format(GptqFormat format) {
  return format == GptqFormat::v1 ? "gptq" : "gptq_v2";
}

/// A linear layer of `in` inputs and `out` outputs in `groups` groups, as stored in the file.
/// Row-major.
struct GptqTensors {
  Index in = 0, out = 0, groups = 0;
  int bits = 0;
  std::vector<std::uint32_t> qweight{};  ///< [in·bits/32, out]: codes packed down the inputs
  std::vector<std::uint32_t>
      qzeros{};                 ///< [groups, out·bits/32]: zero points packed along the outputs
  std::vector<float> scales{};  ///< [groups, out]; fp16 in files that we write
  std::vector<std::int32_t> g_idx{};  ///< [in]: group of each input
};

/// Checks a layer against the layout's own requirements.
/// \throws InvalidArgument  names the layer, the size and the rule
inline void require_gptq_shape(Index in, Index out, int bits, std::string_view name) {
  using gptq::detail::require;
  require(bits == 2 || bits == 3 || bits == 4 || bits == 8, "bits = ", bits,
          ": the GPTQ format has 2, 3, 4 and 8 bits");
  require(in % 32 == 0, "in_features = ", in, " of ", name,
          " is not a multiple of 32, as the GPTQ format requires (skip the layer)");
  require(out % 32 == 0, "out_features = ", out, " of ", name,
          " is not a multiple of 32, as the GPTQ format requires (skip the layer)");
}

/// Packs a quantized weight.
/// \param backend  whose threads on the host pack
/// \param scales   the type in the file: fp16, as all loaders expect, bf16 or fp32
/// \throws InvalidArgument  the shape does not fit the layout, a zero point is out of range (0 ..
///                          2^bits − 1; v1: not 0), or a scale would be rounded
template <class B = HostPacking>
GptqTensors to_gptq(const AffineView& q, GptqFormat format, std::string_view name = "the layer",
                    const B& backend = {}, ScaleType scales = ScaleType::fp16) {
  const int bits = q.bits;
  require_gptq_shape(q.in(), q.out(), bits, name);
  const Index in = q.in(), out = q.out(), groups = q.groups();
  const int offset = format == GptqFormat::v1 ? 1 : 0;
  require_storable(q, scales, name);
  for (Index o = 0; o < out; ++o)
    for (Index g = 0; g < groups; ++g)
      gptq::detail::require(q.zeros(o, g) >= static_cast<float>(offset), "zero point ",
                            q.zeros(o, g), " of ", name, ", row ", o, ", group ", g,
                            " cannot be stored in GPTQ format v1: use v2");
  GptqTensors t{.in = in, .out = out, .groups = groups, .bits = bits};
  t.qweight.resize(static_cast<std::size_t>(word_count(in, bits) * out));
  pack_codes(q, MatrixView<std::uint32_t>(t.qweight.data(), word_count(in, bits), out), backend);
  const Index zero_words = word_count(out, bits);
  t.qzeros.resize(static_cast<std::size_t>(groups * zero_words));
  MatrixView<std::uint32_t> qzeros(t.qzeros.data(), groups, zero_words);
  pack_rows([&](Index row, Index group) { return static_cast<int>(q.zeros(row, group)) - offset; },
            out, bits, qzeros.transposed());

  t.scales.resize(static_cast<std::size_t>(groups * out));
  for (Index g = 0; g < groups; ++g)
    for (Index o = 0; o < out; ++o) t.scales[std::size_t(g * out + o)] = q.scales(o, g);
  t.g_idx.assign(q.group_index.begin(), q.group_index.end());
  return t;
}

/// The same.
template <GptqScheme S, class B = HostPacking>
GptqTensors to_gptq(const QuantizedMatrix<S>& q, GptqFormat format,
                    std::string_view name = "the layer", const B& backend = {},
                    ScaleType scales = ScaleType::fp16) {
  return to_gptq(affine_view(q), format, name, backend, scales);
}

/// The codes and grids in the file.
/// \throws FormatError  sizes do not match, or a g_idx entry is out of range
inline AffineCodes codes_of(const GptqTensors& t, GptqFormat format, std::string_view name) {
  using gptq::detail::require;
  require<FormatError>(t.bits == 2 || t.bits == 3 || t.bits == 4 || t.bits == 8, name, ": ", t.bits,
                       " bits per code are not supported");
  require_size(t.qweight, word_count(t.in, t.bits), t.out, "words", name, "qweight");
  require_size(t.qzeros, t.groups, word_count(t.out, t.bits), "words", name, "qzeros");
  require_size(t.scales, t.groups, t.out, "entries", name, "scales");
  require<FormatError>(static_cast<Index>(t.g_idx.size()) == t.in, name, ": g_idx has ",
                       t.g_idx.size(), " entries; expected ", t.in);

  const MatrixView<const std::uint32_t> qweight(t.qweight.data(), word_count(t.in, t.bits), t.out);
  const Index zero_words = word_count(t.out, t.bits);
  // The addition wraps within the field: a v1 loader that does not mask turns a stored 2^bits − 1
  // into 2^bits; writers avoid it.
  const std::uint32_t offset = format == GptqFormat::v1 ? 1 : 0, mask = (1u << t.bits) - 1u;
  const auto zero = [&](Index o, Index g) {
    const auto word = [&](Index i) { return t.qzeros[std::size_t(g * zero_words + i)]; };
    return (unpack(word, o, t.bits) + offset) & mask;
  };
  return affine_codes(
      {.bits = t.bits, .in = t.in, .out = t.out, .group_index = t.g_idx}, t.groups,
      [&](Index o, Index i) { return unpack([&](Index w) { return qweight(w, o); }, i, t.bits); },
      zero, [&](Index o, Index g) { return t.scales[std::size_t(g * t.out + o)]; }, name);
}

/// The weights [out, in] that a loader computes: scale · (code − zero).
/// \throws FormatError  sizes do not match, or a g_idx entry is out of range
inline void dequantize(const GptqTensors& t, GptqFormat format, MatrixView<float> weight,
                       std::string_view name) {
  const auto codes = codes_of(t, format, name);
  dequantize(codes.view(), weight);
}

}  // namespace gptq::pack
