// SPDX-License-Identifier: MIT
#pragma once

// Hessian: what calibration knows about one input of a model, H = XᵀX over all tokens seen. Layers
// that read the same input (q, k and v; gate and up) share one; quantizing does not change it.

#include <gptq/backend/concept.hpp>

#include <algorithm>  // std::any_of, std::max
#include <cmath>      // std::isfinite, std::pow
#include <limits>
#include <numeric>  // std::accumulate
#include <span>
#include <string_view>
#include <utility>  // std::move
#include <vector>

namespace gptq {

/// The sum is stored undivided and divided by the number of tokens when it is used, so batches of
/// any size and the Hessians of several processes add up, except for rounding.
template <backend::Backend B>
class Hessian {
 public:
  using Matrix = typename B::Matrix;  ///< of the backend

  /// \param in_features  columns of the activations and of the weights that read them
  /// \throws OutOfMemory  the backend ran out of memory
  explicit Hessian(Index in_features, B backend = default_backend<B>())
      : backend_(std::move(backend)), sum_(with_sizes(backend_, checked(in_features), [&] {
          return backend_.zeros(in_features, in_features);
        })) {}

  /// From a sum computed elsewhere.
  /// \param sum        on the host, Σ xxᵀ, [in_features, in_features]; all of it must be finite,
  /// the
  ///                   upper triangle is used
  /// \param tokens     in the sum; 0 only if it is zero
  /// \param sequences  in the sum, for SampleCount::twice_sequences; 0 only if tokens is
  /// \param largest    activation in the sum; 0: unknown
  /// \param name       of the sum, for messages
  /// \throws InvalidArgument  the sum is not square, a count or a diagonal element is negative, or
  ///                          a sum over no tokens is not zero
  /// \throws NumericalError   an element is not finite
  template <class T>
  static Hessian from_sum(MatrixView<T> sum, double tokens, double sequences = 1,
                          B backend = default_backend<B>(), double largest = 0,
                          std::string_view name = "sum") {
    detail::require(sum.rows() == sum.cols(), name, " is ", sum.rows(), " x ", sum.cols(),
                    ", but a Hessian is square");
    detail::require(
        std::isfinite(tokens) && tokens >= 0 && std::isfinite(sequences) && sequences >= 0, name,
        ": a Hessian of ", tokens, " tokens in ", sequences, " sequences");
    detail::require(tokens == 0 || sequences > 0, name, ": ", tokens, " tokens in no sequences");
    const MatrixView<const std::remove_const_t<T>> view = sum;
    require_finite(backend, view, name);
    for (Index i = 0; i < view.rows(); ++i) {
      const auto square = to_float(view(i, i));
      detail::require(square >= 0, name, "(", i, ", ", i, ") = ", square,
                      " is negative: a sum of squares cannot be");
      detail::require(tokens > 0 || square == 0, name, "(", i, ", ", i, ") = ", square,
                      ": a sum over no tokens is zero");
    }
    Hessian hessian(view.rows(), std::move(backend));
    hessian.sum_ = hessian.backend_.upload(view);
    hessian.tokens_ = tokens;
    hessian.sequences_ = sequences;
    hessian.largest_ = largest;
    for (const double square : hessian.backend_.diagonal(hessian.sum_))
      hessian.squares_ = (std::max)(hessian.squares_, square);
    return hessian;
  }

  /// Adds activations [tokens, in_features] of float, double, bfloat16 or float16, any strides.
  /// \throws InvalidArgument  the shape does not fit
  /// \throws NumericalError   an activation is not finite; nothing was added
  /// \throws OutOfMemory      the backend ran out of memory; some of them may have been added
  template <class T>
  void add(MatrixView<T> activations) {
    static_assert(Number<std::remove_const_t<T>>,
                  "gptq: activations are float, double, bfloat16 or float16");
    add_weighted<std::remove_const_t<T>>(activations, nullptr);
  }
  /// The same for another library's matrix, such as Eigen's.
  template <StridedMatrix M>
  void add(const M& activations) {
    add(detail::view_of(activations));
  }

  /// The same with a weight per token that says how much it counts; 0 leaves a token out (padding),
  /// whatever its activations are.
  /// \throws InvalidArgument  a weight is negative or not finite, all are zero, or their number is
  ///                          not that of the tokens
  template <class T>
  void add(MatrixView<T> activations, std::span<const float> token_weights) {
    detail::require(static_cast<Index>(token_weights.size()) == activations.rows(),
                    "token_weights has ", token_weights.size(), " entries for ", activations.rows(),
                    " tokens");
    for (std::size_t t = 0; t < token_weights.size(); ++t)
      detail::require(std::isfinite(token_weights[t]) && token_weights[t] >= 0, "token_weights[", t,
                      "] = ", token_weights[t], " must be finite and not negative");
    detail::require(token_weights.empty() || std::any_of(token_weights.begin(), token_weights.end(),
                                                         [](float weight) { return weight > 0; }),
                    "token_weights are all zero: none of the ", activations.rows(),
                    " tokens counts");
    add_weighted<std::remove_const_t<T>>(activations, token_weights.data());
  }
  /// The same for another library's matrix.
  template <StridedMatrix M>
  void add(const M& activations, std::span<const float> token_weights) {
    add(detail::view_of(activations), token_weights);
  }

  /// Adds what another Hessian of the same input has seen.
  /// \throws InvalidArgument  it has other inputs
  /// \throws NumericalError   the sum could leave the range of the backend's numbers
  void merge(const Hessian& other) {
    detail::require(other.in_features() == in_features(), "cannot merge a Hessian of ",
                    other.in_features(), " inputs into one of ", in_features());
    require_room((std::max)(largest_, other.largest_), other.tokens_, other.squares_);
    static_assert(
        requires { backend_.add(sum_, sum_); },
        "gptq: Hessian::merge needs add(sum, other) of the backend");
    backend_.add(sum_, other.sum_);
    tokens_ += other.tokens_;
    squares_ += other.squares_;
    largest_ = (std::max)(largest_, other.largest_);
    sequences_ += other.sequences_;
  }

  /// Checks that activations of up to `largest` can be added for so many more tokens.
  /// \throws NumericalError  sums of squares could leave the range of the backend's numbers
  void require_room(double largest, double tokens) const {
    require_room(largest, tokens, largest * largest * tokens);
  }

  /// Number of inputs.
  Index in_features() const { return sum_.rows(); }

  /// Tokens seen, each counted with its weight.
  double tokens() const { return tokens_; }

  /// Calls of `add` with at least one token, including those of merged Hessians: the "samples" of
  /// the paper's code.
  double sequences() const { return sequences_; }

  /// The largest activation that `add` has seen.
  double largest() const { return largest_; }

  /// Σ xxᵀ over tokens, not divided, upper triangle, where the backend keeps it.
  const Matrix& sum() const { return sum_; }

  /// Where the sum is.
  const B& backend() const { return backend_; }

 private:
  static Index checked(Index in_features) {
    detail::require(in_features > 0, "a Hessian needs a positive number of inputs, not ",
                    in_features);
    detail::checked_size(in_features, in_features);
    return in_features;
  }

  /// Calls f(); if the backend runs out of memory, the message says what a Hessian takes.
  template <class F>
  static auto with_sizes(const B& backend, Index in_features, const F& f) {
    return detail::advised(f, [&] {
      const Index sum = in_features * in_features * Index(sizeof(typename B::Scalar));
      return detail::message("a Hessian of ", in_features, " inputs takes ", detail::mib(sum),
                             " MiB, and adding to it at most ",
                             detail::mib(backend.footprint(1, in_features, {}).accumulate_bytes));
    });
  }

  struct Run {
    Index first, count;
  };
  /// Runs of adjacent tokens whose weights are not zero.
  static std::vector<Run> counted_runs(std::span<const float> weights) {
    std::vector<Run> runs;
    for (Index t = 0; t < static_cast<Index>(weights.size()); ++t) {
      if (weights[std::size_t(t)] == 0) continue;
      if (runs.empty() || runs.back().first + runs.back().count < t) runs.push_back({t, 0});
      ++runs.back().count;
    }
    return runs;
  }

  bool has_room(double squares) const {
    return squares_ + squares < static_cast<double>(std::numeric_limits<typename B::Scalar>::max());
  }
  void require_room(double largest, double tokens, double squares) const {
    if (has_room(squares)) return;
    throw NumericalError(detail::message(
        "activations of up to ", largest, ": the squares of ", tokens,
        " tokens may not fit the backend's numbers; scale the activations, or use a backend in "
        "double precision"));
  }

  template <class T>
  void add_weighted(MatrixView<const T> x, const float* token_weights) {
    detail::require(x.cols() == in_features(), "activations have ", x.cols(),
                    " columns, the Hessian has ", in_features(), " inputs");
    with_sizes(backend_, in_features(), [&] { add_checked(x, token_weights); });
  }

  template <class T>
  void add_checked(MatrixView<const T> x, const float* token_weights);

  B backend_;
  Matrix sum_;
  double tokens_ = 0, sequences_ = 0;
  double squares_ = 0;  // a bound on the elements of the sum
  double largest_ = 0;  // activation
};

template <backend::Backend B>
template <class T>
void Hessian<B>::add_checked(MatrixView<const T> x, const float* token_weights) {
  if constexpr (requires { backend_.stage(x); })  // one copy for the checks and the sum
    if (const auto copy = backend_.stage(x)) return add_checked<T>(copy->view(), token_weights);
  if (x.rows() == 0) return;
  double counted = static_cast<double>(x.rows());
  if (token_weights) counted = std::accumulate(token_weights, token_weights + x.rows(), 0.0);
  std::vector<Run> runs{{0, x.rows()}};
  if (token_weights &&
      !has_room(std::pow(backend_.largest(x), 2) * counted))  // tokens left out may hold anything
    runs = counted_runs(std::span(token_weights, static_cast<std::size_t>(x.rows())));
  double largest = 0;
  for (const Run& run : runs)
    largest = (std::max)(largest, require_finite(backend_, x.middle_rows(run.first, run.count),
                                                 "activations", run.first));
  require_room(largest, counted);
  for (const Run& run : runs)
    backend_.accumulate(sum_, x.middle_rows(run.first, run.count),
                        token_weights ? token_weights + run.first : nullptr);
  squares_ += largest * largest * counted;
  largest_ = (std::max)(largest_, largest);
  tokens_ += counted;
  sequences_ += 1;
}

}  // namespace gptq
