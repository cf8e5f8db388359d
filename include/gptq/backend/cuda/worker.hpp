// SPDX-License-Identifier: MIT
#pragma once

// cuda::Worker: solves a panel of rows on a device.

#include <gptq/backend/cuda/launch.hpp>
#include <gptq/backend/cuda/operations.hpp>
#include <gptq/backend/cuda/panel.hpp>
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

/// A handle, like the backend that creates it. If sections have a factor each, these are stacked:
/// [sections · n, n].
class Worker {
 public:
  using Matrix = DeviceMatrix<float>;  ///< on the device
  using Panel = DevicePanel;           ///< rows of one weight or several

  /// On the runtime's stream.
  explicit Worker(std::shared_ptr<Runtime> runtime) : runtime_(std::move(runtime)) {}

  /// Sections as a panel: columns in solving order, dead columns as zeros, carry zero.
  template <class W>
  Panel load_panel(std::span<const Section<W>> sections, double weight_unit) const {
    Panel panel = empty_panel(sections, weight_unit);
    const SectionPlan& plan = panel.sections;
    const Index n = panel.weight.rows(), step = plan.shared() ? 0 : n;
    const auto inverse_unit = static_cast<float>(1 / weight_unit);
    const bool on_device = std::all_of(sections.begin(), sections.end(), [&](const auto& section) {
      return runtime_->is_on_device(section.weight.data());
    });
    if (on_device && plan.count() > 1) {
      std::vector<MatrixView<const W>> weights;
      Index widest = 0;
      for (std::size_t i = 0; i < plan.count(); ++i) {
        weights.push_back(sections[i].weight);
        widest = (std::max)(widest, plan.width(i));
      }
      const auto views = to_device_vector(runtime_, std::span<const MatrixView<const W>>(weights));
      cuda::load_panels(stream(), views.data(), widest, n, inverse_unit,
                        panel.layout.position.data(), panel.layout.dead.data(), step,
                        plan.on_device(), plan.width(), panel.weight.data());
      return panel;
    }
    for (std::size_t i = 0; i < plan.count(); ++i) {
      const Index layout = static_cast<Index>(i) * step, rows = plan.rows(i);
      for_parts_on_device(runtime_, sections[i].weight, [&](MatrixView<const W> some, Index at) {
        // Padding is written along with the last rows.
        const Index wide = at + some.rows() == rows ? plan.width(i) - at : some.rows();
        cuda::load_panel(stream(), some, inverse_unit, panel.layout.position.data() + layout,
                         panel.layout.dead.data() + layout, wide, plan.width(),
                         panel.weight.data() + plan.offset(i) + at);
      });
    }
    return panel;
  }

  /// Fits the grids of groups [first, last) to rows of `source`, which starts at position `base`.
  template <class S>
  void fit(const S& scheme, const scheme::RangeSearch& search, const ColumnLayout& layout,
           const Matrix& source, Index base, Index first, Index last, Panel& panel) const {
    const GroupMembers groups{.members = panel.layout.members.data(),
                              .pivots = panel.layout.pivots.data(),
                              .group_size = layout.group_size(),
                              .columns = layout.columns(),
                              .units = panel.units.data()};
    cuda::fit(stream(), scheme, search, groups, stack(panel), source.data(), base, first,
              last - first, source.cols(), panel.scales.data(), panel.zeros.data());
  }

  /// Sets the caller's grids instead of fitted ones.
  void set_grids(std::span<const Grids> sections, Panel& panel) const {
    const SectionPlan& plan = panel.sections;
    const Index groups = panel.scales.rows(), width = plan.width();
    std::vector<float> scales(static_cast<std::size_t>(groups * width), 1.0f),
        zeros(scales.size(), 0.0f);
    for (std::size_t i = 0; i < plan.count(); ++i)
      for (Index g = 0; g < groups; ++g)
        for (Index r = 0; r < plan.rows(i); ++r) {
          const auto at = static_cast<std::size_t>(g * width + plan.offset(i) + r);
          scales[at] =
              static_cast<float>(static_cast<double>(sections[i].scales(r, g)) / panel.weight_unit);
          zeros[at] = sections[i].zeros(r, g);
        }
    const auto upload = [&](const std::vector<float>& from, Matrix& to) {
      to = to_device_vector(runtime_, std::span<const float>(from), groups);
    };
    upload(scales, panel.scales);
    upload(zeros, panel.zeros);
  }

  /// Rounds positions [first, last), whose corrections are in panel.carry; leaves there what they
  /// carry on.
  template <class Form, class S>
  void solve(Form /*form*/, const S& scheme, const Sparsity& sparsity,
             const ColumnLayout& /*layout*/, const Matrix& factor, Index first, Index last,
             Panel& panel) const {
    auto columns = block(panel, first, last, sparsity);
    columns.factor = factor.row(first) + first;
    columns.factor_stride = factor.cols();
    cuda::solve<Form>(stream(), scheme, columns, stack(panel), panel.sections.width(),
                      {.loss = panel.loss.data() + first,
                       .stride = panel.loss.cols(),
                       .clipped = panel.clipped.data(),
                       .real = panel.sections.real()});
  }

  /// W plus the corrections, for positions [first, last) that are still to be rounded.
  Matrix targets(kernel::LazyBatch /*form*/, const Matrix& /*factor*/, const Panel& panel,
                 Index first, Index last) const {
    Matrix v(runtime_, last - first, panel.weight.cols());
    cuda::sum(stream(), panel.weight.row(first), panel.carry.row(first), v.size(), v.data());
    return v;
  }

  /// V_b = W_b + T_b·R_bb⁻¹ for positions [first, last) that are still to be rounded.
  Matrix targets(kernel::LeftLooking /*form*/, const Matrix& factor, const Panel& panel,
                 Index first, Index last) const {
    const Index count = last - first;
    const Products products = products_of(panel);
    Matrix v(runtime_, count, panel.weight.cols());
    check(cudaMemcpyAsync(v.data(), panel.carry.row(first), v.bytes(), cudaMemcpyDeviceToDevice,
                          stream()),
          "cudaMemcpyAsync");
    solve_triangular_all(runtime_, Factor::plain, part(factor, first, first, count, count),
                         part(v, 0, 0, count, products.width), products.count,
                         factor.cols() * factor.cols(), products.width);
    cuda::sum(stream(), panel.weight.row(first), v.data(), v.size(), v.data());
    return v;
  }

  /// carry = W − Q from codes and grids.
  template <class S>
  void find_errors(const S& scheme, const ColumnLayout& layout, Panel& panel) const {
    cuda::find_errors(stream(), scheme, block(panel, 0, layout.columns(), {}), stack(panel),
                      panel.sections.width());
  }

  /// Rounds all weights without compensation, the smallest of a sparsity pattern to zero; W − Q in
  /// carry.
  template <class S>
  void round(const S& scheme, const Sparsity& sparsity, const ColumnLayout& layout,
             Panel& panel) const {
    cuda::round(stream(), scheme, block(panel, 0, layout.columns(), sparsity), stack(panel),
                panel.sections.width());
  }

  /// Copies codes, scales and zeros of each section to the host.
  void store(const Panel& panel, const ColumnLayout& /*layout*/,
             std::span<const SectionResult> sections) const {
    const SectionPlan& plan = panel.sections;
    const Index n = panel.codes.rows(), width = plan.width();
    DeviceMatrix<std::uint8_t> codes(runtime_, n, width);
    cuda::scatter_codes(stream(), panel.codes.data(), n, width, plan.on_device(),
                        panel.layout.order.data(), plan.shared() ? 0 : n, codes.data());
    if (plan.count() == 1) {
      const MatrixView<const std::uint8_t> dense(codes.data(), n, plan.rows(0));
      download(*runtime_, dense, sections.front().codes.transposed());
    } else {
      const std::vector<std::uint8_t> all = to_vector(*runtime_, codes);
      for (std::size_t i = 0; i < plan.count(); ++i) {
        const MatrixView<std::uint8_t> to = sections[i].codes;
        const std::uint8_t* from = all.data() + n * plan.offset(i);
        for (Index c = 0; c < n; ++c, from += plan.rows(i))
          if (to.row_stride() == 1) std::copy_n(from, plan.rows(i), &to(0, c));
          else
            for (Index r = 0; r < plan.rows(i); ++r) to(r, c) = from[r];
      }
    }
    const auto grids = [&](const Matrix& from, MatrixView<float> SectionResult::*to, double unit) {
      const std::vector<float> all = to_vector(*runtime_, from);
      for (std::size_t i = 0; i < plan.count(); ++i) {
        const MatrixView<float> mine = sections[i].*to;
        for (Index g = 0; g < mine.cols(); ++g)
          for (Index r = 0; r < mine.rows(); ++r)
            mine(r, g) =
                static_cast<float>(all[std::size_t(g * width + plan.offset(i) + r)] * unit);
      }
    };
    grids(panel.scales, &SectionResult::scales, panel.weight_unit);
    grids(panel.zeros, &SectionResult::zeros, 1);
  }

  /// f(targets, codes, scales, zeros) of positions [first, last), copied to the host.
  template <class F>
  void observe(const Panel& panel, Index first, Index last, const F& f) const {
    const Index rows = panel.sections.rows(0);
    const auto on_host = [&]<class T>(const DeviceMatrix<T>& m, Index begin, Index count) {
      std::vector<T> numbers(static_cast<std::size_t>(count * rows));
      download(*runtime_, MatrixView<const T>(m.row(begin), count, rows, m.cols(), 1),
               MatrixView<T>(numbers.data(), count, rows));
      return numbers;
    };
    const Index count = last - first, groups = panel.scales.rows();
    const auto targets = on_host(panel.targets, first, count);
    const auto codes = on_host(panel.codes, first, count);
    const auto scales = on_host(panel.scales, 0, groups), zeros = on_host(panel.zeros, 0, groups);
    f(MatrixView<const float>(targets.data(), count, rows),
      MatrixView<const std::uint8_t>(codes.data(), count, rows),
      MatrixView<const float>(scales.data(), groups, rows),
      MatrixView<const float>(zeros.data(), groups, rows));
  }

  /// The sums of each section over all columns solved so far.
  std::vector<SectionSums> sums(const Panel& panel) const {
    const SectionPlan& plan = panel.sections;
    const Index n = panel.loss.cols();
    DeviceMatrix<double> losses(runtime_, static_cast<Index>(plan.count()), n);
    cuda::add_losses(stream(), panel.loss.data(), plan.on_device(), n, losses.data());
    auto of_section = rows_of(losses);
    const std::vector<int> of_row = to_vector(*runtime_, panel.clipped);
    std::vector<SectionSums> sums;
    for (std::size_t i = 0; i < plan.count(); ++i) {
      const auto begin = of_row.begin() + plan.offset(i);
      sums.push_back(
          {std::move(of_section[i]), std::accumulate(begin, begin + plan.rows(i), Index{0})});
    }
    return sums;
  }

  /// out[to, to + to_count) += factor[from, from + from_count) x [to, to + to_count)ᵀ · in[from,
  /// from + from_count).
  void propagate(Matrix& out, Index to, Index to_count, const Matrix& factor, const Matrix& in,
                 Index from, Index from_count) const {
    const Reading reading(runtime_, factor);
    const Index count = factor.rows() / in.rows(), width = in.cols() / count;
    add_products<float>(
        *runtime_, part(out, to, 0, to_count, width), part(factor, from, to, from_count, to_count),
        part(in, from, 0, from_count, width), count, {width, in.rows() * factor.cols(), width});
  }

  /// out[first, first + rows) += factor[first, first + rows)·in, factor upper triangular.
  void multiply(Matrix& out, Index first, Index rows, const Matrix& factor,
                const Matrix& in) const {
    add_plain_product(*runtime_, part(out, first, 0, rows, out.cols()),
                      part(factor, first, 0, rows, factor.cols()), in.view());
  }

  /// ‖A·R‖² = tr(A·R·Rᵀ·Aᵀ) of each section, A input-major.
  std::vector<double> energy(const Matrix& factor, const Matrix& a, const Panel& panel) const {
    const Products products = products_of(panel);
    const Index n = a.rows(), width = products.width;
    std::vector<double> totals(panel.sections.count());
    for (Index first = 0; first < n; first += energy_strip) {
      const Index count = (std::min)(energy_strip, n - first);
      auto y = Matrix::zeros(runtime_, count, a.cols());
      add_products<float>(
          *runtime_, part(y, 0, 0, count, width), part(factor, 0, first, first + count, count),
          part(a, 0, 0, first + count, width), products.count, {width, n * n, width});
      const auto of_strip = squares(y, panel);
      for (std::size_t i = 0; i < totals.size(); ++i)
        totals[i] = std::accumulate(of_strip[i].begin(), of_strip[i].end(), totals[i]);
    }
    return totals;
  }

  /// Σ_rows A_p² of each section, by position.
  std::vector<std::vector<double>> squares(const Matrix& a, const Panel& panel) const {
    DeviceMatrix<double> sums(runtime_, static_cast<Index>(panel.sections.count()), a.rows());
    cuda::squares_of_rows(stream(), a.view(), panel.sections.on_device(), sums.data());
    return rows_of(sums);
  }

  /// Rows of m in another order: row p of the result is row order[p] of m.
  Matrix gather(const Matrix& m, std::span<const Index> order) const {
    const auto on_it = to_device_vector(runtime_, order);
    Matrix out(runtime_, static_cast<Index>(order.size()), m.cols());
    cuda::gather_rows(stream(), m.view(), on_it.data(), out.rows(), out.data());
    return out;
  }

  /// m ← (R·Rᵀ)⁻¹·m in place.
  void solve_factor(const Matrix& factor, Matrix& m) const {
    const auto r = factor.view();
    solve_triangular(*runtime_, Factor::transposed, r, m.view());
    solve_triangular(*runtime_, Factor::plain, r, m.view());
  }

  /// Footprint::scratch_bytes: padding rows, the layout, losses and counts; and, one after the
  /// other, weights of up to 4 bytes in transfer from the host, the columns that a group's grid is
  /// fitted to, a copy of the codes, and a strip of energy().
  static Index scratch_bytes(Index rows, Index cols, const Params& params) {
    constexpr Index number = sizeof(float), sum = sizeof(double);
    const Index width = padded(rows), padding = (width - rows) * (2 * number + 1);
    const Index layout = 4 * Index(sizeof(Index)) + number + 1, losses = (width / warp + 1) * sum;
    const Index strip = width * number *
                        (params.measure == Measure::none ? 0
                         : uses_sketch(params, cols)     ? sketch_directions
                                                         : energy_strip);
    const Index weights = rows * cols * number, group = effective_group_size(params, cols);
    const Index passing = weights > staging_bytes / 2 ? staging_bytes : weights;
    const Index source =
        params.groups == Groups::dynamic && group < cols ? group * width * number : 0;
    return cols * (padding + layout + losses) + width * Index(sizeof(int) + 2 * sizeof(float) + 1) +
           4 * Index(sizeof(Index)) + (std::max)({strip, width * cols, passing, source});
  }

 private:
  static constexpr Index energy_strip = 256;  // columns of R at a time

  /// The products of a panel with its factors: one per factor.
  struct Products {
    Index count, width;
  };
  static Products products_of(const Panel& panel) {
    const SectionPlan& plan = panel.sections;
    if (plan.shared()) return {1, plan.width()};
    return {static_cast<Index>(plan.count()), plan.width(0)};
  }

  cudaStream_t stream() const { return runtime_->stream(); }
  static Stack stack(const Panel& panel) { return panel.sections.stack(panel.weight.rows()); }

  template <class W>
  Panel empty_panel(std::span<const Section<W>> sections, double weight_unit) const {
    std::vector<Index> rows;
    std::vector<const ColumnLayout*> layouts;
    for (const auto& section : sections) {
      rows.push_back(section.weight.rows());
      layouts.push_back(section.layout);
    }
    const bool shared = std::all_of(layouts.begin(), layouts.end(),
                                    [&](const auto* layout) { return layout == layouts.front(); });
    if (shared) layouts.resize(1);
    const Index n = layouts.front()->columns(), groups = layouts.front()->groups();
    Panel panel;
    panel.sections = SectionPlan(runtime_, std::move(rows), shared);
    const Index width = panel.sections.width();
    panel.weight_unit = weight_unit;
    panel.layout = to_device(runtime_, layouts);
    panel.weight = Matrix(runtime_, n, width);
    panel.carry = Matrix::zeros(runtime_, n, width);
    panel.scales = Matrix(runtime_, groups, width);
    panel.zeros = Matrix(runtime_, groups, width);
    panel.codes = DeviceMatrix<std::uint8_t>(runtime_, n, width);
    panel.loss = DeviceMatrix<double>::zeros(runtime_, width / warp, n);
    panel.clipped = DeviceMatrix<int>::zeros(runtime_, 1, width);
    const float unit = sections.front().scale_unit;
    if (std::any_of(sections.begin(), sections.end(),
                    [&](const auto& section) { return section.scale_unit != unit; })) {
      std::vector<float> of_row(static_cast<std::size_t>(width));
      for (std::size_t i = 0; i < sections.size(); ++i)
        std::fill_n(of_row.begin() + panel.sections.offset(i), panel.sections.width(i),
                    sections[i].scale_unit);
      panel.units = to_device_vector(runtime_, std::span<const float>(of_row));
    }
    return panel;
  }

  /// Positions [first, last) of a panel, without a factor.
  static kernel::ColumnBlock<float> block(Panel& panel, Index first, Index last,
                                          const Sparsity& sparsity) {
    return {.width = last - first,
            .stride = panel.weight.cols(),
            .weight = panel.weight.row(first),
            .carry = panel.carry.row(first),
            .codes = panel.codes.row(first),
            .targets = panel.targets.rows() > 0 ? panel.targets.row(first) : nullptr,
            .scales = panel.scales.data(),
            .zeros = panel.zeros.data(),
            .grid_stride = panel.scales.cols(),
            .group = panel.layout.group.data() + first,
            .sparsity = sparsity};
  }

  std::vector<std::vector<double>> rows_of(const DeviceMatrix<double>& m) const {
    const std::vector<double> all = to_vector(*runtime_, m);
    std::vector<std::vector<double>> rows;
    for (Index r = 0; r < m.rows(); ++r)
      rows.emplace_back(all.begin() + r * m.cols(), all.begin() + (r + 1) * m.cols());
    return rows;
  }

  std::shared_ptr<Runtime> runtime_;
};

}  // namespace gptq::backend::cuda
