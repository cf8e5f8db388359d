// SPDX-License-Identifier: MIT
#pragma once

// What makes a Hessian factorable: its scale, λ on its diagonal, and a stand-in diagonal for inputs
// that were always zero.

#include <gptq/core/error.hpp>
#include <gptq/core/params.hpp>

#include <algorithm>  // std::clamp
#include <cmath>      // std::exp2
#include <numeric>    // std::accumulate
#include <utility>    // std::move
#include <vector>

namespace gptq {

/// The unit that H is factored in: 1, unless activations are so large or small that squares of
/// outputs would leave the range of float. A power of four: its root is exact, so codes do not
/// depend on it.
/// \param mean  of the diagonal of H
inline double hessian_unit(double mean) {
  constexpr double usual = 30;  // powers of two
  const double size = std::log2(mean);
  const double beyond = size - std::clamp(size, -usual, usual);
  return std::exp2(2 * std::trunc(beyond / 2));
}

namespace detail {

/// The diagonal of H, how it is scaled, and what it lacks to be factorable.
struct DiagonalPlan {
  double scale = 1;              ///< H = scale · Σ xxᵀ
  std::vector<double> diagonal;  ///< of H; dead inputs as the column order sees them
  std::vector<bool> dead;        ///< inputs that were always zero
  Index dead_count = 0;
  double mean = 1;           ///< of the diagonal: damping is a fraction of it
  double unit = 1;           ///< see hessian_unit
  double dead_diagonal = 1;  ///< what a dead input gets instead of zero

  DiagonalPlan(std::vector<double> sums, double tokens, double sequences, const Parity& parity)
      : scale(parity.samples == SampleCount::twice_sequences ? 2 / sequences
              : parity.samples == SampleCount::twice_tokens  ? 2 / tokens
                                                             : 1 / tokens),
        diagonal(std::move(sums)),
        dead(diagonal.size(), false) {
    for (std::size_t i = 0; i < diagonal.size(); ++i) {
      dead[i] = !(diagonal[i] > 0);
      dead_count += dead[i];
      diagonal[i] *= scale;
      if (dead[i] && parity.dead_inputs == DeadInputs::unit) diagonal[i] = 1;
    }
    const bool ones = parity.dead_inputs != DeadInputs::mean_last;
    double total = std::accumulate(diagonal.begin(), diagonal.end(), 0.0);
    if (parity.dead_inputs == DeadInputs::unit_last) total += static_cast<double>(dead_count);
    const auto counted =
        static_cast<double>(static_cast<Index>(diagonal.size()) - (ones ? 0 : dead_count));
    mean = counted > 0 ? total / counted : 1;
    dead_diagonal = ones ? 1 : mean;
    require<NumericalError>(std::isfinite(mean), "the mean of the Hessian's diagonal is ", mean,
                            ": ", tokens, " tokens in ", sequences,
                            " sequences are too few for its sums");
    unit = hessian_unit(mean);
  }

  /// λ of each input.
  std::vector<double> damping(const Params& params, double fraction) const {
    std::vector<double> added(diagonal.size(), fraction * mean);
    if (params.damping_rule == DampingRule::own_diagonal)
      for (std::size_t i = 0; i < added.size(); ++i)
        added[i] = fraction * (dead[i] ? dead_diagonal : diagonal[i]);
    return added;
  }

  /// What to add to the diagonal of scale·Σ xxᵀ, counted in `unit`: the damping and, for a dead
  /// input, its stand-in.
  std::vector<double> missing(std::vector<double> added) const {
    for (std::size_t i = 0; i < added.size(); ++i) {
      if (dead[i]) added[i] += dead_diagonal;
      added[i] /= unit;
    }
    return added;
  }
  /// The factor that turns Σ xxᵀ into H counted in `unit`.
  double scale_in_unit() const { return scale / unit; }
};

}  // namespace detail
}  // namespace gptq
