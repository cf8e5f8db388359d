// SPDX-License-Identifier: MIT

#include "report.hpp"

#include "command.hpp"

#include <gptq/version.hpp>

#include <fmt/format.h>

#include <cmath>

namespace gptq::program {

namespace {

std::string number(double x, const char* format) {
  return std::isnan(x) ? "-" : fmt::format(fmt::runtime(format), x);
}

/// JSON has no NaN.
nlohmann::ordered_json json_number(double x) {
  return std::isfinite(x) ? nlohmann::ordered_json(x) : nlohmann::ordered_json(nullptr);
}

/// Geometric mean of the modules' errors relative to round to nearest.
struct Gain {
  double mean = Report::unknown;
  Index modules = 0;  ///< for which both were measured
};

Gain mean_gain(const std::vector<model::ModuleReport>& modules) {
  double sum = 0;
  Gain gain;
  for (const auto& m : modules)
    if (m.report.relative_error > 0 && m.report.rtn_relative_error > 0) {
      sum += std::log(m.report.relative_error / m.report.rtn_relative_error);
      ++gain.modules;
    }
  if (gain.modules > 0) gain.mean = std::exp(sum / static_cast<double>(gain.modules));
  return gain;
}

}  // namespace

void print_table(const RunReport& run) {
  std::size_t width = 5;
  for (const auto& m : run.modules) width = (std::max)(width, m.name.size());
  say("{:<{}}  {:>4}  {:>12}  {:>10}  {:>10}  {:>12}  {:>12}  {:>7}\n", "layer", width, "bits",
      "weight error", "fp_inp_SNR", "q_inp_SNR", "output error", "rtn", "time");
  for (const auto& m : run.modules)
    say("{:<{}}  {:>4}  {:>12.3e}  {:>10}  {:>10}  {:>12}  {:>12}  {:>6.2f}s\n", m.name, width,
        m.settings.bits, m.weight_error, number(m.snr_full, "{:.2f} dB"),
        number(m.snr_quantized, "{:.2f} dB"), number(m.report.relative_error, "{:.3e}"),
        number(m.report.rtn_relative_error, "{:.3e}"), m.seconds);
  if (!run.calibrated) return;
  say("weight error: |dW|^2/|W|^2; SNR: of the layer's output on the last window, inputs as they "
      "are and rounded to 8 bits; both against the model's own weight W\n");
  if (run.matches_model)
    say("output error: |X dV^T|^2/|X V^T|^2 over all calibration tokens, V: the weight adjusted "
        "towards the full-precision model's outputs (--match model), which is what is quantized; "
        "rtn: "
        "the same for V rounded to nearest\n");
  else
    say("output error: |X dW^T|^2/|X W^T|^2 over all calibration tokens; rtn: the same for round "
        "to nearest\n");
}

void print_summary(const RunReport& run) {
  if (run.dequantized)
    say("input: {} holds {}; quantized blocks were dequantized first\n", run.input, run.stored_as);
  if (run.calibrated)
    say("calibration: {} of {} tokens, {}\n", counted(run.samples, "window"), run.sequence_length,
        run.text.empty()
            ? "ids from --tokens"
            : "from " + run.text + " with the model's tokenizer (--tokens takes other ids)");
  Index dead = 0, worse = 0, subnormal = 0, vanished = 0, experts = 0, unseen = 0;
  double least = 0, most = 0, least_pooled = 1, most_pooled = 0;
  for (const auto& m : run.modules) {
    if (m.expert >= 0 && run.calibrated) {
      least = experts == 0 ? m.own_tokens : (std::min)(least, m.own_tokens);
      most = (std::max)(most, m.own_tokens);
      least_pooled = (std::min)(least_pooled, m.pooled);
      most_pooled = (std::max)(most_pooled, m.pooled);
      unseen += m.pooled == 1;
      ++experts;
    }
    dead += m.report.damping.dead_columns;
    subnormal += m.report.subnormal_scales;
    vanished += m.report.vanished_groups;
    worse += m.report.relative_error > m.report.rtn_relative_error;
    if (m.report.damping.round_to_nearest)
      say("warning: {}: the Hessian could not be factored; rounded to nearest\n", m.name);
    else if (m.report.damping.retries > 0)
      say("warning: {}: damping was raised to {:g} after {} failed factorizations\n", m.name,
          m.report.damping.fraction, m.report.damping.retries);
  }
  if (dead > 0)
    say("note: {} always zero in calibration: weights there are rounded to nearest\n",
        dead == 1 ? "1 input was" : fmt::format("{} inputs were", dead));
  if (subnormal > 0)
    say("note: {} of weights so small that their scales lose precision in the file\n",
        counted(subnormal, "group"));
  if (vanished > 0)
    say("note: {} of weights so small that fp16 scales make them zero; together, less than a "
        "millionth of the weights' squared norm\n",
        counted(vanished, "group"));
  if (worse > 0)
    say("warning: {} with a larger output error than round to nearest\n", counted(worse, "module"));
  if (experts > 0)
    say("experts: {} saw {} to {} calibration tokens; the Hessian of all experts counts for {:.0f} "
        "to {:.0f} % of each\n",
        counted(experts, "module"), least, most, 100 * least_pooled, 100 * most_pooled);
  if (unseen > 0)
    say("warning: {} saw no calibration token: the Hessian of all experts was used\n",
        counted(unseen, "module"));
  if (run.skipped > 0)
    say("{} quantized, {} skipped\n", counted(static_cast<Index>(run.modules.size()), "module"),
        run.skipped);
  if (const Gain gain = mean_gain(run.modules); gain.modules > 0)
    say("output error relative to round to nearest, on the calibration text: {:.3f} (geometric "
        "mean "
        "over {})\n",
        gain.mean, counted(gain.modules, "module"));
  const auto ratio = [&](std::uint64_t bytes) {
    return static_cast<double>(run.bytes_after) / static_cast<double>(bytes);
  };
  say("size: {} -> {} ({:.0f} %{})\n", bytes_text(run.bytes_before), bytes_text(run.bytes_after),
      100 * ratio(run.bytes_before),
      run.dequantized ? fmt::format("; {:.0f} % of {} as fp16", 100 * ratio(2 * run.parameters),
                                    bytes_text(2 * run.parameters))
                      : "");
  const model::PipelineTimings& t = run.timings;
  say("time: {} on {} (read {:.1f} s, forward {:.1f} s, Hessians {:.1f} s, quantize "
      "{:.1f} s, measure {:.1f} s, write {:.1f} s), peak memory {}\n",
      duration_text(run.seconds), run.place, t.read, t.forward, t.hessian, t.quantize, t.measure,
      t.write, bytes_text(run.peak_memory));
  say("written: {}\n", run.output);
}

nlohmann::ordered_json report_json(const Report& r) {
  return {{"tokens", r.tokens},
          {"loss", json_number(r.loss)},
          {"damped_loss", json_number(r.damped_loss)},
          {"paper_error", json_number(r.paper_error)},
          {"relative_error", json_number(r.relative_error)},
          {"rtn_relative_error", json_number(r.rtn_relative_error)},
          {"clipped", r.clipped},
          {"subnormal_scales", r.subnormal_scales},
          {"vanished_groups", r.vanished_groups},
          {"damping",
           {{"fraction", r.damping.fraction},
            {"lambda", r.damping.lambda},
            {"retries", r.damping.retries},
            {"dead_columns", r.damping.dead_columns},
            {"condition", json_number(r.damping.condition)},
            {"round_to_nearest", r.damping.round_to_nearest}}},
          {"stage_seconds",
           {{"factorize", r.seconds.factorize},
            {"fit", r.seconds.fit},
            {"solve", r.seconds.solve},
            {"measure", r.seconds.measure}}},
          {"peak_bytes", r.peak_bytes}};
}

nlohmann::ordered_json to_json(const RunReport& run) {
  nlohmann::ordered_json json{
      {"generator", fmt::format("gptq {}.{}.{}", version.major, version.minor, version.patch)},
      {"input", run.input},
      {"output", run.output},
      {"stored_as", run.stored_as},
      {"dequantized", run.dequantized},
      {"samples", run.samples},
      {"sequence_length", run.sequence_length},
      {"backend", run.backend},
      {"computed_on", run.place},
      {"threads", run.threads},
      {"bytes_before", run.bytes_before},
      {"bytes_after", run.bytes_after},
      {"peak_memory", run.peak_memory},
      {"seconds", run.seconds},
      {"stage_seconds",
       {{"read", run.timings.read},
        {"forward", run.timings.forward},
        {"hessian", run.timings.hessian},
        {"quantize", run.timings.quantize},
        {"measure", run.timings.measure},
        {"write", run.timings.write}}},
      {"options", run.options},
      {"notes", run.notes},
      {"skipped_modules", run.skipped},
      {"error_against", run.matches_model ? "weights moved towards the full-precision "
                                            "model's outputs"
                                          : "the model's own weights"},
      {"modules", nlohmann::ordered_json::array()}};
  for (const auto& m : run.modules) {
    nlohmann::ordered_json module{{"name", m.name},
                                  {"type", model::info(m.settings.type).name},
                                  {"bits", m.settings.bits},
                                  {"group_size", m.settings.group_size},
                                  {"symmetric", m.settings.symmetric},
                                  {"weight_error", json_number(m.weight_error)},
                                  {"snr_full_db", json_number(m.snr_full)},
                                  {"snr_quantized_db", json_number(m.snr_quantized)},
                                  {"seconds", m.seconds}};
    module.update(report_json(m.report));
    if (m.expert >= 0)
      module.update({{"expert", m.expert}, {"tokens", m.own_tokens}, {"pooled", m.pooled}});
    json["modules"].push_back(std::move(module));
  }
  return json;
}

}  // namespace gptq::program
