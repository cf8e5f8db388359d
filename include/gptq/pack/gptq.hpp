// SPDX-License-Identifier: MIT
#pragma once

// The GPTQ checkpoint layout of GPTQModel, AutoGPTQ and Hugging Face: one linear layer as qweight,
// qzeros, scales, g_idx.

#include <gptq/core/error.hpp>
#include <gptq/pack/bitstream.hpp>
#include <gptq/quantized_matrix.hpp>

#include <cstdint>
#include <string_view>
#include <vector>

namespace gptq::pack {

/// How zero points are stored: v1 stores zero − 1 (and readers add 1), v2 stores zero.
enum class GptqFormat { v1, v2 };

/// "gptq" or "gptq_v2", as written to the configuration.
constexpr std::string_view checkpoint_format(GptqFormat format) {
  return format == GptqFormat::v1 ? "gptq" : "gptq_v2";
}

/// A linear layer of `in` inputs and `out` outputs in `groups` groups, as it stands in the file.
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

/// What the layout itself demands of a layer.
/// \throws InvalidArgument  names the layer, the size and the rule
inline void require_gptq_shape(Index in, Index out, int bits, std::string_view name) {
  using gptq::detail::require;
  require(bits == 2 || bits == 3 || bits == 4 || bits == 8, "bits = ", bits,
          ": the GPTQ format has 2, 3, 4 and 8 bits");
  require(in % 32 == 0, "in_features = ", in, " of ", name,
          " is not a multiple of 32, which the GPTQ format needs (skip the layer)");
  require(out % 32 == 0, "out_features = ", out, " of ", name,
          " is not a multiple of 32, which the GPTQ format needs (skip the layer)");
}

/// Packs codes where they are told to: on the host.
struct HostPacking {};

/// Packs a quantized weight.
/// \param backend  packs the codes if it can (`pack_words`), as backend::Cuda does
/// \throws InvalidArgument  the shape does not fit the layout, or a zero point does not fit v1 (1
/// .. 2^bits − 1)
template <class S, class B = HostPacking>
GptqTensors to_gptq(const QuantizedMatrix<S>& q, GptqFormat format,
                    std::string_view name = "the layer", const B& backend = {}) {
  constexpr int bits = S::bits;
  require_gptq_shape(q.cols(), q.rows(), bits, name);
  const Index in = q.cols(), out = q.rows(), groups = q.groups();
  GptqTensors t{.in = in, .out = out, .groups = groups, .bits = bits};
  const auto codes = q.codes();
  t.qweight.resize(static_cast<std::size_t>(word_count(in, bits) * out));
  const MatrixView<std::uint32_t> qweight(t.qweight.data(), word_count(in, bits), out);
  if constexpr (requires { backend.pack_words(codes.transposed(), bits, qweight); })
    backend.pack_words(codes.transposed(), bits, qweight);
  else pack_rows([&](Index row, Index col) { return codes(col, row); }, in, bits, qweight);

  const auto zeros = q.zeros();
  const int offset = format == GptqFormat::v1 ? 1 : 0;
  for (Index o = 0; o < out; ++o)
    for (Index g = 0; g < groups; ++g)
      gptq::detail::require(static_cast<int>(zeros(o, g)) >= offset, "zero point ", zeros(o, g),
                            " of ", name, ", row ", o, ", group ", g,
                            " cannot be stored in GPTQ format v1: use v2");
  const Index zero_words = word_count(out, bits);
  t.qzeros.resize(static_cast<std::size_t>(groups * zero_words));
  MatrixView<std::uint32_t> qzeros(t.qzeros.data(), groups, zero_words);
  pack_rows([&](Index row, Index group) { return static_cast<int>(zeros(row, group)) - offset; },
            out, bits, qzeros.transposed());

  t.scales.resize(static_cast<std::size_t>(groups * out));
  for (Index g = 0; g < groups; ++g)
    for (Index o = 0; o < out; ++o) t.scales[std::size_t(g * out + o)] = q.scales()(o, g);
  t.g_idx.assign(q.group_index().begin(), q.group_index().end());
  return t;
}

/// The weights [out, in] that a reader computes: scale · (code − zero).
/// \throws FormatError  sizes do not fit each other, or a group index is out of range
inline void dequantize(const GptqTensors& t, GptqFormat format, MatrixView<float> weight,
                       std::string_view name) {
  using gptq::detail::require;
  const auto size = [](const auto& v) { return static_cast<Index>(v.size()); };
  require<FormatError>(t.bits == 2 || t.bits == 3 || t.bits == 4 || t.bits == 8, name, ": ", t.bits,
                       " bits per code are not supported");
  require<FormatError>(size(t.qweight) == word_count(t.in, t.bits) * t.out, name, ": qweight has ",
                       size(t.qweight), " words, ", word_count(t.in, t.bits), " x ", t.out,
                       " expected");
  require<FormatError>(size(t.qzeros) == t.groups * word_count(t.out, t.bits), name,
                       ": qzeros has ", size(t.qzeros), " words, ", t.groups, " x ",
                       word_count(t.out, t.bits), " expected");
  require<FormatError>(size(t.scales) == t.groups * t.out, name, ": scales has ", size(t.scales),
                       " entries, ", t.groups, " x ", t.out, " expected");
  require<FormatError>(size(t.g_idx) == t.in, name, ": g_idx has ", size(t.g_idx), " entries, ",
                       t.in, " expected");

  const MatrixView<const std::uint32_t> qweight(t.qweight.data(), word_count(t.in, t.bits), t.out);
  const Index zero_words = word_count(t.out, t.bits);
  // Adding within the field: a v1 reader that does not mask turns a stored 2^bits − 1 into 2^bits;
  // writers avoid it.
  const std::uint32_t offset = format == GptqFormat::v1 ? 1 : 0, mask = (1u << t.bits) - 1u;
  std::vector<float> zero(static_cast<std::size_t>(t.groups * t.out));
  for (Index g = 0; g < t.groups; ++g)
    for (Index o = 0; o < t.out; ++o) {
      const auto word = [&](Index i) { return t.qzeros[std::size_t(g * zero_words + i)]; };
      zero[std::size_t(g * t.out + o)] =
          static_cast<float>((unpack(word, o, t.bits) + offset) & mask);
    }
  for (Index i = 0; i < t.in; ++i) {
    const Index g = t.g_idx[std::size_t(i)];
    require<FormatError>(g >= 0 && g < t.groups, name, ": g_idx[", i, "] = ", g, " is not one of ",
                         t.groups, " groups");
    for (Index o = 0; o < t.out; ++o) {
      const auto word = [&](Index w) { return qweight(w, o); };
      weight(o, i) =
          t.scales[std::size_t(g * t.out + o)] *
          (static_cast<float>(unpack(word, i, t.bits)) - zero[std::size_t(g * t.out + o)]);
    }
  }
}

}  // namespace gptq::pack
