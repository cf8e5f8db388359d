// SPDX-License-Identifier: MIT
#pragma once

// LevelView: a weight on a table of levels under shared scales, without the scheme in its type, for
// whatever packs it. LevelCodes: the same, read from a file.

#include <gptq/pack/affine_view.hpp>
#include <gptq/quantized_matrix.hpp>
#include <gptq/scheme/codebook.hpp>
#include <gptq/scheme/minifloat.hpp>

#include <array>
#include <cmath>  // std::signbit
#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>  // std::is_same_v
#include <utility>      // std::move
#include <vector>

namespace gptq::pack {

/// The tables of levels that files have.
enum class Levels {
  nf4,   ///< the 16 of QLoRA
  e2m1,  ///< 4-bit floats: NVFP4, MXFP4
  e4m3,  ///< 8-bit floats
};

/// The table that a scheme's codes refer to.
template <class S>
inline constexpr bool has_levels = false;
template <>
inline constexpr bool has_levels<scheme::NF4> = true;
template <>
inline constexpr bool has_levels<scheme::Float4> = true;
template <>
inline constexpr bool has_levels<scheme::Float8> = true;

/// weight = scale · levels[code]. Refers to a QuantizedMatrix, which must outlive it.
struct LevelView {
  Levels kind = Levels::nf4;
  MatrixView<const std::uint8_t> codes;         ///< [out, in], in the order of the levels
  MatrixView<const float> scales;               ///< [out, groups]
  float scale_unit = 1;                         ///< for scales in fp8: file · unit
  std::span<const std::int32_t> group_index{};  ///< [in]: group of each input
  Index group_size = 0;

  Index in() const { return codes.cols(); }       ///< inputs
  Index out() const { return codes.rows(); }      ///< outputs
  Index groups() const { return scales.cols(); }  ///< per output
};

/// The matrix as a view.
template <class S>
  requires has_levels<S> LevelView level_view(const QuantizedMatrix<S>& q) {
    constexpr Levels kind = S::bits == 8                        ? Levels::e4m3
                            : std::is_same_v<S, scheme::Float4> ? Levels::e2m1
                                                                : Levels::nf4;
    return {kind, q.codes(), q.scales(), q.scale_unit(), q.group_index(), q.group_size()};
  }

/// The first output alone.
inline LevelView first_row(LevelView q) {
  q.codes = q.codes.middle_rows(0, 1);
  q.scales = q.scales.middle_rows(0, 1);
  return q;
}

/// The same with the numbers in it, as a file holds them.
struct LevelCodes {
  Levels kind = Levels::nf4;
  Index in = 0, out = 0, group_size = 0;
  float scale_unit = 1;
  std::vector<std::uint8_t> codes{};        ///< [in, out]
  std::vector<float> scales{};              ///< [groups, out]
  std::vector<std::int32_t> group_index{};  ///< [in]

  /// Must not outlive this.
  LevelView view() const {
    return {kind,
            {codes.data(), out, in, 1, out},
            {scales.data(), out, static_cast<Index>(scales.size()) / out, 1, out},
            scale_unit,
            group_index,
            group_size};
  }
};

/// Reads codes and scales one by one.
/// \param sizes  kind, in, out, group_size and scale_unit
/// \param code   code(output, input); scale(output, group)
template <class Code, class Scale>
LevelCodes level_codes(LevelCodes sizes, const Code& code, const Scale& scale) {
  LevelCodes all = std::move(sizes);
  all.group_index = contiguous_groups(all.in, all.group_size);
  all.codes.resize(static_cast<std::size_t>(all.in * all.out));
  for_tiles(all.out, all.in, [&](Index o, Index i) {
    all.codes[std::size_t(i * all.out + o)] = static_cast<std::uint8_t>(code(o, i));
  });
  for (Index g = 0; g * all.group_size < all.in; ++g)
    for (Index o = 0; o < all.out; ++o) all.scales.push_back(scale(o, g));
  return all;
}

/// The number that each code stands for under a scale of 1.
inline std::array<float, 256> level_table(Levels kind) {
  std::array<float, 256> table{};
  const auto fill = [&]<class S>(const S& scheme) {
    for (int code = 0; code <= S::max_code; ++code)
      table[std::size_t(code)] =
          scheme.decode(static_cast<float>(code), scheme::Grid<float>{1.0f, 0.0f});
  };
  if (kind == Levels::nf4) fill(scheme::NF4{});
  else if (kind == Levels::e2m1) fill(scheme::Float4{});
  else fill(scheme::Float8{});
  return table;
}

/// Writes scale · levels[code] to `weight` [out, in].
inline void dequantize(const LevelView& q, MatrixView<float> weight) {
  const auto levels = level_table(q.kind);
  for_tiles(q.out(), q.in(), [&](Index o, Index i) {
    weight(o, i) = q.scales(o, q.group_index[std::size_t(i)]) * levels[q.codes(o, i)];
  });
}

/// Checks that a file can hold every scale as it is.
/// \throws InvalidArgument  names the row, the group and the number
inline void require_storable(const LevelView& q, ScaleType type, std::string_view name) {
  for (Index o = 0; o < q.out(); ++o)
    for (Index g = 0; g < q.groups(); ++g)
      gptq::detail::require(is_number_of(q.scales(o, g) / q.scale_unit, type) &&
                                (has_sign(type) || !std::signbit(q.scales(o, g))),
                            "scale ", q.scales(o, g), " of ", name, ", row ", o, ", group ", g,
                            " would be rounded to ", gptq::name(type),
                            ": quantize with that Params::scale_type");
}

}  // namespace gptq::pack
