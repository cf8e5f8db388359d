// SPDX-License-Identifier: MIT

// gptq eval: perplexity of a model, quantized or not, on a text.

#include "command.hpp"
#include "compute.hpp"

#include <gptq/core/stopwatch.hpp>
#include <gptq/model/perplexity.hpp>

#include <fmt/format.h>

#include <memory>

namespace gptq::program {

namespace {

struct EvalOptions {
  std::string model;
  TextOptions text;
  Index windows = 0, sequence_length = 2048;
  ComputeOptions compute;
};

template <class Operations>
void eval(EvalOptions o, const Operations& operations, const std::string& place) {
  Stopwatch watch;
  detail::require(!o.text.file.empty() || !o.text.tokens.empty(),
                  "--text FILE or --tokens FILE (ids) is needed");
  detail::require(o.text.file.empty() || o.text.tokens.empty(),
                  "--text and --tokens are mutually exclusive");
  const model::ModelFiles model = open_model(o.model);
  model::require_decoder_tensors(model);
  print_notes(model.notes);
  model::require_finite_tensors(model, operations.executor(), progress_display(o.compute.quiet));
  cut_to_context(o.sequence_length, model.description.sizes);
  const auto ids = load_tokens(model, o.text, o.windows, o.sequence_length);
  detail::require(static_cast<Index>(ids.size()) >= o.sequence_length,
                  o.text.tokens.empty() ? o.text.file : o.text.tokens, ": has ", ids.size(),
                  " tokens, fewer than one window of ", o.sequence_length,
                  " (reduce --sequence-length)");
  const auto result = [&] {
    const Progress progress = progress_display(o.compute.quiet);
    return model::perplexity(model, operations, ids, o.windows, o.sequence_length, progress);
  }();
  model.tensors->require_unchanged();
  const auto windows = static_cast<Index>(result.window_nll.size());
  if (o.windows > windows)
    say("note: the text has {} of {} tokens; {} were requested\n", counted(windows, "window"),
        o.sequence_length, o.windows);
  say("{} of {} tokens, {} on {}, peak memory {}\n", counted(windows, "window"), o.sequence_length,
      duration_text(watch.lap()), place, bytes_text(peak_memory()));
  say("mean negative log-likelihood: {:.6f}\n", result.nll);
  say("perplexity: {:.4f}\n", result.perplexity());
}

}  // namespace

void add_eval(CLI::App& app) {
  auto o = std::make_shared<EvalOptions>();
  CLI::App* command = app.add_subcommand(
      "eval",
      "Perplexity of a model on a text: consecutive windows, the first token of each not scored");
  command->add_option("MODEL", o->model, "Folder (full precision or GPTQ) or .gguf file")
      ->required();
  command->add_option("--text", o->text.file, "Text: plain, or JSON lines with a \"text\" field");
  command->add_option("--tokens", o->text.tokens,
                      "Token ids instead: numbers between spaces, commas or lines");
  command->add_option("--windows", o->windows, "Windows to score; 0: as many as the text has")
      ->check(CLI::Range(Index(0), Index(1) << 40))
      ->capture_default_str();
  command->add_option("--sequence-length", o->sequence_length, "Tokens per window")
      ->check(CLI::Range(Index(2), Index(1) << 24))
      ->capture_default_str();
  o->text.declare(*command);
  o->compute.declare(*command);
  command->footer(
      "Example:\n  gptq eval Qwen3-8B-int4 --text test.txt --windows 40 --sequence-length 1024");
  command->callback([o] {
    with_backend(o->compute, [&](const auto& operations, const auto&, const std::string& place) {
      eval(*o, operations, place);
    });
  });
}

}  // namespace gptq::program
