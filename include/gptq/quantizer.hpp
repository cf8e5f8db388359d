// SPDX-License-Identifier: MIT
#pragma once

// Quantizer: calibrate once, factor once, round every row against that factor, keep exactly what
// was rounded.

#include <gptq/calibration/convolution.hpp>
#include <gptq/calibration/hessian.hpp>
#include <gptq/core/progress.hpp>
#include <gptq/factor/factor.hpp>
#include <gptq/quantized_matrix.hpp>
#include <gptq/scheme/concept.hpp>
#include <gptq/solver/batch_solver.hpp>
#include <gptq/solver/dead_columns.hpp>
#include <gptq/solver/memory_plan.hpp>
#include <gptq/solver/panel_solver.hpp>
#include <gptq/solver/requirements.hpp>
#include <gptq/solver/summary.hpp>

#include <exception>
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
///   gptq::Hessian hessian(weight.cols(), gptq::backend::Cpu());
///   hessian.add(gptq::view(activations));                                  // [tokens, in]
///   gptq::Quantizer<gptq::scheme::Int4, gptq::backend::Cpu> quantizer({.group_size = 128});
///   const auto layer = quantizer.quantize(gptq::view(weight), hessian);    // weight [out, in]
template <scheme::Scheme S, backend::Backend B>
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
  /// \throws OutOfMemory      the backend ran out of memory; the message says what the plan
  /// proposes
  DampedFactor<B> factorize(const Hessian<B>& hessian) const {
    return solver::advised_factor(hessian, params_);
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
  QuantizedMatrix<S> quantize(MatrixView<W> weight, const Hessian<B>& hessian,
                              std::string_view name = {}, const Progress& progress = {}) const {
    const double largest =
        solver::require_weight(weight, hessian.in_features(), params_, hessian.backend(), name);
    detail::step(progress, "factorize", 0, 1);
    return solver::advised(weight.rows(), weight.cols(), params_, hessian.backend(), [&] {
      const auto factor = damped_factor(hessian, params_);
      auto result = quantize_checked(MatrixView<const std::remove_const_t<W>>(weight), largest,
                                     factor, name, progress);
      result.report().seconds.factorize = factor.seconds;
      result.report().seconds.total += factor.seconds;
      return result;
    });
  }

  /// The same with a factor that `factorize` of a quantizer with the same order, group size and
  /// damping made.
  template <class W>
  QuantizedMatrix<S> quantize(MatrixView<W> weight, const DampedFactor<B>& factor,
                              std::string_view name = {}, const Progress& progress = {}) const {
    const double largest = solver::require_weight(weight, factor, params_, name);
    return solver::advised(weight.rows(), weight.cols(), params_, factor.backend, [&] {
      return quantize_checked(MatrixView<const std::remove_const_t<W>>(weight), largest, factor,
                              name, progress);
    });
  }

  /// Either of the two for a matrix of another library's, such as Eigen's.
  template <StridedMatrix M, class... Rest>
  QuantizedMatrix<S> quantize(const M& weight, const Rest&... rest) const {
    return quantize(detail::view_of(weight), rest...);
  }

  /// Several weights that read the same input (q, k and v), with its factor; as one taller weight
  /// where the backend takes several at once.
  /// \param names  of the weights, or none
  template <class W>
  std::vector<QuantizedMatrix<S>> quantize(std::span<const MatrixView<W>> weights,
                                           const DampedFactor<B>& factor,
                                           std::span<const std::string> names = {},
                                           const Progress& progress = {}) const {
    const std::vector<std::string> numbers =
        names.empty() ? numbered(weights.size()) : std::vector<std::string>{};
    if (names.empty()) names = numbers;
    detail::require(names.size() == weights.size(), weights.size(), " weights and ", names.size(),
                    " names");
    std::vector<QuantizedMatrix<S>> results;
    if constexpr (solver::BatchBackend<B>)
      if (weights.size() > 1 && solver::batchable(params_)) {
        std::vector<MatrixView<const std::remove_const_t<W>>> views;
        std::vector<double> largest;
        Index rows = 0;
        for (std::size_t i = 0; i < weights.size(); ++i) {
          largest.push_back(solver::require_weight(weights[i], factor, params_, names[i]));
          views.emplace_back(weights[i]);
          rows += weights[i].rows();
        }
        if (solver::one_unit(largest) &&
            factor.backend.batches().fits(rows, factor.layout.columns())) {
          detail::step(progress, "quantize", 0, 1);
          const ColumnLayout* const layout = &factor.layout;
          return solver::advised(rows, layout->columns(), params_, factor.backend, [&] {
            return quantize_in_one(std::span<const MatrixView<const std::remove_const_t<W>>>(views),
                                   names, std::span<const double>(largest), factor,
                                   std::span(&layout, 1),
                                   [&](std::size_t) -> const DampedFactor<B>& { return factor; });
          });
        }
      }
    for (std::size_t i = 0; i < weights.size(); ++i)
      results.push_back(quantize(weights[i], factor, names[i], progress));
    return results;
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
    if constexpr (solver::BatchBackend<B>)
      if (const auto names = numbered(weights.size());
          auto together = quantize_together(std::span(weights), hessians, names, progress))
        return std::move(*together);
    std::vector<std::optional<QuantizedMatrix<S>>> done(weights.size());
    std::mutex mutex;
    double count = 0;
    std::exception_ptr stopped;
    if (!weights.empty())
      hessians.front()->backend().for_each(static_cast<Index>(weights.size()), [&](Index i) {
        const auto at = static_cast<std::size_t>(i);
        {
          const std::lock_guard lock(mutex);
          if (stopped) std::rethrow_exception(stopped);
        }
        done[at] = quantize(weights[at], *hessians[at], numbered_name(at));
        const std::lock_guard lock(mutex);
        detail::step(progress, "quantize", ++count, static_cast<double>(weights.size()), &stopped);
      });
    std::vector<QuantizedMatrix<S>> results;
    for (auto& result : done) results.push_back(std::move(*result));
    return results;
  }

  /// Either of the two for a vector of views.
  template <class W, class... Rest>
  std::vector<QuantizedMatrix<S>> quantize(const std::vector<MatrixView<W>>& weights,
                                           const Rest&... rest) const {
    return quantize(std::span<const MatrixView<W>>(weights), rest...);
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
    return quantize(weights, hessians, progress);
  }

 private:
  template <class W>
  QuantizedMatrix<S> quantize_checked(MatrixView<const W> w, double largest,
                                      const DampedFactor<B>& factor, std::string_view name,
                                      const Progress& progress) const {
    Stopwatch total;
    const double unit = weight_unit(largest);
    QuantizedMatrix<S> result = empty_result(w.rows(), factor.layout, largest);
    const auto search = scheme::range_search(params_, result.scale_unit(), unit);
    const bool with_dead = params_.parity.dead_weights_in_range && params_.group_size == -1 &&
                           factor.layout.any_dead();
    std::map<Index, solver::PanelReport>
        panels;  // by first row, so that sums do not depend on who finished first
    std::mutex mutex;
    Index done = 0;
    std::exception_ptr stopped;
    Stopwatch panel_time;
    factor.backend.for_panels(w.rows(), [&](const auto& worker, Index first, Index rows) {
      {
        const std::lock_guard lock(mutex);
        if (stopped) std::rethrow_exception(stopped);
      }
      solver::PanelReport report;
      auto grids = with_dead ? solver::grids_with_dead_columns<S, B>(worker, scheme_, factor.layout,
                                                                     search, w, first, rows, unit)
                             : solver::Grids<B>{};
      auto panel = worker.load_panel(w, first, rows, factor.layout, unit);
      if (with_dead) {
        panel.scales = std::move(grids.scales);
        panel.zeros = std::move(grids.zeros);
      }
      solver::solve_panel<S>(worker, scheme_, factor, params_, search, with_dead, panel,
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
      detail::step(progress, "quantize", static_cast<double>(done), static_cast<double>(w.rows()),
                   &stopped);
    });
    const double together = panel_time.lap();
    finish(panels, factor, w, unit, name, result);
    result.report().seconds.share(together);
    result.report().seconds.total = total.lap();
    return result;
  }

  /// Where a matrix goes that is solved with this layout.
  QuantizedMatrix<S> empty_result(Index rows, const ColumnLayout& layout, double largest) const {
    const Index n = layout.columns();
    QuantizedMatrix<S> result(rows, n, effective_group_size(params_, n), scheme_);
    for (Index p = 0; p < n; ++p)
      result.group_index()[std::size_t(layout.column(p))] =
          static_cast<std::int32_t>(layout.group()[std::size_t(p)]);
    result.set_scale_unit(scale_unit(scheme_, params_.scale_type, largest));
    return result;
  }

  /// Rounds the weights of dead inputs, looks through the scales and fills the report in.
  template <class W>
  void finish(const std::map<Index, solver::PanelReport>& panels, const DampedFactor<B>& factor,
              MatrixView<const W> weight, double unit, std::string_view name,
              QuantizedMatrix<S>& result) const {
    Index clipped = 0;
    if (factor.layout.any_dead() && !solver::zeroes_dead_weights(params_))
      clipped = solver::round_dead_weights(result, weight, factor.backend, factor.layout,
                                           scheme::range_search(params_, result.scale_unit(), unit),
                                           unit);
    check_scales(result, weight, factor.backend, params_.scale_type, unit, name);
    Report& report = result.report();
    report.tokens = factor.tokens;
    report.damping = factor.damping;
    report.peak_bytes = memory_plan(result.rows(), result.cols(), params_, factor.backend).peak();
    solver::summarize(panels, factor.layout, params_.measure_baseline, unit * unit * factor.unit,
                      result);
    report.clipped +=
        static_cast<double>(clipped) / static_cast<double>(result.rows() * result.cols());
    report.paper_error = report.damped_loss * factor.paper_error_per_loss;
  }

  /// All weights in one panel.
  /// \param factor  a DampedFactor for all of them, or a FactorBatch
  /// \param of      of(i): the factor of weight i, whose matrices are not looked at
  template <class W, class Factor, class Of>
  std::vector<QuantizedMatrix<S>> quantize_in_one(std::span<const MatrixView<const W>> weights,
                                                  std::span<const std::string> names,
                                                  std::span<const double> largest,
                                                  const Factor& factor,
                                                  std::span<const ColumnLayout* const> layouts,
                                                  const Of& of) const {
    Stopwatch total;
    const double unit = weight_unit(largest.front());
    std::vector<QuantizedMatrix<S>> results;
    std::vector<Index> rows;
    std::vector<std::span<const double>> added;
    std::vector<float> units;  // of scales
    for (std::size_t i = 0; i < weights.size(); ++i) {
      rows.push_back(weights[i].rows());
      added.push_back(of(i).added);
      results.push_back(empty_result(rows[i], of(i).layout, largest[i]));
      units.push_back(results[i].scale_unit());
    }
    const auto worker = of(0).backend.batches().worker(rows, layouts);
    auto panel = worker.load_panel(weights, unit, units);
    const auto search = scheme::range_search(params_, units.front(), unit);
    const auto reports =
        solver::solve_batch<S>(worker, scheme_, factor, added, params_, search, panel, [&] {
          worker.store(
              panel, [&](std::size_t i) -> auto& { return results[i]; });
        });
    for (std::size_t i = 0; i < results.size(); ++i)
      finish({{Index{0}, reports[i]}}, of(i), weights[i], unit, names[i], results[i]);
    const double seconds = total.lap() / static_cast<double>(results.size());
    for (auto& result : results) result.report().seconds.total = seconds;
    return results;
  }

  static std::string numbered_name(std::size_t i) { return "weight " + std::to_string(i); }
  static std::vector<std::string> numbered(std::size_t count) {
    std::vector<std::string> names;
    for (std::size_t i = 0; i < count; ++i) names.push_back(numbered_name(i));
    return names;
  }

  /// As many weights at once as the backend's memory holds; nothing where they do not go together.
  template <class W>
  std::optional<std::vector<QuantizedMatrix<S>>> quantize_together(
      std::span<const MatrixView<W>> weights, std::span<const Hessian<B>* const> hessians,
      std::span<const std::string> names, const Progress& progress) const {
    using Numbers = std::remove_const_t<W>;
    if (weights.size() < 2 || !solver::batchable(params_)) return std::nullopt;
    const Index rows = weights[0].rows(), cols = weights[0].cols();
    const B& backend = hessians[0]->backend();
    std::vector<MatrixView<const Numbers>> views;
    std::vector<double> largest;
    for (std::size_t i = 0; i < weights.size(); ++i) {
      if (weights[i].rows() != rows || weights[i].cols() != cols ||
          !hessians[i]->backend().shares(backend))
        return std::nullopt;
      views.emplace_back(weights[i]);
      largest.push_back(solver::require_weight(weights[i], hessians[i]->in_features(), params_,
                                               backend, names[i]));
    }
    if (!solver::one_unit(largest)) return std::nullopt;
    std::vector<QuantizedMatrix<S>> results;
    const auto count =
        static_cast<std::size_t>(backend.batches().batch_size(rows, cols, params_.solver));
    for (std::size_t first = 0; first < views.size(); first += count) {
      const std::size_t some = (std::min)(count, views.size() - first);
      detail::step(progress, "quantize", static_cast<double>(first),
                   static_cast<double>(views.size()));
      solver::advised(rows, cols, params_, backend, [&] {
        const auto factors = solver::damped_factors(hessians.subspan(first, some), params_);
        auto done = quantize_in_one(
            std::span<const MatrixView<const Numbers>>(views).subspan(first, some),
            names.subspan(first, some), std::span<const double>(largest).subspan(first, some),
            factors, factors.layouts(),
            [&](std::size_t i) -> const DampedFactor<B>& { return factors.each[i]; });
        for (std::size_t i = 0; i < some; ++i) {
          Timings& seconds = done[i].report().seconds;
          seconds.factorize = factors.each[i].seconds;
          seconds.total += seconds.factorize;
          results.push_back(std::move(done[i]));
        }
      });
    }
    detail::step(progress, "quantize", static_cast<double>(views.size()),
                 static_cast<double>(views.size()));
    return results;
  }

  Params params_;
  S scheme_;
};

}  // namespace gptq
