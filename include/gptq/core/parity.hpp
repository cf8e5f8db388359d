// SPDX-License-Identifier: MIT
#pragma once

// Parity: quirks of other implementations. Presets of all their choices: gptq/parity.hpp.

namespace gptq {

/// What the sum of squares XᵀX is multiplied by to make H. It changes losses, but codes only if
/// dead inputs get a diagonal of 1.
enum class SampleCount {
  tokens,           ///< 1/tokens: H is the mean of xxᵀ
  twice_tokens,     ///< 2/tokens (GPTQModel, msModelSlim)
  twice_sequences,  ///< 2/N, N the number of calls of Hessian::add (GPTQ, GPTQ-for-LLaMa,
                    ///< AutoGPTQ, llm-compressor)
};

/// The diagonal of H for an input that was always zero, and its place in the order.
enum class DeadInputs {
  mean_last,  ///< the mean of the others, which the damping is a fraction of; ordered last, because
              ///< its diagonal is zero
  unit,       ///< 1 before the order and the mean are taken (GPTQ, GPTQ-for-LLaMa, AutoGPTQ,
              ///< GPTQModel)
  unit_last,  ///< ordered last, because its diagonal is zero; then 1 before the mean is taken
              ///< (llm-compressor)
};

/// Quirks of other implementations, for results that can be compared code by code. All are off by
/// default; what a quirk costs is documented where it is switched on.
struct Parity {
  SampleCount samples = SampleCount::tokens;
  DeadInputs dead_inputs = DeadInputs::mean_last;
  /// Dynamic groups take their grid from a weight that lacks the corrections from its own block, so
  /// results depend on block_size (GPTQ, GPTQ-for-LLaMa, AutoGPTQ, GPTQModel, msModelSlim).
  bool stale_group_scales = false;
  /// A symmetric grid for weights that are all non-negative uses only half of its codes (GPTQ,
  /// GPTQ-for-LLaMa, AutoGPTQ, GPTQModel).
  bool one_sided_range = false;
  /// code = round(w/s + z) instead of round(w/s) + z: different codes at ties if z is odd
  /// (compressed-tensors, llm-compressor, msModelSlim).
  bool round_with_zero = false;
  /// A symmetric grid has the scale max|w| / (2^(bits−1) − 1), which puts the largest weight of
  /// either sign on a level, instead of 2·max|w| / (2^bits − 1): steps are wider, by 7 % at 4 bits
  /// (msModelSlim, AutoAWQ).
  bool narrow_range = false;
  /// The weights of dead inputs become zero, or the nearest level of a grid without zero, although
  /// another text may need them (GPTQ, GPTQ-for-LLaMa, AutoGPTQ, GPTQModel, llm-compressor,
  /// msModelSlim).
  bool zero_dead_weights = false;
  /// With one group per row, the weights of dead inputs count towards the range of their row (GPTQ,
  /// GPTQ-for-LLaMa, AutoGPTQ, although they become zero there).
  bool dead_weights_in_range = false;
};

}  // namespace gptq
