// SPDX-License-Identifier: MIT

// gptq convert: a quantized model in another format, with the same numbers.

#include "command.hpp"

#include <gptq/model/convert.hpp>
#include <gptq/model/decoder_tensors.hpp>
#include <gptq/model/engine.hpp>
#include <gptq/model/format/requirements.hpp>
#include <gptq/model/quantized_folder.hpp>

#include <memory>

namespace gptq::program {

namespace {

struct ConvertOptions {
  std::string model, out, format, max_shard_size = "5GB";
  bool overwrite = false, quiet = false;
  int threads = 0;
};

void convert(const ConvertOptions& o) {
  const std::uint64_t max_shard_size = parse_size("--max-shard-size", o.max_shard_size);
  const model::ModelFiles model = open_model(o.model);
  detail::require(model.quantization.has_value(), o.model,
                  ": is not quantized; `gptq quantize` does that");
  model::require_decoder_tensors(model);
  print_notes(model.notes);
  const Progress progress = progress_display(o.quiet);
  model::PipelineOptions options;
  options.settings = model::stored_settings(model, progress);
  options.format =
      model::make_format(o.format, model.tensors->output_type(model.description.embeddings));
  model::require_fits(model.description, options.settings, *options.format);
  print_notes(options.format->notes());
  print_notes(model::engine_notes({model.description, options.settings, *options.format}));
  model::QuantizedFolder folder(model, options, o.out, max_shard_size, o.overwrite);
  print_notes(folder.notes());
  const exec::Threads executor(o.threads);
  model::convert(
      model, options.settings, *options.format, executor,
      [&](const std::string& name, const model::QuantizedModule& module) {
        folder.write(name, module);
      },
      progress);
  folder.write_rest(model);
  model.tensors->require_unchanged();
  if (interrupted()) throw Cancelled();
  const std::size_t told = folder.notes().size();
  folder.commit(executor);
  print_notes({folder.notes().begin() + static_cast<std::ptrdiff_t>(told), folder.notes().end()});
  say("{}: {}, {} in the format {}\n", o.out, counted(model.description.linear_count(), "module"),
      bytes_text(folder.tensor_bytes()), o.format);
}

}  // namespace

void add_convert(CLI::App& app) {
  auto o = std::make_shared<ConvertOptions>();
  CLI::App* command = app.add_subcommand(
      "convert", "Store a quantized model in another format, without rounding again");
  command->add_option("MODEL", o->model, "Folder of a quantized model")->required();
  command->add_option("--to", o->format, "How the new folder stores quantized modules")
      ->check(CLI::IsMember(model::format_names()))
      ->required();
  command->add_option("--out", o->out, "Folder to write")->required();
  command->add_option("--max-shard-size", o->max_shard_size, "Largest size of a tensor file")
      ->capture_default_str();
  command->add_flag("--overwrite", o->overwrite, "Replace the model in a folder that is not empty");
  command->add_option("--threads", o->threads, "Threads; 0: one per processor")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  command->add_flag("--quiet", o->quiet, "Print only the outcome");
  command->footer("Example:\n  gptq convert Qwen3-0.6B-gptq --to awq --out Qwen3-0.6B-awq");
  command->callback([o] { convert(*o); });
}

}  // namespace gptq::program
