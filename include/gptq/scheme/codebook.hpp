// SPDX-License-Identifier: MIT
#pragma once

// Codebooks: any sorted table of levels under a shared scale, such as NF4.

#include <gptq/scheme/grid.hpp>

#include <algorithm>  // std::is_sorted
#include <array>
#include <cstddef>

namespace gptq::scheme {

/// weight = scale · levels[code].
///
/// \tparam Levels  a type with `static constexpr std::array<float, N> values`, sorted, 2 ≤ N ≤ 256,
///                 not all of them zero
template <class Levels>
struct Codebook {
  static constexpr int size = static_cast<int>(Levels::values.size());  ///< number of levels
  static_assert(size >= 2 && size <= 256, "gptq: a codebook has 2 to 256 levels");
  /// Stored per code.
  static constexpr int bits = size <= 2 ? 1 : size <= 4 ? 2 : size <= 8 ? 3 : size <= 16 ? 4 : 8;
  static constexpr int max_code = size - 1;  ///< largest code
  /// The first and the last level.
  static constexpr float lowest = Levels::values.front(), highest = Levels::values.back();
  static_assert(std::is_sorted(Levels::values.begin(), Levels::values.end()),
                "gptq: the levels of a codebook are sorted");
  static_assert(lowest != 0 || highest != 0, "gptq: a codebook has levels other than zero");
  /// The range search also tries the mirrored table.
  static constexpr int variants = 2;
  static constexpr bool signed_variants = true;  ///< the mirrored table has a negative scale

  /// The nearest level; the lower of two that are equally near.
  template <class T>
  GPTQ_HD T encode(const T& x, const Grid<T>& grid) const {
    const T y = x / grid.scale;
    T code(0);
    for (int k = 1; k < size; ++k) code += select(y > T(middle(k)), T(1), T(0));
    return code;
  }

  /// The number that a code stands for.
  template <class T>
  GPTQ_HD T decode(const T& code, const Grid<T>& grid) const {
    return grid.scale * map(code, [](float c) { return level(static_cast<int>(c)); });
  }

  /// The grid that covers [low, high].
  template <class T>
  GPTQ_HD Grid<T> fit(const T& low, const T& high, const ScaleRounding& rounding) const {
    if constexpr (lowest < 0 && highest > 0)
      return {round_scale(max(high / T(highest), low / T(lowest)), rounding), T(0)};
    // All levels on one side of zero: the sign of the scale decides on which.
    else return {round_scale(max(high, -low) / T(max(highest, -lowest)), rounding), T(0)};
  }

  /// 0: the grid itself; 1: mirrored.
  template <class T>
  GPTQ_HD Grid<T> variant(const Grid<T>& grid, int which) const {
    return {which == 0 ? grid.scale : -grid.scale, grid.zero};
  }

 private:
  static GPTQ_HD constexpr float level(int code) {
    constexpr auto values = Levels::values;  // a copy that a GPU can read
    return values[static_cast<std::size_t>(code)];
  }
  static GPTQ_HD constexpr float middle(int k) { return 0.5f * (level(k - 1) + level(k)); }
};

/// 4-bit NormalFloat: equally likely levels of a normal distribution, scaled to [-1, 1]
/// (Dettmers et al., "QLoRA", 2023, appendix E).
struct NormalFloat4Levels {
  /// Sorted.
  static constexpr std::array<float, 16> values{
      -1.0f,           -0.69619280f, -0.52507305f, -0.39491749f, -0.28444138f, -0.18477343f,
      -0.09105003625f, 0.0f,         0.07958030f,  0.16093020f,  0.24611230f,  0.33791524f,
      0.44070983f,     0.56261700f,  0.72295684f,  1.0f};
};

/// NF4 as in QLoRA.
using NF4 = Codebook<NormalFloat4Levels>;

}  // namespace gptq::scheme
