// SPDX-License-Identifier: MIT
#pragma once

// Asymmetric calibration: a layer whose inputs come from quantized layers aims at the outputs that
// it has in the full-precision model, and so repairs what the layers before it lost.

#include <gptq/calibration/damping.hpp>

#include <numeric>  // std::iota
#include <utility>  // std::move
#include <vector>

namespace gptq {

/// Σ a·bᵀ over tokens, for two inputs a and b of the same tokens.
template <Backend B>
class CrossMoment {
 public:
  CrossMoment(Index rows, Index cols, B backend = B{})
      : backend_(std::move(backend)), sum_(backend_.zeros(rows, cols)) {}

  /// \param a  [tokens, rows]
  /// \param b  [tokens, cols]
  /// \throws InvalidArgument  the shapes do not fit
  template <class T>
  void add(MatrixView<const T> a, MatrixView<const T> b) {
    detail::require(a.rows() == b.rows() && a.cols() == sum_.rows() && b.cols() == sum_.cols(),
                    "a cross moment of ", sum_.rows(), " x ", sum_.cols(), " cannot add ", a.rows(),
                    " x ", a.cols(), " and ", b.rows(), " x ", b.cols());
    backend_.accumulate_cross(sum_, a, b);
    tokens_ += static_cast<double>(a.rows());
  }

  Index rows() const { return sum_.rows(); }
  Index cols() const { return sum_.cols(); }
  double tokens() const { return tokens_; }
  const typename B::Matrix& sum() const { return sum_; }

 private:
  B backend_;
  typename B::Matrix sum_;
  double tokens_ = 0;
};

/// What a layer is to make up for, with the strength of each part.
template <Backend B>
struct Mismatch {
  const CrossMoment<B>* inputs = nullptr;  ///< (X − X̃)ᵀX̃, [in, in]
  double input_strength = 0.5;             ///< α, 0 .. 1
  const CrossMoment<B>* residual = nullptr;  ///< (r − r̃)ᵀX̃, [out, in]: the stream the output joins
  double residual_strength = 0.5;            ///< β, 0 .. 1
};

/// The weight to quantize in place of W, added to `weight` in place:
///   W* = W + (α·W·(X − X̃)ᵀX̃ + β·(r − r̃)ᵀX̃)·(H + λI)⁻¹,   H = X̃ᵀX̃
/// With α = 1 and no damping, ‖X·Wᵀ − X̃·Qᵀ‖² = tr((W* − Q)·H·(W* − Q)ᵀ) + const, so any solver that
/// is good for the plain problem is good for this one (QEP, Arai & Ichikawa 2025). Strengths below
/// 1 keep the layer from learning the calibration text's noise.
///
/// \param weight  [out, in]
/// \param factor  of the Hessian of X̃
template <Backend B>
void aim_at_full_precision(MatrixView<float> weight, const DampedFactor<B>& factor,
                           const Mismatch<B>& mismatch) {
  const Index n = weight.cols();
  const B& backend = factor.backend;
  std::vector<Index> natural(static_cast<std::size_t>(n));
  std::iota(natural.begin(), natural.end(), Index{0});
  const ColumnLayout columns(std::move(natural), n);
  detail::require(factor.layout.columns() == n, "the factor has ", factor.layout.columns(),
                  " inputs, the weight ", n);
  if (mismatch.inputs)
    detail::require(mismatch.inputs->rows() == n && mismatch.inputs->cols() == n &&
                        mismatch.inputs->tokens() > 0,
                    "the cross moment of the inputs is ", mismatch.inputs->rows(), " x ",
                    mismatch.inputs->cols(), " of ", mismatch.inputs->tokens(),
                    " tokens, the weight has ", n, " inputs");
  if (mismatch.residual)
    detail::require(mismatch.residual->tokens() > 0, "the residual's cross moment has no tokens");
  std::vector<float> residual;  // (r − r̃)ᵀX̃ where the host can reach it
  if (mismatch.residual) {
    detail::require(mismatch.residual->rows() == weight.rows() && mismatch.residual->cols() == n,
                    "the residual's cross moment is ", mismatch.residual->rows(), " x ",
                    mismatch.residual->cols(), ", the weight ", weight.rows(), " x ", n);
    residual.resize(static_cast<std::size_t>(weight.size()));
    backend.download(mismatch.residual->sum(),
                     MatrixView<float>(residual.data(), weight.rows(), n));
  }
  backend.for_panels(weight.rows(), [&](const auto& worker, Index first, Index rows) {
    auto panel = worker.load_panel(MatrixView<const float>(weight), first, rows, columns, 1);
    const auto push = [&](const auto& direction, double scale) {
      auto g = worker.gather(direction, factor.layout.order());
      worker.solve_factor(factor.r, g);
      worker.add_rows(g, scale / factor.unit, factor.layout.order(), first, rows, weight);
    };
    if (mismatch.inputs && mismatch.input_strength > 0) {
      worker.propagate(panel.residual, 0, n, mismatch.inputs->sum(), panel.weight, 0, n);
      push(panel.residual, mismatch.input_strength / mismatch.inputs->tokens());
    }
    if (mismatch.residual && mismatch.residual_strength > 0) {
      const MatrixView<const float> r(residual.data(), weight.rows(), n);
      push(worker.load_panel(r, first, rows, columns, 1).weight,
           mismatch.residual_strength / mismatch.residual->tokens());
    }
  });
}

}  // namespace gptq
