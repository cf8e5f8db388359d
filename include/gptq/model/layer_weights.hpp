// SPDX-License-Identifier: MIT
#pragma once

// LayerWeights: one decoder layer in memory, as floats, whatever it was stored as.

#include <gptq/backend/host_matrix.hpp>
#include <gptq/model/model_files.hpp>

#include <cmath>  // std::isfinite
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
  static constexpr const char* names[] = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
                                          "mlp.gate_proj",    "mlp.up_proj",      "mlp.down_proj"};
  return names[static_cast<int>(module)];
}

/// "model.layers.3.mlp.down_proj"
inline std::string full_name(Index layer, Module module) { return "model.layers." + std::to_string(layer) + "." + module_name(module); }

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

struct LayerWeights {
  std::vector<float> attention_norm, mlp_norm;
  std::vector<float> q_norm, k_norm;  ///< per head, or empty
  Linear linear[module_count];

  Linear& operator[](Module module) { return linear[static_cast<int>(module)]; }
  const Linear& operator[](Module module) const { return linear[static_cast<int>(module)]; }
};

namespace detail {

inline void require_finite(const io::TensorSource& source, const std::string& name, std::span<const float> numbers, Index cols) {
  bool finite = true;
  for (const float x : numbers) finite &= std::isfinite(x);
  for (std::size_t i = 0; !finite && i < numbers.size(); ++i)
    if (!std::isfinite(numbers[i]))
      throw NumericalError(gptq::detail::message(source.where(name), ": tensor ", name, " has ", numbers[i], " at row ", static_cast<Index>(i) / cols,
                                                 ", column ", static_cast<Index>(i) % cols));
}

/// qweight, qzeros, scales and g_idx of a GPTQ folder, as floats.
inline void read_gptq(const ModelFiles& model, const std::string& name, const ModuleShape& shape, MatrixView<float> out) {
  const io::TensorSource& source = *model.tensors;
  const auto words = [&](const char* part, auto& to) {
    const auto full = name + "." + part;
    const auto& folder = dynamic_cast<const io::FolderSource&>(source);
    const io::SafeTensor& t = folder.tensor(full);
    gptq::detail::require<FormatError>(t.dtype == io::DType::I32 || t.dtype == io::DType::U32, source.where(full), ": tensor ", full, " has dtype ",
                                       io::name(t.dtype), ", I32 expected");
    to.resize(t.bytes.size() / 4);
    std::memcpy(to.data(), t.bytes.data(), t.bytes.size());
    return t.shape;
  };
  pack::GptqTensors t{.in = shape.in, .out = shape.out};
  const io::Shape qweight = words("qweight", t.qweight);
  gptq::detail::require<FormatError>(qweight.size() == 2 && qweight[1] == shape.out && qweight[0] * 32 % shape.in == 0, source.where(name + ".qweight"),
                                     ": tensor ", name, ".qweight has the shape ", io::to_string(qweight), ", which is not [", shape.in, "*bits/32, ",
                                     shape.out, "]");
  t.bits = static_cast<int>(qweight[0] * 32 / shape.in);
  words("qzeros", t.qzeros);
  const io::Shape scales = source.shape(name + ".scales");
  gptq::detail::require<FormatError>(scales.size() == 2 && scales[1] == shape.out, source.where(name + ".scales"), ": tensor ", name,
                                     ".scales has the shape ", io::to_string(scales), ", [groups, ", shape.out, "] expected");
  t.groups = scales[0];
  t.scales.resize(static_cast<std::size_t>(io::element_count(scales)));
  source.read(name + ".scales", t.scales);
  if (source.contains(name + ".g_idx")) {
    words("g_idx", t.g_idx);
  } else {
    const Index group_size = (shape.in + t.groups - 1) / t.groups;
    for (Index i = 0; i < shape.in; ++i) t.g_idx.push_back(static_cast<std::int32_t>(i / group_size));
  }
  pack::dequantize(t, model.quantization->format, out, source.where(name + ".qweight") + ": " + name);
}

}  // namespace detail

/// A vector of the model.
/// \throws FormatError     it is missing or has another size
/// \throws NumericalError  a number is not finite
inline std::vector<float> load_vector(const ModelFiles& model, const std::string& name, Index size) {
  io::require_shape(*model.tensors, name, {size});
  std::vector<float> out(static_cast<std::size_t>(size));
  model.tensors->read(name, out);
  detail::require_finite(*model.tensors, name, out, size);
  return out;
}

/// A matrix of the model that is stored as numbers.
inline backend::HostMatrix<float> load_matrix(const ModelFiles& model, const std::string& name, Index rows, Index cols) {
  io::require_shape(*model.tensors, name, {rows, cols});
  backend::HostMatrix<float> out(rows, cols);
  const std::span<float> numbers(out.data(), static_cast<std::size_t>(rows * cols));
  model.tensors->read(name, numbers);
  detail::require_finite(*model.tensors, name, numbers, cols);
  return out;
}

/// A linear module, from its weight or from GPTQ words.
inline Linear load_linear(const ModelFiles& model, const std::string& name, const ModuleShape& shape) {
  Linear linear;
  if (!model.tensors->contains(name + ".weight") && model.quantization && model.tensors->contains(name + ".qweight")) {
    if (model.quantization->method != "gptq")
      throw FormatError(gptq::detail::message(model.path.string(), ": quantized with \"", model.quantization->method, "\", which is not read (gptq is)"));
    linear.weight = backend::HostMatrix<float>(shape.out, shape.in);
    detail::read_gptq(model, name, shape, linear.weight.view());
  } else {
    linear.weight = load_matrix(model, name + ".weight", shape.out, shape.in);
  }
  if (model.tensors->contains(name + ".bias")) linear.bias = load_vector(model, name + ".bias", shape.out);
  return linear;
}

/// \throws FormatError     a tensor is missing or has another shape
/// \throws NumericalError  a weight is not finite
inline LayerWeights load_layer(const ModelFiles& model, Index layer) {
  const ModelConfig& config = model.config;
  const std::string prefix = "model.layers." + std::to_string(layer) + ".";
  LayerWeights weights;
  weights.attention_norm = load_vector(model, prefix + "input_layernorm.weight", config.hidden);
  weights.mlp_norm = load_vector(model, prefix + "post_attention_layernorm.weight", config.hidden);
  if (config.qk_norm) {
    weights.q_norm = load_vector(model, prefix + "self_attn.q_norm.weight", config.head_dim);
    weights.k_norm = load_vector(model, prefix + "self_attn.k_norm.weight", config.head_dim);
  }
  for (int m = 0; m < module_count; ++m) {
    const auto module = static_cast<Module>(m);
    weights[module] = load_linear(model, full_name(layer, module), module_shape(config, module));
  }
  return weights;
}

}  // namespace gptq::model
