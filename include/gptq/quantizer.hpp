// SPDX-License-Identifier: MIT
#pragma once

// Quantizer: calibrate once, factor once, round every row against that factor, keep exactly what
// was rounded.

#include <gptq/calibration/convolution.hpp>
#include <gptq/calibration/damping.hpp>
#include <gptq/calibration/hessian.hpp>
#include <gptq/core/progress.hpp>
#include <gptq/quantized_matrix.hpp>
#include <gptq/solver/memory_plan.hpp>
#include <gptq/solver/panel_solver.hpp>

#include <map>
#include <mutex>
#include <optional>
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
///   gptq::Hessian<gptq::backend::Cpu> hessian(weight.cols());
///   hessian.add(gptq::view(activations));                                  // [tokens, in]
///   gptq::Quantizer<gptq::scheme::Int4, gptq::backend::Cpu> quantizer({.group_size = 128});
///   const auto layer = quantizer.quantize(gptq::view(weight), hessian);    // weight [out, in]
template <Scheme S, Backend B>
class Quantizer {
 public:
  /// \throws InvalidArgument  a parameter is out of range
  explicit Quantizer(Params params = {}, S scheme = {})
      : params_(params), scheme_(scheme::with_parity(scheme, params.parity)) {
    params_.validate();
    if (params_.sparsity.dense()) return;
    const auto grid = scheme_.fit(-1.0f, 1.0f, {});
    const float zero = scheme_.decode(scheme_.encode(0.0f, grid), grid);
    detail::require(zero == 0,
                    "sparsity needs a scheme whose grids have a zero; the number nearest "
                    "to it on this one's grid for [-1, 1] is ",
                    zero);
  }

  const Params& params() const { return params_; }

  /// Orders, damps and factors a Hessian; the result serves all weights that read the same input.
  /// \throws NumericalError   the Hessian cannot be factored
  DampedFactor<B> factorize(const Hessian<B>& hessian) const {
    return damped_factor(hessian, params_);
  }

  /// \param weight   [out_features, in_features], any strides; float, double, bfloat16 or float16
  /// \param hessian  of the layer's input; not changed
  /// \param name     of the layer, for messages
  /// \param progress  called from any thread, one call at a time
  /// \throws InvalidArgument  shapes do not fit, or the group size does not divide in_features
  /// \throws NumericalError   a weight is not finite, the Hessian cannot be factored, a scale does
  /// not fit its type
  /// \throws OutOfMemory      the backend's memory does not do; says what the plan proposes
  template <class W>
  QuantizedMatrix<S> quantize(MatrixView<W> weight, const Hessian<B>& hessian,
                              std::string_view name = {}, const Progress& progress = {}) const {
    const double largest = require_weight(weight, hessian.in_features(), hessian.backend(), name);
    step(progress, "factorize", 0, 1);
    return advised(weight.rows(), weight.cols(), hessian.backend(), [&] {
      return quantize_checked(MatrixView<const std::remove_const_t<W>>(weight), largest,
                              factorize(hessian), name, progress);
    });
  }

  /// The same with a factor that `factorize` of a quantizer with the same order, group size and
  /// damping made.
  template <class W>
  QuantizedMatrix<S> quantize(MatrixView<W> weight, const DampedFactor<B>& factor,
                              std::string_view name = {}, const Progress& progress = {}) const {
    const double largest = require_weight(weight, factor.layout.columns(), factor.backend, name);
    detail::require(factor.layout.group_size() == effective_group_size(params_, weight.cols()),
                    "the factor was made for groups of ", factor.layout.group_size(),
                    ", group_size is ", params_.group_size);
    detail::require(params_.solver != Solver::lazy_batch || factor.inverse.rows() > 0,
                    "the factor was made for Solver::left_looking and has no R⁻¹: call factorize "
                    "of a quantizer with Solver::lazy_batch");
    return advised(weight.rows(), weight.cols(), factor.backend, [&] {
      return quantize_checked(MatrixView<const std::remove_const_t<W>>(weight), largest, factor,
                              name, progress);
    });
  }

  /// Many weights of one shape, each with its own Hessian (experts): several at the same time.
  /// Results do not depend on how many.
  /// \throws InvalidArgument  the numbers of weights and Hessians differ; else as `quantize`, for
  /// the first one that fails
  template <class W>
  std::vector<QuantizedMatrix<S>> quantize(std::span<const MatrixView<W>> weights,
                                           std::span<const Hessian<B>* const> hessians,
                                           const Progress& progress = {}) const {
    detail::require(weights.size() == hessians.size(), weights.size(), " weights and ",
                    hessians.size(), " Hessians");
    std::vector<std::optional<QuantizedMatrix<S>>> done(weights.size());
    std::mutex mutex;
    double count = 0;
    if (!weights.empty())
      hessians.front()->backend().for_each(static_cast<Index>(weights.size()), [&](Index i) {
        const auto at = static_cast<std::size_t>(i);
        done[at] = quantize(weights[at], *hessians[at], "weight " + std::to_string(i));
        const std::lock_guard lock(mutex);
        step(progress, "quantize", ++count, static_cast<double>(weights.size()));
      });
    std::vector<QuantizedMatrix<S>> results;
    for (auto& result : done) results.push_back(std::move(*result));
    return results;
  }

  /// A convolution, group by group.
  /// \param weight  [out, channels / groups · height · width]: the weight, flattened from its
  /// second
  ///                dimension on
  /// \return  for group g the rows [g · out / groups, (g + 1) · out / groups)
  /// \throws as for many weights; InvalidArgument  the groups do not divide the rows
  template <class W>
  std::vector<QuantizedMatrix<S>> quantize(MatrixView<W> weight,
                                           const ConvolutionHessian<B>& hessian,
                                           const Progress& progress = {}) const {
    const Index groups = hessian.groups(), rows = weight.rows() / groups;
    detail::require(rows * groups == weight.rows(), "the ", groups,
                    " groups of the convolution do not divide the ", weight.rows(),
                    " rows of its weight");
    std::vector<MatrixView<W>> weights;
    std::vector<const Hessian<B>*> hessians;
    for (Index g = 0; g < groups; ++g) {
      weights.push_back(weight.middle_rows(g * rows, rows));
      hessians.push_back(&hessian.group(g));
    }
    return quantize(std::span<const MatrixView<W>>(weights),
                    std::span<const Hessian<B>* const>(hessians), progress);
  }

 private:
  /// \throws Cancelled  the caller has had enough
  static void step(const Progress& progress, std::string_view stage, double done, double total) {
    if (progress && !progress(stage, done, total)) throw Cancelled();
  }

  /// f(); where the backend has too little memory for it, says what the plan proposes.
  template <class F>
  auto advised(Index rows, Index cols, const B& backend, const F& f) const {
    try {
      return f();
    } catch (const OutOfMemory& error) {
      throw OutOfMemory(
          detail::message(error.what(), "; ", memory_advice(rows, cols, params_, backend)));
    }
  }

  /// The largest weight.
  template <class W>
  double require_weight(MatrixView<W> weight, Index in_features, const B& backend,
                        std::string_view name) const {
    detail::require(weight.rows() > 0, "the weight ", name, " has no rows");
    detail::require(weight.cols() == in_features, "the weight ", name, " has ", weight.cols(),
                    " inputs, the Hessian ", in_features);
    require_divisible(params_, in_features, name);
    return require_finite(backend, MatrixView<const std::remove_const_t<W>>(weight),
                          name.empty() ? "weight" : name);
  }

  template <class W>
  QuantizedMatrix<S> quantize_checked(MatrixView<const W> w, double largest,
                                      const DampedFactor<B>& factor, std::string_view name,
                                      const Progress& progress) const {
    Stopwatch total;
    const Index n = w.cols();
    const double unit = weight_unit(largest);
    QuantizedMatrix<S> result(w.rows(), n, effective_group_size(params_, n), scheme_);
    for (Index p = 0; p < n; ++p)
      result.group_index()[std::size_t(factor.layout.column(p))] =
          static_cast<std::int32_t>(factor.layout.group()[std::size_t(p)]);
    result.set_scale_unit(scale_unit<S>(params_.scale_type, largest));
    const auto search = scheme::range_search(params_, result.scale_unit(), unit);
    const bool with_dead = params_.parity.dead_weights_in_range && params_.group_size == -1 &&
                           factor.layout.any_dead();
    std::map<Index, solver::PanelReport>
        panels;  // by first row, so that sums do not depend on who finished first
    std::mutex mutex;
    Index done = 0;
    factor.backend.for_panels(w.rows(), [&](const auto& worker, Index first, Index rows) {
      solver::PanelReport report;
      auto panel = worker.load_panel(w, first, rows, factor.layout, unit);
      if (with_dead)
        solver::fit_with_dead_columns<S, B>(worker, scheme_, factor.layout, search, w, panel);
      solver::solve_panel<S, B>(worker, scheme_, factor, params_, search, with_dead, panel,
                                report.seconds);
      report.penalty = worker.weighted_squares(panel.residual, rows, factor.added);
      report.column_loss = worker.column_loss(panel);
      report.clipped = worker.clipped(panel);
      worker.store_panel(panel, factor.layout, result.codes(), result.scales(), result.zeros());
      if (params_.measure_baseline)
        solver::measure_baseline<S, B>(worker, scheme_, factor, params_.sparsity, search.rounding,
                                       panel, report);
      const std::lock_guard lock(mutex);
      panels.emplace(first, std::move(report));
      done += rows;
      step(progress, "quantize", static_cast<double>(done), static_cast<double>(w.rows()));
    });
    Report& report = result.report();
    report.subnormal_scales = check_scales(result, params_.scale_type, name);
    report.tokens = factor.tokens;
    report.damping = factor.damping;
    report.peak_bytes = memory_plan(w.rows(), n, params_, factor.backend).peak();
    summarize(panels, factor.layout, params_.measure_baseline, unit, result);
    report.paper_error = report.damped_loss * factor.paper_error_per_loss;
    report.seconds.factorize = factor.seconds;
    report.seconds.total = factor.seconds + total.lap();
    return result;
  }

  static void summarize(const std::map<Index, solver::PanelReport>& panels,
                        const ColumnLayout& layout, bool baseline, double unit,
                        QuantizedMatrix<S>& result) {
    Report& report = result.report();
    double penalty = 0, output_energy = 0, rtn_loss = 0;
    Index clipped = 0;
    for (const auto& [first, panel] : panels) {
      for (Index p = 0; p < layout.columns(); ++p)
        result.column_loss()[std::size_t(layout.column(p))] +=
            panel.column_loss[std::size_t(p)] * unit * unit;
      penalty += panel.penalty;
      output_energy += panel.output_energy;
      rtn_loss += panel.rtn_loss;
      clipped += panel.clipped;
      report.seconds.fit += panel.seconds.fit;
      report.seconds.solve += panel.seconds.solve;
      report.seconds.measure += panel.seconds.measure;
    }
    penalty *= unit * unit;
    output_energy *= unit * unit;
    rtn_loss *= unit * unit;
    for (const double loss : result.column_loss()) report.damped_loss += loss;
    report.loss = (std::max)(0.0, report.damped_loss - penalty);
    report.clipped =
        static_cast<double>(clipped) / static_cast<double>(result.rows() * result.cols());
    if (baseline && output_energy > 0) {
      report.relative_error = report.loss / output_energy;
      report.rtn_relative_error = (std::max)(0.0, rtn_loss) / output_energy;
    }
  }

  Params params_;
  S scheme_;
};

}  // namespace gptq
