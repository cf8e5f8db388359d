// SPDX-License-Identifier: MIT
#pragma once

// Params: every run-time choice of the quantizer, in one flat aggregate with the defaults that give
// the most accurate model in a format that loads everywhere.

#include <gptq/core/error.hpp>
#include <gptq/core/matrix_view.hpp>

#include <cmath>  // std::isfinite
#include <string>
#include <string_view>

namespace gptq {

/// In which order the columns (inputs) of a weight are rounded. The stored matrix keeps its own order.
enum class Order {
  natural,  ///< as they stand
  act,      ///< largest diagonal of H first: the inputs that matter most are rounded while all others can still make up for it
};

/// When the grid of a group is chosen.
enum class Groups {
  fixed,    ///< before rounding, from the original weight (the papers' "static groups"); needs no group index
  dynamic,  ///< when the solver reaches the group, from the weight as compensated by then
};

/// How scale and zero point of a group are found.
enum class Range {
  minmax,    ///< so that the largest weight just fits
  weighted,  ///< the range that minimises Σ d_j (w_j − q_j)², d the pivots of the factored Hessian
};

/// The type that scales are stored in. They are rounded to it before any weight is rounded to them.
enum class ScaleType { fp16, bf16, fp32 };

/// What happens where the damped Hessian cannot be factored.
enum class OnFailure {
  error,             ///< throw NumericalError at once
  damp,              ///< raise the damping fourfold, up to ten times the mean of the diagonal, then throw
  round_to_nearest,  ///< the same, then round to nearest without compensation; the report says so
};

struct Params {
  Index group_size = 128;          ///< columns that share a scale; -1: one group per row
  bool allow_tail_group = false;   ///< accept a group_size that does not divide in_features; the last group is short
  Order order = Order::act;
  Groups groups = Groups::fixed;
  double damping = 0.01;           ///< λ as a fraction of the mean of the diagonal of H; > 0
  OnFailure on_failure = OnFailure::damp;
  Range range = Range::weighted;
  bool signed_scales = true;       ///< let the range search use negative scales on symmetric grids (one more level on the other side)
  ScaleType scale_type = ScaleType::fp16;
  Index block_size = 128;          ///< columns rounded between two matrix products; does not change the codes
  bool measure_baseline = true;    ///< fill the report's relative errors, which costs two more products of the size of the solve

  /// \throws InvalidArgument  a field is out of range; the message names it, its value and the legal values
  void validate() const {
    using detail::require;
    require(group_size == -1 || group_size > 0, "group_size = ", group_size, " must be -1 (one group per row) or positive");
    require(std::isfinite(damping) && damping > 0, "damping = ", damping, " must be positive and finite (the usual value is 0.01)");
    require(block_size > 0, "block_size = ", block_size, " must be positive");
    require(groups == Groups::fixed || order == Order::natural,
            "dynamic groups need the natural order (static groups keep groups contiguous under any order)");
  }
};

/// Columns per group of a weight with `in_features` columns.
inline Index effective_group_size(const Params& params, Index in_features) {
  return params.group_size == -1 || params.group_size > in_features ? in_features : params.group_size;
}

/// \throws InvalidArgument  the group size leaves a short last group and that was not allowed
inline void require_divisible(const Params& params, Index in_features, std::string_view name) {
  if (params.allow_tail_group || params.group_size == -1 || in_features % params.group_size == 0) return;
  std::string sizes;
  for (Index size = 16; size <= 1024 && size <= in_features; size *= 2)
    if (in_features % size == 0) sizes += std::to_string(size) + ", ";
  throw InvalidArgument(detail::message("group_size = ", params.group_size, " does not divide in_features = ", in_features,
                                        " of ", name.empty() ? "the weight" : name, " (sizes that do: ", sizes,
                                        "or -1 for one group per row; or allow_tail_group for a short last group)"));
}

}  // namespace gptq
