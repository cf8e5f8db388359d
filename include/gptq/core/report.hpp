// SPDX-License-Identifier: MIT
#pragma once

// Report: what quantizing one matrix did and what it cost, in plain numbers.

#include <gptq/core/matrix_view.hpp>

#include <cmath>  // std::log10
#include <limits>
#include <string>

namespace gptq {

/// What was done to a Hessian so that it can be factored.
struct Damping {
  double lambda = 0;          ///< added to the diagonal, in units of H (mean square of an activation)
  double fraction = 0;        ///< λ over the mean of the diagonal: what was asked for, or more after retries
  int retries = 0;            ///< factorizations that failed before
  Index dead_columns = 0;     ///< inputs that were always zero; their weights are stored as zero
  bool round_to_nearest = false;  ///< no damping helped and the weight was rounded without compensation
};

/// Wall time per stage of one call of quantize, in seconds.
struct Timings {
  double factorize = 0;  ///< ordering, damping and the Cholesky factorization
  double fit = 0;        ///< choosing scales and zero points
  double solve = 0;      ///< rounding with compensation
  double measure = 0;    ///< output energy and the round-to-nearest baseline
  double total = 0;
};

struct Report {
  static constexpr double unknown = std::numeric_limits<double>::quiet_NaN();

  double tokens = 0;                     ///< calibration tokens behind the Hessian (the sum of their weights)
  Damping damping;
  double loss = 0;                       ///< tr(ΔW·XᵀX·ΔWᵀ)/tokens: mean squared output error, summed over outputs
  double damped_loss = 0;                ///< Σ_j d_j·e_j², equal to tr(ΔW·(H + λI)·ΔWᵀ): what the solver minimises
  double relative_error = unknown;       ///< loss over tr(W·XᵀX·Wᵀ)/tokens
  double rtn_relative_error = unknown;   ///< the same for min-max round to nearest on the same kind of grid
  double clipped = 0;                    ///< share of weights beyond the ends of their grid, 0..1
  Timings seconds;
  Index peak_bytes = 0;                  ///< memory the call needed beyond its inputs and outputs

  /// Output signal to quantization noise, in decibels.
  double snr_db() const { return -10 * std::log10(relative_error); }
};

}  // namespace gptq
