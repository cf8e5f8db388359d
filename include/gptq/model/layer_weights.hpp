// SPDX-License-Identifier: MIT
#pragma once

// LayerWeights: the weights of one block in memory, as floats, however they were stored.

#include <gptq/backend/host/worker.hpp>
#include <gptq/exec/serial.hpp>
#include <gptq/model/model_files.hpp>

#include <cstring>  // std::memcpy
#include <span>
#include <string>
#include <vector>

namespace gptq::model {

/// y = x·Wᵀ + b
struct Linear {
  backend::HostMatrix<float> weight;  ///< [out, in]
  std::vector<float> bias;            ///< [out], or empty
};

/// All weights of a block, by the numbers that they have in it.
struct LayerWeights {
  std::vector<Linear> linears;
  std::vector<std::vector<float>> vectors;
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
inline GptqLayout require_gptq_tensors(const io::TensorSource& source, const LinearSpec& shape) {
  const std::string& name = shape.name;
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
inline void read_gptq(const ModelFiles& model, const LinearSpec& shape, MatrixView<float> out) {
  const io::TensorSource& source = *model.tensors;
  const std::string& name = shape.name;
  const auto [bits, groups] = require_gptq_tensors(source, shape);
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

/// \throws FormatError  the model is quantized with another method
inline void require_gptq_method(const ModelFiles& model) {
  if (model.quantization && model.quantization->method != "gptq")
    throw FormatError(gptq::detail::message(model.path.string(), ": is quantized with \"",
                                            model.quantization->method,
                                            "\", which is not supported (gptq is)"));
}

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

/// Weights that are not quantized, as the steps of a block use them.
inline std::vector<float> load_vector(const ModelFiles& model, const VectorSpec& spec) {
  std::vector<float> out(static_cast<std::size_t>(io::element_count(spec.shape)));
  std::span<float> rest(out);
  for (const auto& [name, shape] : tensors_of(spec)) {
    const auto part = rest.first(static_cast<std::size_t>(io::element_count(shape)));
    io::require_shape(*model.tensors, name, shape);
    model.tensors->require_readable(name);
    model.tensors->read(name, part);
    detail::require_finite(*model.tensors, name, part, shape.back());
    rest = rest.subspan(part.size());
  }
  if (spec.added != 0)
    for (float& x : out) x += spec.added;
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
inline Linear load_linear(const ModelFiles& model, const LinearSpec& spec) {
  Linear linear;
  if (is_quantized(model, spec.name)) {
    require_gptq_method(model);
    linear.weight = backend::HostMatrix<float>(spec.out, spec.in);
    detail::read_gptq(model, spec, linear.weight.view());
  } else if (spec.transposed) {
    const auto stored = load_matrix(model, spec.name + ".weight", spec.in, spec.out);
    linear.weight = backend::HostMatrix<float>(spec.out, spec.in);
    for (Index r = 0; r < spec.out; ++r)
      for (Index c = 0; c < spec.in; ++c) linear.weight(r, c) = stored(c, r);
  } else {
    linear.weight = load_matrix(model, spec.name + ".weight", spec.out, spec.in);
  }
  if (model.tensors->contains(spec.name + ".bias"))
    linear.bias = load_vector(model, spec.name + ".bias", spec.out);
  return linear;
}

/// \throws FormatError     a tensor is missing or has the wrong shape
/// \throws NumericalError  a weight is not finite
template <class Executor = exec::Serial>
LayerWeights load_block(const ModelFiles& model, const Block& block,
                        const Executor& executor = {}) {
  LayerWeights weights;
  for (const VectorSpec& spec : block.vectors())
    weights.vectors.push_back(load_vector(model, spec));
  weights.linears.resize(block.linears().size());
  executor.parallel_for(static_cast<Index>(block.linears().size()), [&](Index i) {
    weights.linears[std::size_t(i)] = load_linear(model, block.linears()[std::size_t(i)]);
  });
  return weights;
}

/// The weights of a decoder layer.
template <class Executor = exec::Serial>
LayerWeights load_layer(const ModelFiles& model, Index layer, const Executor& executor = {}) {
  return load_block(model, model.description.layers[std::size_t(layer)], executor);
}

}  // namespace gptq::model
