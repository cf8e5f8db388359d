// SPDX-License-Identifier: MIT

// gptq inspect: what is in a model folder, a safetensors file or a GGUF file.

#include "command.hpp"

#include <gptq/io/gguf.hpp>

#include <fmt/format.h>

#include <map>
#include <memory>

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
  else if (model.quantization->method != "gptq")
    say("quantized with {}\n", model.quantization->method);
  else
    say("quantized: {} bits, {}, {}, format {}\n", model.quantization->bits,
        model.quantization->group_size == -1
            ? "one group per row"
            : fmt::format("groups of {}", model.quantization->group_size),
        model.quantization->symmetric ? "symmetric" : "asymmetric",
        pack::checkpoint_format(model.quantization->format));
  say("tokenizer: {}\n", model.tokenizer                   ? "yes"
                         : model.tokenizer_problem.empty() ? "no"
                                                           : model.tokenizer_problem);
}

void inspect_folder(const std::filesystem::path& path) {
  const io::FolderSource tensors(path);
  const auto names = tensors.names();
  std::uint64_t bytes = 0;
  for (const std::string& name : names) bytes += tensors.stored_bytes(name);
  say("{}: {} tensors ({}), {}\n", path.string(), names.size(), stored_types(tensors),
      bytes_text(bytes));
  try {
    print_model(model::open_model(path));
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
  CLI::App* command = app.add_subcommand(
      "inspect", "Tensors, formats, quantization and sizes of a model folder or file");
  command->add_option("PATH", *path, "Model folder, .safetensors or .gguf file")->required();
  command->footer(
      "Examples:\n  gptq inspect Qwen3-8B-int4\n  gptq inspect model.safetensors\n  gptq inspect "
      "model.gguf");
  command->callback([path] {
    const std::filesystem::path p(*path);
    if (p.extension() == ".safetensors") inspect_safetensors(p);
    else if (std::filesystem::is_directory(p)) inspect_folder(p);
    else inspect_gguf(p);
  });
}

}  // namespace gptq::program
