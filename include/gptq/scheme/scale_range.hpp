// SPDX-License-Identifier: MIT
#pragma once

// Whether the scales of a weight fit the type they are stored in: scales that are too large become
// infinite, and with scales that are too small, weights become zero.

#include <gptq/core/error.hpp>
#include <gptq/core/matrix_view.hpp>
#include <gptq/scheme/affine.hpp>
#include <gptq/scheme/grid.hpp>

#include <algorithm>  // std::clamp, std::max_element
#include <bit>        // std::bit_cast
#include <cmath>      // std::abs, std::ceil, std::exp2, std::log2
#include <cstdint>
#include <limits>
#include <string_view>
#include <vector>

namespace gptq {

/// For ScaleType::fp8_e4m3, the smallest power of two in which the scale of a weight's largest
/// element is an fp8 number; else 1. (A power of two, so that all engines compute the same numbers,
/// whether they multiply by the unit or divide by its reciprocal.)
template <class S>
float scale_unit(const S& scheme, ScaleType type, double largest_weight) {
  if (type != ScaleType::fp8_e4m3 || !(largest_weight > 0)) return 1;
  const auto reach = static_cast<float>(largest_weight);
  const float least = scheme.fit(-reach, reach, ScaleType::fp32).scale / Float8E4M3::max();
  return std::exp2(std::ceil(std::log2(least)));
}

/// The unit that a weight is solved in: 1, unless its elements are so large or small that squares
/// of their errors would leave the range of float.
inline double weight_unit(double largest_weight) {
  const bool usual = largest_weight == 0 || (largest_weight >= 0x1p-30 && largest_weight <= 0x1p30);
  return usual ? 1 : std::exp2(std::clamp(std::floor(std::log2(largest_weight)), -126.0, 126.0));
}

namespace scheme {

/// A group of a row, and the magnitude of its weights.
struct GroupSize {
  /// Of the weight; of the row.
  Index row = 0, group = 0;
  double largest = 0;  ///< magnitude in the group
};

/// Groups of a weight for which the scale type has no scale.
class UnfitGroups {
 public:
  /// \param unit  of the weights, see weight_unit
  UnfitGroups(ScaleType type, float scale_unit, double unit)
      : type_(type), least_(smallest_scale(type) * scale_unit), unit_(unit) {}

  /// Whether the weights of a group with this scale must be checked.
  template <class S>
  bool suspect(const S& scheme, const Grid<float>& grid) const {
    return std::abs(grid.scale) <= least_ ||
           !std::isfinite(scheme.decode(0.0f, grid) + scheme.decode(float(S::max_code), grid));
  }

  /// Checks a suspect group.
  /// \param value  value(j): weight j of the group
  /// \param code   code(j): what is stored of it
  template <class S, class Value, class Code>
  void look(Index row, Index group, const S& scheme, const Grid<float>& grid, Index count,
            const Value& value, const Code& code) {
    double zeros = 0, all = 0;  // squares of weights that are rounded to zero, and of all
    bool infinite = !std::isfinite(grid.scale);
    GroupSize size{row, group, 0};
    for (Index j = 0; j < count; ++j) {
      const double w = static_cast<double>(value(j)), square = w / unit_ * (w / unit_);
      size.largest = (std::max)(size.largest, std::abs(w));
      infinite = infinite || !std::isfinite(scheme.decode(static_cast<float>(code(j)), grid));
      all += square;
      if (scheme.decode(scheme.encode(static_cast<float>(w), grid), grid) == 0) zeros += square;
    }
    if (infinite && (!any_infinite_ || before(size, infinite_))) infinite_ = size;
    any_infinite_ = any_infinite_ || infinite;
    if (infinite || !(std::abs(grid.scale) <= least_) || !(zeros > all / 2)) return;
    ++vanished_;
    lost_ += zeros;
    if (vanished_ == 1 || size.largest > largest_.largest) largest_ = size;
  }

  /// Adds the groups that another one has found in the same weight.
  void merge(const UnfitGroups& other) {
    if (other.any_infinite_ && (!any_infinite_ || before(other.infinite_, infinite_)))
      infinite_ = other.infinite_;
    any_infinite_ = any_infinite_ || other.any_infinite_;
    if (other.vanished_ > 0 && (vanished_ == 0 || other.largest_.largest > largest_.largest))
      largest_ = other.largest_;
    vanished_ += other.vanished_;
    lost_ += other.lost_;
  }

  /// Groups whose weights become zero.
  Index vanished() const { return vanished_; }

  /// Throws if the groups matter.
  /// \param squares  of all weights, in the unit
  /// \throws ScaleError  a weight would be infinite, or vanishing groups hold more than a millionth
  ///                     of the squares
  void require_fit(double squares, std::string_view name) const {
    const std::string_view weight = name.empty() ? "the weight" : name;
    const auto fail = [&](const GroupSize& at, const auto&... why) {
      throw ScaleError(
          gptq::detail::message("the weights of row ", at.row, ", group ", at.group, " of ", weight,
                                ", up to ", at.largest, ", are too ", why...),
          "use another scale_type, or leave the weight as it is");
    };
    if (any_infinite_)
      fail(infinite_, "large for scales of type ", gptq::name(type_), " and would be infinite");
    if (lost_ > negligible * squares)
      fail(largest_, "small for scales of type ", gptq::name(type_), " (the smallest is ", least_,
           ") and would become zero (", vanished_, " such groups)");
  }

 private:
  static constexpr double negligible = 1e-6;  // see Report::vanished_groups

  static bool before(const GroupSize& a, const GroupSize& b) {
    return a.row != b.row ? a.row < b.row : a.group < b.group;
  }

  ScaleType type_;
  float least_;
  double unit_;
  bool any_infinite_ = false;
  GroupSize infinite_{}, largest_{};  // the first infinite group, the largest vanishing one
  Index vanished_ = 0;
  double lost_ = 0;  // squares
};

namespace detail {

/// The smallest and the largest of some weights and zero. Compares the bits of floats as signed
/// integers, which vectorizes; NaN counts as infinite.
template <class T>
void range_of(const T* weights, Index count, Index stride, float& low, float& high) {
  std::int32_t up = 0, down = 0;
  for (Index j = 0; j < count; ++j) {
    const auto bits =
        std::bit_cast<std::int32_t>(static_cast<float>(to_float(weights[j * stride])));
    up = (std::max)(up, bits);
    down =
        (std::max)(down, static_cast<std::int32_t>(static_cast<std::uint32_t>(bits) ^ 0x80000000u));
  }
  constexpr auto infinite = std::bit_cast<std::int32_t>(std::numeric_limits<float>::infinity());
  high = std::bit_cast<float>((std::min)(up, infinite));
  low = -std::bit_cast<float>((std::min)(down, infinite));
}

}  // namespace detail

/// Checks a weight and its scales before any work, reading the weight once.
///
/// Finds what quantizing would find only at the end: exactly with static groups and Range::minmax,
/// else nearly so.
/// \param executor    shares the work; the error does not depend on it
/// \param weight      [rows, cols] on the host, any strides
/// \param group_size  columns that share a scale; -1: one group per row
/// \throws NumericalError  a weight is not finite
/// \throws ScaleError      a scale does not fit its type, see Report::vanished_groups
template <class S, class E, class T>
void require_scales_fit(const E& executor, MatrixView<const T> weight, const S& scheme,
                        Index group_size, ScaleType type, std::string_view name) {
  if (weight.empty()) return;
  const Index rows = weight.rows(), cols = weight.cols();
  const Index size = group_size < 1 || group_size > cols ? cols : group_size;
  const Index groups = (cols + size - 1) / size;
  constexpr Index strip = 16;
  const Index strips = (rows + strip - 1) / strip;
  const auto for_groups = [&](Index i, const auto& f) {
    for (Index r = i * strip; r < (std::min)(rows, (i + 1) * strip); ++r)
      for (Index g = 0; g < groups; ++g) f(r, g, (std::min)(size, cols - g * size));
  };

  std::vector<float> low(static_cast<std::size_t>(rows * groups)), high(low.size());
  std::vector<float> reach(static_cast<std::size_t>(strips));
  executor.parallel_for(strips, [&](Index i) {
    float most = 0;
    for_groups(i, [&](Index r, Index g, Index count) {
      const auto at = static_cast<std::size_t>(r * groups + g);
      // A loop with a known stride vectorizes.
      if (weight.col_stride() == 1)
        detail::range_of(&weight(r, g * size), count, 1, low[at], high[at]);
      else detail::range_of(&weight(r, g * size), count, weight.col_stride(), low[at], high[at]);
      most = (std::max)({most, -low[at], high[at]});
    });
    reach[std::size_t(i)] = most;
  });
  const float most = *std::max_element(reach.begin(), reach.end());
  if (!std::isfinite(most))
    for (Index r = 0; r < rows; ++r)
      for (Index c = 0; c < cols; ++c)
        if (const auto w = static_cast<float>(to_float(weight(r, c))); !std::isfinite(w))
          throw NumericalError(gptq::detail::message(
              name, "(", r, ", ", c, ") = ", std::isnan(w) ? std::abs(w) : w, " is not finite"));

  const double unit = weight_unit(static_cast<double>(most));
  const float unit_of_scales = gptq::scale_unit(scheme, type, static_cast<double>(most));
  const auto in_units = static_cast<float>(unit);
  const ScaleRounding rounding(type, unit_of_scales, in_units);
  std::vector<UnfitGroups> unfit(static_cast<std::size_t>(strips),
                                 UnfitGroups(type, unit_of_scales, unit));
  executor.parallel_for(strips, [&](Index i) {
    UnfitGroups& mine = unfit[std::size_t(i)];
    for_groups(i, [&](Index r, Index g, Index count) {
      const auto at = static_cast<std::size_t>(r * groups + g);
      if (low[at] == high[at]) return;  // only zeros
      auto grid = scheme.fit(low[at] / in_units, high[at] / in_units, rounding);
      grid.scale *= in_units;
      if (!mine.suspect(scheme, grid)) return;
      const auto value = [&](Index j) {
        return static_cast<float>(to_float(weight(r, g * size + j)));
      };
      mine.look(r, g, scheme, grid, count, value,
                [&](Index j) { return scheme.encode(value(j), grid); });
    });
  });
  for (Index i = 1; i < strips; ++i) unfit[0].merge(unfit[std::size_t(i)]);
  double squares = 0;
  if (unfit[0].vanished() > 0) {
    std::vector<double> of_strip(static_cast<std::size_t>(strips));
    executor.parallel_for(strips, [&](Index i) {
      for (Index r = i * strip; r < (std::min)(rows, (i + 1) * strip); ++r)
        for (Index c = 0; c < cols; ++c) {
          const double w = static_cast<double>(to_float(weight(r, c))) / unit;
          of_strip[std::size_t(i)] += w * w;
        }
    });
    for (const double x : of_strip) squares += x;
  }
  unfit[0].require_fit(squares, name);
}

/// The same for Affine schemes of so many bits.
/// \throws InvalidArgument  bits are not 2 to 8
template <class E, class T>
void require_scales_fit(const E& executor, MatrixView<const T> weight, int bits, bool symmetric,
                        Index group_size, ScaleType type, std::string_view name) {
  with_affine(bits, symmetric, [&](const auto& scheme) {
    require_scales_fit(executor, weight, scheme, group_size, type, name);
  });
}

}  // namespace scheme
}  // namespace gptq
