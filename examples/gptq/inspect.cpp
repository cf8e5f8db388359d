// SPDX-License-Identifier: MIT

// gptq inspect: what is in a model folder, a safetensors file or a GGUF file.

#include "command.hpp"

#include <gptq/backend/cpu.hpp>
#include <gptq/io/gguf.hpp>
#include <gptq/model/folds.hpp>

#include <fmt/format.h>
#include <fmt/ranges.h>  // fmt::join

#include <algorithm>  // std::find
#include <limits>
#include <map>
#include <memory>
#include <type_traits>
#include <variant>

namespace gptq::program {

namespace {

void print_tensor(const std::string& name, const std::string& type, const io::Shape& shape,
                  std::uint64_t bytes) {
  say("  {:<60} {:<6} {:<18} {:>10}\n", name, type, io::to_string(shape), bytes_text(bytes));
}

void inspect_safetensors(const std::filesystem::path& path) {
  const io::Safetensors file(path);
  say("{}: safetensors, {} tensors, {}\n", path.string(), file.tensors().size(),
      bytes_text(file.file().bytes().size()));
  for (const auto& [key, value] : file.metadata()) say("  {} = {}\n", key, value);
  for (const auto& [name, tensor] : file.tensors())
    print_tensor(name, std::string(io::name(tensor.dtype)), tensor.shape, tensor.bytes.size());
}

std::string type_of(const io::GgufTensor& tensor) {
  return tensor.type ? std::string(tensor.type->name) : fmt::format("#{}", tensor.type_number);
}

void inspect_gguf(const std::filesystem::path& path) {
  const io::Gguf file(path);
  std::map<std::string, int> types;
  for (const auto& [name, tensor] : file.tensors()) ++types[type_of(tensor)];
  say("{}: GGUF version {}, {} tensors ({}), {}\n", path.string(), file.version(),
      file.tensors().size(), counts_text(types), bytes_text(file.file().bytes().size()));
  for (const auto& [key, value] : file.metadata()) say("  {} = {}\n", key, value.text(100));
  for (const auto& [name, tensor] : file.tensors())
    print_tensor(name, type_of(tensor), tensor.shape, tensor.bytes.size());
}

void print_model(const model::ModelFiles& model) {
  const model::Sizes& c = model.description.sizes;
  say("{}, {} layers, hidden {}, intermediate {}, {} heads ({} for keys and values) of {}, "
      "vocabulary {}, context {}\n",
      model.description.architecture, c.layers, c.hidden, c.intermediate, c.heads, c.kv_heads,
      c.head_dim, c.vocabulary, c.context);
  if (!model.quantization) say("not quantized\n");
  else if (!model.quantization->format) say("quantized with {}\n", model.quantization->method);
  else
    say("quantized: {} bits, {}, {}, format {}\n", model.quantization->bits,
        model.quantization->group_size == -1
            ? "one group per row"
            : fmt::format("groups of {}", model.quantization->group_size),
        model.quantization->symmetric ? "symmetric" : "asymmetric", model.quantization->variant);
  say("tokenizer: {}\n", model.tokenizer                   ? "yes"
                         : model.tokenizer_problem.empty() ? "no"
                                                           : model.tokenizer_problem);
}

/// "rms norm", "linear self_attn.q_proj", ...
std::string step_text(const model::Block& block, const model::Step& step) {
  namespace steps = model::step;
  const auto name = [&](const std::string& full) {
    return full.starts_with(block.prefix()) ? full.substr(block.prefix().size()) : full;
  };
  return std::visit(
      [&](const auto& what) -> std::string {
        using What = std::decay_t<decltype(what)>;
        if constexpr (std::is_same_v<What, steps::Linear>)
          return "linear " + name(block.linears()[std::size_t(what.linear)].name);
        else if constexpr (std::is_same_v<What, steps::Norm>)
          return (what.kind == steps::Norm::Kind::rms ? "rms norm " : "layer norm ") +
                 (what.weight < 0 ? "" : name(block.vectors()[std::size_t(what.weight)].name));
        else if constexpr (std::is_same_v<What, steps::Attention>)
          return fmt::format("attention, {} heads of {}{}", what.heads, what.head_dim,
                             what.window > 0 ? fmt::format(", window {}", what.window) : "");
        else return steps::name(what);
      },
      step.what);
}

/// The tensors that a layer needs.
void print_tensors(const model::Block& block) {
  const auto print = [&](const std::string& name, const io::Shape& shape, const char* note) {
    say("    {} {}{}\n", name.substr(block.prefix().size()), io::to_string(shape), note);
  };
  say("  tensors\n");
  for (const model::LinearSpec& linear : block.linears()) {
    if (linear.expert > 0) continue;  // like those of the first one
    const char* const note = linear.expert == 0 ? " for each expert" : "";
    const io::Shape shape =
        linear.transposed ? io::Shape{linear.in, linear.out} : io::Shape{linear.out, linear.in};
    print(linear.name + ".weight", shape, note);
    if (linear.bias) print(linear.name + ".bias", {linear.out}, note);
  }
  for (const model::VectorSpec& vector : block.vectors()) print(vector.name, vector.shape, "");
}

/// Multiplications and additions.
void print_operations(const model::Block& block) {
  double chosen = 1, linear = 0, attention = 0;  // a share of experts
  for (const model::Step& step : block.steps())
    if (const auto* route = std::get_if<model::step::Route>(&step.what))
      chosen = static_cast<double>(route->chosen) / static_cast<double>(step.width);
    else if (const auto* how = std::get_if<model::step::Attention>(&step.what))
      attention += 2.0 * static_cast<double>(how->heads * (how->head_dim + how->value_dim));
  for (const model::LinearSpec& spec : block.linears())
    linear += 2.0 * static_cast<double>(spec.out * spec.in) * (spec.expert < 0 ? 1 : chosen);
  say("  {:.4g} operations per token in linear modules", linear);
  if (attention > 0) say(", {:.4g} for each token that attention sees", attention);
  say("\n");
}

/// What calibration will do with a layer.
void print_plan(const model::Block& block) {
  const model::Cuts cuts(block);
  for (std::size_t i = 0; i < block.steps().size(); ++i) {
    const model::Step& step = block.steps()[i];
    if (step.expert > 0) continue;  // like the first one
    std::string reads;
    for (const int v : step.in) reads += fmt::format(" %{}", v);
    if (reads.size() > 24) reads = reads.substr(0, 20) + " ...";
    say("    %{:<4} [{}] {}{}{}\n", i, step.width, step_text(block, step),
        reads.empty() ? "" : " of", reads);
  }
  for (int cut = 1; cut <= cuts.count(); ++cut) {
    std::vector<std::string> kept;
    for (const int v : cuts.kept(cut, std::numeric_limits<Index>::max()))
      kept.push_back(fmt::format("%{}", v));
    say("  cut {}: {} in memory for all tokens\n", cut, fmt::join(kept, ", "));
    for (const model::Reading& reading : cuts.readings(cut)) {
      const auto& first = block.linears()[std::size_t(reading.linears[0])];
      if (first.expert > 0) continue;
      std::vector<std::string> names;
      for (const int linear : reading.linears)
        names.push_back(model::short_name(block.linears()[std::size_t(linear)].name));
      say("    Hessian [{}] of %{}: {}{}{}\n", block.width({reading.value}), reading.value,
          fmt::join(names, ", "), first.expert == 0 ? " of each expert" : "",
          reading.residual < 0 ? "" : fmt::format(", added to %{}", reading.residual));
    }
  }
  for (const model::Fold& fold : model::folds(cuts)) {
    const auto& reader = block.linears()[std::size_t(fold.readers.back())];
    if (reader.expert > 0 && fold.linear >= 0) continue;  // like that of the first expert
    const std::string& into = fold.linear < 0 ? block.vectors()[std::size_t(fold.weight)].name
                                              : block.linears()[std::size_t(fold.linear)].name;
    say("  factors of the columns of %{} fold into {}\n", fold.value,
        into.substr(block.prefix().size()));
  }
}

/// The layers of a model, each kind once.
void print_plans(const model::Description& model) {
  std::vector<std::string> kinds;
  for (const model::Block& layer : model.layers) {
    std::string kind;
    for (const model::Step& step : layer.steps())
      kind += fmt::format("{}{};", step_text(layer, step), step.width);
    if (std::find(kinds.begin(), kinds.end(), kind) != kinds.end()) continue;
    kinds.push_back(kind);
    const Index weights = model::linear_weights(layer);
    say("{} {} weights in linear modules, {} as floats\n", layer.prefix(), weights,
        bytes_text(sizeof(float) * static_cast<std::uint64_t>(weights)));
    print_operations(layer);
    print_plan(layer);
    print_tensors(layer);
  }
}

void inspect_folder(const std::filesystem::path& path) {
  const io::FolderSource tensors(path);
  const auto names = tensors.names();
  std::uint64_t bytes = 0;
  for (const std::string& name : names) bytes += tensors.stored_bytes(name);
  say("{}: {} tensors ({}), {}\n", path.string(), names.size(), stored_types(tensors),
      bytes_text(bytes));
  try {
    print_model(open_model(path));
  } catch (const Error& error) {  // some other kind of model: its tensors can still be listed
    say("cannot be quantized: {}\n", error.what());
  }
  std::string file;
  for (const std::string& name : names) {
    if (const std::string where = tensors.where(name); where != file) say("{}\n", file = where);
    print_tensor(name, tensors.type_name(name), tensors.shape(name), tensors.stored_bytes(name));
  }
}

}  // namespace

void add_inspect(CLI::App& app) {
  auto path = std::make_shared<std::string>();
  auto plan = std::make_shared<bool>(false);
  CLI::App* command = app.add_subcommand(
      "inspect", "Tensors, formats, quantization and sizes of a model folder or file");
  command->add_option("PATH", *path, "Model folder, .safetensors or .gguf file")->required();
  command->add_flag("--plan", *plan,
                    "Steps and tensors of each kind of layer, what calibration does with them, "
                    "operations, memory");
  command->footer(
      "Examples:\n  gptq inspect Qwen3-8B-int4\n  gptq inspect model.safetensors\n  gptq inspect "
      "model.gguf");
  command->callback([path, plan] {
    const std::filesystem::path p(*path);
    if (*plan) {
      const model::ModelFiles model = open_model(p);
      print_notes(model.notes);
      print_plans(model.description);
      const model::PipelineOptions options;
      constexpr Index samples = 128, length = 2048;
      say("{} windows of {} tokens, default settings, on this processor:\n{}\n", samples, length,
          memory_text(model::working_bytes(model.description, options, backend::Cpu(), length,
                                           samples * length)));
      return;
    }
    if (p.extension() == ".safetensors") inspect_safetensors(p);
    else if (std::filesystem::is_directory(p)) inspect_folder(p);
    else inspect_gguf(p);
  });
}

}  // namespace gptq::program
