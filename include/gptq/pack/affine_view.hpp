// SPDX-License-Identifier: MIT
#pragma once

// AffineView: a weight on an affine grid, without the scheme in its type, for whatever packs it.

#include <gptq/core/error.hpp>
#include <gptq/quantized_matrix.hpp>

#include <cmath>  // std::nearbyint
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace gptq::pack {

/// weight = scale · (code − zero). Refers to a QuantizedMatrix, which must outlive it.
struct AffineView {
  int bits = 0;
  MatrixView<const std::uint8_t> codes;         ///< [out, in], each 0 .. 2^bits − 1
  MatrixView<const float> scales;               ///< [out, groups]
  MatrixView<const float> zeros;                ///< [out, groups]
  std::span<const std::int32_t> group_index{};  ///< [in]: group of each input
  Index group_size = 0;

  Index in() const { return codes.cols(); }       ///< inputs
  Index out() const { return codes.rows(); }      ///< outputs
  Index groups() const { return scales.cols(); }  ///< per output
};

/// The matrix as a view.
template <class S>
  requires scheme::is_affine<S> AffineView affine_view(const QuantizedMatrix<S>& q) {
    return {S::bits, q.codes(), q.scales(), q.zeros(), q.group_index(), q.group_size()};
  }

/// Writes scale · (code − zero) to `weight` [out, in].
/// \param group  [in]: the group of each input
/// \param code   code(output, input); zero(output, group), scale(output, group)
/// \throws FormatError  a group is not one of `groups`
template <class Code, class Zero, class Scale>
void dequantize_affine(MatrixView<float> weight, std::span<const std::int32_t> group, Index groups,
                       const Code& code, const Zero& zero, const Scale& scale,
                       std::string_view name) {
  std::vector<float> zeros(static_cast<std::size_t>(weight.rows())), scales(zeros.size());
  Index loaded = -1;
  for (Index i = 0; i < weight.cols(); ++i) {
    const Index g = group[std::size_t(i)];
    gptq::detail::require<FormatError>(g >= 0 && g < groups, name, ": g_idx[", i, "] = ", g,
                                       " is not one of ", groups, " groups");
    if (g != loaded)
      for (Index o = 0; o < weight.rows(); ++o) {
        zeros[std::size_t(o)] = static_cast<float>(zero(o, g));
        scales[std::size_t(o)] = scale(o, g);
      }
    loaded = g;
    for (Index o = 0; o < weight.rows(); ++o)
      weight(o, i) =
          scales[std::size_t(o)] * (static_cast<float>(code(o, i)) - zeros[std::size_t(o)]);
  }
}

/// Groups of adjacent inputs, [in].
inline std::vector<std::int32_t> contiguous_groups(Index in, Index group_size) {
  std::vector<std::int32_t> group;
  for (Index i = 0; i < in; ++i) group.push_back(static_cast<std::int32_t>(i / group_size));
  return group;
}

/// Packs on the calling thread.
struct HostPacking {
  template <class F>
  void for_each(Index jobs, const F& job) const {
    for (Index i = 0; i < jobs; ++i) job(i);
  }
};

/// Whether this scale is exactly representable in this type.
/// \throws InvalidArgument  checkpoints have no scales of that type
inline bool is_number_of(float scale, ScaleType type) {
  switch (type) {
    case ScaleType::fp16: return to_float(to_float16(scale)) == scale;
    case ScaleType::bf16: return to_float(to_bfloat16(scale)) == scale;
    case ScaleType::fp32: return true;
    default: break;
  }
  throw InvalidArgument(
      gptq::detail::message("a checkpoint of integer codes has no scales in ", gptq::name(type)));
}

/// Checks that a file can hold every scale and zero point as it is.
/// \param least  the smallest zero point that the format can hold
/// \throws InvalidArgument  names the row, the group and the number
inline void require_storable(const AffineView& q, ScaleType type, int least,
                             std::string_view name) {
  const int most = (1 << q.bits) - 1;
  for (Index o = 0; o < q.out(); ++o)
    for (Index g = 0; g < q.groups(); ++g) {
      const float zero = q.zeros(o, g), scale = q.scales(o, g);
      gptq::detail::require(
          zero >= 0 && zero <= static_cast<float>(most) && zero == std::nearbyint(zero),
          "zero point ", zero, " of ", name, ", row ", o, ", group ", g, " is not one of 0 .. ",
          most);
      gptq::detail::require(zero >= static_cast<float>(least), "zero point ", zero, " of ", name,
                            ", row ", o, ", group ", g,
                            " cannot be stored in GPTQ format v1: use v2");
      gptq::detail::require(is_number_of(scale, type), "scale ", scale, " of ", name, ", row ", o,
                            ", group ", g, " would be rounded to ", gptq::name(type),
                            ": quantize with that Params::scale_type, or store a different type");
    }
}

/// Checks that group g holds inputs g·group_size and following, as formats without a group index
/// take for granted.
/// \throws InvalidArgument  names the first input in another group
inline void require_contiguous_groups(const AffineView& q, std::string_view format,
                                      std::string_view name) {
  for (Index i = 0; i < q.in(); ++i)
    gptq::detail::require(q.group_index[std::size_t(i)] == i / q.group_size, "input ", i, " of ",
                          name, " is in group ", q.group_index[std::size_t(i)], ": the format ",
                          format, " has no group index; quantize with Groups::static_");
}

}  // namespace gptq::pack
