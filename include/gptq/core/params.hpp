// SPDX-License-Identifier: MIT
#pragma once

// Params: every run-time choice of the quantizer, in one flat aggregate. The defaults give the most
// accurate model in a format that loads everywhere.

#include <gptq/core/error.hpp>
#include <gptq/core/matrix_view.hpp>
#include <gptq/core/parity.hpp>

#include <cmath>  // std::isfinite
#include <string>
#include <string_view>

namespace gptq {

/// The order in which the columns (inputs) of a weight are rounded. The stored matrix keeps its
/// original order.
enum class Order {
  natural,  ///< as stored
  act,  ///< largest diagonal of H first: the inputs that matter most are rounded while all others
        ///< can still compensate
  group_aware,  ///< act order inside each group, groups by their largest diagonal: groups stay
                ///< together, so that dynamic groups need no g_idx
  min_pivot,    ///< from last to first, the remaining input with the smallest pivot;
                ///< n³/3 extra operations, in double precision
};

/// When the grid of a group is chosen.
enum class Groups {
  static_,  ///< before rounding, from the original weight: groups of neighbouring columns whatever
            ///< the order, so loaders need no g_idx
  dynamic,  ///< when the solver reaches the group, from the weight as compensated by then: groups
            ///< of columns adjacent in the solving order, so act and min_pivot need a g_idx
};

/// How the scale and zero point of a group are found.
enum class Range {
  minmax,  ///< just wide enough for the largest weight
  mse,  ///< the fraction of that range, 100 % down to 21 %, that minimises Σ |w_j − q_j|^2.4 (the
        ///< papers' "mse")
  weighted,  ///< the range that minimises Σ d_j (w_j − q_j)², d the pivots of the factored Hessian
};

/// How the columns are processed. Both give the same codes up to rounding.
enum class Solver {
  left_looking,  ///< block LDLᵀ: corrections come from the factor R of H; the weight is not touched
  lazy_batch,  ///< the paper's: errors are spread with R⁻¹, the factor of H⁻¹, immediately within
               ///< a block and to all later columns after it; one extra in × in matrix
};

/// What is added to the diagonal of H.
enum class DampingRule {
  mean_diagonal,  ///< the same for each input, a fraction of the mean: H + λI
  own_diagonal,   ///< a fraction of each input's own: insensitive to the scale of single inputs
};

/// The type that scales are stored in. They are rounded to it before any weight is quantized with
/// them.
enum class ScaleType {
  fp16,
  bf16,
  fp32,
  fp8_e4m3,  ///< times one fp32 number per weight, QuantizedMatrix::scale_unit() (NVFP4); no sign
  power_of_two,  ///< E8M0, only an exponent (MXFP4); no sign
};

/// Whether scales of this type can be negative.
constexpr bool has_sign(ScaleType type) {
  return type != ScaleType::fp8_e4m3 && type != ScaleType::power_of_two;
}

/// The smallest number with full precision.
constexpr float smallest_normal(ScaleType type) {
  return type == ScaleType::fp16 ? 0x1p-14f : type == ScaleType::fp8_e4m3 ? 0x1p-6f : 0x1p-126f;
}

/// The smallest positive number of a type that is used as a scale; for fp8_e4m3 in units of
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

/// What happens if the damped Hessian cannot be factored.
enum class OnFailure {
  error,  ///< throw NumericalError at once
  damp,   ///< quadruple the damping, up to ten times the mean of the diagonal, then throw
  round_to_nearest,  ///< the same, then round to nearest without compensation; the report says so
};

/// N:M sparsity: of every `of` neighbouring weights of a row, `zeros` are zero. {0, 0}: dense.
struct Sparsity {
  static constexpr int largest = 16;  ///< `of`

  Index zeros = 0, of = 0;

  constexpr bool dense() const { return zeros == 0 && of == 0; }
};

/// How the report's relative errors are measured.
enum class Measure {
  none,     ///< not at all: they are unknown
  sampled,  ///< on a sketch of the factor, the same one each time: within a few per cent of `full`,
            ///< for about 5 % of the time
  full,     ///< exactly, which takes two products as large as the solve
};

/// How a layer is quantized; every field has a sensible default.
struct Params {
  /// Columns that share a scale; -1: one group per row.
  Index group_size = 128;
  /// Accept a group_size that does not divide in_features; the last group is short.
  bool allow_tail_group = false;
  Order order = Order::act;
  Groups groups = Groups::static_;
  /// λ as a fraction of the diagonal of H, either its mean or input by input; in (0, 1000].
  double damping = 0.01;
  DampingRule damping_rule = DampingRule::mean_diagonal;
  /// Factor H in double precision, at twice the time and an in × in array of double.
  bool factor_in_double = false;
  /// Estimate the condition number of the damped H for the report, which takes a few products with
  /// the factor.
  bool estimate_condition = false;
  OnFailure on_failure = OnFailure::damp;
  Range range = Range::weighted;
  /// Let Range::weighted use negative scales on symmetric grids: the extra level of the grid is
  /// then on the positive side. Unsigned types never have them, nor do other ranges.
  bool signed_scales = true;
  ScaleType scale_type = ScaleType::fp16;
  Solver solver = Solver::left_looking;
  /// Columns rounded between two matrix products; affects codes only through rounding.
  Index block_size = 128;
  /// Zeros chosen as the solver reaches them, by v_j²·d_j, and compensated like any other error
  /// (Frantar, Alistarh, "SparseGPT", 2023): {2, 4} is 2:4. Needs Order::natural.
  Sparsity sparsity{};
  Measure measure = Measure::sampled;
  Parity parity{};

  /// \throws InvalidArgument  a field is out of range; the message names it, its value and its
  /// legal values
  void validate() const {
    using detail::require;
    require(group_size == -1 || group_size > 0, "group_size = ", group_size,
            " must be -1 (one group per row) or positive");
    require(damping > 0 && damping <= 1000, "damping = ", damping,
            " must be positive and at most 1000, where H hardly matters (the usual value is 0.01)");
    require(block_size > 0, "block_size = ", block_size, " must be positive");
    require(!parity.stale_group_scales || solver == Solver::lazy_batch,
            "parity.stale_group_scales requires Solver::lazy_batch: left_looking has no "
            "partly corrected weight");
    require(!parity.stale_group_scales || groups == Groups::dynamic,
            "parity.stale_group_scales requires Groups::dynamic: static groups take their "
            "scales from the original weight");
    require(!parity.dead_weights_in_range || group_size == -1,
            "parity.dead_weights_in_range requires group_size = -1, but it is ", group_size);
    if (sparsity.dense()) return;
    const Index of = sparsity.of;
    require(
        sparsity.zeros > 0 && sparsity.zeros <= of && (of == 2 || of == 4 || of == 8 || of == 16),
        "sparsity = ", sparsity.zeros, " zeros of ", of,
        " must have zeros <= of and of = 2, 4, 8 or 16");
    require(order == Order::natural,
            "sparsity needs Order::natural: its zeros are chosen among neighbouring columns, which "
            "other orders separate");
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

/// Columns of the sketch that Measure::sampled measures on (factor/sketch.hpp).
constexpr Index sketch_directions = 32;

/// Whether the errors of a weight with so many inputs are measured on a sketch: where it is much
/// smaller than the factor.
inline bool uses_sketch(const Params& params, Index inputs) {
  return params.measure == Measure::sampled && inputs > 4 * sketch_directions;
}

/// Columns per group of a weight with `in_features` columns.
inline Index effective_group_size(const Params& params, Index in_features) {
  return params.group_size == -1 || params.group_size > in_features ? in_features
                                                                    : params.group_size;
}

/// \throws InvalidArgument  the group size leaves a short last group, which is not allowed, or the
/// sparsity pattern does not divide in_features
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
      "or -1 for one group per row; or set allow_tail_group, --allow-tail-group in the program, "
      "for a "
      "short last group)"));
}

}  // namespace gptq
