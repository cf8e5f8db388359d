// SPDX-License-Identifier: MIT
#pragma once

// Report: the result and the cost of quantizing one matrix, in plain numbers.

#include <gptq/core/matrix_view.hpp>
#include <gptq/core/params.hpp>

#include <cmath>  // std::log10
#include <limits>
#include <string>
#include <string_view>

namespace gptq {

/// What was done to a Hessian to make it factorable.
struct Damping {
  /// Added to the diagonal, in units of H (mean square of an activation).
  double lambda = 0;
  /// λ over the mean of the diagonal: as requested, or more after retries.
  double fraction = 0;
  /// Failed factorizations before that.
  int retries = 0;
  /// Inputs that were always zero; their weights are rounded to nearest (Parity::zero_dead_weights,
  /// and sparsity patterns: zero). They count towards no loss.
  Index dead_columns = 0;
  /// λmax/λmin of the damped Hessian, estimated; unknown unless Params::estimate_condition.
  double condition = std::numeric_limits<double>::quiet_NaN();
  /// No damping sufficed, and the weight was rounded without compensation: without a factor of H,
  /// the report's losses and relative errors are unknown.
  bool round_to_nearest = false;
};

/// Wall time of one call of quantize, in seconds. Stages that run concurrently on several threads
/// share the elapsed time, so that together they never exceed the total.
struct Timings {
  /// Ordering, damping and the Cholesky factorization; 0 if the caller made the factor, which may
  /// serve several weights: see DampedFactor::seconds.
  double factorize = 0;
  double fit = 0;      ///< choosing scales and zero points
  double solve = 0;    ///< rounding with compensation
  double measure = 0;  ///< output energy and the round-to-nearest baseline
  double total = 0;

  /// Scales the times summed over all threads down to the time elapsed.
  void share(double passed) {
    const double spent = fit + solve + measure;
    if (spent <= passed) return;
    for (double* stage : {&fit, &solve, &measure}) *stage *= passed / spent;
  }
};

/// What happened to a weight, and how long it took.
struct Report {
  static constexpr double unknown = std::numeric_limits<double>::quiet_NaN();

  /// Calibration tokens behind the Hessian (the sum of their weights).
  double tokens = 0;
  Damping damping;
  /// tr(ΔW·XᵀX·ΔWᵀ)/tokens: mean squared output error, summed over outputs; other values of
  /// Parity::samples replace 1/tokens by their factor.
  double loss = 0;
  /// Σ_j d_j·e_j², equal to tr(ΔW·(H + λI)·ΔWᵀ): what the solver minimises.
  double damped_loss = 0;
  /// The figure that the paper's code prints as "error": half the damped loss with H = 2/N·XᵀX, N
  /// the number of calls of Hessian::add.
  double paper_error = 0;
  /// loss over tr(W·XᵀX·Wᵀ)/tokens.
  double relative_error = unknown;
  /// The same for min-max round to nearest on the same kind of grid.
  double rtn_relative_error = unknown;
  /// How both were measured.
  Measure measured = Measure::none;
  /// Fraction of weights outside the range of their grid when they were rounded, 0..1.
  double clipped = 0;
  /// Scales that are subnormal in their type (below 2⁻¹⁴ for fp16), with less precision: their
  /// weights are rounded more coarsely than their bits allow.
  Index subnormal_scales = 0;
  /// Groups of a row for which even the smallest scale of the type is too large: the weights that
  /// round to zero hold more than half of the group's sum of squares. All such groups together hold
  /// at most a millionth of the weight's sum of squares, a tenth of what rounding to 8 bits costs;
  /// more is an error.
  Index vanished_groups = 0;
  /// Weights that were rounded in the same panels, this one among them.
  Index together = 1;
  /// Why weights that were asked for in one call were not taken together; empty: they were, or it
  /// was one.
  std::string_view apart{};
  Timings seconds;
  /// Bytes that the call needs beyond its inputs, according to its memory_plan.
  Index peak_bytes = 0;

  /// Output signal to quantization noise, in decibels.
  double snr_db() const { return -10 * std::log10(relative_error); }
};

}  // namespace gptq
