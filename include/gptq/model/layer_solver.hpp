// SPDX-License-Identifier: MIT
#pragma once

// LayerSolver: quantizes the linear modules of a block, those together that the backend takes at
// once.

#include <gptq/factor/target.hpp>
#include <gptq/model/layer_weights.hpp>
#include <gptq/model/module_quantizer.hpp>
#include <gptq/model/observation.hpp>
#include <gptq/model/pipeline_options.hpp>

#include <algorithm>  // std::max
#include <span>
#include <string>
#include <utility>  // std::move
#include <vector>

namespace gptq::model {

/// Quantizes modules of a block by what was seen of their inputs.
template <class Operations, class B>
class LayerSolver {
 public:
  using Tensor = typename Operations::Tensor;
  using Seen = Observation<Operations, B>;

  /// Inputs whose modules go through the solver side by side: one, or those of some experts with
  /// the same shapes and settings.
  struct Team {
    std::span<const Reading> readings;
    std::span<const Seen> seen;  ///< one for each; empty: round to nearest
  };

  /// Modules that go through the solver together.
  struct Batch {
    std::vector<int> linears{};
    std::vector<const Seen*> seen{};  ///< what each reads; empty: round to nearest
    ModuleSettings settings{};
    std::vector<Tensor> originals{};
    std::vector<QuantizedModule> modules{};
  };

  /// All arguments must outlive this.
  LayerSolver(const Block& block, const PipelineOptions& options, const Operations& operations,
              const B& backend)
      : block_(block), options_(options), operations_(operations), backend_(backend) {}

  /// Experts in teams as large as the backend takes: of one where it takes one at a time.
  std::vector<Team> teams(std::span<const Reading> experts, std::span<const Seen> seen) const {
    std::vector<Team> teams;
    for (std::size_t first = 0; first < experts.size();) {
      const auto most = static_cast<std::size_t>(
          at_once(experts[first], static_cast<Index>(experts.size() - first)));
      std::size_t count = 1;
      while (count < most && alike(experts[first], experts[first + count])) ++count;
      teams.push_back({experts.subspan(first, count), seen.subspan(first, count)});
      first += count;
    }
    return teams;
  }

  /// Quantizes the modules of a team. Calls f(solve) for each batch, where solve() returns it.
  /// \param weights  of the block; overwritten with the quantized weights
  template <class F>
  void solve(const Team& team, LayerWeights& weights, const F& f) const {
    std::vector<const Hessian<B>*> hessians;
    for (const Seen& seen : team.seen) hessians.push_back(&seen.hessian);
    ModuleQuantizer<B> quantizer(options_.params, options_.method, *options_.format, backend_,
                                 std::move(hessians));
    for (Batch& batch : batches_of(team))
      f([&] {
        solve(quantizer, batch, weights);
        return std::move(batch);
      });
  }

 private:
  const LinearSpec& spec(int linear) const { return block_.linears()[std::size_t(linear)]; }
  auto settings_of(int linear) const { return options_.settings.find(spec(linear).name); }

  Index at_once(const Reading& reading, Index count) const {
    Index rows = 1;
    for (const int linear : reading.linears) rows = (std::max)(rows, spec(linear).out);
    return solver::weights_at_once(rows, block_.width({reading.value}), count, options_.params,
                                   backend_);
  }

  bool alike(const Reading& a, const Reading& b) const {
    if (a.linears.size() != b.linears.size()) return false;
    for (std::size_t i = 0; i < a.linears.size(); ++i) {
      const LinearSpec &x = spec(a.linears[i]), &y = spec(b.linears[i]);
      if (x.out != y.out || x.in != y.in || settings_of(a.linears[i]) != settings_of(b.linears[i]))
        return false;
    }
    return true;
  }

  /// One input: modules with the same settings together if the backend takes several weights at
  /// once, else each on its own. Several: the modules of one kind.
  std::vector<Batch> batches_of(const Team& team) const {
    std::vector<Batch> batches;
    const auto add = [&](Batch& batch, std::size_t reading, int linear) {
      batch.linears.push_back(linear);
      if (!team.seen.empty()) batch.seen.push_back(&team.seen[reading]);
    };
    for (std::size_t k = 0; k < team.readings[0].linears.size(); ++k) {
      const int linear = team.readings[0].linears[k];
      const auto settings = settings_of(linear);
      if (!settings) continue;
      const bool joins = backend::BatchBackend<B> && team.readings.size() == 1 &&
                         !batches.empty() && *settings == batches.back().settings;
      if (!joins) batches.emplace_back().settings = *settings;
      for (std::size_t i = 0; i < team.readings.size(); ++i)
        add(batches.back(), i, team.readings[i].linears[k]);
    }
    return batches;
  }

  void solve(ModuleQuantizer<B>& quantizer, Batch& batch, LayerWeights& weights) const {
    std::vector<const LinearSpec*> linears;
    std::vector<MatrixView<float>> views;
    for (std::size_t i = 0; i < batch.linears.size(); ++i) {
      linears.push_back(&spec(batch.linears[i]));
      views.push_back(weights.linears[std::size_t(batch.linears[i])].weight.view());
      const MatrixView<const float> view = views.back();
      batch.originals.push_back(operations_.tensor(view.rows(), view.cols()));
      operations_.copy(batch.originals.back().view(), view);
      if (!batch.seen.empty()) aim(quantizer, batch, i, views.back());
    }
    batch.modules = quantizer.quantize(views, batch.settings, linears);
  }

  /// Adjusts a weight for what the layers before it do differently.
  void aim(ModuleQuantizer<B>& quantizer, const Batch& batch, std::size_t i,
           MatrixView<float> weight) const {
    const Seen& seen = *batch.seen[i];
    if (!seen.inputs) return;
    const Factors<B>& factors = quantizer.factors(batch.settings.group_size);
    factors.with_matrices(i, [&](const DampedFactor<B>& factor) {
      if (factor.damping.round_to_nearest) return;  // no factor, no target
      aim_at_full_precision(
          weight, factor,
          Mismatch<B>{&*seen.inputs, options_.match_inputs,
                      seen.residual ? &*seen.residual : nullptr, options_.match_residual});
    });
  }

  const Block& block_;
  const PipelineOptions& options_;
  const Operations& operations_;
  const B& backend_;
};

}  // namespace gptq::model
