// SPDX-License-Identifier: MIT
#pragma once

// Pipeline: a whole model, layer by layer. Calibration text runs through the decoder; a Hessian is
// accumulated for each input of linear modules; the modules are quantized; later ones see the
// quantized ones.

#include <gptq/core/progress.hpp>
#include <gptq/core/stopwatch.hpp>
#include <gptq/factor/target.hpp>
#include <gptq/model/module_quantizer.hpp>
#include <gptq/model/perplexity.hpp>
#include <gptq/model/pipeline_options.hpp>
#include <gptq/model/placed_layer.hpp>
#include <gptq/model/stream.hpp>

#include <functional>
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
    operations_.reserve(working_bytes(length));
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
  /// What calibration keeps of one input.
  struct Observation {
    Hessian<B> hessian;
    Tensor sample;                         ///< the last window
    std::optional<CrossMoment<B>> inputs;  ///< (X − X̃)ᵀX̃
    std::optional<CrossMoment<B>>
        residual;  ///< (r − r̃)ᵀX̃, where the output joins the residual stream
  };
  using Weights = typename Operations::Layer;

  const Description& description() const { return model_.description; }
  const Block& block() const { return description().layers[std::size_t(layer_)]; }
  Index width(int value) const { return block().width({value}); }
  const LinearSpec& spec(int linear) const { return block().linears()[std::size_t(linear)]; }

  /// The modules of each cut are quantized before the next one is calibrated.
  void run_cuts(Stream<Operations>& stream, const Cuts& cuts, PlacedLayer<Operations>& weights,
                Index length) {
    enter(stream, cuts);
    for (int cut = 1; cut <= cuts.count(); ++cut) {
      const auto seen = observe(stream, cuts, cut, weights.placed(), length);
      for (std::size_t i = 0; i < seen.size(); ++i)
        quantize(cuts, cut, cuts.readings(cut)[i], weights, &seen[i]);
    }
    leave(stream, weights.placed());
  }

  /// All inputs come from the full-precision layer; then the quantized layer runs, unless later
  /// layers must not see it.
  void run_whole_layer(Stream<Operations>& stream, const Cuts& cuts,
                       PlacedLayer<Operations>& weights, Index length) {
    const bool rerun = options_.sequential == Sequential::layer;
    Tensor before;
    if (rerun) before = kept_copy(std::as_const(stream.hidden()).view());
    enter(stream, cuts);
    std::vector<std::vector<Observation>> seen;
    for (int cut = 1; cut <= cuts.count(); ++cut)
      seen.push_back(observe(stream, cuts, cut, weights.placed(), length));
    if (!rerun) leave(stream, weights.placed());
    for (int cut = 1; cut <= cuts.count(); ++cut)
      for (std::size_t i = 0; i < cuts.readings(cut).size(); ++i)
        quantize(cuts, cut, cuts.readings(cut)[i], weights, &seen[std::size_t(cut) - 1][i]);
    if (!rerun) return;
    stream.restart(std::move(before));
    leave(stream, weights.placed());
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

  /// Runs all windows up to a cut and collects statistics of what its modules read.
  std::vector<Observation> observe(Stream<Operations>& stream, const Cuts& cuts, int cut,
                                   const Weights& weights, Index length) {
    const auto& readings = cuts.readings(cut);
    std::vector<Observation> seen;
    std::vector<int> wanted;
    for (const Reading& reading : readings) {
      const Index in = width(reading.value);
      seen.push_back({Hessian<B>(in, backend_), {}, {}, {}});
      wanted.push_back(reading.value);
      if (!full_) continue;
      seen.back().inputs.emplace(in, in, backend_);
      if (reading.residual < 0) continue;
      seen.back().residual.emplace(width(reading.residual), in, backend_);
      wanted.push_back(reading.residual);
    }
    stream.for_chunks([&](Index first, Index rows) {
      report_progress(cuts, cut, static_cast<double>(first) / static_cast<double>(stream.tokens()));
      const auto values = stream.chunk(cut, weights, wanted, first, rows);
      timings_.forward += watch_.lap();
      const bool last = first + rows == stream.tokens();
      for (std::size_t i = 0; i < readings.size(); ++i)
        observe(values.view(readings[i].value), readings[i], first, last ? length : 0, seen[i]);
      timings_.hessian += watch_.lap();
      if (!full_) return;
      const auto full = full_->chunk(cut, full_weights_.placed(), wanted, first, rows);
      timings_.forward += watch_.lap();
      for (std::size_t i = 0; i < readings.size(); ++i)
        observe_mismatch(readings[i], full, values, seen[i]);
      timings_.hessian += watch_.lap();
    });
    stream.arrive(cut);
    if (full_) full_->arrive(cut);
    return seen;
  }

  /// \param kept  how many of the last rows to keep for measuring outputs
  void observe(ConstView x, const Reading& reading, Index first, Index kept, Observation& seen) {
    try {
      seen.hessian.add(x);
    } catch (const NumericalError& error) {
      throw NumericalError(gptq::detail::message("input of ", spec(reading.linears[0]).name,
                                                 ", calibration tokens from ", first, ": ",
                                                 error.what()));
    }
    kept = (std::min)(kept, x.rows());
    if (kept > 0) seen.sample = copy(x.middle_rows(x.rows() - kept, kept));
  }

  /// How the quantized stream differs from the full-precision one in what a module reads.
  void observe_mismatch(const Reading& reading, const Values<Operations>& full,
                        const Values<Operations>& quantized, Observation& seen) {
    const auto difference = [&](int value) {
      const ConstView a = full.view(value), b = quantized.view(value);
      Tensor d = operations_.tensor(a.rows(), a.cols());
      operations_.subtract(d.view(), a, b);
      return d;
    };
    const ConstView x = quantized.view(reading.value);
    const Tensor dx = difference(reading.value);
    seen.inputs->add(dx.view(), x);
    if (!seen.residual) return;
    const Tensor dr = difference(reading.residual);
    seen.residual->add(dr.view(), x);
  }

  /// Modules with one input to be quantized together: those with the same settings if the backend
  /// takes several weights at once, else each on its own.
  std::vector<std::vector<int>> batches_of(const Reading& reading) const {
    std::vector<std::vector<int>> batches;
    for (const int linear : reading.linears) {
      const auto settings = settings_of(linear);
      if (!settings) continue;
      if (backend::BatchBackend<B> && !batches.empty() &&
          settings == settings_of(batches.back().front()))
        batches.back().push_back(linear);
      else batches.push_back({linear});
    }
    return batches;
  }

  auto settings_of(int linear) const { return options_.settings.find(spec(linear).name); }

  /// \param seen  the input's calibration; nullptr: round to nearest
  void quantize(const Cuts& cuts, int cut, const Reading& reading, PlacedLayer<Operations>& weights,
                const Observation* seen) {
    ModuleQuantizer<B> quantizer(options_.params, options_.method,
                                 gptq_format(options_.settings.base.symmetric), backend_,
                                 seen ? &seen->hessian : nullptr);
    for (const std::vector<int>& linears : batches_of(reading)) {
      const ModuleSettings settings = *settings_of(linears.front());
      report_progress(cuts, cut, 1);
      std::vector<std::string> names;
      std::vector<MatrixView<float>> views;
      std::vector<Tensor> originals;
      for (const int linear : linears) {
        names.push_back(spec(linear).name);
        views.push_back(weights.host().linears[std::size_t(linear)].weight.view());
        originals.push_back(copy(ConstView(views.back())));
      }
      watch_.lap();
      // Without a factor of H, no target can be used.
      if (seen && seen->inputs && !quantizer.factor(settings.group_size).damping.round_to_nearest)
        for (const MatrixView<float>& weight : views)
          aim_at_full_precision(
              weight, quantizer.factor(settings.group_size),
              Mismatch<B>{&*seen->inputs, options_.match_inputs,
                          seen->residual ? &*seen->residual : nullptr, options_.match_residual});
      const std::vector<QuantizedModule> quantized = quantizer.quantize(views, settings, names);
      const double seconds = watch_.lap();
      timings_.quantize += seconds;
      for (std::size_t i = 0; i < linears.size(); ++i) {
        weights.refresh(operations_, linears[i]);
        ModuleReport report{.name = names[i],
                            .settings = settings,
                            .report = quantized[i].report,
                            .seconds = seconds / static_cast<double>(linears.size())};
        measure(std::as_const(originals[i]).view(),
                weights.placed().linears[std::size_t(linears[i])].weight.view(), seen, report);
        (*sink_)(names[i], quantized[i]);
        timings_.write += watch_.lap();
        reports_.push_back(std::move(report));
      }
    }
  }

  /// Measures what quantization changed in a module.
  void measure(ConstView original, ConstView after, const Observation* seen, ModuleReport& report) {
    report.weight_error = operations_.squared_distance(original, after) /
                          (std::max)(operations_.squared_norm(original), 1e-300);
    if (seen) measure_output(seen->sample.view(), original, after, report);
    timings_.measure += watch_.lap();
  }

  /// Signal-to-noise ratio of the module's output on one window, with inputs as they are and
  /// rounded to 8 bits.
  void measure_output(ConstView sample, ConstView original, ConstView quantized,
                      ModuleReport& report) {
    const Tensor target = operations_.matmul(sample, original);
    const double energy = operations_.squared_norm(target.view());
    const auto snr = [&](ConstView x) {
      const Tensor output = operations_.matmul(x, quantized);
      return -10 * std::log10(operations_.squared_distance(target.view(), output.view()) / energy);
    };
    report.snr_full = snr(sample);
    report.snr_quantized = snr(operations_.round_to_int8(sample).view());
  }

  Tensor copy(ConstView from) const {
    Tensor to = operations_.tensor(from.rows(), from.cols());
    operations_.copy(to.view(), from);
    return to;
  }
  Tensor kept_copy(ConstView from) const {
    Tensor to = operations_.keep(from.rows(), from.cols());
    operations_.copy(to.view(), from);
    return to;
  }

  PlacedLayer<Operations> load() const {
    return {operations_, load_layer(model_, layer_, operations_.executor())};
  }

  /// Upper bound, besides hidden states: layers and a chunk on its way through one, the calibration
  /// statistics of one cut, and the largest solve.
  std::uint64_t working_bytes(Index length) const {
    const bool beside = options_.match == Match::model;
    Index gathered = 0, solve = 0;
    for (const Block& layer : description().layers) {
      const Cuts cuts(layer);
      for (int cut = 1; cut <= cuts.count(); ++cut) {
        Index of_cut = 0;
        for (const Reading& reading : cuts.readings(cut)) {
          const Index in = layer.width({reading.value});
          Index out = 0;  // of all modules that share this input: they may be solved in one panel
          for (const int linear : reading.linears) out += layer.linears()[std::size_t(linear)].out;
          const MemoryPlan plan = memory_plan(out, in, options_.params, backend_);
          of_cut += plan.hessian * (beside ? 3 : 1) + plan.calibrate;
          solve = (std::max)(solve, plan.peak() + 3 * out * in * Index(sizeof(float)));
        }
        gathered = (std::max)(gathered, of_cut);
      }
    }
    return decoder_bytes(description(), length) * (beside ? 2 : 1) +
           static_cast<std::uint64_t>(gathered + solve);
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
