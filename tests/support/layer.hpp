// SPDX-License-Identifier: MIT
#pragma once

// Layers for tests: weights and activations from a seed, with the spectrum and the outliers of real
// ones.

#include <gptq/gptq.hpp>

#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

namespace test {

using gptq::Index;

/// Row-major, for the tests' own arithmetic.
struct Matrix {
  Index rows = 0, cols = 0;
  std::vector<double> data;

  Matrix() = default;
  Matrix(Index r, Index c) : rows(r), cols(c), data(static_cast<std::size_t>(r * c)) {}
  double& operator()(Index r, Index c) { return data[static_cast<std::size_t>(r * cols + c)]; }
  double operator()(Index r, Index c) const { return data[static_cast<std::size_t>(r * cols + c)]; }
};

struct LayerOptions {
  Index out = 24, in = 96, tokens = 256;
  std::uint32_t seed = 1;
  double correlation = 0.5;  ///< of adjacent inputs
  double outlier = 15;       ///< magnitude of a few inputs relative to the others
};

struct Layer {
  Matrix weight, activations;
  std::vector<float> weight_f, activations_f;

  gptq::MatrixView<const float> w() const { return {weight_f.data(), weight.rows, weight.cols}; }
  gptq::MatrixView<const float> x() const {
    return {activations_f.data(), activations.rows, activations.cols};
  }
};

/// Rounds the double versions to float, so that both versions hold the same numbers.
inline void round_to_float(Layer& layer) {
  const auto both = [](Matrix& m, std::vector<float>& f) {
    f.assign(m.data.begin(), m.data.end());
    m.data.assign(f.begin(), f.end());
  };
  both(layer.weight, layer.weight_f);
  both(layer.activations, layer.activations_f);
}

inline Layer random_layer(const LayerOptions& o = {}) {
  std::mt19937 random(o.seed);
  std::normal_distribution<double> normal;
  Layer layer{Matrix(o.out, o.in), Matrix(o.tokens, o.in), {}, {}};
  for (double& w : layer.weight.data) w = normal(random) * 0.05;
  std::vector<double> size(static_cast<std::size_t>(o.in));
  for (Index j = 0; j < o.in; ++j)
    size[static_cast<std::size_t>(j)] =
        std::exp(0.5 * normal(random)) * (j % 37 == 5 ? o.outlier : 1.0);
  for (Index t = 0; t < o.tokens; ++t) {
    double last = 0;
    for (Index j = 0; j < o.in; ++j) {
      last = o.correlation * last + std::sqrt(1 - o.correlation * o.correlation) * normal(random);
      layer.activations(t, j) = last * size[static_cast<std::size_t>(j)];
    }
  }
  round_to_float(layer);
  return layer;
}

/// XᵀX / tokens
inline Matrix hessian_of(const Layer& layer) {
  const Matrix& x = layer.activations;
  Matrix h(x.cols, x.cols);
  for (Index t = 0; t < x.rows; ++t)
    for (Index i = 0; i < x.cols; ++i)
      for (Index j = 0; j < x.cols; ++j) h(i, j) += x(t, i) * x(t, j) / static_cast<double>(x.rows);
  return h;
}

/// tr(A·H·Aᵀ)
inline double quadratic_form(const Matrix& a, const Matrix& h) {
  double total = 0;
  for (Index r = 0; r < a.rows; ++r)
    for (Index i = 0; i < a.cols; ++i) {
      double row = 0;
      for (Index j = 0; j < a.cols; ++j) row += h(i, j) * a(r, j);
      total += a(r, i) * row;
    }
  return total;
}

template <class S>
Matrix error_of_weight(const Layer& layer, const gptq::QuantizedMatrix<S>& q) {
  Matrix d(layer.weight.rows, layer.weight.cols);
  for (Index r = 0; r < d.rows; ++r)
    for (Index c = 0; c < d.cols; ++c) d(r, c) = layer.weight(r, c) - static_cast<double>(q(r, c));
  return d;
}

template <class B>
gptq::Hessian<B> calibrate(const Layer& layer, B backend = B{}) {
  gptq::Hessian<B> hessian(layer.activations.cols, backend);
  hessian.add(layer.x());
  return hessian;
}

template <class S, class B>
gptq::QuantizedMatrix<S> quantize(const Layer& layer, const gptq::Params& params, B backend = B{}) {
  return gptq::Quantizer<S, B>(params).quantize(layer.w(), calibrate<B>(layer, backend));
}

/// The number of codes that differ.
template <class S>
Index code_differences(const gptq::QuantizedMatrix<S>& a, const gptq::QuantizedMatrix<S>& b) {
  Index count = 0;
  for (Index r = 0; r < a.rows(); ++r)
    for (Index c = 0; c < a.cols(); ++c) count += a.codes()(r, c) != b.codes()(r, c);
  return count;
}

}  // namespace test
