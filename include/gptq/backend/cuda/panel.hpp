// SPDX-License-Identifier: MIT
#pragma once

// DevicePanel: rows on their way through the solver, on a device. Sections of several weights are
// side by side in a panel: they share a factor (q, k and v), or each has its own (experts).

#include <gptq/backend/cuda/launch.hpp>
#include <gptq/backend/cuda/operations.hpp>
#include <gptq/kernel/column_layout.hpp>
#include <gptq/kernel/panel.hpp>

#include <algorithm>  // std::fill_n
#include <cstdint>
#include <memory>
#include <span>
#include <utility>  // std::move
#include <vector>

namespace gptq::backend::cuda {

/// What kernels need of a ColumnLayout.
struct DeviceLayout {
  /// As in ColumnLayout; position[c] is that of column c.
  DeviceMatrix<Index> order, position, group, members;
  DeviceMatrix<float> pivots;       ///< of the members
  DeviceMatrix<std::uint8_t> dead;  ///< by position
};

/// The layouts of matrices of the same size, one after the other.
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

/// Where the sections of a panel are.
class SectionPlan {
 public:
  SectionPlan() = default;
  /// \param shared  whether they share a factor; else all have the same number of rows
  SectionPlan(const std::shared_ptr<Runtime>& runtime, std::vector<Index> rows, bool shared)
      : rows_(std::move(rows)), shared_(shared) {
    // A thread block of the solver's kernel must not have rows of two factors.
    for (const Index r : rows_) {
      offset_.push_back(width_);
      width_ += padded(r, shared_ ? warp : solve_threads);
    }
    std::vector<std::uint8_t> real(static_cast<std::size_t>(width_), 0);
    for (std::size_t i = 0; i < rows_.size(); ++i)
      std::fill_n(real.begin() + offset_[i], rows_[i], std::uint8_t{1});
    real_ = to_device_vector(runtime, std::span<const std::uint8_t>(real));
    std::vector<Index> firsts = offset_;
    firsts.push_back(width_);
    firsts_ = to_device_vector(runtime, std::span<const Index>(firsts));
    counts_ = to_device_vector(runtime, std::span<const Index>(rows_));
  }

  /// Number of sections.
  std::size_t count() const { return rows_.size(); }
  /// Whether they share a factor.
  bool shared() const { return shared_; }
  Index width() const { return width_; }  ///< of all, including padding
  /// Rows of section i.
  Index rows(std::size_t i) const { return rows_[i]; }
  /// The first column of section i in the panel.
  Index offset(std::size_t i) const { return offset_[i]; }
  /// Columns of section i in the panel, including padding.
  Index width(std::size_t i) const {
    return (i + 1 < offset_.size() ? offset_[i + 1] : width_) - offset_[i];
  }
  /// For each column of the panel, whether it is a row of a weight, not padding.
  const std::uint8_t* real() const { return real_.data(); }
  /// For kernels.
  Sections on_device() const {
    return {static_cast<Index>(rows_.size()), width_, firsts_.data(), counts_.data()};
  }
  /// Which factor and layout each row uses, of matrices with so many columns.
  Stack stack(Index columns) const {
    if (shared_) return {};
    return {.rows = width(0), .columns = columns, .factor = columns * columns};
  }

 private:
  std::vector<Index> rows_, offset_;
  Index width_ = 0;
  bool shared_ = true;
  DeviceMatrix<std::uint8_t> real_{};
  DeviceMatrix<Index> firsts_{}, counts_{};
};

/// Rows of weights on their way through the solver, on a device.
struct DevicePanel : gptq::Panel<DeviceMatrix<float>, DeviceMatrix<std::uint8_t>> {
  SectionPlan sections{};       ///< which rows belong to which weight
  DeviceLayout layout{};        ///< of all weights, or of each
  DeviceMatrix<double> loss{};  ///< [warps, positions]
  DeviceMatrix<int> clipped{};  ///< of each row
  DeviceMatrix<float> units{};  ///< of the scales of each row; empty if all are the same
};

}  // namespace gptq::backend::cuda
