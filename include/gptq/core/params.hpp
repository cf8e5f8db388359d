// SPDX-License-Identifier: MIT
#pragma once

// Params: every run-time choice of the quantizer, in one flat aggregate with the defaults that give
// the most accurate model in a format that loads everywhere.

#include <gptq/core/error.hpp>
#include <gptq/core/matrix_view.hpp>
#include <gptq/core/parity.hpp>

#include <cmath>  // std::isfinite
#include <string>
#include <string_view>

namespace gptq {

/// In which order the columns (inputs) of a weight are rounded. The stored matrix keeps its own
/// order.
enum class Order {
  natural,  ///< as they stand
  act,  ///< largest diagonal of H first: the inputs that matter most are rounded while all others
        ///< can still make up for it
  group_aware,  ///< act order inside each group, groups by their largest diagonal: groups stay
                ///< together, so that dynamic groups need no g_idx
  min_pivot,    ///< from last to first, the input with the smallest pivot of those that are left;
                ///< n³/3 more operations, in double precision
};

/// When the grid of a group is chosen.
enum class Groups {
  static_,  ///< before rounding, from the original weight: groups of neighbouring columns under
            ///< any order, so loaders need no g_idx
  dynamic,  ///< when the solver reaches the group, from the weight as compensated by then: groups
            ///< of columns that follow each other in the order, so act and min_pivot need a g_idx
};

/// How scale and zero point of a group are found.
enum class Range {
  minmax,  ///< so that the largest weight just fits
  mse,     ///< the share of that, 100 % down to 21 %, that minimises Σ |w_j − q_j|^2.4 (the
           ///< papers' "mse")
  weighted,  ///< the range that minimises Σ d_j (w_j − q_j)², d the pivots of the factored Hessian
};

/// How the columns are walked. Both give the same codes but for rounding.
enum class Solver {
  left_looking,  ///< block LDLᵀ: corrections come from the factor R of H; the weight is not touched
  lazy_batch,  ///< the paper's: errors are spread with R⁻¹, the factor of H⁻¹, inside a block at
               ///< once and to all later columns after each block; one more in x in matrix
};

/// What is added to the diagonal of H.
enum class DampingRule {
  mean_diagonal,  ///< the same for each input, a fraction of the mean: H + λI
  own_diagonal,   ///< a fraction of each input's own: indifferent to the scale of single inputs
};

/// The type that scales are stored in. They are rounded to it before any weight is rounded to them.
enum class ScaleType {
  fp16,
  bf16,
  fp32,
  fp8_e4m3,  ///< times one fp32 number per weight, QuantizedMatrix::scale_unit() (NVFP4); no sign
  power_of_two,  ///< E8M0, an exponent alone (MXFP4); no sign
};

/// Whether scales of this type can be negative.
constexpr bool has_sign(ScaleType type) {
  return type != ScaleType::fp8_e4m3 && type != ScaleType::power_of_two;
}

/// The smallest number that has all its digits.
constexpr float smallest_normal(ScaleType type) {
  return type == ScaleType::fp16 ? 0x1p-14f : type == ScaleType::fp8_e4m3 ? 0x1p-6f : 0x1p-126f;
}

/// The smallest positive number of a type that is used as a scale; of fp8_e4m3 in units of
/// QuantizedMatrix::scale_unit().
constexpr float smallest_scale(ScaleType type) {
  return type == ScaleType::fp16 ? 0x1p-24f : type == ScaleType::fp8_e4m3 ? 0x1p-9f : 0x1p-126f;
}

/// For messages.
constexpr std::string_view name(ScaleType type) {
  switch (type) {
    case ScaleType::fp16: return "fp16";
    case ScaleType::bf16: return "bf16";
    case ScaleType::fp32: return "fp32";
    case ScaleType::fp8_e4m3: return "fp8_e4m3";
    case ScaleType::power_of_two: break;
  }
  return "power_of_two";
}

/// What happens where the damped Hessian cannot be factored.
enum class OnFailure {
  error,  ///< throw NumericalError at once
  damp,   ///< raise the damping fourfold, up to ten times the mean of the diagonal, then throw
  round_to_nearest,  ///< the same, then round to nearest without compensation; the report says so
};

/// N:M sparsity: of every `of` neighbouring weights of a row, `zeros` are zero. {0, 0}: dense.
struct Sparsity {
  static constexpr int largest = 16;  ///< `of`

  Index zeros = 0, of = 0;

  constexpr bool dense() const { return zeros == 0 && of == 0; }
};

/// On which rows the report's relative errors are measured. Each row takes two products with the
/// factor, twice what rounding it takes.
enum class Measure {
  none,     ///< on none: they are unknown
  sampled,  ///< on every n-th row, the same ones each time, which takes about 5 % of the solve
  full,     ///< on all
};

/// How a layer is quantized; every field has a default that needs no thought.
struct Params {
  /// Columns that share a scale; -1: one group per row.
  Index group_size = 128;
  /// Accept a group_size that does not divide in_features; the last group is short.
  bool allow_tail_group = false;
  Order order = Order::act;
  Groups groups = Groups::static_;
  /// λ as a fraction of the diagonal of H, of its mean or input by input; in (0, 1000].
  double damping = 0.01;
  DampingRule damping_rule = DampingRule::mean_diagonal;
  /// Factor H in double precision, at twice the time and an in x in array of double.
  bool factor_in_double = false;
  /// Estimate the condition of the damped H for the report: a few products with the factor.
  bool estimate_condition = false;
  OnFailure on_failure = OnFailure::damp;
  Range range = Range::weighted;
  /// Let Range::weighted use negative scales on symmetric grids: the extra level of the grid is
  /// then on the positive side. Types without a sign never have them, other ranges neither.
  bool signed_scales = true;
  ScaleType scale_type = ScaleType::fp16;
  Solver solver = Solver::left_looking;
  /// Columns rounded between two matrix products; changes codes by rounding only.
  Index block_size = 128;
  /// Zeros that are chosen where the solver stands, by v_j²·d_j, and made up for like any other
  /// error (Frantar, Alistarh, "SparseGPT", 2023): {2, 4} is 2:4. Needs Order::natural.
  Sparsity sparsity{};
  Measure measure = Measure::sampled;
  Parity parity{};

  /// \throws InvalidArgument  a field is out of range; the message names it, its value and the
  /// legal values
  void validate() const {
    using detail::require;
    require(group_size == -1 || group_size > 0, "group_size = ", group_size,
            " must be -1 (one group per row) or positive");
    require(damping > 0 && damping <= 1000, "damping = ", damping,
            " must be positive and at most 1000, where H hardly counts (the usual value is 0.01)");
    require(block_size > 0, "block_size = ", block_size, " must be positive");
    require(!parity.stale_group_scales || solver == Solver::lazy_batch,
            "parity.stale_group_scales is a habit of Solver::lazy_batch: left_looking has no "
            "partly corrected weight");
    require(!parity.stale_group_scales || groups == Groups::dynamic,
            "parity.stale_group_scales is a habit of Groups::dynamic: static groups take their "
            "scales from the weight as it was");
    require(!parity.dead_weights_in_range || group_size == -1,
            "parity.dead_weights_in_range is a habit of group_size = -1, which is ", group_size);
    if (sparsity.dense()) return;
    const Index of = sparsity.of;
    require(
        sparsity.zeros > 0 && sparsity.zeros <= of && (of == 2 || of == 4 || of == 8 || of == 16),
        "sparsity = ", sparsity.zeros, " zeros of ", of,
        " must be at most `of` zeros, of = 2, 4, 8 or 16");
    require(order == Order::natural,
            "sparsity needs Order::natural: its zeros are chosen among neighbouring columns, which "
            "other orders part");
    require(block_size % of == 0 && (group_size == -1 || group_size % of == 0),
            "block_size = ", block_size, " and group_size = ", group_size,
            " must be multiples of sparsity.of = ", of);
  }
};

/// Whether loaders need a g_idx: the group of a column is not column / group_size.
/// \param given_order  whether columns are solved in the caller's own order
inline bool needs_group_index(const Params& params, bool given_order = false) {
  return params.groups == Groups::dynamic &&
         (given_order || params.order == Order::act || params.order == Order::min_pivot);
}

/// Columns per group of a weight with `in_features` columns.
inline Index effective_group_size(const Params& params, Index in_features) {
  return params.group_size == -1 || params.group_size > in_features ? in_features
                                                                    : params.group_size;
}

/// \throws InvalidArgument  the group size leaves a short last group and that was not allowed, or
/// the sparsity pattern does not divide in_features
inline void require_divisible(const Params& params, Index in_features, std::string_view name) {
  detail::require(params.sparsity.dense() || in_features % params.sparsity.of == 0,
                  "sparsity.of = ", params.sparsity.of,
                  " does not divide in_features = ", in_features, " of ",
                  name.empty() ? "the weight" : name);
  if (params.allow_tail_group || params.group_size == -1 || in_features % params.group_size == 0)
    return;
  std::string sizes;
  for (Index size = 16; size <= 1024 && size <= in_features; size *= 2)
    if (in_features % size == 0) sizes += std::to_string(size) + ", ";
  throw InvalidArgument(detail::message(
      "group_size = ", params.group_size, " does not divide in_features = ", in_features, " of ",
      name.empty() ? "the weight" : name, " (sizes that do: ", sizes,
      "or -1 for one group per row; or allow_tail_group, --allow-tail-group in the program, for a "
      "short last group)"));
}

}  // namespace gptq
