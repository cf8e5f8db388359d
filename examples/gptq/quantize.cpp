// SPDX-License-Identifier: MIT

// gptq quantize: a model in, a smaller model out, and what it cost.

#include "command.hpp"
#include "compute.hpp"
#include "report.hpp"

#include <gptq/model/engine.hpp>
#include <gptq/model/format/requirements.hpp>
#include <gptq/model/pipeline.hpp>
#include <gptq/model/quantized_folder.hpp>
#include <gptq/model/recipe/gptq_config.hpp>

#include <fmt/format.h>
#include <fmt/ranges.h>  // fmt::join

#include <algorithm>  // std::find
#include <memory>
#include <optional>

namespace gptq::program {

namespace {

struct QuantizeOptions {
  std::string model, out, report, order = "act", range, sequential = "sublayer", match = "model",
                                  method = "gptq", format = "gptq", type = "int",
                                  experts = "routed", on_failure = "error", max_shard_size = "5GB",
                                  config, save_config, layers;
  int bits = 4;
  Index group_size = 128, samples = 128, sequence_length = 2048;
  bool asymmetric = false, positive_scales = false, allow_tail_group = false, overwrite = false;
  double damping = 0.01, match_strength = 0.5;
  std::vector<std::string> overrides, skips;
  std::vector<std::string> given;  // options given on the command line or in the recipe
  nlohmann::ordered_json words;    // what was given, as a recipe
  TextOptions text;
  ComputeOptions compute;
};

bool calibrates(const QuantizeOptions& o) { return o.method == "gptq"; }

bool weighted_range(const QuantizeOptions& o) {
  return o.range.empty() ? calibrates(o) : o.range == "weighted";
}

bool given(const QuantizeOptions& o, std::string_view option) {
  return std::find(o.given.begin(), o.given.end(), option) != o.given.end();
}

/// The settings of modules without settings of their own.
model::ModuleSettings base_settings(const QuantizeOptions& o) {
  auto settings = model::settings_of(model::number_type(o.type));
  const bool integers = settings.type == model::NumberType::integer;
  if (integers || given(o, "--bits")) settings.bits = o.bits;
  if (integers || given(o, "--group-size")) settings.group_size = o.group_size;
  settings.symmetric = !o.asymmetric;
  return settings;
}

model::PipelineOptions pipeline_options(const QuantizeOptions& o) {
  model::PipelineOptions options;
  Params& params = options.params;
  options.settings.base = base_settings(o);
  params.group_size = options.settings.base.group_size;
  params.allow_tail_group = o.allow_tail_group;
  params.order = o.order == "act" ? Order::act : Order::natural;
  params.damping = o.damping;
  params.on_failure = o.on_failure == "rtn" ? OnFailure::round_to_nearest : OnFailure::damp;
  params.signed_scales = !o.positive_scales;
  options.method = calibrates(o) ? model::Method::gptq : model::Method::round_to_nearest;
  params.range = weighted_range(o) ? Range::weighted : Range::minmax;
  options.sequential = o.sequential == "sublayer" ? model::Sequential::sublayer
                       : o.sequential == "layer"  ? model::Sequential::layer
                                                  : model::Sequential::none;
  options.experts = o.experts == "all" ? model::Experts::all : model::Experts::routed;
  options.match = o.match == "model" ? model::Match::model : model::Match::layer;
  detail::require(o.match_strength >= 0 && o.match_strength <= 1,
                  "--match-strength = ", o.match_strength, " is not between 0 and 1");
  options.match_inputs = options.match_residual = o.match_strength;
  for (const std::string& text : o.overrides)
    options.settings.overrides.push_back(model::Override::parse(text));
  for (const std::string& text : o.skips) options.settings.skips.emplace_back(text);
  detail::require(o.damping > 0 && o.damping < 1, "--damping = ", o.damping,
                  " is not a fraction between 0 and 1");
  params.validate();
  return options;
}

/// Options that have no effect because of others, one sentence each.
std::vector<std::string> idle_options(const QuantizeOptions& o) {
  std::vector<std::string> notes, idle;
  if (!calibrates(o)) {
    for (const char* option :
         {"--calibration", "--tokens", "--order", "--samples", "--sequence-length", "--damping",
          "--sequential", "--match", "--match-strength", "--on-failure", "--experts", "--bos"})
      if (given(o, option)) idle.emplace_back(option);
    if (!idle.empty())
      notes.push_back(fmt::format("--method rtn ignores {}", fmt::join(idle, ", ")));
  } else if (o.match != "model") {
    if (given(o, "--match-strength")) notes.emplace_back("--match layer ignores --match-strength");
  } else if (o.sequential == "none" && (given(o, "--match") || given(o, "--match-strength"))) {
    notes.emplace_back(
        "--sequential none calibrates on the full-precision model itself: --match model and "
        "--match-strength have no effect");
  }
  if (!calibrates(o) && given(o, "--precision"))
    notes.emplace_back("--method rtn multiplies no large matrices: --precision has no effect");
  if (o.positive_scales && o.asymmetric)
    notes.emplace_back("--asym has positive scales anyway: --positive-scales has no effect");
  else if (o.positive_scales && o.type != "int" && o.type != "nf4")
    notes.push_back(fmt::format(
        "--type {} has positive scales anyway: --positive-scales has no effect", o.type));
  else if (o.positive_scales && !weighted_range(o))
    notes.emplace_back(
        "--range minmax has positive scales anyway: --positive-scales has no effect");
  return notes;
}

/// Whole windows from the start of the calibration text; says so if there are fewer than requested.
std::vector<model::TokenId> calibration_tokens(const model::ModelFiles& model, QuantizeOptions& o) {
  cut_to_context(o.sequence_length, model.description.sizes);
  auto ids = load_tokens(model, o.text, o.samples, o.sequence_length);
  const Index available = static_cast<Index>(ids.size()) / o.sequence_length;
  detail::require(available > 0, o.text.tokens.empty() ? o.text.file : o.text.tokens,
                  ": the calibration text has ", ids.size(), " tokens, fewer than one window of ",
                  o.sequence_length, " (reduce --sequence-length)");
  if (available < o.samples)
    say("note: the calibration text has {} of {} tokens; {} were requested\n",
        counted(available, "window"), o.sequence_length, o.samples);
  o.samples = (std::min)(o.samples, available);
  ids.resize(static_cast<std::size_t>(o.samples * o.sequence_length));
  return ids;
}

/// A Hessian of fewer tokens than inputs has directions without any data.
void warn_of_few_tokens(const model::Description& model, const model::SettingsTable& table,
                        Index tokens) {
  Index widest = 0;
  model::for_each_quantized(model, table, [&](const auto& linear, const auto&) {
    widest = (std::max)(widest, linear.in);
  });
  if (tokens < widest)
    say("warning: {} calibration tokens are too few for modules of up to {} inputs: the errors "
        "below "
        "say little about other texts; use at least {} tokens (--samples, --sequence-length)\n",
        tokens, widest, 2 * widest);
}

/// Whether the last group of a module is short.
bool has_tail_group(const model::Description& model, const model::SettingsTable& table) {
  bool found = false;
  model::for_each_quantized(model, table, [&](const auto& linear, const auto& settings) {
    found = found || (settings.group_size != -1 && linear.in % settings.group_size != 0);
  });
  return found;
}

bool has_experts(const model::Description& model) {
  bool found = false;
  model.for_each_linear(
      [&](const model::LinearSpec& linear) { found = found || linear.expert >= 0; });
  return found;
}

/// What `gptq quantize --report` may replace: nothing, or a report of an earlier run.
void require_own_report(const std::filesystem::path& path) {
  std::error_code error;
  detail::require(path.has_filename(), path.string(), ": --report: a file name is needed");
  if (!std::filesystem::exists(std::filesystem::symlink_status(path, error))) return;
  detail::require(std::filesystem::is_regular_file(path, error), path.string(),
                  ": --report: exists and is not a file");
  std::string start(report_start.size(), ' ');
  if (std::filesystem::file_size(path, error) >= start.size())
    io::Descriptor(path, O_RDONLY, "cannot open")
        .read_at(0, std::as_writable_bytes(std::span(start)), path);
  detail::require(start == report_start, path.string(),
                  ": --report: exists and is not a gptq report; choose another name");
}

/// Opens the report's file before the work begins.
io::OutputFile open_report(const QuantizeOptions& o, model::QuantizedFolder& folder,
                           std::size_t modules) {
  const std::filesystem::path path(o.report);
  const std::uint64_t size = 16384 + 2048 * modules;
  require_own_report(path);  // again, now that the output folder exists
  if (folder.contains(path)) return folder.add_file(path.filename().string(), size);
  return io::OutputFile(path, size);
}

void commit_behind(io::OutputFile& report, const std::string& out) {
  try {
    report.commit();
  } catch (const IoError& error) {
    throw IoError(detail::message(error.what(), "; the model itself is complete in ", out));
  }
}

/// Whether a GGUF file has block-quantized tensors.
bool stores_blocks(const io::TensorSource& source) {
  for (const std::string& name : source.names())
    if (const auto type = source.type_name(name); type != "F32" && type != "F16" && type != "BF16")
      return true;
  return false;
}

template <class Operations, class B>
void quantize(QuantizeOptions o, const Operations& operations, const B& backend,
              const std::string& place) {
  Stopwatch watch;
  auto options = pipeline_options(o);
  const std::uint64_t max_shard_size = parse_size("--max-shard-size", o.max_shard_size);
  const bool calibrated = calibrates(o);
  detail::require(!calibrated || !o.text.file.empty() || !o.text.tokens.empty(),
                  "--calibration FILE (text) or --tokens FILE (ids) is needed, "
                  "or --method rtn, which uses neither");
  detail::require(o.text.file.empty() || o.text.tokens.empty(),
                  "--calibration and --tokens are mutually exclusive");
  if (given(o, "--report")) require_own_report(o.report);
  print_notes(idle_options(o));

  const model::ModelFiles model = open_model(o.model);
  if (model.quantization)
    throw InvalidArgument(detail::message(
        o.model, ": is already quantized (", model.quantization->method,
        model.quantization->bits ? ", " + std::to_string(model.quantization->bits) + " bits" : "",
        "): quantizing it again would add up the errors; start from the original model"));
  model::require_decoder_tensors(model);
  detail::require(o.layers.empty() || o.layers == model.description.layers_prefix, o.config,
                  ": block_name_to_quantize: the layers of ", o.model, " are called ",
                  model.description.layers_prefix, "N, not ", o.layers, "N");
  const auto modules = static_cast<std::size_t>(model.description.linear_count());
  print_notes(model.notes);
  options.format =
      model::make_format(o.format, model.tensors->output_type(model.description.embeddings));
  model::require_quantizable(model.description, options.settings, options.params, *options.format);
  if (!model.tokenizer_problem.empty())
    say("note: the folder will have no tokenizer.json: {}\n", model.tokenizer_problem);
  RunReport run;
  run.notes = options.format->notes();
  for (std::string& note :
       model::engine_notes({model.description, options.settings, *options.format}))
    run.notes.push_back(std::move(note));
  print_notes(run.notes);
  print_notes(model::rule_notes(model.description, options.settings));
  if (given(o, "--experts") && !has_experts(model.description))
    say("note: the model has no experts: --experts has no effect\n");
  if (o.allow_tail_group && !has_tail_group(model.description, options.settings))
    say("note: every group size divides its inputs: --allow-tail-group has no effect\n");

  model::QuantizedFolder folder(model, options, o.out, max_shard_size, o.overwrite);
  print_notes(folder.notes());
  if (!folder.removed().empty())
    say("note: files of the replaced model also removed: {}\n", fmt::join(folder.removed(), ", "));
  for (const std::string& text : {o.text.file, o.text.tokens})
    if (!text.empty()) folder.require_stays(text, "it is the calibration text");
  std::optional<io::OutputFile> report;
  if (!o.report.empty()) report = open_report(o, folder, modules);
  const auto ids = calibrated ? calibration_tokens(model, o) : std::vector<model::TokenId>{};
  if (calibrated)
    warn_of_few_tokens(model.description, options.settings, static_cast<Index>(ids.size()));

  const auto sink = [&](const std::string& name, const model::QuantizedModule& module) {
    folder.write(name, module);
  };
  model::Pipeline pipeline(model, options, operations, backend);
  {
    const Progress progress = progress_display(o.compute.quiet);
    model::require_finite_tensors(model, operations.executor(), progress,
                                  [&](const std::string& name) { return folder.passes_on(name); });
    model::require_scales_fit(model, options.settings, operations.executor(), progress);
    folder.write_rest(model);
    if (calibrated && !o.compute.quiet)
      say("{}\n",
          memory_text(model::working_bytes(model.description, options, backend, o.sequence_length,
                                           static_cast<Index>(ids.size()))));
    run.modules = calibrated ? pipeline.run(ids, o.sequence_length, sink, progress)
                             : pipeline.run_without_calibration(sink, progress);
    model.tensors->require_unchanged();
    if (interrupted()) throw Cancelled();
  }

  run.options = o.words;
  run.input = o.model;
  run.output = o.out;
  run.stored_as = stored_types(*model.tensors);
  run.dequantized = model.from_gguf && stores_blocks(*model.tensors);
  run.samples = o.samples;
  run.sequence_length = o.sequence_length;
  run.calibrated = calibrated;
  run.text = o.text.file;
  run.matches_model =
      options.match == model::Match::model && options.sequential != model::Sequential::none;
  run.timings = pipeline.timings();
  for (const std::string& name : model.tensors->names()) {
    run.bytes_before += model.tensors->stored_bytes(name);
    run.parameters += static_cast<std::uint64_t>(io::element_count(model.tensors->shape(name)));
  }
  run.bytes_after = folder.tensor_bytes();
  run.seconds = watch.lap();
  run.place = place;
  run.backend = o.compute.backend;
  run.threads = operations.executor().concurrency();
  run.peak_memory = peak_memory();
  run.skipped = modules - run.modules.size();
  if (report) {
    const std::string text =
        to_json(run).dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
    report->write_at(0, text);
    report->resize(text.size());
  }
  // A report in the folder appears with the folder's files, one elsewhere after them.
  const bool inside = report && folder.contains(o.report);
  if (inside) report->commit();
  const std::size_t told = folder.notes().size();
  folder.commit(operations.executor());
  print_notes({folder.notes().begin() + static_cast<std::ptrdiff_t>(told), folder.notes().end()});
  if (report && !inside) commit_behind(*report, o.out);
  if (!o.compute.quiet) print_table(run);
  print_summary(run);
}

}  // namespace

namespace {

/// Options that belong to a run, not to a recipe.
bool is_of_run(const std::string& name) {
  for (const char* own : {"help", "MODEL", "out", "config", "save-config", "overwrite", "quiet"})
    if (name == own) return true;
  return false;
}

/// The name of an option without dashes.
std::string word_of(const CLI::Option& option) {
  const std::string name = option.get_name();
  return name.substr((std::min)(name.find_first_not_of('-'), name.size()));
}

/// Sets the options of a recipe that are not on the command line.
void apply(const model::Recipe& recipe, CLI::App& command, const std::string& where) {
  std::vector<std::string> known;
  for (const CLI::Option* option : command.get_options())
    if (!is_of_run(word_of(*option))) known.push_back(word_of(*option));
  std::vector<CLI::Option*> set;
  for (const auto& [name, value] : recipe.options) {
    const bool is_known = std::find(known.begin(), known.end(), name) != known.end();
    if (!is_known)
      throw FormatError(detail::message(where, ": there is no option \"", name,
                                        "\" (the nearest one is \"",
                                        model::nearest_word(name, known), "\")"));
    CLI::Option* const option = command.get_option("--" + name);
    const bool ours = std::find(set.begin(), set.end(), option) != set.end();
    if (option->count() > 0 && !ours) continue;  // the command line comes first
    if (!ours) set.push_back(option);
    option->add_result(value);
  }
  try {
    for (CLI::Option* option : set) option->run_callback();
  } catch (const CLI::Error& error) {
    throw FormatError(detail::message(where, ": ", error.what()));
  }
}

model::Recipe read_recipe(const std::string& path) {
  const auto json = io::read_json<nlohmann::ordered_json>(path);
  if (!json.is_object()) throw FormatError(path + ": is not a JSON object");
  return model::is_gptq_config(json) ? model::read_gptq_config(json, path)
                                     : model::read_own_recipe(json, path);
}

/// The options that were given, as a recipe.
nlohmann::ordered_json given_words(const CLI::App& command) {
  nlohmann::ordered_json words = nlohmann::ordered_json::object();
  for (const CLI::Option* option : command.get_options()) {
    if (option->count() == 0 || is_of_run(word_of(*option))) continue;
    const auto& values = option->results();
    const bool flag = option->get_expected_max() == 0,
               repeatable = word_of(*option) == "override" || word_of(*option) == "skip";
    if (flag) words[word_of(*option)] = values.back() == "true";
    else if (repeatable) words[word_of(*option)] = values;
    else words[word_of(*option)] = values.back();
  }
  return words;
}

}  // namespace

void add_quantize(CLI::App& app) {
  auto o = std::make_shared<QuantizeOptions>();
  CLI::App* command = app.add_subcommand("quantize", "Quantize a model into a Hugging Face folder");
  command->add_option("MODEL", o->model, "Folder or .gguf file")->required();
  command->add_option("--out", o->out, "Folder to write")->required();
  command->add_option("--calibration", o->text.file,
                      "Text to calibrate on: plain, or JSON lines with a \"text\" field");
  command->add_option("--tokens", o->text.tokens,
                      "Token ids to calibrate on instead: numbers between spaces, commas or lines");
  command->add_option("--format", o->format, "How the folder stores quantized modules")
      ->check(CLI::IsMember(model::format_names()))
      ->capture_default_str();
  std::vector<std::string> types;
  for (const auto& type : model::number_types) types.emplace_back(type.name);
  command->add_option("--type", o->type, "Integers of --bits bits, or numbers of another type")
      ->check(CLI::IsMember(types))
      ->capture_default_str();
  command->add_option("--bits", o->bits, "Bits per weight")
      ->check(CLI::IsMember({2, 3, 4, 8}))
      ->capture_default_str();
  command
      ->add_option("--group-size", o->group_size,
                   "Inputs that share a scale; -1: one scale per output (64 for --type nf4; nvfp4, "
                   "mxfp4 and fp8 have their own)")
      ->check(CLI::Range(Index(-1), Index(1) << 31))
      ->capture_default_str();
  command->add_flag("--asym,!--sym", o->asymmetric, "Grids with zero points, or without (default)");
  command->add_option("--order", o->order, "Order in which inputs are rounded")
      ->check(CLI::IsMember({"natural", "act"}))
      ->capture_default_str();
  command->add_option("--samples", o->samples, "Calibration windows")
      ->check(CLI::Range(Index(1), Index(1) << 40))
      ->capture_default_str();
  command->add_option("--sequence-length", o->sequence_length, "Tokens per calibration window")
      ->check(CLI::Range(Index(2), Index(1) << 24))
      ->capture_default_str();
  command
      ->add_option("--damping", o->damping,
                   "Added to the Hessian's diagonal, as a fraction of its mean")
      ->capture_default_str();
  command
      ->add_option(
          "--range", o->range,
          "How scales are chosen (default weighted; minmax for --method rtn, where weighted "
          "is least squares)")
      ->check(CLI::IsMember({"weighted", "minmax"}));
  command->add_flag("--positive-scales", o->positive_scales, "Never store a negative scale");
  command
      ->add_option("--sequential", o->sequential,
                   "What is already quantized when a module is calibrated")
      ->check(CLI::IsMember({"sublayer", "layer", "none"}))
      ->capture_default_str();
  command
      ->add_option("--experts", o->experts,
                   "Which tokens an expert is calibrated on: those routed to it, or all")
      ->check(CLI::IsMember({"routed", "all"}))
      ->capture_default_str();
  command
      ->add_option("--match", o->match,
                   "What the output of a module should match: its output in the full-precision "
                   "model, which runs "
                   "alongside, or that of its own full-precision weights")
      ->check(CLI::IsMember({"model", "layer"}))
      ->capture_default_str();
  command
      ->add_option("--match-strength", o->match_strength,
                   "How strongly --match model compensates for earlier layers, 0 to 1")
      ->capture_default_str();
  command->add_option("--method", o->method, "gptq, or rtn: round to nearest without calibration")
      ->check(CLI::IsMember({"gptq", "rtn"}))
      ->capture_default_str();
  command
      ->add_option(
          "--override", o->overrides,
          "Other settings for some modules: 're:.*down_proj=bits:8,group-size:64' (repeatable)")
      ->allow_extra_args(false);
  command
      ->add_option("--skip", o->skips,
                   "Modules not to quantize: a name, or re:EXPRESSION (repeatable)")
      ->allow_extra_args(false);
  command
      ->add_option("--on-failure", o->on_failure,
                   "What to do if no damping makes a Hessian factorable")
      ->check(CLI::IsMember({"error", "rtn"}))
      ->capture_default_str();
  command->add_flag("--allow-tail-group", o->allow_tail_group,
                    "Accept a group size that does not divide the inputs; the last group is short");
  command->add_option("--max-shard-size", o->max_shard_size, "Largest size of a tensor file")
      ->capture_default_str();
  command->add_option("--config", o->config,
                      "Recipe: a JSON file with these options without dashes, or a GPTQConfig of "
                      "transformers (docs/recipes.md); the command line takes precedence");
  command->add_option("--save-config", o->save_config, "Write the options in force as a recipe");
  command->add_option("--report", o->report, "Write all figures to a JSON file");
  command->add_flag("--overwrite", o->overwrite, "Replace the model in a folder that is not empty");
  o->text.declare(*command);
  o->compute.declare(*command);
  command->footer(
      "Examples:\n"
      "  gptq quantize Llama-3.2-1B --out Llama-3.2-1B-int4 --calibration text.txt\n"
      "  gptq quantize model.gguf --out small --bits 3 --group-size 64 --override "
      "'re:.*down_proj=bits:4' --calibration text.txt\n"
      "  gptq quantize Llama-3.1-8B --out int4 --calibration text.txt --backend cuda\n"
      "  gptq quantize Llama-3.1-8B --out fp4 --calibration text.txt --type nvfp4 --format "
      "compressed-tensors\n"
      "  gptq quantize Qwen3-0.6B --out rtn --method rtn --skip 're:model\\.layers\\.0\\.'");
  command->callback([o, command] {
    if (!o->config.empty()) {
      const auto recipe = read_recipe(o->config);
      apply(recipe, *command, o->config);
      o->layers = recipe.layers;
      for (const std::string& note : recipe.notes) say("note: {}: {}\n", o->config, note);
    }
    for (const CLI::Option* option : command->get_options())
      if (option->count() > 0) o->given.push_back(option->get_name());
    o->words = given_words(*command);
    if (!o->save_config.empty()) {
      detail::require(o->overwrite || !io::is_there(o->save_config), o->save_config,
                      ": --save-config: exists; --overwrite replaces it");
      io::write_file(o->save_config, o->words.dump(2) + "\n");
    }
    with_backend(o->compute,
                 [&](const auto& operations, const auto& backend, const std::string& place) {
                   quantize(*o, operations, backend, place);
                 });
  });
}

}  // namespace gptq::program
