// SPDX-License-Identifier: MIT
#pragma once

// Hessian: what calibration knows about one input of a model, H = XᵀX over all tokens seen. Layers
// that read the same input (q, k and v; gate and up) share one, and any number of solves leaves it
// as it is.

#include <gptq/core/concepts.hpp>

#include <algorithm>  // std::max
#include <cmath>      // std::isfinite
#include <limits>
#include <numeric>  // std::accumulate
#include <span>
#include <utility>  // std::move
#include <vector>

namespace gptq {

/// The sum is kept as it is and divided by the number of tokens when it is read, so batches of any
/// size and the Hessians of several processes add up, but for rounding.
template <Backend B>
class Hessian {
 public:
  using Matrix = typename B::Matrix;

  /// \param in_features  columns of the activations and of the weights that read them
  explicit Hessian(Index in_features, B backend = B{})
      : backend_(std::move(backend)), sum_(backend_.zeros(checked(in_features), in_features)) {}

  /// From a sum that somebody else has made.
  /// \param sum        on the host, Σ xxᵀ, [in_features, in_features]; the upper triangle is read
  /// \param tokens     behind the sum, > 0
  /// \param sequences  behind the sum, for SampleCount::twice_sequences
  /// \throws InvalidArgument  not square, or a count or a diagonal element is negative
  /// \throws NumericalError   an element is not finite
  template <class T>
  static Hessian from_sum(MatrixView<T> sum, double tokens, double sequences = 1, B backend = B{}) {
    detail::require(sum.rows() == sum.cols(), "the sum of a Hessian is ", sum.rows(), " x ",
                    sum.cols(), ", not square");
    detail::require(
        std::isfinite(tokens) && tokens > 0 && std::isfinite(sequences) && sequences > 0,
        "a Hessian of ", tokens, " tokens in ", sequences, " sequences");
    const MatrixView<const std::remove_const_t<T>> view = sum;
    require_finite(backend, view, "sum");
    for (Index i = 0; i < view.rows(); ++i)
      detail::require(to_float(view(i, i)) >= 0, "sum(", i, ", ", i, ") = ", to_float(view(i, i)),
                      " is negative: a sum of squares cannot be");
    Hessian hessian(view.rows(), std::move(backend));
    hessian.sum_ = hessian.backend_.upload(view);
    hessian.tokens_ = tokens;
    hessian.sequences_ = sequences;
    for (const double square : hessian.backend_.diagonal(hessian.sum_))
      hessian.squares_ = (std::max)(hessian.squares_, square);
    return hessian;
  }

  /// Adds activations [tokens, in_features] of float, double, bfloat16 or float16, any strides.
  /// \throws InvalidArgument  the shape does not fit
  /// \throws NumericalError   an activation is not finite; nothing was added
  template <class T>
  void add(MatrixView<T> activations) {
    add_weighted<std::remove_const_t<T>>(activations, nullptr);
  }

  /// The same with a weight per token: 0 leaves a token out (padding), others say how much it
  /// counts. \throws InvalidArgument  a weight is negative or not finite, or their number is not
  /// that of the tokens
  template <class T>
  void add(MatrixView<T> activations, std::span<const float> token_weights) {
    detail::require(static_cast<Index>(token_weights.size()) == activations.rows(),
                    "token_weights has ", token_weights.size(), " entries for ", activations.rows(),
                    " tokens");
    for (std::size_t t = 0; t < token_weights.size(); ++t)
      detail::require(std::isfinite(token_weights[t]) && token_weights[t] >= 0, "token_weights[", t,
                      "] = ", token_weights[t], " must be finite and not negative");
    add_weighted<std::remove_const_t<T>>(activations, token_weights.data());
  }

  /// Adds what another Hessian of the same input has seen.
  void merge(const Hessian& other) {
    detail::require(other.in_features() == in_features(), "cannot merge a Hessian of ",
                    other.in_features(), " inputs into one of ", in_features());
    backend_.add(sum_, other.sum_);
    tokens_ += other.tokens_;
    squares_ += other.squares_;
    largest_ = (std::max)(largest_, other.largest_);
    sequences_ += other.sequences_;
  }

  /// Whether activations of up to `largest` can be added for so many tokens more.
  /// \throws NumericalError  sums of squares could leave the range of the backend's numbers
  void require_room(double largest, double tokens) const {
    constexpr double range = static_cast<double>(std::numeric_limits<typename B::Scalar>::max());
    if (squares_ + largest * largest * tokens < range) return;
    throw NumericalError(detail::message(
        "activations of up to ", largest, ": the squares of ", tokens,
        " tokens may not fit the backend's numbers; scale the activations, or use a backend in "
        "double precision"));
  }

  Index in_features() const { return sum_.rows(); }

  /// Tokens seen, each counted with its weight.
  double tokens() const { return tokens_; }

  /// Calls of `add` behind it, those of merged Hessians included: the "samples" of the paper's
  /// code.
  double sequences() const { return sequences_; }

  /// The largest activation that `add` has seen.
  double largest() const { return largest_; }

  /// Σ xxᵀ over tokens, not divided, upper triangle, where the backend keeps it.
  const Matrix& sum() const { return sum_; }

  const B& backend() const { return backend_; }

 private:
  static Index checked(Index in_features) {
    detail::require(in_features > 0, "a Hessian needs a positive number of inputs, not ",
                    in_features);
    detail::checked_size(in_features, in_features);
    return in_features;
  }

  template <class T>
  void add_weighted(MatrixView<const T> x, const float* token_weights) {
    detail::require(x.cols() == in_features(), "activations have ", x.cols(),
                    " columns, the Hessian has ", in_features(), " inputs");
    double counted = static_cast<double>(x.rows());
    if (token_weights) counted = std::accumulate(token_weights, token_weights + x.rows(), 0.0);
    const double largest = require_finite(backend_, x, "activations");
    require_room(largest, counted);
    backend_.accumulate(sum_, x, token_weights);
    squares_ += largest * largest * counted;
    largest_ = (std::max)(largest_, largest);
    tokens_ += counted;
    sequences_ += 1;
  }

  B backend_;
  Matrix sum_;
  double tokens_ = 0, sequences_ = 0;
  double squares_ = 0;  // a bound on the elements of the sum
  double largest_ = 0;  // activation
};

}  // namespace gptq
