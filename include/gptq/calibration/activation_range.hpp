// SPDX-License-Identifier: MIT
#pragma once

// ActivationRange: the one grid that all activations of a tensor are quantized with at run time
// (W8A8), found in a stream of them.

#include <gptq/calibration/activation_clip.hpp>
#include <gptq/core/half.hpp>

#include <algorithm>  // std::max, std::min
#include <cfloat>     // FLT_MAX
#include <cmath>      // std::abs, std::isfinite, std::isnan
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>  // std::remove_const_t

namespace gptq {

/// How the range [low, high] of a tensor is found. docs/activations.md says when to take which.
enum class ActivationObserver {
  minmax,          ///< all that was seen (Krishnamoorthi, arXiv:1806.08342, 2018)
  moving_average,  ///< low ← m·low + (1 − m)·min and so high, by calls of `add`, m the momentum
                   ///< (Jacob et al., arXiv:1712.05877, 2018, §3.1)
  percentile,  ///< symmetric: up to the pth percentile of |x|; asymmetric: from the (100 − p)th
               ///< to the pth percentile of x (Wu et al., arXiv:2004.09602, 2020)
  mse,         ///< the smallest Σ (x − q(x))² over the histogram, what is clipped included
  entropy,     ///< the smallest KL divergence of the quantized histogram from the clipped one
               ///< (Migacz, "8-bit Inference with TensorRT", GTC 2017)
};

/// For messages.
constexpr std::string_view name(ActivationObserver observer) {
  switch (observer) {
    case ActivationObserver::minmax: return "minmax";
    case ActivationObserver::moving_average: return "moving_average";
    case ActivationObserver::percentile: return "percentile";
    case ActivationObserver::mse: return "mse";
    case ActivationObserver::entropy: break;
  }
  return "entropy";
}

/// How an ActivationRange is found.
struct ActivationParams {
  ActivationObserver observer = ActivationObserver::minmax;
  /// For moving_average: the share of the range that a call of `add` keeps, in [0, 1).
  double momentum = 0.9;
  /// For percentile: p, above 50 and up to 100; 100 is minmax.
  double percentile = 99.99;
  /// For percentile, mse and entropy: the histogram's, at most, in [512, 2²⁰]. Numbers are told
  /// apart to within 2/bins of the whole range.
  Index bins = 4096;

  friend bool operator==(const ActivationParams&, const ActivationParams&) = default;
};

namespace detail {

/// Calls f(row, value) for each activation, in the order of memory.
/// \throws NumericalError  names one that is not finite or not in the range of float
template <class T, class F>
void for_each_activation(MatrixView<T> x, const F& f) {
  static_assert(Number<std::remove_const_t<T>>,
                "gptq: activations are float, double, bfloat16 or float16");
  const auto visit = [&](Index row, Index col) {
    const auto value = to_float(x(row, col));
    if (!(std::abs(value) <= decltype(value)(FLT_MAX)))  // printed without the sign of a NaN
      throw NumericalError(message(
          "activations(", row, ", ", col, ") = ", std::isnan(value) ? std::abs(value) : value,
          std::isfinite(value) ? " does not fit a float" : " is not finite"));
    f(row, static_cast<double>(value));
  };
  if (std::abs(x.col_stride()) <= std::abs(x.row_stride())) {
    for (Index row = 0; row < x.rows(); ++row)
      for (Index col = 0; col < x.cols(); ++col) visit(row, col);
  } else {
    for (Index col = 0; col < x.cols(); ++col)
      for (Index row = 0; row < x.rows(); ++row) visit(row, col);
  }
}

inline scheme::Grid<float> in_float(const scheme::Grid<double>& grid) {
  return {static_cast<float>(grid.scale), static_cast<float>(grid.zero)};
}

}  // namespace detail

/// One range for all activations of a tensor, from a stream of them.
///
/// All observers but moving_average give the same grid, to the bit, however the stream is ordered
/// or cut into calls. No backend is needed: activations are read on the host, by one thread.
class ActivationRange {
 public:
  /// \throws InvalidArgument  a parameter is out of range
  explicit ActivationRange(const ActivationParams& params = {}) : params_(params) {
    detail::require(params.momentum >= 0 && params.momentum < 1, "momentum = ", params.momentum,
                    " must be in [0, 1)");
    detail::require(params.percentile > 50 && params.percentile <= 100,
                    "percentile = ", params.percentile, " must be above 50 and up to 100");
    detail::require(params.bins >= 512 && params.bins <= (1 << 20), "bins = ", params.bins,
                    " must be 512 to 1048576");
    if (params.observer != ActivationObserver::minmax &&
        params.observer != ActivationObserver::moving_average)
      histogram_.emplace(params.bins);
  }

  /// Observes activations [tokens, features] of float, double, bfloat16 or float16, any strides.
  /// \throws NumericalError  an activation is not finite or not in the range of float; none was
  ///                         observed
  template <class T>
  void add(MatrixView<T> activations) {
    if (activations.empty()) return;
    detail::ActivationClip call{FLT_MAX, -FLT_MAX};
    detail::for_each_activation(activations, [&](Index, double x) {
      call = {(std::min)(call.low, x), (std::max)(call.high, x)};
    });
    if (histogram_) {
      histogram_->cover(call.low, call.high);
      detail::for_each_activation(activations, [&](Index, double x) { histogram_->add(x); });
    }
    const double kept = params_.momentum;
    if (tokens_ == 0) seen_ = call;
    else if (params_.observer == ActivationObserver::moving_average)
      seen_ = {kept * seen_.low + (1 - kept) * call.low,
               kept * seen_.high + (1 - kept) * call.high};
    else widen(call);
    tokens_ += activations.rows();
  }
  template <StridedMatrix M>
  void add(const M& activations) {
    add(detail::view_of(activations));
  }

  /// Adds what another range of the same tensor has seen.
  /// \throws InvalidArgument  it has other parameters, or the observer is moving_average
  void merge(const ActivationRange& other) {
    detail::require(params_.observer != ActivationObserver::moving_average,
                    "a moving average depends on the order of its calls: moving_average ranges "
                    "cannot be merged");
    detail::require(params_ == other.params_,
                    "cannot merge ranges of different parameters: ", other.params_text(), " into ",
                    params_text());
    if (other.tokens_ == 0) return;
    if (histogram_) histogram_->merge(*other.histogram_);
    if (tokens_ == 0) seen_ = other.seen_;
    else widen(other.seen_);
    tokens_ += other.tokens_;
  }

  /// The grid: x ≈ scale · (code − zero), codes 0 to 2^bits − 1, as `scheme::Affine<bits>` encodes
  /// and decodes it. For signed integers subtract 2^(bits−1) from code and zero.
  ///
  /// symmetric: scale = 2·max(−low, high) / (2^bits − 1), zero = 2^(bits−1); asymmetric: scale =
  /// (max(high, 0) − min(low, 0)) / (2^bits − 1), zero = round(−min(low, 0) / scale). 0 is always
  /// on the grid. A scale is at least the smallest normal float; of nothing but zeros it is that of
  /// [-1, 1].
  /// \throws InvalidArgument  nothing was observed, or bits are not 2 to 8
  scheme::Grid<float> grid(int bits = 8,
                           scheme::Symmetry symmetry = scheme::Symmetry::symmetric) const {
    detail::require(tokens_ > 0, "no activations were observed (", params_text(), ")");
    detail::require(bits >= 2 && bits <= 8, "bits = ", bits, " must be 2 to 8");
    return detail::in_float(detail::activation_grid(clip(bits, symmetry), bits, symmetry));
  }

  /// Rows observed.
  Index tokens() const { return tokens_; }

  /// The smallest and the largest activation, for moving_average their averages; 0 if there are
  /// none.
  double low() const { return seen_.low; }
  double high() const { return seen_.high; }

  const ActivationParams& params() const { return params_; }

 private:
  void widen(const detail::ActivationClip& by) {
    seen_ = {(std::min)(seen_.low, by.low), (std::max)(seen_.high, by.high)};
  }

  std::string params_text() const {
    return detail::message(name(params_.observer), ", momentum ", params_.momentum, ", percentile ",
                           params_.percentile, ", ", params_.bins, " bins");
  }

  detail::ActivationClip clip(int bits, scheme::Symmetry symmetry) const {
    const detail::ActivationClip all{(std::min)(seen_.low, 0.0), (std::max)(seen_.high, 0.0)};
    switch (params_.observer) {
      case ActivationObserver::percentile:
        return detail::percentile_clip(*histogram_, all, params_.percentile, symmetry);
      case ActivationObserver::mse: return detail::mse_clip(*histogram_, all, bits, symmetry);
      case ActivationObserver::entropy:
        return detail::entropy_clip(*histogram_, all, bits, symmetry);
      case ActivationObserver::minmax:
      case ActivationObserver::moving_average: break;
    }
    return all;
  }

  ActivationParams params_;
  detail::ActivationClip seen_;
  std::optional<detail::ActivationHistogram> histogram_;
  Index tokens_ = 0;
};

}  // namespace gptq
