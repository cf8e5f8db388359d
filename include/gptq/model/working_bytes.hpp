// SPDX-License-Identifier: MIT
#pragma once

// WorkingBytes: the memory that calibrating a model takes at most, and how many experts of a layer
// that leaves room for at a time.

#include <gptq/model/cuts.hpp>
#include <gptq/model/decoder.hpp>
#include <gptq/model/pipeline_options.hpp>
#include <gptq/solver/memory_plan.hpp>

#include <algorithm>  // std::clamp, std::find, std::max, std::min
#include <cstdint>
#include <map>
#include <span>
#include <variant>

namespace gptq::model {

/// Upper bounds, by what the memory is for.
struct WorkingBytes {
  std::uint64_t embeddings = 0;  ///< read before the first layer, gone after it
  std::uint64_t layer = 0;       ///< its weights; and those of the full-precision one alongside
  std::uint64_t streams = 0;     ///< values of all calibration tokens inside a layer
  std::uint64_t chunk = 0;       ///< some windows on their way through a layer
  std::uint64_t statistics =
      0;                    ///< Hessians and cross moments of a cut; for experts, their modules
  std::uint64_t solve = 0;  ///< factors, panels, results

  std::uint64_t peak() const {
    return streams + (std::max)(embeddings, layer + chunk + statistics + solve);
  }
};

namespace detail {

/// Hessian and cross moments of an input.
template <class B>
std::uint64_t statistics_bytes(const Block& block, const Reading& reading, bool beside) {
  const auto n = static_cast<std::uint64_t>(block.width({reading.value}));
  std::uint64_t rows = n;
  if (beside) rows += n;
  if (beside && reading.residual >= 0)
    rows += static_cast<std::uint64_t>(block.width({reading.residual}));
  return rows * n * sizeof(typename B::Scalar);
}

/// Weights of all modules that read an input.
inline std::uint64_t weights_of(const Block& block, const Reading& reading) {
  std::uint64_t weights = 0;
  for (const int linear : reading.linears) {
    const LinearSpec& spec = block.linears()[std::size_t(linear)];
    weights += static_cast<std::uint64_t>(spec.out * spec.in);
  }
  return weights;
}

/// What is held for an expert while others are calibrated or solved.
template <class B>
std::uint64_t expert_bytes(const Block& block, const Reading& reading,
                           const PipelineOptions& options, Index length) {
  const bool beside = options.match == Match::model;
  std::uint64_t bytes = statistics_bytes<B>(block, reading, beside) +
                        6 * weights_of(block, reading);  // as they were, and packed
  if (options.experts == Experts::all)                   // its rows of a chunk
    bytes += sizeof(float) *
             static_cast<std::uint64_t>(chunk_tokens(length) * block.width({reading.value})) *
             (beside ? 2 : 1);
  return bytes;
}

/// Values of all tokens inside a layer, per token: two cuts' at a time, by width the most of any
/// layer, because Stream keeps their memory.
inline Index stream_width(const Description& description, Index limit) {
  std::map<Index, Index> most;
  for (const Block& layer : description.layers) {
    const Cuts cuts(layer);
    for (int cut = 0; cut <= cuts.count(); ++cut) {
      std::vector<int> values = cut == 0 ? std::vector<int>{0} : cuts.kept(cut, limit);
      for (const int next : cuts.kept(cut + 1, limit))
        if (std::find(values.begin(), values.end(), next) == values.end()) values.push_back(next);
      std::map<Index, Index> count;
      for (const int value : values) ++count[layer.width({value})];
      for (const auto& [width, times] : count) most[width] = (std::max)(most[width], times);
    }
  }
  Index sum = 0;
  for (const auto& [width, times] : most) sum += width * times;
  return sum;
}

/// Rows of experts that a token has in a layer.
inline Index expert_rows(const Block& layer) {
  Index rows = 0;
  for (const Step& step : layer.steps())
    if (const auto* route = std::get_if<step::Route>(&step.what)) rows += route->chosen;
  return rows;
}

}  // namespace detail

/// How many experts of a cut to calibrate at a time, so that PipelineOptions::expert_bytes holds
/// what is known of them: at least one.
template <backend::Backend B>
std::size_t experts_at_once(const Block& block, std::span<const Reading> experts,
                            const PipelineOptions& options, const B& /*backend*/, Index length) {
  std::uint64_t largest = 1;
  for (const Reading& reading : experts)
    largest = (std::max)(largest, detail::expert_bytes<B>(block, reading, options, length));
  return std::clamp<std::size_t>(static_cast<std::size_t>(options.expert_bytes / largest), 1,
                                 experts.size());
}

/// \param length  of a calibration window
/// \param tokens  of all of them
template <backend::Backend B>
WorkingBytes working_bytes(const Description& description, const PipelineOptions& options,
                           const B& backend, Index length, Index tokens) {
  const bool beside = options.match == Match::model && options.sequential != Sequential::none;
  const std::uint64_t streams = beside ? 2 : 1,
                      layers = beside || options.sequential != Sequential::sublayer ? 2 : 1;
  WorkingBytes bytes;
  const auto floats = [](Index count) { return sizeof(float) * static_cast<std::uint64_t>(count); };
  bytes.embeddings = floats(description.sizes.vocabulary * description.entry.steps().front().width);
  bytes.layer = layers * floats(largest_layer(description));
  const Index limit =
      static_cast<Index>(options.cache_bytes / sizeof(float)) / (std::max)(Index(1), tokens);
  Index widths = detail::stream_width(description, limit);
  if (options.sequential == Sequential::layer) widths += description.sizes.hidden;
  bytes.streams = streams * floats(tokens * widths);
  const std::uint64_t dense_chunk = chunk_bytes(description, length);
  for (const Block& layer : description.layers) {
    const Cuts cuts(layer);
    const std::uint64_t rows =
        floats(chunk_tokens(length) * detail::expert_rows(layer) * 2 * description.sizes.hidden);
    bytes.chunk = (std::max)(bytes.chunk, streams * (dense_chunk + rows));
    for (int cut = 1; cut <= cuts.count(); ++cut) {
      std::uint64_t dense = 0, extra = 0;
      std::vector<Reading> experts;
      for (const Reading& reading : cuts.readings(cut)) {
        const Index in = layer.width({reading.value});
        Index out = 0;  // of all modules that share this input: they may be solved in one panel
        for (const int linear : reading.linears) out += layer.linears()[std::size_t(linear)].out;
        const bool expert = layer.linears()[std::size_t(reading.linears[0])].expert >= 0;
        Index together = 1;
        if (expert) {
          const Index all = static_cast<Index>(cuts.readings(cut).size());
          together =
              (std::max)(solver::weights_at_once(out, in, all, options.params, backend),
                         (std::min)(all, backend.footprint(out, in, options.params).concurrency));
        }
        const MemoryPlan plan = memory_plan(together, out, in, options.params, backend);
        extra = (std::max)(extra, static_cast<std::uint64_t>(plan.calibrate));
        bytes.solve = (std::max)(
            bytes.solve, static_cast<std::uint64_t>(plan.peak()) + 3 * floats(together * out * in));
        if (expert) experts.push_back(reading);
        else dense += detail::statistics_bytes<B>(layer, reading, beside);
      }
      std::uint64_t routed = 0;
      if (!experts.empty()) {
        const std::size_t at_once = experts_at_once(layer, experts, options, backend, length);
        for (std::size_t i = 0; i < at_once; ++i)
          routed += detail::expert_bytes<B>(layer, experts[i], options, length);
        const Index in = layer.width({experts[0].value});
        if (options.experts == Experts::routed)  // the pool and what is mixed with it
          routed +=
              floats(in * in) * static_cast<std::uint64_t>(
                                    1 + 2 * backend.footprint(in, in, options.params).concurrency);
      }
      bytes.statistics = (std::max)(bytes.statistics, (std::max)(dense, routed) + extra);
    }
  }
  return bytes;
}

}  // namespace gptq::model
