// SPDX-License-Identifier: MIT
#pragma once

// QuantizedMatrix: integer codes, their grids, and a report on the quantization. It holds exactly
// what was rounded, bit for bit: nothing between here and the file rounds again.

#include <gptq/backend/concept.hpp>
#include <gptq/core/report.hpp>
#include <gptq/core/uninitialized.hpp>
#include <gptq/scheme/scale_range.hpp>

#include <algorithm>  // std::copy_n, std::min
#include <cmath>      // std::abs
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace gptq {

/// A quantized weight [rows = out_features, cols = in_features] in the weight's own column order.
template <class S>
class QuantizedMatrix {
 public:
  /// Leaves codes, scales and zeros uninitialized, for the caller to write.
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

  /// out_features.
  Index rows() const { return rows_; }
  /// in_features.
  Index cols() const { return cols_; }
  /// Groups per row.
  Index groups() const { return groups_; }
  /// Columns per group; the last group may be short.
  Index group_size() const { return group_size_; }
  /// Turns codes into weights.
  const S& scheme() const { return scheme_; }

  // Stored input-major, the way solvers and packers go through them; the views have the usual
  // shapes.

  /// [rows, cols], each 0 .. S::max_code.
  MatrixView<const std::uint8_t> codes() const { return {codes_.data(), rows_, cols_, 1, rows_}; }
  /// [rows, groups].
  MatrixView<const float> scales() const { return {scales_.data(), rows_, groups_, 1, rows_}; }
  /// Zero points, [rows, groups].
  MatrixView<const float> zeros() const { return {zeros_.data(), rows_, groups_, 1, rows_}; }
  /// To write.
  MatrixView<std::uint8_t> codes() { return {codes_.data(), rows_, cols_, 1, rows_}; }
  /// To write.
  MatrixView<float> scales() { return {scales_.data(), rows_, groups_, 1, rows_}; }
  /// To write.
  MatrixView<float> zeros() { return {zeros_.data(), rows_, groups_, 1, rows_}; }

  /// For ScaleType::fp8_e4m3, files store scale / scale_unit; else 1.
  float scale_unit() const { return scale_unit_; }
  /// Does not change scales().
  void set_scale_unit(float unit) { scale_unit_ = unit; }

  /// The group of each column (g_idx).
  std::span<const std::int32_t> group_index() const { return group_index_; }
  /// To write.
  std::span<std::int32_t> group_index() { return group_index_; }

  /// Σ_rows d_j·e_j² per column: the cost of rounding it, in the damped metric. They add up to
  /// report().damped_loss.
  std::span<const double> column_loss() const { return column_loss_; }
  /// To write.
  std::span<double> column_loss() { return column_loss_; }

  /// Errors, damping, timings.
  const Report& report() const { return report_; }
  /// To write.
  Report& report() { return report_; }

  /// The weight at (row, col), as a reader of the stored matrix computes it.
  float operator()(Index row, Index col) const {
    const Index group = group_index_[std::size_t(col)];
    return scheme_.decode(static_cast<float>(codes()(row, col)),
                          scheme::Grid<float>{scales()(row, group), zeros()(row, group)});
  }

  /// Writes all weights to `out` [rows, cols].
  /// \throws InvalidArgument  `out` has another shape
  void dequantize(MatrixView<float> out) const {
    require_shape(out);
    for (Index r = 0; r < rows_; r += tile) dequantize_rows(r, out);
  }

  /// The same on the backend's threads.
  template <backend::Backend B>
  void dequantize(MatrixView<float> out, const B& backend) const {
    require_shape(out);
    for_each_on_host(backend, (rows_ + tile - 1) / tile,
                     [&](Index i) { dequantize_rows(i * tile, out); });
  }

 private:
  static constexpr Index tile = 64;  // rows and columns

  void require_shape(MatrixView<float> out) const {
    detail::require(out.rows() == rows_ && out.cols() == cols_, "dequantize: the output is ",
                    out.rows(), " x ", out.cols(), ", the weight ", rows_, " x ", cols_);
  }

  /// Codes are stored by column and most outputs by row: goes from one to the other in tiles.
  void dequantize_rows(Index first, MatrixView<float> out) const {
    const Index rows = (std::min)(tile, rows_ - first);
    float weights[tile][tile];  // by column
    float scales[tile] = {}, zeros[tile] = {};
    std::uint8_t codes[tile] = {};
    Index group = -1;
    for (Index begin = 0; begin < cols_; begin += tile) {
      const Index cols = (std::min)(tile, cols_ - begin);
      for (Index c = 0; c < cols; ++c) {
        if (const Index own = group_index_[std::size_t(begin + c)]; own != group) {
          group = own;
          std::copy_n(scales_.data() + group * rows_ + first, rows, scales);
          std::copy_n(zeros_.data() + group * rows_ + first, rows, zeros);
        }
        std::copy_n(codes_.data() + (begin + c) * rows_ + first, rows, codes);
        for (Index r = 0; r < tile; ++r)  // a whole tile: loops of known length are vectorized
          weights[c][r] = scheme_.decode(static_cast<float>(codes[r]),
                                         scheme::Grid<float>{scales[r], zeros[r]});
        if (out.row_stride() == 1) std::copy_n(weights[c], rows, &out(first, begin + c));
      }
      if (out.row_stride() == 1) continue;
      for (Index r = 0; r < rows; ++r) {
        float* const to = &out(first + r, begin);
        if (cols == tile && out.col_stride() == 1)
          for (Index c = 0; c < tile; ++c) to[c] = weights[c][r];
        else
          for (Index c = 0; c < cols; ++c) to[c * out.col_stride()] = weights[c][r];
      }
    }
  }

  S scheme_;
  Index rows_, cols_, group_size_, groups_;
  detail::UninitializedVector<std::uint8_t> codes_;
  detail::UninitializedVector<float> scales_, zeros_;
  float scale_unit_ = 1;
  std::vector<std::int32_t> group_index_;
  std::vector<double> column_loss_;
  Report report_;
};

/// Checks all scales, and the weights of groups whose scale is suspect; counts scales that are too
/// small in the report.
/// \param weight  the one that was quantized, on the host or the backend's device
/// \param unit    of the weight, see weight_unit
/// \throws ScaleError  a scale does not fit the type, see Report::vanished_groups
template <class S, class B, class W>
void check_scales(QuantizedMatrix<S>& quantized, MatrixView<const W> weight, const B& backend,
                  ScaleType type, double unit, std::string_view name) {
  const S& scheme = quantized.scheme();
  const auto grid = [&](Index row, Index group) {
    return scheme::Grid<float>{quantized.scales()(row, group), quantized.zeros()(row, group)};
  };
  const float least = smallest_normal(type) * quantized.scale_unit();
  scheme::UnfitGroups unfit(type, quantized.scale_unit(), unit);
  bool suspect = false;
  for (Index g = 0; g < quantized.groups(); ++g)
    for (Index r = 0; r < quantized.rows(); ++r) {
      quantized.report().subnormal_scales += std::abs(grid(r, g).scale) < least;
      suspect = suspect || unfit.suspect(scheme, grid(r, g));
    }
  if (!suspect) return;

  std::vector<std::vector<Index>> columns(static_cast<std::size_t>(quantized.groups()));
  for (Index c = 0; c < quantized.cols(); ++c)
    columns[static_cast<std::size_t>(quantized.group_index()[std::size_t(c)])].push_back(c);
  constexpr Index at_once = 256;
  double squares = 0;
  for (Index first = 0; first < quantized.rows(); first += at_once) {
    const Index rows = (std::min)(at_once, quantized.rows() - first);
    const auto weights = rows_on_host(backend, weight, first, rows);
    for (const auto w : weights) {
      const double in_units = static_cast<double>(w) / unit;
      squares += in_units * in_units;
    }
    for (Index r = 0; r < rows; ++r)
      for (Index g = 0; g < quantized.groups(); ++g) {
        const Index row = first + r;
        if (!unfit.suspect(scheme, grid(row, g))) continue;
        const auto& members = columns[std::size_t(g)];
        const auto column = [&](Index j) { return members[std::size_t(j)]; };
        unfit.look(
            row, g, scheme, grid(row, g), static_cast<Index>(members.size()),
            [&](Index j) { return weights[std::size_t(r * weight.cols() + column(j))]; },
            [&](Index j) { return quantized.codes()(row, column(j)); });
      }
  }
  unfit.require_fit(squares, name);
  quantized.report().vanished_groups = unfit.vanished();
}

}  // namespace gptq
