// SPDX-License-Identifier: MIT
#pragma once

// cuda::BatchWorker: several weights on their way through the solver at once, in one panel: rows of
// one weight after those of another. They share a factor (q, k and v), or each has its own
// (experts).

#include <gptq/backend/cuda/launch.hpp>
#include <gptq/backend/cuda/operations.hpp>
#include <gptq/backend/cuda/worker.hpp>
#include <gptq/kernel/column_layout.hpp>
#include <gptq/kernel/panel.hpp>

#include <algorithm>  // std::all_of, std::copy_n, std::fill_n
#include <cstdint>
#include <memory>
#include <numeric>  // std::accumulate
#include <span>
#include <utility>  // std::move
#include <vector>

namespace gptq::backend::cuda {

/// While it lives, its device is the calling thread's. Factors lie below each other: matrix i has
/// rows [i · n, (i + 1) · n) of a stack [matrices · n, n].
class BatchWorker {
 public:
  using Matrix = DeviceMatrix<float>;
  using Panel = DevicePanel;

  /// \param rows     of each weight; all the same unless they share a factor
  /// \param layouts  one for each factor
  BatchWorker(std::shared_ptr<Runtime> runtime, std::vector<Index> rows,
              std::span<const ColumnLayout* const> layouts)
      : scope_(runtime->device()),
        runtime_(std::move(runtime)),
        rows_(std::move(rows)),
        shared_(layouts.size() == 1),
        layouts_(layouts.begin(), layouts.end()) {
    // Blocks of the solver's kernel must not hold rows of two factors.
    const Index unit = shared_ ? warp : solve_threads;
    for (const Index r : rows_) {
      offset_.push_back(width_);
      width_ += padded(r, unit);
    }
    std::vector<std::uint8_t> real(static_cast<std::size_t>(width_), 0);
    for (std::size_t i = 0; i < rows_.size(); ++i)
      std::fill_n(real.begin() + offset_[i], rows_[i], std::uint8_t{1});
    real_ = to_device_vector(runtime_, std::span<const std::uint8_t>(real));
    std::vector<Index> firsts = offset_;
    firsts.push_back(width_);
    firsts_ = to_device_vector(runtime_, std::span<const Index>(firsts));
    counts_ = to_device_vector(runtime_, std::span<const Index>(rows_));
  }

  /// All weights.
  /// \param unit         that they are counted in, a power of two
  /// \param scale_units  of each, see ScaleRounding
  template <class W>
  Panel load_panel(std::span<const MatrixView<const W>> weights, double unit,
                   std::span<const float> scale_units) const {
    const Index n = columns();
    Panel panel = make_panel(runtime_, layouts_, width_, unit);
    panel.rows = width_;
    if (std::any_of(scale_units.begin(), scale_units.end(), [](float u) { return u != 1; })) {
      std::vector<float> of_row(static_cast<std::size_t>(width_));
      for (std::size_t i = 0; i < scale_units.size(); ++i)
        std::fill_n(of_row.begin() + offset_[i], width_of(i), scale_units[i]);
      panel.units = to_device_vector(runtime_, std::span<const float>(of_row));
    }
    const bool on_device = std::all_of(weights.begin(), weights.end(), [&](const auto& weight) {
      return runtime_->is_on_device(weight.data());
    });
    if (on_device) {
      const auto views = to_device_vector(runtime_, weights);
      Index widest = 0;
      for (std::size_t i = 0; i < weights.size(); ++i) widest = (std::max)(widest, width_of(i));
      cuda::load_panels(stream(), views.data(), widest, n, static_cast<float>(1 / unit),
                        panel.layout.position.data(), panel.layout.dead.data(), layout_step(),
                        sections(), width_, panel.weight.data());
      return panel;
    }
    for (std::size_t i = 0; i < weights.size(); ++i) {
      const Index at_layout = static_cast<Index>(i) * layout_step(), rows = rows_[i];
      for_parts_on_device(runtime_, weights[i], [&](MatrixView<const W> some, Index at) {
        const Index wide = at + some.rows() == rows ? width_of(i) - at : some.rows();
        cuda::load_panel(stream(), some, static_cast<float>(1 / unit),
                         panel.layout.position.data() + at_layout,
                         panel.layout.dead.data() + at_layout, wide, width_,
                         panel.weight.data() + offset_[i] + at);
      });
    }
    return panel;
  }

  template <class S>
  void fit(const S& scheme, const scheme::RangeSearch& search, const ColumnLayout& layout,
           const Matrix& source, Index base, Index first, Index last, Panel& panel) const {
    const GroupMembers groups{.members = panel.layout.members.data(),
                              .pivots = panel.layout.pivots.data(),
                              .group_size = layout.group_size(),
                              .columns = layout.columns(),
                              .units = panel.units.data()};
    cuda::fit(stream(), scheme, search, groups, stack(), source.data(), base, first, last - first,
              width_, panel.scales.data(), panel.zeros.data());
  }

  template <class Form, class S>
  void solve(Form /*form*/, const S& scheme, const Sparsity& sparsity,
             const ColumnLayout& /*layout*/, const Matrix& factor, Index first, Index last,
             Panel& panel) const {
    auto columns = panel_block(panel, first, last, sparsity);
    columns.factor = factor.row(first) + first;
    columns.factor_stride = factor.cols();
    cuda::solve<Form>(stream(), scheme, columns, stack(), width_,
                      {.loss = panel.loss.data() + first,
                       .stride = panel.loss.cols(),
                       .clipped = panel.clipped.data(),
                       .real = real_.data()});
  }

  Matrix corrected(const Panel& panel, Index first, Index last) const {
    Matrix v(runtime_, last - first, width_);
    cuda::sum(stream(), panel.weight.row(first), panel.residual.row(first), v.size(), v.data());
    return v;
  }

  template <class S>
  void measure_residual(const S& scheme, const ColumnLayout& layout, Panel& panel) const {
    cuda::measure_residual(stream(), scheme, panel_block(panel, 0, layout.columns(), {}), stack(),
                           width_);
  }

  template <class S>
  void round(const S& scheme, const Sparsity& sparsity, const ColumnLayout& layout,
             Panel& panel) const {
    cuda::round(stream(), scheme, panel_block(panel, 0, layout.columns(), sparsity), stack(),
                width_);
  }

  void propagate(Matrix& out, Index to, Index to_count, const Matrix& factor, const Matrix& in,
                 Index from, Index from_count) const {
    add_products<float>(*runtime_, part(out, to, 0, to_count, product_width()),
                        part(factor, from, to, from_count, to_count),
                        part(in, from, 0, from_count, product_width()), products(), steps(factor));
  }

  Matrix compensate(const Matrix& factor, const Panel& panel, Index first, Index last) const {
    const Index count = last - first;
    Matrix v(runtime_, count, width_);
    check(cudaMemcpyAsync(v.data(), panel.residual.row(first), v.bytes(), cudaMemcpyDeviceToDevice,
                          stream()),
          "cudaMemcpyAsync");
    solve_triangular_all(runtime_, Factor::plain, part(factor, first, first, count, count),
                         part(v, 0, 0, count, product_width()), products(),
                         columns() * factor.cols(), product_width());
    cuda::sum(stream(), panel.weight.row(first), v.data(), v.size(), v.data());
    return v;
  }

  /// ‖A·R‖² of each weight.
  std::vector<double> energies(const Matrix& factor, const Matrix& a) const {
    constexpr Index strip = 256;
    const Index n = columns();
    std::vector<double> totals(rows_.size());
    for (Index first = 0; first < n; first += strip) {
      const Index count = (std::min)(strip, n - first);
      auto y = Matrix::zeros(runtime_, count, width_);
      add_products<float>(*runtime_, part(y, 0, 0, count, product_width()),
                          part(factor, 0, first, first + count, count),
                          part(a, 0, 0, first + count, product_width()), products(), steps(factor));
      const auto squares = squares_of(y);
      for (std::size_t i = 0; i < totals.size(); ++i)
        totals[i] = std::accumulate(squares[i].begin(), squares[i].end(), totals[i]);
    }
    return totals;
  }

  /// Per weight Σ ‖A_p‖² over its rows, by position.
  std::vector<std::vector<double>> squares_of(const Matrix& a) const {
    DeviceMatrix<double> sums(runtime_, static_cast<Index>(rows_.size()), a.rows());
    cuda::squares_of_rows(stream(), a.view(), sections(), sums.data());
    return rows_of(sums);
  }

  /// Per weight and position the loss of all solves so far.
  std::vector<std::vector<double>> column_losses(const Panel& panel) const {
    const Index n = columns();
    DeviceMatrix<double> sums(runtime_, static_cast<Index>(rows_.size()), n);
    cuda::add_losses(stream(), panel.loss.data(), sections(), n, sums.data());
    return rows_of(sums);
  }

  /// How many weights of each were clipped.
  std::vector<Index> clipped(const Panel& panel) const {
    const std::vector<int> of_row = to_vector(*runtime_, panel.clipped);
    std::vector<Index> counts;
    for (std::size_t i = 0; i < rows_.size(); ++i) {
      const auto begin = of_row.begin() + offset_[i];
      counts.push_back(std::accumulate(begin, begin + rows_[i], Index{0}));
    }
    return counts;
  }

  /// Codes, scales and zeros of each weight: result(i) has codes(), scales() and zeros() to write.
  template <class Result>
  void store(const Panel& panel, const Result& result) const {
    const Index n = columns();
    DeviceMatrix<std::uint8_t> codes(runtime_, n, width_);
    cuda::scatter_codes(stream(), panel.codes.data(), n, width_, sections(),
                        panel.layout.order.data(), layout_step(), codes.data());
    const std::vector<std::uint8_t> all_codes = to_vector(*runtime_, codes);
    const std::vector<float> scales = to_vector(*runtime_, panel.scales),
                             zeros = to_vector(*runtime_, panel.zeros);
    for (std::size_t i = 0; i < rows_.size(); ++i) {
      auto& to = result(i);
      std::copy_n(all_codes.data() + n * offset_[i], n * rows_[i], to.codes().data());  // as there
      const auto grids = [&](const std::vector<float>& all, MatrixView<float> mine, double unit) {
        for (Index g = 0; g < mine.cols(); ++g)
          for (Index r = 0; r < mine.rows(); ++r)
            mine(r, g) = static_cast<float>(all[std::size_t(g * width_ + offset_[i] + r)] * unit);
      };
      grids(scales, to.scales(), panel.unit);
      grids(zeros, to.zeros(), 1);
    }
  }

 private:
  cudaStream_t stream() const { return runtime_->stream(); }
  Index columns() const { return layouts_.front()->columns(); }
  Index width_of(std::size_t i) const {
    return (i + 1 < offset_.size() ? offset_[i + 1] : width_) - offset_[i];
  }

  /// One product for all rows that share a factor.
  Index products() const { return shared_ ? 1 : static_cast<Index>(rows_.size()); }
  Index product_width() const { return shared_ ? width_ : width_of(0); }
  /// From one weight to the next, in panels and in the factors below each other.
  Steps steps(const Matrix& factor) const {
    return {product_width(), columns() * factor.cols(), product_width()};
  }
  /// From the layout of one weight to the next.
  Index layout_step() const { return shared_ ? 0 : columns(); }
  Sections sections() const {
    return {static_cast<Index>(rows_.size()), width_, firsts_.data(), counts_.data()};
  }
  Stack stack() const {
    if (shared_) return {};
    return {.rows = width_of(0), .columns = columns(), .factor = columns() * columns()};
  }

  std::vector<std::vector<double>> rows_of(const DeviceMatrix<double>& m) const {
    const std::vector<double> all = to_vector(*runtime_, m);
    std::vector<std::vector<double>> rows;
    for (Index r = 0; r < m.rows(); ++r)
      rows.emplace_back(all.begin() + r * m.cols(), all.begin() + (r + 1) * m.cols());
    return rows;
  }

  DeviceScope scope_;
  std::shared_ptr<Runtime> runtime_;
  std::vector<Index> rows_, offset_;  // columns of the panel: of a weight, and where they begin
  Index width_ = 0;
  DeviceMatrix<std::uint8_t> real_;      // whether a column of the panel is a row of a weight
  DeviceMatrix<Index> firsts_, counts_;  // offset_ and the end, rows_
  bool shared_;
  std::vector<const ColumnLayout*> layouts_;
};

}  // namespace gptq::backend::cuda
