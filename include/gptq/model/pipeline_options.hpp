// SPDX-License-Identifier: MIT
#pragma once

// What a pipeline can be told, and what it tells.

#include <gptq/core/params.hpp>
#include <gptq/core/report.hpp>
#include <gptq/model/format/gptq.hpp>
#include <gptq/model/module_settings.hpp>

#include <cstdint>
#include <memory>
#include <string>

namespace gptq::model {

/// Which earlier modules are already quantized when a module is calibrated.
enum class Sequential {
  sublayer,  ///< all: for example, [q, k, v], [o], [gate, up] and [down] are calibrated one after
             ///< the other ("true sequential")
  layer,     ///< those of all earlier layers, but not of its own
  none,      ///< none: calibration runs through the full-precision model
};

/// What the output of a quantized module should match.
enum class Match {
  model,  ///< its output in the full-precision model, although its inputs come from quantized
          ///< layers
  layer,  ///< the output of its full-precision weights on the same inputs
};

/// Which tokens an expert is calibrated on.
enum class Experts {
  routed,  ///< those that the router sends to it; few are helped by those of the other experts
  all,     ///< all of them, as if it were a shared expert; the model's outputs are routed as ever
};

/// How a pipeline calibrates and what it aims for.
struct PipelineOptions {
  /// group_size comes from `settings`.
  Params params;
  SettingsTable settings;
  Method method = Method::gptq;
  std::shared_ptr<const Format> format = std::make_shared<format::Gptq>();
  Sequential sequential = Sequential::sublayer;
  /// `model` also runs the full-precision model alongside: twice the time, better results.
  Match match = Match::model;
  /// How strongly `model` corrects the mismatch of inputs and of the residual stream, 0 .. 1.
  double match_inputs = 0.5, match_residual = 0.5;
  Experts experts = Experts::routed;
  /// Experts are calibrated together as long as their statistics take no more than this.
  std::uint64_t expert_bytes = std::uint64_t(4) << 30;
  /// Values inside a layer, like inputs of down, are kept for all tokens up to this size, and
  /// computed again beyond it.
  std::uint64_t cache_bytes = std::uint64_t(1) << 30;
};

/// The outcome for one module.
struct ModuleReport {
  std::string name;
  ModuleSettings settings;
  Report report;
  int expert = -1;        ///< whose module it is; -1: that of no expert
  double own_tokens = 0;  ///< calibration tokens, without those of a pooled Hessian
  double pooled = 0;      ///< share of the pooled Hessian of all experts; 1: it saw no tokens
  /// ‖ΔW‖² / ‖W‖²
  double weight_error = 0;
  /// Signal-to-noise ratio of the output on the last calibration window, in dB.
  double snr_full = Report::unknown;
  /// The same with inputs rounded to 8 bits, with one scale for all.
  double snr_quantized = Report::unknown;
  /// Factorization (counted for the first module that reads the input), solve and packing.
  double seconds = 0;
};

/// Where the time of a run goes, in seconds.
struct PipelineTimings {
  double read = 0;      ///< weights from the model's files
  double forward = 0;   ///< the decoder on the calibration text
  double hessian = 0;   ///< accumulating Hessians
  double quantize = 0;  ///< factorizing, fitting, solving, packing
  double measure = 0;   ///< signal-to-noise ratios on the last window
  double write = 0;     ///< handing modules to the sink
};

}  // namespace gptq::model
