// SPDX-License-Identifier: MIT
#pragma once

// cuda::Worker: one panel of rows on its way through the solver, on a device.

#include <gptq/backend/cuda/launch.hpp>
#include <gptq/backend/cuda/operations.hpp>
#include <gptq/kernel/column_layout.hpp>
#include <gptq/kernel/panel.hpp>

#include <algorithm>  // std::max, std::min
#include <cstdint>
#include <memory>
#include <numeric>  // std::accumulate
#include <span>
#include <utility>  // std::move
#include <vector>

namespace gptq::backend::cuda {

/// What kernels need of a ColumnLayout.
struct DeviceLayout {
  DeviceMatrix<Index> order, position, group, members;
  DeviceMatrix<float> pivots;  ///< of the members
  DeviceMatrix<std::uint8_t> dead;
};

/// Rows of weights on their way through the solver, on a device.
struct DevicePanel : gptq::Panel<DeviceMatrix<float>, DeviceMatrix<std::uint8_t>> {
  DeviceLayout layout{};
  DeviceMatrix<double> loss{};  ///< [warps, positions]
  DeviceMatrix<int> clipped{};  ///< of each row
  DeviceMatrix<float> units{};  ///< of the scales of each row; none where they are the same
};

/// The layouts of matrices of one size, one after the other.
inline DeviceLayout to_device(const std::shared_ptr<Runtime>& runtime,
                              std::span<const ColumnLayout* const> layouts) {
  std::vector<Index> order, position, group, members;
  std::vector<std::uint8_t> dead;
  std::vector<float> pivots;
  for (const ColumnLayout* layout : layouts) {
    const Index n = layout->columns(), base = static_cast<Index>(position.size());
    order.insert(order.end(), layout->order().begin(), layout->order().end());
    group.insert(group.end(), layout->group().begin(), layout->group().end());
    position.resize(std::size_t(base + n));
    for (Index p = 0; p < n; ++p) {
      position[std::size_t(base + layout->column(p))] = p;
      dead.push_back(layout->dead(p));
    }
    for (Index g = 0; g < layout->groups(); ++g)
      for (const Index p : layout->members(g)) {
        members.push_back(p);
        pivots.push_back(static_cast<float>(layout->pivots()[std::size_t(p)]));
      }
  }
  return {to_device_vector(runtime, std::span<const Index>(order)),
          to_device_vector(runtime, std::span<const Index>(position)),
          to_device_vector(runtime, std::span<const Index>(group)),
          to_device_vector(runtime, std::span<const Index>(members)),
          to_device_vector(runtime, std::span<const float>(pivots)),
          to_device_vector(runtime, std::span<const std::uint8_t>(dead))};
}

/// A panel of `width` rows of weights with these layouts, without their numbers.
inline DevicePanel make_panel(const std::shared_ptr<Runtime>& runtime,
                              std::span<const ColumnLayout* const> layouts, Index width,
                              double unit) {
  using Matrix = DeviceMatrix<float>;
  const Index n = layouts.front()->columns(), groups = layouts.front()->groups();
  DevicePanel panel;
  panel.unit = unit;
  panel.layout = to_device(runtime, layouts);
  panel.weight = Matrix(runtime, n, width);
  panel.residual = Matrix::zeros(runtime, n, width);
  panel.scales = Matrix(runtime, groups, width);
  panel.zeros = Matrix(runtime, groups, width);
  panel.codes = DeviceMatrix<std::uint8_t>(runtime, n, width);
  panel.loss = DeviceMatrix<double>::zeros(runtime, width / warp, n);
  panel.clipped = DeviceMatrix<int>::zeros(runtime, 1, width);
  return panel;
}

/// Positions [first, last) of a panel, without a factor.
inline kernel::ColumnBlock<float> panel_block(DevicePanel& panel, Index first, Index last,
                                              const Sparsity& sparsity) {
  return {.width = last - first,
          .stride = panel.weight.cols(),
          .weight = panel.weight.row(first),
          .residual = panel.residual.row(first),
          .codes = panel.codes.row(first),
          .scales = panel.scales.data(),
          .zeros = panel.zeros.data(),
          .grid_stride = panel.scales.cols(),
          .group = panel.layout.group.data() + first,
          .sparsity = sparsity};
}

/// A handle, like the backend that hands it out.
class Worker {
 public:
  using Matrix = DeviceMatrix<float>;
  using Panel = DevicePanel;

  explicit Worker(std::shared_ptr<Runtime> runtime) : runtime_(std::move(runtime)) {}

  Matrix zeros(Index rows, Index cols) const { return Matrix::zeros(runtime_, rows, padded(cols)); }

  template <class W>
  Panel load_panel(MatrixView<const W> weight, Index first, Index rows, const ColumnLayout& layout,
                   double unit) const {
    const ColumnLayout* const only = &layout;
    const Index width = padded(rows);
    Panel panel = make_panel(runtime_, std::span(&only, 1), width, unit);
    panel.first = first;
    panel.rows = rows;
    for_parts_on_device(runtime_, weight.middle_rows(first, rows),
                        [&](MatrixView<const W> some, Index at) {
                          // Padding is written with the last rows.
                          const Index columns = at + some.rows() == rows ? width - at : some.rows();
                          cuda::load_panel(stream(), some, static_cast<float>(1 / unit),
                                           panel.layout.position.data(), panel.layout.dead.data(),
                                           columns, width, panel.weight.data() + at);
                        });
    return panel;
  }

  template <class S>
  void fit(const S& scheme, const scheme::RangeSearch& search, const ColumnLayout& layout,
           const Matrix& source, Index base, Index first, Index last, Panel& panel) const {
    const GroupMembers groups{.members = panel.layout.members.data(),
                              .pivots = panel.layout.pivots.data(),
                              .group_size = layout.group_size(),
                              .columns = layout.columns()};
    cuda::fit(stream(), scheme, search, groups, {}, source.data(), base, first, last - first,
              source.cols(), panel.scales.data(), panel.zeros.data());
  }

  template <class Form, class S>
  void solve(Form /*form*/, const S& scheme, const Sparsity& sparsity,
             const ColumnLayout& /*layout*/, const Matrix& factor, Index first, Index last,
             Panel& panel) const {
    auto columns = panel_block(panel, first, last, sparsity);
    columns.factor = factor.row(first) + first;
    columns.factor_stride = factor.cols();
    cuda::solve<Form>(stream(), scheme, columns, {}, panel.weight.cols(),
                      {.loss = panel.loss.data() + first,
                       .stride = panel.loss.cols(),
                       .clipped = panel.clipped.data(),
                       .rows = panel.rows});
  }

  Matrix corrected(const Panel& panel, Index first, Index last) const {
    Matrix v(runtime_, last - first, panel.weight.cols());
    cuda::sum(stream(), panel.weight.row(first), panel.residual.row(first), v.size(), v.data());
    return v;
  }

  template <class S>
  void measure_residual(const S& scheme, const ColumnLayout& layout, Panel& panel) const {
    cuda::measure_residual(stream(), scheme, panel_block(panel, 0, layout.columns(), {}), {},
                           panel.weight.cols());
  }

  template <class S>
  void round(const S& scheme, const Sparsity& sparsity, const ColumnLayout& layout,
             Panel& panel) const {
    cuda::round(stream(), scheme, panel_block(panel, 0, layout.columns(), sparsity), {},
                panel.weight.cols());
  }

  void store_panel(const Panel& panel, const ColumnLayout& layout, MatrixView<std::uint8_t> codes,
                   MatrixView<float> scales, MatrixView<float> zeros) const {
    const Index n = layout.columns(), rows = panel.rows;
    DeviceMatrix<std::uint8_t> columns(runtime_, n, rows);
    cuda::scatter_codes(stream(), panel.codes.data(), n, panel.weight.cols(), {.columns = rows},
                        panel.layout.order.data(), 0, columns.data());
    download(*runtime_, columns, codes.middle_rows(panel.first, rows).transposed());
    const auto grids = [&](const Matrix& from, MatrixView<float> to, double unit) {
      const auto mine = to.middle_rows(panel.first, rows).transposed();  // [groups, rows]
      download(*runtime_, from, mine);
      if (unit == 1) return;
      for (Index g = 0; g < mine.rows(); ++g)
        for (Index r = 0; r < rows; ++r) mine(g, r) = static_cast<float>(mine(g, r) * unit);
    };
    grids(panel.scales, scales, panel.unit);
    grids(panel.zeros, zeros, 1);
  }

  std::vector<double> column_loss(const Panel& panel) const {
    const Index n = panel.loss.cols();
    DeviceMatrix<double> sums(runtime_, 1, n);
    cuda::add_losses(stream(), panel.loss.data(), {.columns = panel.weight.cols()}, n, sums.data());
    return to_vector(*runtime_, sums);
  }

  Index clipped(const Panel& panel) const {
    const std::vector<int> of_row = to_vector(*runtime_, panel.clipped);
    return std::accumulate(of_row.begin(), of_row.end(), Index{0});
  }

  void propagate(Matrix& out, Index to, Index to_count, const Matrix& factor, const Matrix& in,
                 Index from, Index from_count) const {
    const Reading reading(runtime_, factor);
    add_product(*runtime_, part(out, to, 0, to_count, out.cols()),
                part(factor, from, to, from_count, to_count),
                part(in, from, 0, from_count, in.cols()));
  }

  Matrix compensate(const Matrix& factor, const Panel& panel, Index first, Index last) const {
    const Index count = last - first, width = panel.weight.cols();
    Matrix v(runtime_, count, width);
    check(cudaMemcpyAsync(v.data(), panel.residual.row(first), v.bytes(), cudaMemcpyDeviceToDevice,
                          stream()),
          "cudaMemcpyAsync");
    solve_triangular(*runtime_, Factor::plain, part(factor, first, first, count, count), v.view());
    cuda::sum(stream(), panel.weight.row(first), v.data(), v.size(), v.data());
    return v;
  }

  void solve_factor(const Matrix& factor, Matrix& m) const {
    const auto r = factor.view();
    solve_triangular(*runtime_, Factor::transposed, r, m.view());
    solve_triangular(*runtime_, Factor::plain, r, m.view());
  }

  void multiply_factor(const Matrix& factor, Matrix& m) const {
    const auto r = factor.view();
    const auto x = m.view();
    multiply_triangular(*runtime_, Factor::plain, r, x, x);
    multiply_triangular(*runtime_, Factor::transposed, r, x, x);
  }

  double energy(const Matrix& factor, const Matrix& a, Index rows) const {
    // Some rows of the panel at a time: their product with R is as large as they are.
    const Index n = a.rows();
    double total = 0;
    for (Index first = 0; first < rows; first += energy_rows) {
      const Index count = (std::min)(energy_rows, rows - first);
      Matrix y(runtime_, n, count);
      multiply_triangular(*runtime_, Factor::plain, factor.view(),
                          MatrixView<const float>(a.data() + first, n, count, a.cols(), 1),
                          y.view());
      const std::vector<double> of_position = squares(std::as_const(y).view());
      total = std::accumulate(of_position.begin(), of_position.end(), total);
    }
    return total;
  }

  double weighted_squares(const Matrix& a, Index rows, std::span<const double> weight) const {
    const std::vector<double> of_position = squares(part(a, 0, 0, a.rows(), rows));
    double total = 0;
    for (std::size_t p = 0; p < of_position.size(); ++p) total += weight[p] * of_position[p];
    return total;
  }

  Matrix gather(const Matrix& m, std::span<const Index> order) const {
    const auto on_it = to_device_vector(runtime_, order);
    Matrix out(runtime_, static_cast<Index>(order.size()), m.cols());
    cuda::gather_rows(stream(), m.view(), on_it.data(), out.rows(), out.data());
    return out;
  }

  void add_rows(const Matrix& m, double scale, std::span<const Index> order, Index first,
                Index rows, MatrixView<float> out) const {
    std::vector<float> values(static_cast<std::size_t>(m.rows() * rows));
    const MatrixView<float> host(values.data(), m.rows(), rows);
    download(*runtime_, m, host);
    add_panel_rows(MatrixView<const float>(host), scale, order, first, rows, out);
  }

  void fill_start(Matrix& m) const {
    const auto noise = start_noise<float>(m.rows());
    check(cudaMemcpy2DAsync(m.data(), sizeof(float) * std::size_t(m.cols()), noise.data(),
                            sizeof(float), sizeof(float), noise.size(), cudaMemcpyHostToDevice,
                            stream()),
          "cudaMemcpy2DAsync");
    runtime_->synchronize();
  }

  void scale(Matrix& m, double factor) const {
    cuda::multiply(stream(), static_cast<float>(factor), m.size(), m.data());
  }

  /// Rows of padding, the layout, losses and counts; and, one after the other, weights of up to 4
  /// bytes on their way from the host, what a group's grid is fitted to, a copy of the codes, and a
  /// strip of energy().
  static Index scratch_bytes(Index rows, Index cols, const Params& params) {
    constexpr Index number = sizeof(float), sum = sizeof(double);
    const Index width = padded(rows), padding = (width - rows) * (2 * number + 1);
    const Index layout = 4 * Index(sizeof(Index)) + number + 1, losses = (width / warp + 1) * sum;
    const Index strip = params.measure_baseline ? (std::min)(energy_rows, rows) * number : 0;
    const Index weights = rows * cols * number, group = effective_group_size(params, cols);
    const Index passing = weights > staging_bytes / 2 ? staging_bytes : weights;
    const Index source =
        params.groups == Groups::dynamic && group < cols ? group * width * number : 0;
    return cols * (padding + layout + losses) + width * Index(sizeof(int) + 2 * sizeof(float)) +
           (std::max)({strip * cols, rows * cols, passing, source});
  }

 private:
  static constexpr Index energy_rows = 1024;  // at a time

  cudaStream_t stream() const { return runtime_->stream(); }

  std::vector<double> squares(MatrixView<const float> a) const {
    DeviceMatrix<double> of_row(runtime_, 1, a.rows());
    cuda::squares_of_rows(stream(), a, {.columns = a.cols()}, of_row.data());
    return to_vector(*runtime_, of_row);
  }

  std::shared_ptr<Runtime> runtime_;
};

}  // namespace gptq::backend::cuda
