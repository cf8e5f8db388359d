// SPDX-License-Identifier: MIT
#pragma once

// Presets that make the same choices as other implementations, so that results can be compared code
// by code.

#include <gptq/core/params.hpp>

namespace gptq::parity {

namespace detail {

/// What the paper's own code and its descendants share.
inline Params descendant() {
  Params p;
  p.group_size = -1;
  p.order = Order::natural;
  p.groups = Groups::dynamic;
  p.range = Range::minmax;
  p.signed_scales = false;
  p.scale_type = ScaleType::fp32;
  p.solver = Solver::lazy_batch;
  p.on_failure = OnFailure::error;
  p.parity.stale_group_scales = true;
  p.parity.zero_dead_weights = true;
  return p;
}

}  // namespace detail

/// The choices and quirks of the paper's own code, starting from its defaults.
/// \param groups  if there are several per row: dynamic, or static (its static_groups)
inline Params paper(Index group_size = -1, Groups groups = Groups::dynamic) {
  Params p = detail::descendant();
  p.group_size = group_size;
  p.groups = groups;
  p.parity.stale_group_scales = groups == Groups::dynamic;
  p.allow_tail_group = true;
  p.parity.samples = SampleCount::twice_sequences;
  p.parity.dead_inputs = DeadInputs::unit;
  p.parity.one_sided_range = true;
  p.parity.dead_weights_in_range = group_size == -1;
  return p;
}

/// The same for msModelSlim with its scope `per_channel`, if no input is dead; for `per_group` set
/// group_size. Its own scheme is Affine<8>, symmetric or asymmetric.
inline Params msmodelslim() {
  Params p = detail::descendant();
  p.parity.samples = SampleCount::twice_tokens;
  p.parity.round_with_zero = true;
  p.parity.narrow_range = true;
  return p;
}

/// The same for llm-compressor's GPTQModifier with its observer `memoryless_minmax` and activation
/// order `static`, for a model in bfloat16, the type in which it then stores scales too; for a
/// float16 model set scale_type. Its schemes are Affine<4> and Affine<8>, symmetric or asymmetric.
inline Params llm_compressor() {
  Params p = detail::descendant();
  p.group_size = 128;
  p.order = Order::act;
  p.groups = Groups::static_;
  p.scale_type = ScaleType::bf16;
  p.parity = {};
  p.parity.samples = SampleCount::twice_sequences;
  p.parity.dead_inputs = DeadInputs::unit_last;
  p.parity.round_with_zero = true;
  p.parity.zero_dead_weights = true;
  return p;
}

}  // namespace gptq::parity
