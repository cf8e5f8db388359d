// SPDX-License-Identifier: MIT
#pragma once

// LayerWeights: one decoder layer in memory, as floats, however it was stored.

#include <gptq/backend/host/worker.hpp>
#include <gptq/core/progress.hpp>
#include <gptq/exec/serial.hpp>
#include <gptq/model/model_files.hpp>

#include <algorithm>  // std::min
#include <cmath>      // std::isfinite
#include <cstring>    // std::memcmp, std::memcpy
#include <functional>
#include <set>
#include <span>
#include <string>
#include <vector>

namespace gptq::model {

/// y = x·Wᵀ + b
struct Linear {
  backend::HostMatrix<float> weight;  ///< [out, in]
  std::vector<float> bias;            ///< [out], or empty
};

/// The linear modules of a decoder layer, in order of use.
enum class Module { q, k, v, o, gate, up, down };
inline constexpr int module_count = 7;

inline const char* module_name(Module module) {
  static constexpr const char* names[] = {
      "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
      "mlp.gate_proj",    "mlp.up_proj",      "mlp.down_proj"};
  return names[static_cast<int>(module)];
}

/// "model.layers.3.mlp.down_proj"
inline std::string full_name(Index layer, Module module) {
  return "model.layers." + std::to_string(layer) + "." + module_name(module);
}

/// Outputs and inputs of a module.
struct ModuleShape {
  Index out, in;
};

inline ModuleShape module_shape(const ModelConfig& config, Module module) {
  const Index q = config.heads * config.head_dim, kv = config.kv_heads * config.head_dim;
  switch (module) {
    case Module::q: return {q, config.hidden};
    case Module::k:
    case Module::v: return {kv, config.hidden};
    case Module::o: return {config.hidden, q};
    case Module::gate:
    case Module::up: return {config.intermediate, config.hidden};
    case Module::down: break;
  }
  return {config.hidden, config.intermediate};
}

inline bool has_bias(const ModelConfig& config, Module module) {
  switch (module) {
    case Module::q:
    case Module::k:
    case Module::v: return config.qkv_bias;
    case Module::o: return config.o_bias;
    default: return config.mlp_bias;
  }
}

/// All weights of one layer of a decoder.
struct LayerWeights {
  std::vector<float> attention_norm, mlp_norm;
  std::vector<float> q_norm, k_norm;  ///< per head, or empty
  Linear linear[module_count];

  Linear& operator[](Module module) { return linear[static_cast<int>(module)]; }
  const Linear& operator[](Module module) const { return linear[static_cast<int>(module)]; }
};

namespace detail {

inline void require_finite(const io::TensorSource& source, const std::string& name,
                           std::span<const float> numbers, Index cols) {
  const MatrixView<const float> all(numbers.data(), 1, static_cast<Index>(numbers.size()));
  if (const Index at = backend::find_non_finite_in_row(all, 0); at >= 0)
    throw NumericalError(gptq::detail::message(source.where(name), ": tensor ", name, " has ",
                                               all(0, at), " at row ", at / cols, ", column ",
                                               at % cols));
}

/// \throws FormatError  the tensor does not consist of 32-bit words
inline void require_words(const io::TensorSource& source, const std::string& name) {
  const std::string type = source.type_name(name);
  gptq::detail::require<FormatError>(type == "I32" || type == "U32", source.where(name),
                                     ": tensor ", name, " has dtype ", type, "; expected I32");
}

/// Bits and groups of a linear module in a GPTQ folder, from the shapes of its tensors.
struct GptqLayout {
  int bits;
  Index groups;
};

/// \throws FormatError  a tensor is missing, has the wrong type, or its shape does not match the
/// others
inline GptqLayout require_gptq_tensors(const io::TensorSource& source, const std::string& name,
                                       const ModuleShape& shape) {
  const auto found = [&](const std::string& part) {
    const std::string full = name + "." + part;
    gptq::detail::require<FormatError>(source.contains(full), source.where(full),
                                       ": has no tensor ", full);
    return source.shape(full);
  };
  const io::Shape qweight = found("qweight");
  const bool fits = qweight.size() == 2 && qweight[1] == shape.out && qweight[0] <= shape.in &&
                    qweight[0] * 32 % shape.in == 0;
  const int bits = fits ? static_cast<int>(qweight[0] * 32 / shape.in) : 0;
  gptq::detail::require<FormatError>(
      bits == 2 || bits == 3 || bits == 4 || bits == 8, source.where(name + ".qweight"),
      ": tensor ", name, ".qweight has the shape ", io::to_string(qweight), ", which is not [",
      shape.in, "*bits/32, ", shape.out, "] with 2, 3, 4 or 8 bits");
  const io::Shape scales = found("scales");
  gptq::detail::require<FormatError>(
      scales.size() == 2 && scales[1] == shape.out && scales[0] >= 1 && scales[0] <= shape.in,
      source.where(name + ".scales"), ": tensor ", name, ".scales has the shape ",
      io::to_string(scales), "; expected [groups, ", shape.out, "]");
  found("qzeros");
  io::require_shape(source, name + ".qzeros", {scales[0], pack::word_count(shape.out, bits)});
  if (source.contains(name + ".g_idx")) io::require_shape(source, name + ".g_idx", {shape.in});
  for (const char* part : {".qweight", ".qzeros", ".g_idx"})
    if (source.contains(name + part)) require_words(source, name + part);
  source.require_readable(name + ".scales");
  return {bits, scales[0]};
}

/// qweight, qzeros, scales and g_idx of a GPTQ folder, as floats.
inline void read_gptq(const ModelFiles& model, const std::string& name, const ModuleShape& shape,
                      MatrixView<float> out) {
  const io::TensorSource& source = *model.tensors;
  const auto [bits, groups] = require_gptq_tensors(source, name, shape);
  const auto words = [&](const char* part, auto& to) {
    const auto bytes = source.raw_bytes(name + part);
    to.resize(bytes.size() / 4);
    std::memcpy(to.data(), bytes.data(), bytes.size());
  };
  pack::GptqTensors t{.in = shape.in, .out = shape.out, .groups = groups, .bits = bits};
  words(".qweight", t.qweight);
  words(".qzeros", t.qzeros);
  t.scales.resize(static_cast<std::size_t>(groups * shape.out));
  source.read(name + ".scales", t.scales);
  require_finite(source, name + ".scales", t.scales, shape.out);
  if (source.contains(name + ".g_idx")) {
    words(".g_idx", t.g_idx);
  } else {
    const Index group_size = (shape.in + groups - 1) / groups;
    for (Index i = 0; i < shape.in; ++i)
      t.g_idx.push_back(static_cast<std::int32_t>(i / group_size));
  }
  pack::dequantize(t, model.quantization->format, out,
                   source.where(name + ".qweight") + ": " + name);
}

}  // namespace detail

/// A vector of the model.
/// \throws FormatError     it is missing or has the wrong size
/// \throws NumericalError  a number is not finite
inline std::vector<float> load_vector(const ModelFiles& model, const std::string& name,
                                      Index size) {
  io::require_shape(*model.tensors, name, {size});
  model.tensors->require_readable(name);
  std::vector<float> out(static_cast<std::size_t>(size));
  model.tensors->read(name, out);
  detail::require_finite(*model.tensors, name, out, size);
  return out;
}

/// A matrix of the model that is not packed.
inline backend::HostMatrix<float> load_matrix(const ModelFiles& model, const std::string& name,
                                              Index rows, Index cols) {
  io::require_shape(*model.tensors, name, {rows, cols});
  model.tensors->require_readable(name);
  backend::HostMatrix<float> out(rows, cols);
  const std::span<float> numbers(out.data(), static_cast<std::size_t>(rows * cols));
  model.tensors->read(name, numbers);
  detail::require_finite(*model.tensors, name, numbers, cols);
  return out;
}

/// Whether a linear module is stored as packed GPTQ words.
inline bool is_quantized(const ModelFiles& model, const std::string& name) {
  return model.quantization && !model.tensors->contains(name + ".weight") &&
         model.tensors->contains(name + ".qweight");
}

/// A linear module, from its weight or from packed GPTQ words.
inline Linear load_linear(const ModelFiles& model, const std::string& name,
                          const ModuleShape& shape) {
  Linear linear;
  if (is_quantized(model, name)) {
    if (model.quantization->method != "gptq")
      throw FormatError(gptq::detail::message(model.path.string(), ": is quantized with \"",
                                              model.quantization->method,
                                              "\", which is not supported (gptq is)"));
    linear.weight = backend::HostMatrix<float>(shape.out, shape.in);
    detail::read_gptq(model, name, shape, linear.weight.view());
  } else {
    linear.weight = load_matrix(model, name + ".weight", shape.out, shape.in);
  }
  if (model.tensors->contains(name + ".bias"))
    linear.bias = load_vector(model, name + ".bias", shape.out);
  return linear;
}

/// \throws FormatError     a tensor is missing or has the wrong shape
/// \throws NumericalError  a weight is not finite
template <class Executor = exec::Serial>
LayerWeights load_layer(const ModelFiles& model, Index layer, const Executor& executor = {}) {
  const ModelConfig& config = model.config;
  const std::string prefix = "model.layers." + std::to_string(layer) + ".";
  LayerWeights weights;
  weights.attention_norm = load_vector(model, prefix + "input_layernorm.weight", config.hidden);
  weights.mlp_norm = load_vector(model, prefix + "post_attention_layernorm.weight", config.hidden);
  if (config.qk_norm) {
    weights.q_norm = load_vector(model, prefix + "self_attn.q_norm.weight", config.head_dim);
    weights.k_norm = load_vector(model, prefix + "self_attn.k_norm.weight", config.head_dim);
  }
  executor.parallel_for(module_count, [&](Index m) {
    const auto module = static_cast<Module>(m);
    weights[module] = load_linear(model, full_name(layer, module), module_shape(config, module));
  });
  return weights;
}

/// Whether the head shares the weight of the embeddings.
inline bool has_tied_head(const ModelFiles& model) {
  return model.config.tied_embeddings && !model.tensors->contains("lm_head.weight") &&
         !is_quantized(model, "lm_head");
}

namespace detail {

/// A tied model whose file has a different head: some loaders use that, others the embeddings.
inline void require_tied_head(const ModelFiles& model) {
  const io::TensorSource& source = *model.tensors;
  const std::string head = "lm_head.weight", embeddings = "model.embed_tokens.weight";
  if (!model.config.tied_embeddings || has_tied_head(model)) return;
  if (source.contains(head) && source.type_name(head) == source.type_name(embeddings)) {
    const auto a = source.raw_bytes(head), b = source.raw_bytes(embeddings);
    if (a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size()) == 0) return;
  }
  throw FormatError(gptq::detail::message(
      source.where(head), ": has a separate head, but tie_word_embeddings is true in ",
      model.path.string(),
      "; some loaders use that head, some the embeddings (set it to false, or remove ", head, ")"));
}

}  // namespace detail

/// Checks the shapes and types of all tensors of the decoder and of those copied unchanged, and
/// that its layers have no others, before anything is read.
/// \throws FormatError  names the tensor, its shape or type, and what was expected
inline void require_decoder_tensors(const ModelFiles& model) {
  const ModelConfig& config = model.config;
  const io::TensorSource& source = *model.tensors;
  if (model.quantization && model.quantization->method != "gptq")
    throw FormatError(gptq::detail::message(model.path.string(), ": is quantized with \"",
                                            model.quantization->method,
                                            "\", which is not supported (gptq is)"));
  std::set<std::string> known;
  const auto expect = [&](const std::string& name, const io::Shape& shape) {
    io::require_shape(source, name, shape);
    source.require_readable(name);
    known.insert(name);
  };
  const auto expect_linear = [&](const std::string& name, const ModuleShape& shape, bool bias) {
    if (is_quantized(model, name)) {
      detail::require_gptq_tensors(source, name, shape);
      for (const char* part : {".qweight", ".qzeros", ".scales", ".g_idx"})
        known.insert(name + part);
      if (source.contains(name + ".bias")) bias = true;  // some writers add zero biases
    } else {
      expect(name + ".weight", {shape.out, shape.in});
    }
    if (bias) expect(name + ".bias", {shape.out});
  };
  expect("model.embed_tokens.weight", {config.vocabulary, config.hidden});
  expect("model.norm.weight", {config.hidden});
  if (!has_tied_head(model)) expect_linear("lm_head", {config.vocabulary, config.hidden}, false);
  detail::require_tied_head(model);
  for (Index layer = 0; layer < config.layers; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    for (const char* norm : {"input_layernorm", "post_attention_layernorm"})
      expect(prefix + norm + ".weight", {config.hidden});
    if (config.qk_norm)
      for (const char* norm : {"self_attn.q_norm", "self_attn.k_norm"})
        expect(prefix + norm + ".weight", {config.head_dim});
    for (int m = 0; m < module_count; ++m) {
      const auto module = static_cast<Module>(m);
      expect_linear(full_name(layer, module), module_shape(config, module),
                    has_bias(config, module));
    }
  }
  for (const std::string& name : source.names())
    if (name.rfind("model.layers.", 0) == 0 && known.count(name) == 0)
      throw FormatError(gptq::detail::message(
          source.where(name), ": tensor ", name, " does not belong in a ", config.architecture,
          " of ", config.layers, " layers as its ",
          model.from_gguf ? "metadata describe" : "config.json describes", " it"));
}

/// Reads all tensors once, so that a number that cannot be used is found before the work begins:
/// one that is infinite or NaN, or one that does not fit the type in which its tensor is copied
/// (GGUF: fp16).
/// \param passed_on  whether a tensor will be copied unchanged; if empty, none will
/// \throws NumericalError  names file, tensor, row, column and value, as in the file
/// \throws Cancelled       the callback returned false
template <class Executor>
void require_finite_tensors(const ModelFiles& model, const Executor& executor,
                            const Progress& progress = {},
                            const std::function<bool(const std::string&)>& passed_on = {}) {
  struct Chunk {
    std::string name;
    Index first, last;
    bool passed_on;
  };
  constexpr Index chunk = Index(1) << 22;  // elements
  const io::TensorSource& source = *model.tensors;
  std::vector<Chunk> chunks;
  for (const std::string& name : source.names()) {
    const Index count = io::element_count(source.shape(name));
    if (source.stored_bytes(name) == 0) continue;
    for (Index first = 0; first < count; first += chunk)
      chunks.push_back(
          {name, first, (std::min)(first + chunk, count), passed_on && passed_on(name)});
  }
  const Index batch = 16 * executor.concurrency(), total = static_cast<Index>(chunks.size());
  for (Index begin = 0; begin < total; begin += batch) {
    if (progress && !progress("checking the weights",
                              static_cast<double>(begin) / static_cast<double>(total), 1))
      throw Cancelled();
    executor.parallel_for((std::min)(batch, total - begin), [&](Index i) {
      const Chunk& c = chunks[static_cast<std::size_t>(begin + i)];
      const auto unfit = source.find_unfit(c.name, c.first, c.last, c.passed_on);
      if (!unfit) return;
      const io::Shape shape = source.shape(c.name);
      const Index cols = shape.empty() ? 1 : shape.back();
      throw NumericalError(gptq::detail::message(
          source.where(c.name), ": tensor ", c.name, " has ", unfit->value, " at row ",
          unfit->element / cols, ", column ", unfit->element % cols,
          std::isfinite(unfit->value)
              ? gptq::detail::message(", which does not fit the type that it is written in, ",
                                      io::name(source.output_type(c.name)))
              : std::string()));
    });
  }
}

}  // namespace gptq::model
