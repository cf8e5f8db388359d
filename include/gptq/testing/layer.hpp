// SPDX-License-Identifier: MIT
#pragma once

// Layer: the layer that tests of backends quantize.

#include <gptq/quantized_matrix.hpp>
#include <gptq/testing/expect.hpp>

#include <cstdint>
#include <vector>

namespace gptq::testing {

/// A dense row-major matrix of float.
struct FloatMatrix {
  /// All zeros.
  FloatMatrix(Index r, Index c) : rows(r), cols(c), data(static_cast<std::size_t>(r * c)) {}
  /// Element (r, c), unchecked.
  float& operator()(Index r, Index c) { return data[static_cast<std::size_t>(r * cols + c)]; }
  /// Element (r, c), unchecked.
  float operator()(Index r, Index c) const { return data[static_cast<std::size_t>(r * cols + c)]; }
  /// The whole matrix.
  MatrixView<const float> view() const { return {data.data(), rows, cols}; }

  /// Its shape.
  Index rows, cols;
  std::vector<float> data;  ///< row by row
};

/// A random weight and correlated activations.
struct Layer {
  /// \param outputs, in  rows and columns of the weight
  Layer(Index outputs, Index in, Index tokens)
      : inputs(in), weight(outputs, in), activations(tokens, in) {
    Noise noise(static_cast<std::uint32_t>(in));
    for (float& w : weight.data) w = static_cast<float>(noise());
    for (Index t = 0; t < tokens; ++t) {
      const double common = noise();
      for (Index i = 0; i < in; ++i)
        activations(t, i) =
            static_cast<float>((noise() + common) * (0.2 + static_cast<double>(i % 5)));
    }
  }

  /// The weight in double.
  Table weight_table() const {
    Table table(weight.rows, weight.cols);
    for (std::size_t i = 0; i < table.data.size(); ++i)
      table.data[i] = static_cast<double>(weight.data[i]);
    return table;
  }

  /// XᵀX / tokens
  Table hessian() const {
    Table h(inputs, inputs);
    for (Index t = 0; t < activations.rows; ++t)
      for (Index i = 0; i < inputs; ++i)
        for (Index j = 0; j < inputs; ++j)
          h(i, j) += static_cast<double>(activations(t, i)) *
                     static_cast<double>(activations(t, j)) / static_cast<double>(activations.rows);
    return h;
  }

  /// tr(ΔW·H·ΔWᵀ)
  template <class S>
  double loss(const QuantizedMatrix<S>& quantized, const Table& h) const {
    double total = 0;
    std::vector<double> d(static_cast<std::size_t>(inputs));
    for (Index r = 0; r < weight.rows; ++r) {
      for (Index c = 0; c < inputs; ++c)
        d[std::size_t(c)] =
            static_cast<double>(weight(r, c)) - static_cast<double>(quantized(r, c));
      for (Index i = 0; i < inputs; ++i)
        for (Index j = 0; j < inputs; ++j) total += d[std::size_t(i)] * h(i, j) * d[std::size_t(j)];
    }
    return total;
  }

  Index inputs;  ///< columns of both
  /// [outputs, inputs] and [tokens, inputs].
  FloatMatrix weight, activations;
};

}  // namespace gptq::testing
