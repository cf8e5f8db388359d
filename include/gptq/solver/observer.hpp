// SPDX-License-Identifier: MIT
#pragma once

// Observer: sees each block of columns as the solver leaves it.

#include <gptq/core/matrix_view.hpp>

#include <cstdint>
#include <functional>
#include <span>

namespace gptq {

/// A block that has just been rounded. Matrices are input-major: one row per position of the block,
/// one column per row of the weight. They are valid only until the observer returns.
template <class Scalar>
struct SolvedBlock {
  Index first_row = 0;                     ///< of the weight in this block
  Index first_position = 0;                ///< in the solving order
  std::span<const Index> columns;          ///< of the weight, by position
  std::span<const Index> groups;           ///< group numbers, by position
  double weight_unit = 1;                  ///< of targets and scales: a power of two
  MatrixView<const Scalar> targets{};      ///< V, the compensated weights that were rounded
  MatrixView<const std::uint8_t> codes{};  ///< what V was rounded to
  /// Grids, [groups, rows] each.
  MatrixView<const Scalar> scales{}, zeros{};
};

/// Called from any thread, possibly for several panels at the same time.
template <class Scalar>
using Observer = std::function<void(const SolvedBlock<Scalar>&)>;

}  // namespace gptq
