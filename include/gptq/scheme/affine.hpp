// SPDX-License-Identifier: MIT
#pragma once

// Affine grids: weight = scale · (code − zero), with 2 to 8 bits per code. The grids of the GPTQ,
// AWQ and compressed-tensors formats and of most of GGUF.

#include <gptq/scheme/grid.hpp>

namespace gptq::scheme {

/// Whether a grid has a zero point of its own.
enum class Symmetry {
  symmetric,   ///< zero point fixed at 2^(bits−1); only the scale is stored
  asymmetric,  ///< zero point stored per group; it is a code, so zero is always on the grid
};

/// Equidistant integers: x = scale · (code − zero).
template <int Bits, Symmetry Kind = Symmetry::symmetric>
struct Affine {
  static_assert(Bits >= 2 && Bits <= 8, "gptq: an affine scheme has 2 to 8 bits");

  static constexpr int bits = Bits;                               ///< per code
  static constexpr int max_code = (1 << Bits) - 1;                ///< largest code
  static constexpr bool symmetric = Kind == Symmetry::symmetric;  ///< fixed zero point

  /// Quirks of other implementations; see Parity.
  bool one_sided_range = false, round_with_zero = false, narrow_range = false;

  /// The scheme with these quirks.
  constexpr Affine with(const Parity& parity) const {
    Affine scheme = *this;
    scheme.one_sided_range = parity.one_sided_range;
    scheme.round_with_zero = parity.round_with_zero;
    scheme.narrow_range = parity.narrow_range;
    return scheme;
  }

  /// The nearest code, ties to even; x beyond the grid is clamped to its ends.
  template <class T>
  GPTQ_HD T encode(const T& x, const Grid<T>& grid) const {
    const T level = x / grid.scale;
    return clamp<T>(round_with_zero ? round_even(level + grid.zero) : round_even(level) + grid.zero,
                    T(0), T(max_code));
  }

  /// For range searches: the number on the grid nearest to x, both in units of the scale.
  template <class T>
  GPTQ_HD T nearest_level(const T& x, const Grid<T>& grid) const {
    return round_small(clamp<T>(x, -grid.zero, T(max_code) - grid.zero));
  }

  /// The number that a code stands for.
  template <class T>
  GPTQ_HD T decode(const T& code, const Grid<T>& grid) const {
    return grid.scale * (code - grid.zero);
  }

  /// The grid that covers [low, high], low ≤ 0 ≤ high, low < high (GPTQ's own formulas).
  template <class T>
  GPTQ_HD Grid<T> fit(const T& low, const T& high, const ScaleRounding& rounding) const {
    if constexpr (symmetric) {
      const T reach = max(-low, high);
      const T span = one_sided_range ? select(low < T(0), reach + reach, high) : reach + reach;
      return {round_scale(span / T(narrow_range ? max_code - 1 : max_code), rounding),
              T(1 << (Bits - 1))};
    } else {
      const T scale = round_scale((high - low) / T(max_code), rounding);
      return {scale, clamp<T>(round_even(-low / scale), T(0), T(max_code))};
    }
  }

  /// Whether files can store this zero point.
  constexpr bool has_zero_point(float zero) const {
    if constexpr (symmetric) return zero == static_cast<float>(1 << (Bits - 1));
    else
      return zero >= 0 && zero <= static_cast<float>(max_code) &&
             zero == static_cast<float>(static_cast<int>(zero));
  }

  /// The neighbours of a fitted grid that the range search tries too. Symmetric: the mirrored grid,
  /// which has its extra level on the positive side. Asymmetric: the zero point one lower and one
  /// higher.
  static constexpr int variants = symmetric ? 2 : 3;
  /// Variants other than 0 have negative scales.
  static constexpr bool signed_variants = symmetric;

  /// The neighbour `which` of a fitted grid, 0 .. variants − 1; 0 is the grid itself.
  template <class T>
  GPTQ_HD Grid<T> variant(const Grid<T>& grid, int which) const {
    if constexpr (symmetric) {
      return {which == 0 ? grid.scale : -grid.scale, grid.zero};
    } else {
      const T shifted = grid.zero + T(which == 0 ? 0 : which == 1 ? -1 : 1);
      return {grid.scale, clamp<T>(shifted, T(0), T(max_code))};
    }
  }
};

/// Whether a scheme is weight = scale · (code − zero), which is what checkpoint formats store. May
/// be specialized for schemes of your own.
template <class S>
inline constexpr bool is_affine = false;
/// Affine schemes are.
template <int Bits, Symmetry Kind>
inline constexpr bool is_affine<Affine<Bits, Kind>> = true;

using Int2 = Affine<2>;  ///< symmetric, 2 bits
using Int3 = Affine<3>;  ///< symmetric, 3 bits
using Int4 = Affine<4>;  ///< symmetric, 4 bits
using Int8 = Affine<8>;  ///< symmetric, 8 bits

/// With a zero point per group.
template <int Bits>
using Asymmetric = Affine<Bits, Symmetry::asymmetric>;

/// Calls f(scheme) for bits that are known only at run time.
/// \throws InvalidArgument  bits are not 2 to 8
template <class F>
void with_affine(int bits, bool symmetric, const F& f) {
  const auto with = [&]<int Bits>() {
    if (symmetric) f(Affine<Bits>{});
    else f(Asymmetric<Bits>{});
  };
  switch (bits) {
    case 2: return with.template operator()<2>();
    case 3: return with.template operator()<3>();
    case 4: return with.template operator()<4>();
    case 5: return with.template operator()<5>();
    case 6: return with.template operator()<6>();
    case 7: return with.template operator()<7>();
    case 8: return with.template operator()<8>();
    default: throw InvalidArgument(gptq::detail::message("bits = ", bits, " must be 2 to 8"));
  }
}

}  // namespace gptq::scheme
