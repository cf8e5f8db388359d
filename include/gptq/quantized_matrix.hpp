// SPDX-License-Identifier: MIT
#pragma once

// QuantizedMatrix: integer codes, the grids they belong to, and the report of how they came about.
// What is stored here is what was rounded, bit for bit: no step between here and the file rounds
// again.

#include <gptq/core/concepts.hpp>
#include <gptq/core/report.hpp>
#include <gptq/core/uninitialized.hpp>

#include <algorithm>  // std::clamp
#include <cmath>      // std::abs, std::exp2
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace gptq {

/// A weight [rows = out_features, cols = in_features] in the weight's own column order.
template <class S>
class QuantizedMatrix {
 public:
  /// Codes, scales and zeros are for the caller to write.
  QuantizedMatrix(Index rows, Index cols, Index group_size, S scheme = S{})
      : scheme_(scheme),
        rows_(rows),
        cols_(cols),
        group_size_(group_size),
        groups_((cols + group_size - 1) / group_size) {
    codes_.resize(std::size_t(detail::checked_size(rows_, cols_)));
    scales_.resize(std::size_t(rows_ * groups_));
    zeros_.resize(std::size_t(rows_ * groups_));
    group_index_.resize(std::size_t(cols_));
    for (Index c = 0; c < cols_; ++c)
      group_index_[std::size_t(c)] = static_cast<std::int32_t>(c / group_size_);
    column_loss_.assign(std::size_t(cols_), 0.0);
  }

  Index rows() const { return rows_; }
  Index cols() const { return cols_; }
  Index groups() const { return groups_; }
  Index group_size() const { return group_size_; }
  const S& scheme() const { return scheme_; }

  // Held input-major, as solvers and packers walk through them; the views have the usual shapes.
  MatrixView<const std::uint8_t> codes() const {
    return {codes_.data(), rows_, cols_, 1, rows_};
  }  ///< [rows, cols]
  MatrixView<const float> scales() const {
    return {scales_.data(), rows_, groups_, 1, rows_};
  }  ///< [rows, groups]
  MatrixView<const float> zeros() const {
    return {zeros_.data(), rows_, groups_, 1, rows_};
  }  ///< [rows, groups]
  MatrixView<std::uint8_t> codes() { return {codes_.data(), rows_, cols_, 1, rows_}; }
  MatrixView<float> scales() { return {scales_.data(), rows_, groups_, 1, rows_}; }
  MatrixView<float> zeros() { return {zeros_.data(), rows_, groups_, 1, rows_}; }

  /// ScaleType::fp8_e4m3: what is stored of a scale is scale / scale_unit; else 1.
  float scale_unit() const { return scale_unit_; }
  void set_scale_unit(float unit) { scale_unit_ = unit; }

  /// The group of each column.
  std::span<const std::int32_t> group_index() const { return group_index_; }
  std::span<std::int32_t> group_index() { return group_index_; }

  /// Σ_rows d_j·e_j² per column: what rounding it cost, in the damped metric. They add up to
  /// report().damped_loss.
  std::span<const double> column_loss() const { return column_loss_; }
  std::span<double> column_loss() { return column_loss_; }

  const Report& report() const { return report_; }
  Report& report() { return report_; }

  /// The weight at (row, col), as a reader of the stored matrix computes it.
  float operator()(Index row, Index col) const {
    const Index group = group_index_[std::size_t(col)];
    return scheme_.decode(static_cast<float>(codes()(row, col)),
                          scheme::Grid<float>{scales()(row, group), zeros()(row, group)});
  }

  /// Writes all weights to `out` [rows, cols].
  void dequantize(MatrixView<float> out) const {
    detail::require(out.rows() == rows_ && out.cols() == cols_, "dequantize: the output is ",
                    out.rows(), " x ", out.cols(), ", the weight ", rows_, " x ", cols_);
    for (Index r = 0; r < rows_; ++r)
      for (Index c = 0; c < cols_; ++c) out(r, c) = (*this)(r, c);
  }

 private:
  S scheme_;
  Index rows_, cols_, group_size_, groups_;
  detail::UninitializedVector<std::uint8_t> codes_;
  detail::UninitializedVector<float> scales_, zeros_;
  float scale_unit_ = 1;
  std::vector<std::int32_t> group_index_;
  std::vector<double> column_loss_;
  Report report_;
};

/// The number that makes the scales of a weight's largest element the largest that fp8 has.
template <class S>
float scale_unit(const S& scheme, ScaleType type, double largest_weight) {
  if (type != ScaleType::fp8_e4m3 || !(largest_weight > 0)) return 1;
  const auto reach = static_cast<float>(largest_weight);
  return scheme.fit(-reach, reach, ScaleType::fp32).scale / Float8E4M3::max();
}

/// The unit that a weight is solved in: 1, but for weights so large or small that squares of what
/// is left of them would leave the range of float.
inline double weight_unit(double largest_weight) {
  const bool usual = largest_weight == 0 || (largest_weight >= 0x1p-30 && largest_weight <= 0x1p30);
  return usual ? 1 : std::exp2(std::clamp(std::floor(std::log2(largest_weight)), -126.0, 126.0));
}

/// Looks through the scales.
/// \return  how many are below the normal numbers of their type, see Report::subnormal_scales
/// \throws NumericalError  one left the range of the type
template <class S>
Index check_scales(const QuantizedMatrix<S>& quantized, ScaleType type, std::string_view name) {
  const float least = smallest_normal(type) * quantized.scale_unit();
  Index subnormal = 0;
  for (Index r = 0; r < quantized.rows(); ++r)
    for (Index g = 0; g < quantized.groups(); ++g) {
      const float scale = quantized.scales()(r, g);
      if (!std::isfinite(scale))
        throw NumericalError(detail::message(
            "the scale of row ", r, ", group ", g, " of ", name.empty() ? "the weight" : name,
            " does not fit its type (", scale, "): use another scale_type"));
      subnormal += std::abs(scale) < least;
    }
  return subnormal;
}

}  // namespace gptq
