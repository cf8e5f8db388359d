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
#include <gptq/model/placed_layer.hpp>
#include <gptq/model/stream.hpp>

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <utility>  // std::move
#include <vector>

namespace gptq::model {

/// Which earlier modules are already quantized when a module is calibrated.
enum class Sequential {
  sublayer,  ///< all: [q, k, v], [o], [gate, up] and [down] are calibrated one after the
             ///< other ("true sequential")
  layer,     ///< those of all earlier layers, but not of its own
  none,      ///< none: calibration runs through the full-precision model
};

/// What the output of a quantized module should match.
enum class Match {
  model,  ///< its output in the full-precision model, although its inputs come from quantized
          ///< layers
  layer,  ///< the output of its full-precision weights on the same inputs
};

/// How a pipeline calibrates and what it aims for.
struct PipelineOptions {
  /// group_size comes from `settings`.
  Params params;
  SettingsTable settings;
  Method method = Method::gptq;
  Sequential sequential = Sequential::sublayer;
  /// `model` also runs the full-precision model alongside: twice the time, better results.
  Match match = Match::model;
  /// How strongly `model` corrects the mismatch of inputs and of the residual stream, 0 .. 1.
  double match_inputs = 0.5, match_residual = 0.5;
  /// Inputs of down are kept up to this size, and recomputed beyond it.
  std::uint64_t cache_bytes = std::uint64_t(1) << 30;
};

/// The outcome for one module.
struct ModuleReport {
  std::string name;
  ModuleSettings settings;
  Report report;
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

/// Receives the quantized modules.
using ModuleSink = std::function<void(const std::string& name, const QuantizedModule& module)>;

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
    const Decoder<Operations> decoder(model_.config, length, operations_);
    Tensor embedded = embed(model_, operations_, tokens);
    if (options_.match == Match::model && options_.sequential != Sequential::none)
      full_.emplace(decoder, kept_copy(std::as_const(embedded).view()), options_.cache_bytes);
    Stream<Operations> stream(decoder, std::move(embedded), options_.cache_bytes);
    for (layer_ = 0; layer_ < model_.config.layers; ++layer_) {
      PlacedLayer<Operations> weights = load();
      if (full_) full_weights_ = load();
      timings_.read += watch_.lap();
      if (options_.sequential == Sequential::sublayer) run_sublayers(stream, weights, length);
      else run_whole_layer(stream, weights, length);
      if (full_) finish(*full_, full_weights_.placed());
    }
    full_.reset();
    return std::move(reports_);
  }

  /// Rounds all layers to nearest; no calibration.
  std::vector<ModuleReport> run_without_calibration(const ModuleSink& sink,
                                                    Progress progress = {}) {
    begin(sink, std::move(progress));
    for (layer_ = 0; layer_ < model_.config.layers; ++layer_) {
      PlacedLayer<Operations> weights = load();
      timings_.read += watch_.lap();
      for (const Stage stage : stages) quantize_stage(stage, weights, nullptr);
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

  /// Each stage is quantized before the next one is calibrated.
  void run_sublayers(Stream<Operations>& stream, PlacedLayer<Operations>& weights, Index length) {
    for (const Stage stage : stages) {
      const Observation seen = observe(stream, stage, weights.placed(), length);
      quantize_stage(stage, weights, &seen);
    }
    finish(stream, weights.placed());
  }

  /// All inputs come from the full-precision layer; then the quantized layer runs, unless later
  /// layers must not see it.
  void run_whole_layer(Stream<Operations>& stream, PlacedLayer<Operations>& weights, Index length) {
    const bool rerun = options_.sequential == Sequential::layer;
    Tensor before;
    if (rerun) before = kept_copy(std::as_const(stream.hidden()).view());
    std::vector<Observation> seen;
    for (const Stage stage : stages)
      seen.push_back(observe(stream, stage, weights.placed(), length));
    if (!rerun) finish(stream, weights.placed());
    for (const Stage stage : stages)
      quantize_stage(stage, weights, &seen[static_cast<std::size_t>(stage)]);
    if (!rerun) return;
    stream.hidden() = std::move(before);
    for (const Stage stage : stages)
      stream.for_chunks([&](Index first, Index rows) {
        stream.input(stage, weights.placed(), layer_, first, rows);
      });
    finish(stream, weights.placed());
  }

  /// Runs all windows up to a stage and collects statistics of its input.
  Observation observe(Stream<Operations>& stream, Stage stage,
                      const typename Operations::Layer& weights, Index length) {
    const ModelConfig& config = model_.config;
    const Index width = stage_width(config, stage);
    Observation seen{Hessian<B>(width, backend_), {}, {}, {}};
    if (full_) {
      seen.inputs.emplace(width, width, backend_);
      if (stage == Stage::output || stage == Stage::down)
        seen.residual.emplace(config.hidden, width, backend_);
    }
    stream.for_chunks([&](Index first, Index rows) {
      report_progress(stage, static_cast<double>(first) / static_cast<double>(stream.tokens()));
      const Tensor x = stream.input(stage, weights, layer_, first, rows);
      timings_.forward += watch_.lap();
      try {
        seen.hessian.add(x.view());
      } catch (const NumericalError& error) {
        throw NumericalError(
            gptq::detail::message("input of ", full_name(layer_, stage_modules(stage)[0]),
                                  ", calibration tokens from ", first, ": ", error.what()));
      }
      if (first + rows == stream.tokens())
        seen.sample = copy(x.view().middle_rows(rows - length, length));
      timings_.hessian += watch_.lap();
      if (full_) observe_mismatch(stream, stage, x, first, rows, seen);
    });
    return seen;
  }

  /// How the quantized stream differs from the full-precision one at a stage.
  void observe_mismatch(Stream<Operations>& stream, Stage stage, const Tensor& x, Index first,
                        Index rows, Observation& seen) {
    const auto difference = [&](ConstView full, ConstView quantized) {
      Tensor d = operations_.tensor(full.rows(), full.cols());
      operations_.subtract(d.view(), full, quantized);
      return d;
    };
    const Tensor full = full_->input(stage, full_weights_.placed(), layer_, first, rows);
    timings_.forward += watch_.lap();
    const Tensor dx = difference(full.view(), x.view());
    seen.inputs->add(dx.view(), x.view());
    if (seen.residual) {
      const auto part = [&](Stream<Operations>& s) {
        return std::as_const(s.hidden()).view().middle_rows(first, rows);
      };
      const Tensor dr = difference(part(*full_), part(stream));
      seen.residual->add(dr.view(), x.view());
    }
    timings_.hessian += watch_.lap();
  }

  void finish(Stream<Operations>& stream, const typename Operations::Layer& weights) {
    stream.for_chunks([&](Index first, Index rows) { stream.finish(weights, first, rows); });
    timings_.forward += watch_.lap();
  }

  /// Modules of a stage to be quantized together: those with the same settings if the backend takes
  /// several weights at once, else each on its own.
  std::vector<std::vector<Module>> batches_of(Stage stage) const {
    std::vector<std::vector<Module>> batches;
    for (const Module module : stage_modules(stage)) {
      const auto settings = settings_of(module);
      if (!settings) continue;
      if (backend::BatchBackend<B> && !batches.empty() &&
          settings == settings_of(batches.back().front()))
        batches.back().push_back(module);
      else batches.push_back({module});
    }
    return batches;
  }

  auto settings_of(Module module) const {
    return options_.settings.find(full_name(layer_, module));
  }

  /// \param seen  the input's calibration; nullptr: round to nearest
  void quantize_stage(Stage stage, PlacedLayer<Operations>& weights, const Observation* seen) {
    ModuleQuantizer<B> quantizer(options_.params, options_.method,
                                 gptq_format(options_.settings.base.symmetric), backend_,
                                 seen ? &seen->hessian : nullptr);
    for (const std::vector<Module>& modules : batches_of(stage)) {
      const ModuleSettings settings = *settings_of(modules.front());
      report_progress(stage, 1);
      std::vector<std::string> names;
      std::vector<MatrixView<float>> views;
      std::vector<Tensor> originals;
      for (const Module module : modules) {
        names.push_back(full_name(layer_, module));
        views.push_back(weights.host()[module].weight.view());
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
      for (std::size_t i = 0; i < modules.size(); ++i) {
        weights.refresh(operations_, modules[i]);
        ModuleReport report{.name = names[i],
                            .settings = settings,
                            .report = quantized[i].report,
                            .seconds = seconds / static_cast<double>(modules.size())};
        measure(std::as_const(originals[i]).view(), weights.placed()[modules[i]].weight.view(),
                seen, report);
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
  /// statistics of one input, and the largest solve.
  std::uint64_t working_bytes(Index length) const {
    const ModelConfig& config = model_.config;
    const bool beside = options_.match == Match::model;
    Index gathered = 0, solve = 0;
    for (const Stage stage : stages) {
      const Index in = stage_width(config, stage);
      Index out = 0;  // of all modules that share this input, which may be solved in one panel
      for (const Module module : stage_modules(stage)) out += module_shape(config, module).out;
      const MemoryPlan plan = memory_plan(out, in, options_.params, backend_);
      gathered = (std::max)(gathered, plan.hessian * (beside ? 3 : 1) + plan.calibrate);
      solve = (std::max)(solve, plan.peak() + 3 * out * in * Index(sizeof(float)));
    }
    return decoder_bytes(config, length) * (beside ? 2 : 1) +
           static_cast<std::uint64_t>(gathered + solve);
  }

  void begin(const ModuleSink& sink, Progress progress) {
    progress_ = std::move(progress);
    sink_ = &sink;
    timings_ = {};
    watch_.lap();
  }

  void report_progress(Stage stage, double fraction) {
    if (!progress_) return;
    static constexpr const char* names[] = {"q, k, v", "o", "gate, up", "down"};
    const double done =
        static_cast<double>(layer_) + (static_cast<double>(static_cast<int>(stage)) + fraction) / 4;
    const auto layers = model_.config.layers;
    const std::string text = gptq::detail::message("layer ", layer_ + 1, "/", layers, " ",
                                                   names[static_cast<int>(stage)]);
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
