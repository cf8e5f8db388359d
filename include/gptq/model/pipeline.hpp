// SPDX-License-Identifier: MIT
#pragma once

// Pipeline: a whole model, layer by layer. Calibration text runs through the decoder; a Hessian is
// accumulated for each input of linear modules; the modules are quantized; later ones see the
// quantized ones.

#include <gptq/core/progress.hpp>
#include <gptq/core/stopwatch.hpp>
#include <gptq/model/layer_solver.hpp>
#include <gptq/model/module_change.hpp>
#include <gptq/model/observation.hpp>
#include <gptq/model/perplexity.hpp>
#include <gptq/model/pipeline_options.hpp>
#include <gptq/model/placed_layer.hpp>
#include <gptq/model/quantized_module.hpp>
#include <gptq/model/stream.hpp>
#include <gptq/model/working_bytes.hpp>

#include <algorithm>  // std::max, std::min
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>  // std::move
#include <vector>

namespace gptq::model {

/// Quantizes a model layer by layer, each on the inputs it will see.
template <class Operations, class B>
class Pipeline {
 public:
  using Tensor = typename Operations::Tensor;
  using ConstView = typename Operations::ConstView;

  Pipeline(const ModelFiles& model, PipelineOptions options, Operations operations, B backend)
      : model_(model),
        options_(std::move(options)),
        operations_(std::move(operations)),
        backend_(std::move(backend)) {
    if constexpr (requires { operations_.shares(backend_); })
      gptq::detail::require(
          operations_.shares(backend_),
          "the decoder's operations and the backend use different streams: construct the "
          "operations from a copy of the backend");
  }

  /// Calibrates on whole windows of `length` tokens and quantizes all layers.
  /// \throws Cancelled  the callback asked to stop
  std::vector<ModuleReport> run(std::span<const TokenId> tokens, Index length,
                                const ModuleSink& sink, Progress progress = {}) {
    begin(sink, std::move(progress));
    const WorkingBytes bytes =
        working_bytes(description(), options_, backend_, length, static_cast<Index>(tokens.size()));
    operations_.reserve(bytes.peak() - bytes.streams + bytes.layer);  // with weights split in parts
    const Decoder<Operations> decoder(description(), length, operations_);
    Tensor embedded = embed(model_, decoder, tokens);
    if (options_.match == Match::model && options_.sequential != Sequential::none)
      full_.emplace(decoder, kept_copy(std::as_const(embedded).view()), options_.cache_bytes);
    Stream<Operations> stream(decoder, std::move(embedded), options_.cache_bytes);
    for (layer_ = 0; layer_ < description().sizes.layers; ++layer_) {
      const Cuts cuts(block());
      PlacedLayer<Operations> weights = load();
      if (full_) full_weights_ = load();
      timings_.read += watch_.lap();
      if (options_.sequential == Sequential::sublayer) run_cuts(stream, cuts, weights, length);
      else run_whole_layer(stream, cuts, weights, length);
      full_weights_ = {};
    }
    full_.reset();
    return std::move(reports_);
  }

  /// Rounds all layers to nearest; no calibration.
  std::vector<ModuleReport> run_without_calibration(const ModuleSink& sink,
                                                    Progress progress = {}) {
    begin(sink, std::move(progress));
    for (layer_ = 0; layer_ < description().sizes.layers; ++layer_) {
      const Cuts cuts(block());
      PlacedLayer<Operations> weights = load();
      timings_.read += watch_.lap();
      for (int cut = 1; cut <= cuts.count(); ++cut)
        for (const Reading& reading : cuts.readings(cut))
          quantize(cuts, cut, reading, weights, nullptr);
    }
    return std::move(reports_);
  }

  const PipelineTimings& timings() const { return timings_; }

 private:
  using Seen = Observation<Operations, B>;
  using Weights = typename Operations::Layer;
  using Solver = LayerSolver<Operations, B>;
  using Batch = typename Solver::Batch;

  const Description& description() const { return model_.description; }
  const Block& block() const { return description().layers[std::size_t(layer_)]; }
  Index width(int value) const { return block().width({value}); }
  const LinearSpec& spec(int linear) const { return block().linears()[std::size_t(linear)]; }

  /// The modules of each cut are quantized before the next one is calibrated.
  void run_cuts(Stream<Operations>& stream, const Cuts& cuts, PlacedLayer<Operations>& weights,
                Index length) {
    enter(stream, cuts);
    for (int cut = 1; cut <= cuts.count(); ++cut)
      run_cut(stream, cuts, cut, weights.placed(), weights, length);
    leave(stream, weights.placed());
  }

  /// All inputs come from the full-precision layer; then the quantized layer runs, unless later
  /// layers must not see it.
  void run_whole_layer(Stream<Operations>& stream, const Cuts& cuts,
                       PlacedLayer<Operations>& weights, Index length) {
    const bool rerun = options_.sequential == Sequential::layer;
    std::optional<PlacedLayer<Operations>> own;
    if (!full_) own = load();
    const Weights& original = own ? own->placed() : full_weights_.placed();
    timings_.read += watch_.lap();
    Tensor before;
    if (rerun) before = stream.copy_of_hidden();
    enter(stream, cuts);
    for (int cut = 1; cut <= cuts.count(); ++cut)
      run_cut(stream, cuts, cut, original, weights, length);
    if (rerun) stream.restart(std::move(before));
    leave(stream, rerun ? weights.placed() : original);
  }

  void enter(Stream<Operations>& stream, const Cuts& cuts) {
    stream.enter(cuts);
    if (full_) full_->enter(cuts);
  }

  void leave(Stream<Operations>& stream, const Weights& weights) {
    stream.leave(weights);
    if (full_) full_->leave(full_weights_.placed());
    timings_.forward += watch_.lap();
  }

  /// \param observed   weights that the inputs of the cut's modules are computed with
  /// \param quantized  the layer whose modules are quantized
  void run_cut(Stream<Operations>& stream, const Cuts& cuts, int cut, const Weights& observed,
               PlacedLayer<Operations>& quantized, Index length) {
    std::vector<Reading> dense, experts;
    for (const Reading& reading : cuts.readings(cut))
      (expert_of(reading) < 0 ? dense : experts).push_back(reading);
    if (!experts.empty()) move(stream, cut, observed);  // they may take several passes
    if (!dense.empty()) {
      const auto seen = observe(stream, cuts, cut, dense, observed, length);
      for (std::size_t i = 0; i < dense.size(); ++i)
        quantize(cuts, cut, dense[i], quantized, &seen[i]);
    }
    if (!experts.empty()) run_experts(stream, cuts, cut, experts, observed, quantized, length);
  }

  int expert_of(const Reading& reading) const { return spec(reading.linears[0]).expert; }

  /// Brings all chunks to a cut.
  void move(Stream<Operations>& stream, int cut, const Weights& weights) {
    stream.for_chunks([&](Index first, Index rows) {
      stream.chunk(cut, weights, {}, first, rows);
      if (full_) full_->chunk(cut, full_weights_.placed(), {}, first, rows);
    });
    stream.arrive(cut);
    if (full_) full_->arrive(cut);
    timings_.forward += watch_.lap();
  }

  /// Experts of a cut: as many at a time as the memory set aside for them holds.
  void run_experts(Stream<Operations>& stream, const Cuts& cuts, int cut,
                   std::span<const Reading> experts, const Weights& observed,
                   PlacedLayer<Operations>& quantized, Index length) {
    const std::size_t at_once = experts_at_once(block(), experts, options_, backend_, length);
    std::optional<Hessian<B>> all;
    std::optional<PooledHessian<B>> pool;
    const auto some_from = [&](std::size_t first) {
      return experts.subspan(first, (std::min)(at_once, experts.size() - first));
    };
    const auto merge = [&](std::span<const Seen> seen) {
      if (!all) all.emplace(width(experts[0].value), backend_);
      for (const Seen& one : seen) all->merge(one.hessian);
    };
    const bool pooled = options_.experts == Experts::routed;
    if (pooled && at_once < experts.size())
      for (std::size_t first = 0; first < experts.size(); first += at_once)
        merge(observe(stream, cuts, cut, some_from(first), observed, length, false));
    for (std::size_t first = 0; first < experts.size(); first += at_once) {
      auto seen = observe(stream, cuts, cut, some_from(first), observed, length);
      if (pooled && !pool) {
        if (!all) merge(seen);
        pool.emplace(*all);
        all.reset();
      }
      if (pooled)
        backend_.for_each(static_cast<Index>(seen.size()), [&](Index i) {
          shrink_toward(*pool, seen[static_cast<std::size_t>(i)]);
        });
      timings_.hessian += watch_.lap();
      quantize_experts(cuts, cut, some_from(first), quantized, seen);
    }
  }

  /// Runs all windows up to a cut, if they are not there yet, and collects statistics of what some
  /// of its modules read.
  /// \param may_compare  whether to compare with the full-precision model
  std::vector<Seen> observe(Stream<Operations>& stream, const Cuts& cuts, int cut,
                            std::span<const Reading> readings, const Weights& weights, Index length,
                            bool may_compare = true) {
    const bool beside = full_ && may_compare, experts = expert_of(readings[0]) >= 0;
    Observer<Operations, B> observer(cuts, readings, beside, operations_, backend_);
    std::vector<int> wanted(observer.wanted().begin(), observer.wanted().end());
    const std::vector<int>& routes = cuts.routes();
    if (experts) wanted.insert(wanted.end(), routes.begin(), routes.end());
    stream.for_chunks([&](Index first, Index rows) {
      report_progress(cuts, cut, static_cast<double>(first) / static_cast<double>(stream.tokens()));
      std::optional<Values<Operations>> everyone;
      if (experts && options_.experts == Experts::all)
        everyone = all_routes(cuts, rows, operations_);
      auto values =
          stream.chunk(cut, weights, wanted, first, rows, everyone ? &*everyone : nullptr, routes);
      timings_.forward += watch_.lap();
      const bool keep = experts || first + rows == stream.tokens();
      observer.add(values, first, keep ? length : 0);
      timings_.hessian += watch_.lap();
      if (!beside) return;
      // An expert is compared at the tokens that the quantized model routes to it.
      auto full = full_->chunk(cut, full_weights_.placed(), observer.wanted(), first, rows,
                               experts ? &values : nullptr, routes);
      timings_.forward += watch_.lap();
      observer.add_mismatch(full, values);
      timings_.hessian += watch_.lap();
    });
    stream.arrive(cut);
    if (full_) full_->arrive(cut);
    return observer.finish();
  }

  /// \param seen  the input's calibration; nullptr: round to nearest
  void quantize(const Cuts& cuts, int cut, const Reading& reading, PlacedLayer<Operations>& weights,
                const Seen* seen) {
    const Solver solver(block(), options_, operations_, backend_);
    const typename Solver::Team team{{&reading, 1}, {seen, seen ? std::size_t(1) : 0}};
    solver.solve(team, weights.host(), [&](const auto& solve_batch) {
      report_progress(cuts, cut, 1);
      watch_.lap();
      const Batch batch = solve_batch();
      const double seconds = watch_.lap();
      timings_.quantize += seconds;
      for (std::size_t i = 0; i < batch.linears.size(); ++i)
        deliver(batch, i, weights, seconds / static_cast<double>(batch.linears.size()));
    });
  }

  /// Experts side by side, each on its own input.
  void quantize_experts(const Cuts& cuts, int cut, std::span<const Reading> experts,
                        PlacedLayer<Operations>& weights, std::span<const Seen> seen) {
    report_progress(cuts, cut, 1);
    watch_.lap();
    const Solver solver(block(), options_, operations_, backend_);
    const auto teams = solver.teams(experts, seen);
    std::vector<std::vector<Batch>> solved(teams.size());
    backend_.for_each(static_cast<Index>(teams.size()), [&](Index i) {
      const auto team = static_cast<std::size_t>(i);
      solver.solve(teams[team], weights.host(),
                   [&](const auto& solve_batch) { solved[team].push_back(solve_batch()); });
    });
    const double seconds = watch_.lap();
    timings_.quantize += seconds;
    std::map<int, std::pair<const Batch*, std::size_t>> modules;  // in the order of the block
    for (const auto& batches : solved)
      for (const Batch& batch : batches)
        for (std::size_t i = 0; i < batch.linears.size(); ++i)
          modules[batch.linears[i]] = {&batch, i};
    for (const auto& [linear, at] : modules)
      deliver(*at.first, at.second, weights, seconds / static_cast<double>(modules.size()));
  }

  /// Reports module i of a batch and hands it on.
  void deliver(const Batch& batch, std::size_t i, PlacedLayer<Operations>& weights,
               double seconds) {
    const int linear = batch.linears[i];
    const Seen* const seen = batch.seen.empty() ? nullptr : batch.seen[i];
    weights.refresh(operations_, linear);
    ModuleReport report{.name = spec(linear).name,
                        .settings = batch.settings,
                        .report = batch.modules[i].report,
                        .expert = spec(linear).expert,
                        .own_tokens = seen ? seen->own_tokens : 0,
                        .pooled = seen ? seen->pooled : 0,
                        .seconds = seconds};
    const Tensor none;
    measure_change(operations_, batch.originals[i].view(),
                   weights.placed().linears[std::size_t(linear)].weight.view(),
                   seen ? seen->sample.view() : none.view(), report);
    timings_.measure += watch_.lap();
    (*sink_)(report.name, batch.modules[i]);
    timings_.write += watch_.lap();
    reports_.push_back(std::move(report));
  }

  Tensor kept_copy(ConstView from) const {
    Tensor to = operations_.keep(from.rows(), from.cols());
    operations_.copy(to.view(), from);
    return to;
  }

  PlacedLayer<Operations> load() const {
    return {operations_, load_layer(model_, layer_, operations_.executor())};
  }

  void begin(const ModuleSink& sink, Progress progress) {
    progress_ = std::move(progress);
    sink_ = &sink;
    timings_ = {};
    watch_.lap();
  }

  void report_progress(const Cuts& cuts, int cut, double fraction) {
    if (!progress_) return;
    const double done = static_cast<double>(layer_) + (static_cast<double>(cut - 1) + fraction) /
                                                          static_cast<double>(cuts.count());
    const Index layers = description().sizes.layers;
    const std::string text =
        gptq::detail::message("layer ", layer_ + 1, "/", layers, " ", short_names(cuts, cut));
    if (!progress_(text, done, static_cast<double>(layers))) throw Cancelled();
  }

  const ModelFiles& model_;
  PipelineOptions options_;
  Operations operations_;
  B backend_;
  Progress progress_;
  const ModuleSink* sink_ = nullptr;
  Index layer_ = 0;
  Stopwatch watch_;
  PipelineTimings timings_;
  std::optional<Stream<Operations>> full_;  // the full-precision model, if it runs alongside
  PlacedLayer<Operations> full_weights_;    // of the current layer
  std::vector<ModuleReport> reports_;
};

}  // namespace gptq::model
