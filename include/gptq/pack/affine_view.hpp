// SPDX-License-Identifier: MIT
#pragma once

// AffineView: a weight on an affine grid, without the scheme in its type, for whatever packs it.
// AffineCodes: the same, read from a file.

#include <gptq/core/error.hpp>
#include <gptq/core/minifloat.hpp>
#include <gptq/pack/bitstream.hpp>
#include <gptq/quantized_matrix.hpp>

#include <algorithm>  // std::min
#include <cmath>      // std::exp2, std::ilogb, std::nearbyint
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>  // std::move
#include <vector>

namespace gptq::pack {

/// f(output, input) for all of them, some outputs at a time: codes of neighbouring outputs are
/// adjacent, most weights and files have neighbouring inputs there.
template <class F>
void for_tiles(Index out, Index in, const F& f) {
  constexpr Index together = 64;
  for (Index first = 0; first < out; first += together) {
    const Index last = (std::min)(first + together, out);
    for (Index i = 0; i < in; ++i)
      for (Index o = first; o < last; ++o) f(o, i);
  }
}

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

/// The first output alone.
inline AffineView first_row(AffineView q) {
  q.codes = q.codes.middle_rows(0, 1);
  q.scales = q.scales.middle_rows(0, 1);
  q.zeros = q.zeros.middle_rows(0, 1);
  return q;
}

/// The same with the numbers in it, as a file holds them.
struct AffineCodes {
  int bits = 0;
  Index in = 0, out = 0, group_size = 0;
  std::vector<std::uint8_t> codes{};        ///< [in, out]
  std::vector<float> scales{}, zeros{};     ///< [groups, out]
  std::vector<std::int32_t> group_index{};  ///< [in]

  /// Must not outlive this.
  AffineView view() const {
    const Index groups = static_cast<Index>(scales.size()) / out;
    return {bits,
            {codes.data(), out, in, 1, out},
            {scales.data(), out, groups, 1, out},
            {zeros.data(), out, groups, 1, out},
            group_index,
            group_size};
  }
};

/// Reads codes and grids one by one.
/// \param sizes  bits, in, out and group_index
/// \param code   code(output, input); zero(output, group), scale(output, group)
/// \throws FormatError  a group is not one of `groups`
template <class Code, class Zero, class Scale>
AffineCodes affine_codes(AffineCodes sizes, Index groups, const Code& code, const Zero& zero,
                         const Scale& scale, std::string_view name) {
  AffineCodes all = std::move(sizes);
  all.group_size = (all.in + groups - 1) / groups;
  for (Index i = 0; i < all.in; ++i) {
    const Index g = all.group_index[std::size_t(i)];
    gptq::detail::require<FormatError>(g >= 0 && g < groups, name, ": g_idx[", i, "] = ", g,
                                       " is not one of ", groups, " groups");
  }
  all.codes.resize(static_cast<std::size_t>(all.in * all.out));
  for_tiles(all.out, all.in, [&](Index o, Index i) {
    all.codes[std::size_t(i * all.out + o)] = static_cast<std::uint8_t>(code(o, i));
  });
  for (Index g = 0; g < groups; ++g)
    for (Index o = 0; o < all.out; ++o) {
      all.scales.push_back(scale(o, g));
      all.zeros.push_back(static_cast<float>(zero(o, g)));
    }
  return all;
}

/// Writes scale · (code − zero) to `weight` [out, in].
inline void dequantize(const AffineView& q, MatrixView<float> weight) {
  for_tiles(q.out(), q.in(), [&](Index o, Index i) {
    const Index g = q.group_index[std::size_t(i)];
    weight(o, i) = q.scales(o, g) * (static_cast<float>(q.codes(o, i)) - q.zeros(o, g));
  });
}

/// The weights [out, in] that a loader computes.
/// \param tensors  of a layout, for which there is codes_of(tensors, name)
/// \throws FormatError  sizes do not match, or a group is out of range
template <class Tensors>
void dequantize(const Tensors& tensors, MatrixView<float> weight, std::string_view name) {
  const auto codes = codes_of(tensors, name);
  dequantize(codes.view(), weight);
}

/// Checks the size of a tensor in memory.
/// \throws FormatError  names the layer, the tensor, its size and the expected one
template <class T>
void require_size(const std::vector<T>& tensor, Index rows, Index cols, const char* unit,
                  std::string_view name, const char* part) {
  gptq::detail::require<FormatError>(static_cast<Index>(tensor.size()) == rows * cols, name, ": ",
                                     part, " has ", tensor.size(), " ", unit, "; expected ", rows,
                                     " x ", cols);
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

/// Whether this number is exactly representable in this type.
inline bool is_number_of(float x, ScaleType type) {
  switch (type) {
    case ScaleType::fp16: return to_float(to_float16(x)) == x;
    case ScaleType::bf16: return to_float(to_bfloat16(x)) == x;
    case ScaleType::fp8_e4m3: return x >= 0 && Float8E4M3::value(Float8E4M3::ordinal(x)) == x;
    case ScaleType::power_of_two: return x > 0 && std::exp2(std::ilogb(x)) == x;
    case ScaleType::fp32: break;
  }
  return true;
}

/// Checks that a file can hold every scale and zero point as it is.
/// \throws InvalidArgument  names the row, the group and the number
inline void require_storable(const AffineView& q, ScaleType type, std::string_view name) {
  const int most = (1 << q.bits) - 1;
  gptq::detail::require(has_sign(type), "a checkpoint of integer codes has no scales in ",
                        gptq::name(type));
  for (Index o = 0; o < q.out(); ++o)
    for (Index g = 0; g < q.groups(); ++g) {
      const float zero = q.zeros(o, g), scale = q.scales(o, g);
      gptq::detail::require(
          zero >= 0 && zero <= static_cast<float>(most) && zero == std::nearbyint(zero),
          "zero point ", zero, " of ", name, ", row ", o, ", group ", g, " is not one of 0 .. ",
          most);
      gptq::detail::require(is_number_of(scale, type), "scale ", scale, " of ", name, ", row ", o,
                            ", group ", g, " would be rounded to ", gptq::name(type),
                            ": quantize with that Params::scale_type, or store a different type");
    }
}

/// Checks that every zero point is 2^(bits − 1), as where none are stored.
/// \throws InvalidArgument  names the row, the group and the number
inline void require_middle_zeros(const AffineView& q, std::string_view name) {
  const auto middle = static_cast<float>(1 << (q.bits - 1));
  for (Index o = 0; o < q.out(); ++o)
    for (Index g = 0; g < q.groups(); ++g)
      gptq::detail::require(q.zeros(o, g) == middle, "zero point ", q.zeros(o, g), " of ", name,
                            ", row ", o, ", group ", g, " is not ", middle,
                            ", as in a symmetric grid");
}

/// The first input that is not in the group of its place, g = input / group_size; −1: none.
template <class View>
Index first_scattered(const View& q) {
  for (Index i = 0; i < q.in(); ++i)
    if (q.group_index[std::size_t(i)] != i / q.group_size) return i;
  return -1;
}

/// Checks that groups are adjacent inputs, as formats without a group index take for granted.
/// \throws InvalidArgument  names the first input in another group
template <class View>
void require_contiguous_groups(const View& q, std::string_view format, std::string_view name) {
  if (const Index i = first_scattered(q); i >= 0)
    throw InvalidArgument(gptq::detail::message(
        "input ", i, " of ", name, " is in group ", q.group_index[std::size_t(i)], ": the format ",
        format, " has no group index; quantize with Groups::static_"));
}

/// Packs the codes of each output as a stream along the inputs.
/// \param words    [word_count(in), out], any strides
/// \param backend  whose threads on the host pack
template <class B>
void pack_codes(const AffineView& q, MatrixView<std::uint32_t> words, const B& backend) {
  constexpr Index together = 256;  // outputs, whose codes are adjacent
  for_each_on_host(backend, (q.out() + together - 1) / together, [&](Index i) {
    const Index first = i * together, some = (std::min)(together, q.out() - first);
    pack_rows([&](Index input, Index o) { return q.codes(first + o, input); }, q.in(), q.bits,
              words.middle_cols(first, some));
  });
}

}  // namespace gptq::pack
