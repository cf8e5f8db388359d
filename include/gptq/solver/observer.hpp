// SPDX-License-Identifier: MIT
#pragma once

// Observer: sees each block of columns as the solver leaves it.

#include <gptq/core/matrix_view.hpp>

#include <cstdint>
#include <functional>
#include <span>

namespace gptq {

/// A block that has just been rounded. Matrices are input-major: one row per position of the block,
/// one column per row of the weight. They are gone when the observer returns.
template <class Scalar>
struct SolvedBlock {
  Index first_row = 0;                     ///< of the weight
  Index first_position = 0;                ///< in the solving order
  std::span<const Index> columns;          ///< of the weight, by position
  std::span<const Index> groups;           ///< by position
  double weight_unit = 1;                  ///< in which targets and scales count: a power of two
  MatrixView<const Scalar> targets{};      ///< V, which was rounded
  MatrixView<const std::uint8_t> codes{};  ///< what it was rounded to
  MatrixView<const Scalar> scales{}, zeros{};  ///< [groups, rows]
};

/// Called from any thread, for several panels at a time.
template <class Scalar>
using Observer = std::function<void(const SolvedBlock<Scalar>&)>;

}  // namespace gptq
