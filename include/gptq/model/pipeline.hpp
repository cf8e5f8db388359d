// SPDX-License-Identifier: MIT
#pragma once

// Pipeline: a whole model, layer by layer. Calibration text runs through the decoder; each input of linear modules
// gathers a Hessian; the modules are quantized; what follows sees the quantized ones.

#include <gptq/core/progress.hpp>
#include <gptq/core/stopwatch.hpp>
#include <gptq/model/decoder.hpp>
#include <gptq/model/module_quantizer.hpp>
#include <gptq/model/perplexity.hpp>

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <utility>  // std::move
#include <vector>

namespace gptq::model {

/// What modules have seen of the quantization before them when they are calibrated.
enum class Sequential {
  sublayer,  ///< everything: [q, k, v], [o], [gate, up] and [down] are calibrated one after the other ("true sequential")
  layer,     ///< all earlier layers, but not their own
  none,      ///< nothing: calibration runs through the full-precision model
};

struct PipelineOptions {
  Params params;  ///< group_size comes from `settings`
  SettingsTable settings;
  Method method = Method::gptq;
  Sequential sequential = Sequential::sublayer;
  std::uint64_t cache_bytes = std::uint64_t(1) << 30;  ///< inputs of down are kept up to this size, and computed twice beyond it
};

/// What became of one module.
struct ModuleReport {
  std::string name;
  ModuleSettings settings;
  Report report;
  double weight_error = 0;                ///< ‖ΔW‖² / ‖W‖²
  double snr_full = Report::unknown;      ///< dB, of the output on the last calibration window
  double snr_quantized = Report::unknown; ///< the same with inputs rounded to 8 bits, one scale for all
  double seconds = 0;                     ///< factorization (of the first module that reads the input), solve and packing
};

/// Where quantized modules go.
using ModuleSink = std::function<void(const std::string& name, const QuantizedModule& module)>;

template <class Operations, class B>
class Pipeline {
 public:
  using Tensor = typename Operations::Tensor;
  using View = typename Operations::View;
  using ConstView = typename Operations::ConstView;

  Pipeline(const ModelFiles& model, PipelineOptions options, Operations operations, B backend)
      : model_(model), options_(std::move(options)), operations_(std::move(operations)), backend_(std::move(backend)) {}

  /// Calibrates on whole windows of `length` tokens and quantizes all layers.
  /// \throws Cancelled  the callback asked to stop
  std::vector<ModuleReport> run(std::span<const TokenId> tokens, Index length, const ModuleSink& sink, Progress progress = {}) {
    progress_ = std::move(progress);
    sink_ = &sink;
    Tensor hidden = embed(model_, operations_, tokens);
    const ModelConfig& config = model_.config;
    attended_ = Tensor(hidden.rows(), config.heads * config.head_dim);
    if (static_cast<std::uint64_t>(hidden.rows() * config.intermediate) * sizeof(float) <= options_.cache_bytes) activated_ = Tensor(hidden.rows(), config.intermediate);
    const Decoder<Operations> decoder(model_.config, length, operations_);
    for (layer_ = 0; layer_ < model_.config.layers; ++layer_) {
      LayerWeights weights = load_layer(model_, layer_);
      run_layer(decoder, hidden, weights);
    }
    return std::move(reports_);
  }

  /// Rounds all layers to nearest; no calibration.
  std::vector<ModuleReport> run_without_calibration(const ModuleSink& sink, Progress progress = {}) {
    progress_ = std::move(progress);
    sink_ = &sink;
    for (layer_ = 0; layer_ < model_.config.layers; ++layer_) {
      LayerWeights weights = load_layer(model_, layer_);
      for (const auto& stage : stages) quantize_stage(stage, weights, nullptr, {});
    }
    return std::move(reports_);
  }

 private:
  /// Modules that read the same input, in the order of the forward pass.
  struct Stage {
    const char* name;
    std::vector<Module> modules;
  };
  inline static const Stage stages[] = {{"q, k, v", {Module::q, Module::k, Module::v}}, {"o", {Module::o}}, {"gate, up", {Module::gate, Module::up}}, {"down", {Module::down}}};

  /// What calibration keeps of one input.
  struct Observation {
    std::optional<Hessian<B>> hessian;
    Tensor sample;  ///< the last window
  };

  void run_layer(const Decoder<Operations>& decoder, Tensor& hidden, LayerWeights& weights) {
    if (options_.sequential == Sequential::sublayer) {
      pass(decoder, hidden, weights, [&](const Stage& stage, Observation& seen) { quantize_stage(stage, weights, &*seen.hessian, seen.sample.view()); });
      return;
    }
    // All inputs come from the full-precision layer; the quantized one runs again unless nothing may see it.
    const bool rerun = options_.sequential == Sequential::layer;
    Tensor before;
    if (rerun) before = copy(std::as_const(hidden).view());
    std::vector<Observation> observations;
    pass(decoder, hidden, weights, [&](const Stage&, Observation& seen) { observations.push_back(std::move(seen)); });
    for (std::size_t i = 0; i < observations.size(); ++i)
      quantize_stage(stages[i], weights, &*observations[i].hessian, observations[i].sample.view());
    if (rerun) {
      hidden = std::move(before);
      for_chunks(decoder, hidden, [&](Index begin, Index rows) { decoder.forward(hidden.view().middle_rows(begin, rows), weights, layer_); });
    }
  }

  /// One forward pass of a layer over all windows, stage by stage; `done` is called when a stage's input is fully known.
  template <class Done>
  void pass(const Decoder<Operations>& decoder, Tensor& hidden, const LayerWeights& weights, const Done& done) {
    const ModelConfig& config = model_.config;
    const bool keep = activated_.rows() > 0;
    const auto part = [&](Tensor& tensor, Index begin, Index rows) { return tensor.view().middle_rows(begin, rows); };

    observe(decoder, stages[0], hidden, config.hidden, done, [&](Index begin, Index rows, auto& add) {
      add(decoder.attention_input(part(hidden, begin, rows), weights));
    });
    observe(decoder, stages[1], hidden, attended_.cols(), done, [&](Index begin, Index rows, auto& add) {
      Tensor x = decoder.attend(decoder.attention_input(part(hidden, begin, rows), weights).view(), weights, layer_);
      operations_.copy(part(attended_, begin, rows), std::as_const(x).view());
      add(std::move(x));
    });
    observe(decoder, stages[2], hidden, config.hidden, done, [&](Index begin, Index rows, auto& add) {
      decoder.add_attention(part(hidden, begin, rows), part(attended_, begin, rows), weights);
      add(decoder.mlp_input(part(hidden, begin, rows), weights));
    });
    const auto activate = [&](Index begin, Index rows) { return decoder.activate(decoder.mlp_input(part(hidden, begin, rows), weights).view(), weights); };
    observe(decoder, stages[3], hidden, config.intermediate, done, [&](Index begin, Index rows, auto& add) {
      Tensor x = activate(begin, rows);
      if (keep) operations_.copy(part(activated_, begin, rows), std::as_const(x).view());
      add(std::move(x));
    });
    for_chunks(decoder, hidden, [&](Index begin, Index rows) {
      if (keep)
        decoder.add_mlp(part(hidden, begin, rows), part(activated_, begin, rows), weights);
      else
        decoder.add_mlp(part(hidden, begin, rows), activate(begin, rows).view(), weights);
    });
  }

  /// Runs `input` over all chunks and gathers what it hands to its `add`.
  template <class Done, class Input>
  void observe(const Decoder<Operations>& decoder, const Stage& stage, Tensor& hidden, Index in_features, const Done& done, const Input& input) {
    Observation seen;
    seen.hessian.emplace(in_features, backend_);
    for_chunks(decoder, hidden, [&](Index begin, Index rows) {
      report_progress(stage, static_cast<double>(begin) / static_cast<double>(hidden.rows()));
      const auto add = [&](Tensor x) {
        try {
          seen.hessian->add(std::as_const(x).view());
        } catch (const NumericalError& error) {
          throw NumericalError(gptq::detail::message("input of ", full_name(layer_, stage.modules[0]), ", token ", begin, " and on: ", error.what()));
        }
        if (begin + rows == hidden.rows()) seen.sample = copy(std::as_const(x).view().middle_rows(rows - decoder.length(), decoder.length()));
      };
      input(begin, rows, add);
    });
    done(stage, seen);
  }

  template <class F>
  void for_chunks(const Decoder<Operations>& decoder, const Tensor& hidden, const F& f) {
    const Index chunk = (std::max)(Index(1), 4096 / decoder.length()) * decoder.length();
    for (Index begin = 0; begin < hidden.rows(); begin += chunk) f(begin, (std::min)(chunk, hidden.rows() - begin));
  }

  void quantize_stage(const Stage& stage, LayerWeights& weights, const Hessian<B>* hessian, ConstView sample) {
    ModuleQuantizer<B> quantizer(options_.params, options_.method, gptq_format(options_.settings.base.symmetric), backend_, hessian);
    for (const Module module : stage.modules) {
      const std::string name = full_name(layer_, module);
      const auto settings = options_.settings.find(name);
      if (!settings) continue;
      report_progress(stage, 1);
      Linear& linear = weights[module];
      const Tensor original = copy(std::as_const(linear.weight).view());
      Stopwatch watch;
      QuantizedModule quantized = quantizer.quantize(linear.weight.view(), *settings, name);
      ModuleReport report{.name = name, .settings = *settings, .report = quantized.report, .seconds = watch.lap()};
      const ConstView after = std::as_const(linear.weight).view();
      report.weight_error = operations_.squared_distance(original.view(), after) / (std::max)(operations_.squared_norm(original.view()), 1e-300);
      if (hessian) measure_output(sample, original.view(), after, report);
      (*sink_)(name, quantized);
      reports_.push_back(std::move(report));
    }
  }

  /// Signal to noise of the module's output on one window, with the inputs as they are and rounded to 8 bits.
  void measure_output(ConstView sample, ConstView original, ConstView quantized, ModuleReport& report) {
    const Tensor target = operations_.matmul(sample, original);
    const double energy = operations_.squared_norm(target.view());
    const auto snr = [&](ConstView x) { return -10 * std::log10(operations_.squared_distance(target.view(), operations_.matmul(x, quantized).view()) / energy); };
    report.snr_full = snr(sample);
    report.snr_quantized = snr(operations_.round_to_int8(sample).view());
  }

  Tensor copy(ConstView from) const {
    Tensor to(from.rows(), from.cols());
    operations_.copy(to.view(), from);
    return to;
  }

  void report_progress(const Stage& stage, double fraction) {
    if (!progress_) return;
    const double done = static_cast<double>(layer_) + (static_cast<double>(&stage - stages) + fraction) / 4;
    const std::string text = gptq::detail::message("layer ", layer_ + 1, "/", model_.config.layers, " ", stage.name);
    if (!progress_(text, done, static_cast<double>(model_.config.layers))) throw Cancelled();
  }

  const ModelFiles& model_;
  PipelineOptions options_;
  Operations operations_;
  B backend_;
  Progress progress_;
  const ModuleSink* sink_ = nullptr;
  Index layer_ = 0;
  Tensor attended_;   ///< inputs of o, all windows
  Tensor activated_;  ///< inputs of down, or empty where they are computed twice
  std::vector<ModuleReport> reports_;
};

}  // namespace gptq::model
