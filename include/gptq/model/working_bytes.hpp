// SPDX-License-Identifier: MIT
#pragma once

// The memory that calibrating a model takes at most.

#include <gptq/model/cuts.hpp>
#include <gptq/model/decoder.hpp>
#include <gptq/model/pipeline_options.hpp>
#include <gptq/solver/memory_plan.hpp>

#include <algorithm>  // std::max, std::min
#include <cstdint>

namespace gptq::model {

/// Upper bound, besides hidden states: layers and a chunk on its way through one, the calibration
/// statistics of one cut, and the largest solve.
template <backend::Backend B>
std::uint64_t working_bytes(const Description& description, const PipelineOptions& options,
                            const B& backend, Index length) {
  const bool beside = options.match == Match::model;
  Index gathered = 0, solve = 0;
  for (const Block& layer : description.layers) {
    const Cuts cuts(layer);
    for (int cut = 1; cut <= cuts.count(); ++cut) {
      Index of_cut = 0, of_experts = 0;
      for (const Reading& reading : cuts.readings(cut)) {
        const Index in = layer.width({reading.value});
        Index out = 0;  // of all modules that share this input: they may be solved in one panel
        for (const int linear : reading.linears) out += layer.linears()[std::size_t(linear)].out;
        const MemoryPlan plan = memory_plan(out, in, options.params, backend);
        const Index bytes = plan.hessian * (beside ? 3 : 1) + plan.calibrate;
        const bool expert = layer.linears()[std::size_t(reading.linears[0])].expert >= 0;
        (expert ? of_experts : of_cut) += bytes;
        solve = (std::max)(solve, plan.peak() + 3 * out * in * Index(sizeof(float)));
      }
      of_experts = (std::min)(of_experts, static_cast<Index>(options.expert_bytes));
      gathered = (std::max)(gathered, of_cut + of_experts);
    }
  }
  return decoder_bytes(description, length) * (beside ? 2 : 1) +
         static_cast<std::uint64_t>(gathered + solve);
}

}  // namespace gptq::model
