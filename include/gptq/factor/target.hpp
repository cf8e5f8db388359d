// SPDX-License-Identifier: MIT
#pragma once

// Asymmetric calibration: a layer whose inputs come from quantized layers aims at its outputs in
// the full-precision model, and so makes up for the errors of the layers before it.

#include <gptq/calibration/cross_moment.hpp>
#include <gptq/factor/factor.hpp>

#include <numeric>  // std::iota
#include <utility>  // std::move
#include <vector>

namespace gptq {

/// The errors that a layer is to make up for, each with a strength.
template <backend::Backend B>
struct Mismatch {
  const CrossMoment<B>* inputs = nullptr;    ///< (X − X̃)ᵀX̃, [in, in]
  double input_strength = 0.5;               ///< α, 0 .. 1
  const CrossMoment<B>* residual = nullptr;  ///< (r − r̃)ᵀX̃, [out, in], r the residual stream
  double residual_strength = 0.5;            ///< β, 0 .. 1

  /// Whether it changes a weight at all.
  bool counts() const {
    return (inputs && input_strength > 0) || (residual && residual_strength > 0);
  }

  /// Checks shapes, tokens and strengths.
  /// \param out, in  of the weight
  /// \param tokens   of its Hessian
  /// \throws InvalidArgument  names what does not fit
  void validate(Index out, Index in, double tokens) const {
    const auto check = [&](const char* name, const CrossMoment<B>* moment, Index rows,
                           double strength) {
      detail::require(strength >= 0 && strength <= 1, "the strength of the ", name, " is ",
                      strength, " but must be 0 to 1");
      if (!moment) return;
      detail::require(moment->rows() == rows && moment->cols() == in, "the cross moment of the ",
                      name, " is ", moment->rows(), " x ", moment->cols(), ", a weight of ", out,
                      " x ", in, " needs ", rows, " x ", in);
      detail::require(moment->tokens() == tokens, "the cross moment of the ", name, " has ",
                      moment->tokens(), " tokens, the Hessian has ", tokens);
    };
    check("inputs", inputs, in, input_strength);
    check("residual", residual, out, residual_strength);
  }
};

namespace detail {

inline void copy(MatrixView<const float> from, MatrixView<float> to) {
  for (Index r = 0; r < from.rows(); ++r)
    for (Index c = 0; c < from.cols(); ++c) to(r, c) = from(r, c);
}

/// out(r, order[p]) += scale · m(p, r), m a panel's matrix.
template <class B>
void add_transposed(const B& backend, const typename B::Matrix& m, double scale,
                    std::span<const Index> order, MatrixView<float> out) {
  using Scalar = typename B::Scalar;
  const Index n = m.rows(), width = m.cols();
  std::vector<Scalar> numbers(static_cast<std::size_t>(n * width));
  const MatrixView<Scalar> values(numbers.data(), n, width);
  backend.download(m, values);
  for (Index p = 0; p < n; ++p)
    for (Index r = 0; r < out.rows(); ++r)
      out(r, order[std::size_t(p)]) +=
          static_cast<float>(scale * static_cast<double>(values(p, r)));
}

}  // namespace detail

/// The weight to quantize in place of W, added to `weight` in place:
///   W* = W + (α·W·(X − X̃)ᵀX̃ + β·(r − r̃)ᵀX̃)·(H + λI)⁻¹,   H = X̃ᵀX̃
/// With α = 1 and no damping, ‖X·Wᵀ − X̃·Qᵀ‖² = tr((W* − Q)·H·(W* − Q)ᵀ) + const, so any solver that
/// is good for the plain problem is good for this one (QEP, Arai & Ichikawa 2025). Strengths below
/// 1 keep the layer from fitting the noise of the calibration text.
///
/// \param weight  [out, in]; unchanged if this throws
/// \param factor  of the Hessian of X̃
/// \throws InvalidArgument  shapes, tokens or strengths do not fit
/// \throws NumericalError   an element of W* is not finite
template <backend::Backend B>
void aim_at_full_precision(MatrixView<float> weight, const DampedFactor<B>& factor,
                           const Mismatch<B>& mismatch) {
  using Worker = typename B::Worker;
  static_assert(
      requires(const Worker worker, typename B::Matrix m, std::span<const Index> order) {
        m = worker.gather(m, order);
        worker.solve_factor(m, m);
      },
      "gptq: aim_at_full_precision needs gather(matrix, order) and solve_factor(factor, matrix) of "
      "the backend's worker");
  const Index n = weight.cols(), rows = weight.rows();
  const B& backend = factor.backend;
  detail::require(factor.layout.columns() == n, "the factor has ", factor.layout.columns(),
                  " inputs, the weight ", n);
  mismatch.validate(rows, n, factor.tokens);
  if (!mismatch.counts()) return;
  const auto on_host = [&](const auto& fill) {
    std::vector<float> numbers(static_cast<std::size_t>(rows * n));
    fill(MatrixView<float>(numbers.data(), rows, n));
    return numbers;
  };
  std::vector<float> residual;  // (r − r̃)ᵀX̃ in host memory
  if (mismatch.residual)
    residual = on_host([&](auto to) { backend.download(mismatch.residual->sum(), to); });
  std::vector<float> target =
      on_host([&](auto to) { detail::copy(MatrixView<const float>(weight), to); });
  const MatrixView<float> aimed(target.data(), rows, n);

  std::vector<Index> natural(static_cast<std::size_t>(n));
  std::iota(natural.begin(), natural.end(), Index{0});
  const ColumnLayout columns(std::move(natural), n);
  backend.for_panels(rows, [&](const auto& worker, Index first, Index count) {
    const auto load = [&](MatrixView<const float> matrix) {
      const Section<float> section{matrix.middle_rows(first, count), &columns};
      return worker.load_panel(std::span(&section, 1), 1);
    };
    auto panel = load(weight);
    const auto push = [&](const auto& direction, double scale) {
      auto g = worker.gather(direction, factor.layout.order());
      worker.solve_factor(factor.r, g);
      detail::add_transposed(backend, g, scale / factor.hessian_unit, factor.layout.order(),
                             aimed.middle_rows(first, count));
    };
    if (mismatch.inputs && mismatch.input_strength > 0) {
      worker.propagate(panel.carry, 0, n, mismatch.inputs->sum(), panel.weight, 0, n);
      push(panel.carry, mismatch.input_strength / mismatch.inputs->tokens());
    }
    if (mismatch.residual && mismatch.residual_strength > 0)
      push(load({residual.data(), rows, n}).weight,
           mismatch.residual_strength / mismatch.residual->tokens());
  });
  require_finite(backend, MatrixView<const float>(aimed),
                 "the weight adjusted for the layers before it");
  detail::copy(aimed, weight);
}

}  // namespace gptq
