// SPDX-License-Identifier: MIT
#pragma once

// LayerWeights: the weights of one block in memory, as floats, however they were stored.

#include <gptq/backend/host/worker.hpp>
#include <gptq/exec/serial.hpp>
#include <gptq/model/model_files.hpp>

#include <span>
#include <string>
#include <variant>
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

/// \throws FormatError  the model is quantized in a format that cannot be read
inline void require_known_format(const ModelFiles& model) {
  if (model.quantization && !model.quantization->format)
    throw FormatError(gptq::detail::message(
        model.path.string(), ": is quantized with \"", model.quantization->method,
        "\", which is not supported (", detail::readable_methods, " are)"));
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
  io::require_finite(*model.tensors, name, out, size);
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
    io::require_finite(*model.tensors, name, part, shape.back());
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
  io::require_finite(*model.tensors, name, numbers, cols);
  return out;
}

/// Whether a linear module is stored as packed words.
inline bool is_quantized(const ModelFiles& model, const std::string& name) {
  return model.format() && model.format()->holds(*model.tensors, name);
}

/// A linear module, from its weight or from packed words.
inline Linear load_linear(const ModelFiles& model, const LinearSpec& spec) {
  Linear linear;
  if (is_quantized(model, spec.name)) {
    linear.weight = backend::HostMatrix<float>(spec.out, spec.in);
    model.format()->read(*model.tensors, spec, linear.weight.view());
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

/// The numbers of the first row of codes.
/// \param view  an AffineView or a LevelView
template <class View>
std::vector<float> first_row_of(const View& view) {
  std::vector<float> row(static_cast<std::size_t>(view.in()));
  pack::dequantize(first_row(view), MatrixView<float>(row.data(), 1, view.in()));
  return row;
}

/// The first row of a linear module's weight.
inline std::vector<float> first_row_of(const ModelFiles& model, const LinearSpec& spec) {
  if (is_quantized(model, spec.name))
    return std::visit([](const auto& codes) { return first_row_of(codes.view()); },
                      model.format()->codes(*model.tensors, spec));
  const Linear linear = load_linear(model, spec);
  return {linear.weight.data(), linear.weight.data() + spec.in};
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
