// SPDX-License-Identifier: MIT
#pragma once

// LayerWeights: one decoder layer in memory, as floats, whatever it was stored as.

#include <gptq/backend/host_worker.hpp>
#include <gptq/exec/serial.hpp>
#include <gptq/model/model_files.hpp>

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

/// The linear modules of a decoder layer in the order in which they are used.
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

/// qweight, qzeros, scales and g_idx of a GPTQ folder, as floats.
inline void read_gptq(const ModelFiles& model, const std::string& name, const ModuleShape& shape,
                      MatrixView<float> out) {
  const io::TensorSource& source = *model.tensors;
  const auto words = [&](const char* part, auto& to) {
    const auto full = name + "." + part;
    const auto& folder = dynamic_cast<const io::FolderSource&>(source);
    const io::SafeTensor& t = folder.tensor(full);
    gptq::detail::require<FormatError>(t.dtype == io::DType::I32 || t.dtype == io::DType::U32,
                                       source.where(full), ": tensor ", full, " has dtype ",
                                       io::name(t.dtype), ", I32 expected");
    to.resize(t.bytes.size() / 4);
    std::memcpy(to.data(), t.bytes.data(), t.bytes.size());
    return t.shape;
  };
  pack::GptqTensors t{.in = shape.in, .out = shape.out};
  const io::Shape qweight = words("qweight", t.qweight);
  gptq::detail::require<FormatError>(
      qweight.size() == 2 && qweight[1] == shape.out && qweight[0] * 32 % shape.in == 0,
      source.where(name + ".qweight"), ": tensor ", name, ".qweight has the shape ",
      io::to_string(qweight), ", which is not [", shape.in, "*bits/32, ", shape.out, "]");
  t.bits = static_cast<int>(qweight[0] * 32 / shape.in);
  words("qzeros", t.qzeros);
  const io::Shape scales = source.shape(name + ".scales");
  gptq::detail::require<FormatError>(scales.size() == 2 && scales[1] == shape.out,
                                     source.where(name + ".scales"), ": tensor ", name,
                                     ".scales has the shape ", io::to_string(scales), ", [groups, ",
                                     shape.out, "] expected");
  t.groups = scales[0];
  gptq::detail::require<FormatError>(t.groups >= 1 && t.groups <= shape.in,
                                     source.where(name + ".scales"), ": tensor ", name,
                                     ".scales has ", t.groups, " groups for ", shape.in, " inputs");
  t.scales.resize(static_cast<std::size_t>(io::element_count(scales)));
  source.read(name + ".scales", t.scales);
  require_finite(source, name + ".scales", t.scales, shape.out);
  if (source.contains(name + ".g_idx")) {
    words("g_idx", t.g_idx);
  } else {
    const Index group_size = (shape.in + t.groups - 1) / t.groups;
    for (Index i = 0; i < shape.in; ++i)
      t.g_idx.push_back(static_cast<std::int32_t>(i / group_size));
  }
  pack::dequantize(t, model.quantization->format, out,
                   source.where(name + ".qweight") + ": " + name);
}

}  // namespace detail

/// A vector of the model.
/// \throws FormatError     it is missing or has another size
/// \throws NumericalError  a number is not finite
inline std::vector<float> load_vector(const ModelFiles& model, const std::string& name,
                                      Index size) {
  io::require_shape(*model.tensors, name, {size});
  std::vector<float> out(static_cast<std::size_t>(size));
  model.tensors->read(name, out);
  detail::require_finite(*model.tensors, name, out, size);
  return out;
}

/// A matrix of the model that is stored as numbers.
inline backend::HostMatrix<float> load_matrix(const ModelFiles& model, const std::string& name,
                                              Index rows, Index cols) {
  io::require_shape(*model.tensors, name, {rows, cols});
  backend::HostMatrix<float> out(rows, cols);
  const std::span<float> numbers(out.data(), static_cast<std::size_t>(rows * cols));
  model.tensors->read(name, numbers);
  detail::require_finite(*model.tensors, name, numbers, cols);
  return out;
}

/// Whether a linear module is stored as GPTQ words.
inline bool is_quantized(const ModelFiles& model, const std::string& name) {
  return model.quantization && !model.tensors->contains(name + ".weight") &&
         model.tensors->contains(name + ".qweight");
}

/// A linear module, from its weight or from GPTQ words.
inline Linear load_linear(const ModelFiles& model, const std::string& name,
                          const ModuleShape& shape) {
  Linear linear;
  if (is_quantized(model, name)) {
    if (model.quantization->method != "gptq")
      throw FormatError(gptq::detail::message(model.path.string(), ": quantized with \"",
                                              model.quantization->method,
                                              "\", which is not read (gptq is)"));
    linear.weight = backend::HostMatrix<float>(shape.out, shape.in);
    detail::read_gptq(model, name, shape, linear.weight.view());
  } else {
    linear.weight = load_matrix(model, name + ".weight", shape.out, shape.in);
  }
  if (model.tensors->contains(name + ".bias"))
    linear.bias = load_vector(model, name + ".bias", shape.out);
  return linear;
}

/// \throws FormatError     a tensor is missing or has another shape
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

/// Whether the head shares the embeddings' weight.
inline bool has_tied_head(const ModelFiles& model) {
  return model.config.tied_embeddings && !model.tensors->contains("lm_head.weight") &&
         !is_quantized(model, "lm_head");
}

/// Checks the shapes of all tensors of the decoder, and that there are no others in its layers,
/// before anything is read.
/// \throws FormatError  names the tensor, its shape and the one expected
inline void require_decoder_tensors(const ModelFiles& model) {
  const ModelConfig& config = model.config;
  const io::TensorSource& source = *model.tensors;
  std::set<std::string> known;
  const auto expect = [&](const std::string& name, const io::Shape& shape) {
    io::require_shape(source, name, shape);
    known.insert(name);
  };
  const auto expect_linear = [&](const std::string& name, const ModuleShape& shape, bool bias) {
    if (is_quantized(model, name)) {
      for (const char* part : {".qweight", ".qzeros", ".scales", ".g_idx"})
        known.insert(name + part);
      if (source.contains(name + ".bias")) bias = true;  // some writers add zeros
    } else {
      expect(name + ".weight", {shape.out, shape.in});
    }
    if (bias) expect(name + ".bias", {shape.out});
  };
  expect("model.embed_tokens.weight", {config.vocabulary, config.hidden});
  expect("model.norm.weight", {config.hidden});
  if (!has_tied_head(model)) expect_linear("lm_head", {config.vocabulary, config.hidden}, false);
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
    if (name.rfind("model.layers.", 0) == 0 && known.count(name) == 0 &&
        name.find("rotary_emb.") == std::string::npos)
      throw FormatError(gptq::detail::message(
          source.where(name), ": tensor ", name, " has no place in a ", config.architecture, " of ",
          config.layers, " layers as its config.json describes it"));
}

}  // namespace gptq::model
