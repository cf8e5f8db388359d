// SPDX-License-Identifier: MIT

// gptq check: whether a quantized folder is complete, and which engines load it.

#include "command.hpp"

#include <gptq/model/convert.hpp>
#include <gptq/model/decoder_tensors.hpp>
#include <gptq/model/engine.hpp>

#include <fmt/ranges.h>  // fmt::join

#include <algorithm>  // std::find
#include <memory>

namespace gptq::program {

namespace {

struct CheckOptions {
  std::string model;
  std::vector<std::string> engines;
  Index ranks = 1;
  bool quiet = false;
};

/// The settings of a model, also of one in 8-bit floats, whose modules are read as numbers.
model::SettingsTable settings_of(const model::ModelFiles& model, const Progress& progress) {
  bool floats = false;
  model.description.for_each_linear([&](const model::LinearSpec& linear) {
    const std::string weight = linear.name + ".weight";
    floats = floats ||
             (model.tensors->contains(weight) && model.tensors->type_name(weight) == "F8_E4M3");
  });
  if (floats) return {model::settings_of(model::info(model::NumberType::fp8)), {}, {}};
  return model::stored_settings(model, progress);
}

void check(const CheckOptions& o) {
  const model::ModelFiles model = open_model(o.model);
  detail::require(model.quantization.has_value(), o.model, ": is not quantized");
  model::require_decoder_tensors(model);
  print_notes(model.notes);
  const Progress progress = progress_display(o.quiet);
  model::require_finite_tensors(model, exec::Threads(), progress);
  const auto table = settings_of(model, progress);
  const model::EngineView view{model.description, table, *model.format(), o.ranks};
  std::string refused;
  for (const model::Engine& engine : model::engines) {
    const bool asked =
        std::find(o.engines.begin(), o.engines.end(), engine.name) != o.engines.end();
    if (!o.engines.empty() && !asked) continue;
    const auto verdict = model::judge(engine, view);
    say("{:<13} {}\n", engine.name,
        verdict.refusals.empty()
            ? "loads it"
            : fmt::format("refuses it: {}", fmt::join(verdict.refusals, "; ")));
    for (const std::string& warning : verdict.warnings) say("{:<13} {}\n", "", warning);
    if (asked && !verdict.refusals.empty())
      refused += (refused.empty() ? "" : ", ") + std::string(engine.name);
  }
  say("all tensors of {} are there\n", counted(model.description.linear_count(), "module"));
  if (!refused.empty())
    throw FormatError(detail::message(o.model, ": ", refused, " will not load it"));
}

}  // namespace

void add_check(CLI::App& app) {
  auto o = std::make_shared<CheckOptions>();
  CLI::App* command = app.add_subcommand(
      "check", "Check that a quantized folder is complete, and which engines load it");
  std::vector<std::string> names;
  for (const model::Engine& engine : model::engines) names.emplace_back(engine.name);
  command->add_option("MODEL", o->model, "Folder of a quantized model")->required();
  command
      ->add_option("--engine", o->engines,
                   "An engine that must load it, or the exit code is 2 (repeatable)")
      ->check(CLI::IsMember(names))
      ->allow_extra_args(false);
  command->add_option("--tensor-parallel", o->ranks, "Ranks among which modules are divided")
      ->check(CLI::Range(Index(1), Index(1024)))
      ->capture_default_str();
  command->add_flag("--quiet", o->quiet, "Print only the outcome");
  command->footer("Example:\n  gptq check Qwen3-8B-int4 --engine vllm --tensor-parallel 2");
  command->callback([o] { check(*o); });
}

}  // namespace gptq::program
