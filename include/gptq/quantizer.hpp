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
#include <gptq/solver/batch.hpp>
#include <gptq/solver/memory_plan.hpp>
#include <gptq/solver/requirements.hpp>
#include <gptq/solver/schedule.hpp>

#include <span>
#include <string>
#include <string_view>
#include <utility>  // std::move
#include <vector>

namespace gptq {

/// GPTQ for one weight matrix (Frantar et al., "GPTQ: Accurate Post-Training Quantization for
/// Generative Pre-trained Transformers", 2022): each column is rounded in turn, and the columns
/// behind it make up for the error as far as the Hessian of the inputs says that they can.
///
///   gptq::Hessian hessian(weight.cols(), gptq::backend::Cpu());
///   hessian.add(gptq::view(activations));                                  // [tokens, in]
///   gptq::Quantizer<gptq::scheme::Int4, gptq::backend::Cpu> quantizer({.group_size = 128});
///   const auto layer = quantizer.quantize(gptq::view(weight), hessian);    // weight [out, in]
///
/// \tparam Form  of the solver: as Params::solver says, or your own (solver/forms.hpp)
template <scheme::Scheme S, backend::Backend B, class Form = solver::ByParams>
class Quantizer {
 public:
  using Result = QuantizedMatrix<S>;
  using Results = std::vector<Result>;

  /// \throws InvalidArgument  a parameter is out of range
  explicit Quantizer(Params params = {}, S scheme = {})
      : params_(params), scheme_(scheme::with_parity(scheme, params.parity)) {
    solver::require_params<B>(params_, scheme_);
  }

  const Params& params() const { return params_; }

  /// Orders, damps and factors a Hessian; the result serves all weights that read the same input.
  /// \param order  to solve the columns in, see gptq::factorize; empty: by Params::order
  /// \throws NumericalError   the Hessian cannot be factored
  /// \throws InvalidArgument  the order is no permutation of the inputs
  /// \throws OutOfMemory      the backend ran out of memory; the message says what the plan
  /// proposes
  DampedFactor<B> factorize(const Hessian<B>& hessian, std::span<const Index> order = {}) const {
    return solver::advised_factor(hessian, params_, order);
  }

  /// \param weight   [out_features, in_features], any strides; float, double, bfloat16 or float16
  /// \param hessian  of the layer's input; not changed
  /// \param name     of the layer, for messages
  /// \param progress  called from any thread, one call at a time
  /// \throws InvalidArgument  shapes do not fit, or the group size does not divide in_features
  /// \throws NumericalError   a weight is not finite, the Hessian cannot be factored
  /// \throws ScaleError       a scale does not fit its type, see Report::vanished_groups
  /// \throws OutOfMemory      the backend ran out of memory; the message says what the plan
  /// proposes
  template <class W>
  Result quantize(MatrixView<W> weight, const Hessian<B>& hessian, std::string_view name = {},
                  const Progress& progress = {}) const {
    const auto task = solver::task(weight, hessian, params_, name);
    detail::step(progress, "factorize", 0, 1);
    return solver::advised(weight.rows(), weight.cols(), params_, hessian.backend(), [&] {
      const Hessian<B>* const only = &hessian;
      return std::move(round(std::span(&task, 1), Factors<B>({&only, 1}, params_), progress)[0]);
    });
  }

  /// The same with a factor that `factorize` of a quantizer with the same order, group size and
  /// damping made.
  /// \param doors  what is the caller's own: grids, an observer
  template <class W>
  Result quantize(MatrixView<W> weight, const DampedFactor<B>& factor, std::string_view name = {},
                  const Progress& progress = {}, const solver::Doors<B>& doors = {}) const {
    const auto task = solver::task(weight, factor, params_, name);
    return std::move(round_shared(std::span(&task, 1), factor, progress, doors)[0]);
  }

  /// On grids that are given: those of a checkpoint, of an observer, of a super-block.
  /// \throws InvalidArgument  a grid is not one of the scheme's, or its scale not of the scale type
  template <class W>
  Result quantize(MatrixView<W> weight, const DampedFactor<B>& factor, const Grids& grids,
                  std::string_view name = {}) const {
    return quantize(weight, factor, name, {}, {.grids = &grids});
  }

  /// Several weights that read the same input (q, k and v), with its factor.
  /// \param names  of the weights, or none
  template <class W>
  Results quantize(std::span<const MatrixView<W>> weights, const DampedFactor<B>& factor,
                   std::span<const std::string> names = {}, const Progress& progress = {}) const {
    const auto tasks = solver::tasks(weights, names, [&](std::size_t i, std::string_view name) {
      return solver::task(weights[i], factor, params_, name);
    });
    return round_shared(std::span(tasks), factor, progress, {});
  }

  /// Many weights, each with its own Hessian (experts): several at the same time. Results do not
  /// depend on how many.
  /// \throws InvalidArgument  the numbers of weights and Hessians differ; else as `quantize`, for
  /// the first one that fails
  template <class W>
  Results quantize(std::span<const MatrixView<W>> weights,
                   std::span<const Hessian<B>* const> hessians,
                   const Progress& progress = {}) const {
    detail::require(weights.size() == hessians.size(), weights.size(), " weights and ",
                    hessians.size(), " Hessians");
    const auto tasks = solver::tasks(weights, {}, [&](std::size_t i, std::string_view name) {
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
      solver::advised(batch[0].weight.rows(), batch[0].weight.cols(), params_,
                      hessians[first]->backend(), [&] {
                        const Factors<B> factors(hessians.subspan(first, batch.size()), params_);
                        done[std::size_t(i)] = round(batch, factors, {});
                      });
      stage.advance(static_cast<double>(batch.size()));
    });
    return solver::joined(std::move(done), schedule.apart);
  }

  /// A convolution, group by group.
  /// \param weight  [out, channels / groups · height · width]: flattened from its second dimension
  ///                on
  /// \return  for group g the rows [g · out / groups, (g + 1) · out / groups)
  /// \throws as for many weights; InvalidArgument  the groups do not divide the rows
  template <class W>
  Results quantize(MatrixView<W> weight, const ConvolutionHessian<B>& hessian,
                   const Progress& progress = {}) const {
    const auto weights = hessian.split(weight);
    const auto hessians = hessian.all_groups();
    return quantize(std::span<const MatrixView<W>>(weights),
                    std::span<const Hessian<B>* const>(hessians), progress);
  }

  /// Any of these for a matrix of another library's, such as Eigen's, or for a vector of views.
  template <StridedMatrix M, class... Rest>
  auto quantize(const M& weight, const Rest&... rest) const {
    return quantize(detail::view_of(weight), rest...);
  }
  template <class W, class... Rest>
  Results quantize(const std::vector<MatrixView<W>>& weights, const Rest&... rest) const {
    return quantize(std::span<const MatrixView<W>>(weights), rest...);
  }

 private:
  template <class T>
  Results round_shared(std::span<const solver::Task<T>> tasks, const DampedFactor<B>& factor,
                       const Progress& progress, const solver::Doors<B>& doors) const {
    std::vector<Results> done;
    const auto schedule = solver::schedule<B>(tasks);
    for (const auto batch : schedule.batches)
      done.push_back(
          solver::advised(batch[0].weight.rows(), batch[0].weight.cols(), params_, factor.backend,
                          [&] { return round(batch, Factors<B>(factor), progress, doors); }));
    return solver::joined(std::move(done), schedule.apart);
  }

  /// The algorithm: panel by panel, choose grids, round with compensation, store what was rounded.
  template <class T>
  Results round(std::span<const solver::Task<T>> tasks, const Factors<B>& factors,
                const Progress& progress, const solver::Doors<B>& doors = {}) const {
    solver::Batch<S, B, T> batch(scheme_, params_, tasks, factors, doors);
    detail::SharedStage stage(progress, "quantize", static_cast<double>(batch.rows()));
    factors.backend().for_panels(batch.rows(), [&](const auto& worker, Index first, Index rows) {
      stage.require_going();
      auto panel = batch.load(worker, first, rows);
      Timings seconds;
      solver::solve_panel<Form>(worker, batch.rounding(), batch.has_grids(), panel, seconds,
                                batch.observe(worker, panel, first));
      batch.store(worker, panel, first, rows, seconds);
      stage.advance(static_cast<double>(rows));
    });
    return batch.finish();
  }

  Params params_;
  S scheme_;
};

}  // namespace gptq
