// SPDX-License-Identifier: MIT
#pragma once

// Quantizer: calibrate once, factor once, round every row against that factor, keep exactly what
// was rounded.

#include <gptq/calibration/convolution.hpp>
#include <gptq/calibration/hessian.hpp>
#include <gptq/core/progress.hpp>
#include <gptq/factor/factors.hpp>
#include <gptq/quantized_matrix.hpp>
#include <gptq/scheme/concept.hpp>
#include <gptq/solver/requirements.hpp>
#include <gptq/solver/round.hpp>
#include <gptq/solver/schedule.hpp>

#include <span>
#include <string>
#include <string_view>
#include <utility>  // std::move
#include <vector>

namespace gptq {

/// GPTQ for one weight matrix (Frantar et al., "GPTQ: Accurate Post-Training Quantization for
/// Generative Pre-trained Transformers", 2022): columns are rounded in turn, and later ones
/// compensate for the errors of earlier ones as far as the Hessian of the inputs allows.
///
/// \code{.cpp}
/// #include <gptq/gptq.hpp>
/// #include <cstdio>
///
/// int main() {
///   const Eigen::MatrixXf weight = Eigen::MatrixXf::Random(64, 256);        // [out, in]
///   const Eigen::MatrixXf activations = Eigen::MatrixXf::Random(1000, 256);  // [tokens, in]
///   gptq::Hessian hessian(256, gptq::backend::Cpu());
///   hessian.add(activations);
///   const gptq::Quantizer<gptq::scheme::Int4, gptq::backend::Cpu> quantizer({.group_size = 128});
///   const auto layer = quantizer.quantize(weight, hessian);  // codes(), scales(), zeros()
///   std::printf("relative output error %.4f\n", layer.report().relative_error);
/// }
/// \endcode
///
/// The grid can be your own, here the integers from -3 to 3 with one code each:
///
/// \code{.cpp}
/// #include <gptq/gptq.hpp>
///
/// struct Seven {
///   static constexpr int bits = 3, max_code = 6;
///   template <class T>  // a number, or a lane of rows
///   T encode(const T& x, const gptq::scheme::Grid<T>& grid) const {
///     return gptq::lane::clamp<T>(gptq::lane::round_even(x / grid.scale), T(-3), T(3)) + T(3);
///   }
///   template <class T>
///   T decode(const T& code, const gptq::scheme::Grid<T>& grid) const {
///     return grid.scale * (code - T(3));
///   }
///   template <class T>
///   gptq::scheme::Grid<T> fit(const T& low, const T& high, gptq::scheme::ScaleRounding r) const {
///     return {gptq::scheme::round_scale(gptq::lane::max(-low, high) / T(3), r), T(0)};
///   }
/// };
///
/// int main() {
///   const Eigen::MatrixXf weight = Eigen::MatrixXf::Random(64, 256);
///   gptq::Hessian hessian(256, gptq::backend::Cpu());
///   hessian.add(Eigen::MatrixXf::Random(1000, 256).eval());
///   const gptq::Quantizer<Seven, gptq::backend::Cpu> quantizer;
///   return quantizer.quantize(weight, hessian).report().relative_error < 0.1 ? 0 : 1;
/// }
/// \endcode
///
/// \tparam Form  of the solver: as Params::solver says, or your own (solver/forms.hpp)
template <scheme::Scheme S, backend::Backend B, class Form = solver::ByParams>
class Quantizer {
 public:
  using Result = QuantizedMatrix<S>;    ///< of one weight
  using Results = std::vector<Result>;  ///< of several, in their order

  /// \throws InvalidArgument  a parameter is out of range
  explicit Quantizer(Params params = {}, S scheme = {})
      : params_(params), scheme_(scheme::with_parity(scheme, params.parity)) {
    solver::require_params<B>(params_, scheme_);
  }

  const Params& params() const { return params_; }  ///< the settings

  /// Orders, damps and factors a Hessian; the result serves all weights that read the same input.
  /// \param order  to solve the columns in, see gptq::factorize; empty: as Params::order says
  /// \throws NumericalError   the Hessian cannot be factored
  /// \throws InvalidArgument  the order is not a permutation of the inputs
  /// \throws OutOfMemory      the backend ran out of memory; the message says what takes less
  DampedFactor<B> factorize(const Hessian<B>& hessian, std::span<const Index> order = {}) const {
    return solver::advised_factor(hessian, params_, order);
  }

  /// Quantizes one weight.
  /// \param weight   [out_features, in_features], any strides; float, double, bfloat16 or float16
  /// \param hessian  of the layer's input; not changed
  /// \param name     of the layer, for messages
  /// \param progress  called from any thread, one call at a time
  /// \throws InvalidArgument  shapes do not fit, or the group size does not divide in_features
  /// \throws NumericalError   a weight is not finite, the Hessian cannot be factored
  /// \throws ScaleError       a scale does not fit its type, see Report::vanished_groups
  /// \throws OutOfMemory      the backend ran out of memory; the message says what takes less
  template <class W>
  Result quantize(MatrixView<W> weight, const Hessian<B>& hessian, std::string_view name = {},
                  const Progress& progress = {}) const {
    const auto task = solver::task(weight, hessian, params_, name);
    detail::step(progress, "factorize", 0, 1);
    const Hessian<B>* const only = &hessian;
    return std::move(solver::factor_and_round<Form>(scheme_, params_, std::span(&task, 1),
                                                    std::span(&only, 1), progress)[0]);
  }

  /// The same with a factor from `factorize` of a quantizer with the same order, groups, damping.
  /// \param doors  the caller's own grids or observer
  template <class W>
  Result quantize(MatrixView<W> weight, const DampedFactor<B>& factor, std::string_view name = {},
                  const Progress& progress = {}, const solver::Doors<B>& doors = {}) const {
    const auto task = solver::task(weight, factor, params_, name);
    return std::move(
        solver::round_all<Form>(scheme_, params_, std::span(&task, 1), factor, progress, doors)[0]);
  }

  /// Rounds on given grids, such as those of a checkpoint, a range observer or a super-block.
  /// \throws InvalidArgument  a grid is not one of the scheme's, or its scale not of the scale type
  template <class W>
  Result quantize(MatrixView<W> weight, const DampedFactor<B>& factor, const Grids& grids,
                  std::string_view name = {}) const {
    return quantize(weight, factor, name, {}, {.grids = &grids});
  }

  /// Several weights that read the same input (q, k and v), with the factor of that input.
  /// \param names  of the weights, or none
  template <class W>
  Results quantize(std::span<const MatrixView<W>> weights, const DampedFactor<B>& factor,
                   std::span<const std::string> names = {}, const Progress& progress = {}) const {
    const auto tasks = solver::tasks(weights, names, [&](auto i, auto name) {
      return solver::task(weights[i], factor, params_, name);
    });
    return solver::round_all<Form>(scheme_, params_, std::span(tasks), factor, progress);
  }

  /// Many weights, each with its own Hessian (experts): several at the same time, with results that
  /// do not depend on how many.
  /// \throws InvalidArgument  the numbers of weights and Hessians differ; otherwise what the first
  ///                          weight to fail throws
  template <class W>
  Results quantize(std::span<const MatrixView<W>> weights,
                   std::span<const Hessian<B>* const> hessians,
                   const Progress& progress = {}) const {
    solver::require_one_each(weights.size(), hessians.size(), "Hessians");
    const auto tasks = solver::tasks(weights, {}, [&](auto i, auto name) {
      return solver::task(weights[i], *hessians[i], params_, name);
    });
    if (tasks.empty()) return {};
    const auto schedule = solver::schedule<B>(std::span(tasks), hessians, params_);
    std::vector<Results> done(schedule.batches.size());
    detail::SharedStage stage(progress, "quantize", static_cast<double>(tasks.size()));
    hessians.front()->backend().for_each(static_cast<Index>(done.size()), [&](Index i) {
      stage.require_going();
      const auto batch = schedule.batches[std::size_t(i)];
      const auto first = static_cast<std::size_t>(batch.data() - tasks.data());
      done[std::size_t(i)] = solver::factor_and_round<Form>(scheme_, params_, batch,
                                                            hessians.subspan(first, batch.size()));
      stage.advance(static_cast<double>(batch.size()));
    });
    return solver::joined(std::move(done), schedule.apart);
  }

  /// The same with a factor for each weight, for other weights with the same Hessians, too.
  template <class W>
  Results quantize(std::span<const MatrixView<W>> weights, const Factors<B>& factors,
                   std::span<const std::string> names = {}) const {
    solver::require_one_each(weights.size(), factors.count(), "factors");
    const auto tasks = solver::tasks(weights, names, [&](auto i, auto name) {
      return solver::task(weights[i], factors, i, params_, name);
    });
    return solver::round_each<Form>(scheme_, params_, std::span(tasks), factors);
  }

  /// Any of these for another library's matrix, such as Eigen's.
  template <StridedMatrix M, class... Rest>
  auto quantize(const M& weight, const Rest&... rest) const {
    return quantize(detail::view_of(weight), rest...);
  }
  /// Any of these for a vector of views.
  template <class W, class... Rest>
  Results quantize(const std::vector<MatrixView<W>>& weights, const Rest&... rest) const {
    return quantize(std::span<const MatrixView<W>>(weights), rest...);
  }

 private:
  Params params_;
  S scheme_;
};

}  // namespace gptq
