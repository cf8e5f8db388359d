// SPDX-License-Identifier: MIT
#pragma once

// Batch: weights that go through the solver together, from loading their rows to their results.

#include <gptq/core/stopwatch.hpp>
#include <gptq/quantized_matrix.hpp>
#include <gptq/solver/dead_columns.hpp>
#include <gptq/solver/measure.hpp>
#include <gptq/solver/memory_plan.hpp>
#include <gptq/solver/observer.hpp>
#include <gptq/solver/schedule.hpp>
#include <gptq/solver/summary.hpp>

#include <span>
#include <utility>  // std::move
#include <vector>

namespace gptq::solver {

/// What the caller supplies in place of the library's own choices, for one weight.
template <backend::Backend B>
struct Doors {
  const Grids* grids = nullptr;             ///< to round on, or null: fitted; must outlive the call
  Observer<typename B::Scalar> observer{};  ///< called after each block, unless empty
};

/// Weights that share panels, and their results as the panels fill them in.
/// \tparam T  element type of the weights
template <class S, backend::Backend B, class T>
class Batch {
 public:
  using Worker = typename B::Worker;     ///< of the backend
  using Panel = typename Worker::Panel;  ///< of the worker

  /// All arguments must outlive this.
  /// \param tasks    at least one, all in the same weight_unit
  /// \param factors  one for all tasks, or one for each
  /// \throws InvalidArgument  given grids that do not fit the weight or the scheme
  Batch(const S& scheme, const Params& params, std::span<const Task<T>> tasks,
        const Factors<B>& factors, const Doors<B>& doors)
      : scheme_(scheme),
        params_(params),
        tasks_(tasks),
        factors_(factors),
        doors_(doors),
        weight_unit_(gptq::weight_unit(tasks.front().largest)) {
    for (std::size_t i = 0; i < tasks.size(); ++i)
      results_.push_back(empty_result(tasks[i], factors.of(i).layout));
    rows_ = all_rows();
    search_ = scheme::range_search(params, results_.front().scale_unit(), weight_unit_);
    if (doors.grids) require_grids(*doors.grids);
    const ColumnLayout& layout = factors.layout();
    if (params.parity.dead_weights_in_range && params.group_size == -1 && layout.any_dead()) {
      alive_ = layout;
      alive_.set_dead({});
    }
    const Index all = rows_.rows();
    height_ = factors.backend().footprint(all, layout.columns(), params).panel_rows;
    panels_.resize(static_cast<std::size_t>((all + height_ - 1) / height_));
  }

  /// Rows of all weights together.
  Index rows() const { return rows_.rows(); }
  /// What panels are rounded with.
  Rounding<S, B> rounding() const { return {scheme_, params_, factors_, search_}; }
  /// Whether `load` sets the grids, so that solve_panel need not fit them.
  bool has_grids() const { return doors_.grids || alive_.columns() > 0; }

  /// The panel of rows [first, first + rows) of all weights.
  Panel load(const Worker& worker, Index first, Index rows) const {
    const auto pieces = rows_.pieces(first, rows);
    const auto load_as = [&](const ColumnLayout* layout) {
      const auto sections = rows_.sections(pieces, layout);
      return worker.load_panel(std::span<const Section<T>>(sections), weight_unit_);
    };
    // Parity::dead_weights_in_range: one grid per row, fitted to the weight with its dead columns.
    // (In a panel of its own, freed before the one to solve is loaded.)
    typename Worker::Matrix scales{}, zeros{};
    if (alive_.columns() > 0) {
      Panel whole = load_as(&alive_);
      worker.fit(scheme_, search_, alive_, whole.weight, 0, 0, 1, whole);
      scales = std::move(whole.scales);
      zeros = std::move(whole.zeros);
    }
    Panel panel = load_as(nullptr);
    if (alive_.columns() > 0) {
      panel.scales = std::move(scales);
      panel.zeros = std::move(zeros);
    }
    if (doors_.grids) set_grids(worker, pieces.front(), panel);
    return panel;
  }

  /// The callback for solve_panel, which passes each block on to the observer, if there is one.
  auto observe(const Worker& worker, Panel& panel, Index first_row) const {
    if (doors_.observer)
      panel.targets = factors_.backend().zeros(panel.weight.rows(), panel.weight.cols());
    return [this, &worker, &panel, first_row](Index first, Index last) {
      if (!doors_.observer) return;
      if constexpr (requires { worker.observe(panel, first, last, [](const auto&...) {}); }) {
        const ColumnLayout& layout = factors_.layout();
        const auto at = static_cast<std::size_t>(first), count = std::size_t(last - first);
        SolvedBlock<typename B::Scalar> block{.first_row = first_row,
                                              .first_position = first,
                                              .columns = layout.order().subspan(at, count),
                                              .groups = layout.group().subspan(at, count),
                                              .weight_unit = weight_unit_};
        worker.observe(panel, first, last, [&](auto targets, auto codes, auto scales, auto zeros) {
          block.targets = targets;
          block.codes = codes;
          block.scales = scales;
          block.zeros = zeros;
          doors_.observer(block);
        });
      } else {
        throw InvalidArgument("an observer needs a worker with observe(panel, first, last, f)");
      }
    };
  }

  /// Stores the results of a solved panel and measures it.
  void store(const Worker& worker, Panel panel, Index first, Index rows, Timings seconds) {
    PanelReport report{.pieces = rows_.pieces(first, rows)};
    const std::span<const Piece> pieces(report.pieces);
    report.sums = worker.sums(panel);
    report.penalties = penalties(worker, factors_, pieces, panel.carry, panel);
    std::vector<SectionResult> sections;
    for (const auto& [weight, from, count] : pieces) {
      auto& result = results_[weight];
      sections.push_back({result.codes().middle_rows(from, count),
                          result.scales().middle_rows(from, count),
                          result.zeros().middle_rows(from, count)});
    }
    worker.store(panel, factors_.layout(), std::span<const SectionResult>(sections));
    if (params_.measure != Measure::none) {
      Stopwatch watch;
      report.baseline = measure<S, B>(worker, rounding(), pieces, std::move(panel));
      seconds.measure += watch.lap();
    }
    report.seconds = seconds;
    panels_[static_cast<std::size_t>(first / height_)] = std::move(report);
  }

  /// All results; to be called once, when all panels are stored.
  std::vector<QuantizedMatrix<S>> finish() {
    const double together = watch_.lap();
    Timings seconds;
    for (const PanelReport& panel : panels_) {
      seconds.fit += panel.seconds.fit;
      seconds.solve += panel.seconds.solve;
      seconds.measure += panel.seconds.measure;
    }
    seconds.share(together);
    const auto each = 1 / static_cast<double>(tasks_.size());
    for (std::size_t i = 0; i < results_.size(); ++i) {
      finish_one(i);
      Timings& own = results_[i].report().seconds;
      own.fit = seconds.fit * each;
      own.solve = seconds.solve * each;
      own.measure = seconds.measure * each;
    }
    const double total = together + watch_.lap();
    for (auto& result : results_) result.report().seconds.total = total * each;
    return std::move(results_);
  }

 private:
  QuantizedMatrix<S> empty_result(const Task<T>& task, const ColumnLayout& layout) const {
    const Index n = layout.columns();
    QuantizedMatrix<S> result(task.weight.rows(), n, layout.group_size(), scheme_);
    for (Index p = 0; p < n; ++p)
      result.group_index()[std::size_t(layout.column(p))] =
          static_cast<std::int32_t>(layout.group()[std::size_t(p)]);
    result.set_scale_unit(scale_unit(scheme_, params_.scale_type, task.largest));
    return result;
  }

  PanelRows<T> all_rows() const {
    std::vector<MatrixView<const T>> weights;
    std::vector<const ColumnLayout*> layouts;
    std::vector<float> scale_units;
    for (std::size_t i = 0; i < tasks_.size(); ++i) {
      weights.push_back(tasks_[i].weight);
      layouts.push_back(&factors_.of(i).layout);
      scale_units.push_back(results_[i].scale_unit());
    }
    return {std::move(weights), std::move(layouts), std::move(scale_units)};
  }

  /// \throws InvalidArgument  the shape is wrong, or a grid is not one of the scheme's: names the
  ///                          first
  void require_grids(const Grids& grids) const {
    const auto& result = results_.front();
    const std::string& name = tasks_.front().name;
    for (const auto& view : {grids.scales, grids.zeros})
      gptq::detail::require(view.rows() == result.rows() && view.cols() == result.groups(), name,
                            ": the grids are ", view.rows(), " x ", view.cols(),
                            ", the weight has ", result.rows(), " rows of ", result.groups(),
                            " groups");
    for (Index r = 0; r < result.rows(); ++r)
      for (Index g = 0; g < result.groups(); ++g) {
        const scheme::Grid<float> grid{grids.scales(r, g), grids.zeros(r, g)};
        gptq::detail::require(
            grid.scale != 0 &&
                scheme::round_scale(
                    grid.scale, scheme::ScaleRounding(params_.scale_type, result.scale_unit())) ==
                    grid.scale &&
                (grid.scale > 0 || has_sign(params_.scale_type)),
            name, ": the scale ", grid.scale, " of row ", r, ", group ", g, " is not a number of ",
            gptq::name(params_.scale_type));
        if constexpr (requires { scheme_.has_zero_point(grid.zero); })
          gptq::detail::require(scheme_.has_zero_point(grid.zero), name, ": the zero point ",
                                grid.zero, " of row ", r, ", group ", g,
                                " is not one of the scheme's");
      }
  }

  void set_grids(const Worker& worker, const Piece& piece, Panel& panel) const {
    if constexpr (requires(std::span<const Grids> grids) { worker.set_grids(grids, panel); }) {
      const Grids own{doors_.grids->scales.middle_rows(piece.first, piece.rows),
                      doors_.grids->zeros.middle_rows(piece.first, piece.rows)};
      worker.set_grids(std::span(&own, 1), panel);
    } else {
      throw InvalidArgument("given grids need a worker with set_grids(grids, panel)");
    }
  }

  /// Rounds the weights of dead inputs, checks the scales and fills in the report.
  void finish_one(std::size_t i) {
    QuantizedMatrix<S>& result = results_[i];
    const DampedFactor<B>& factor = factors_.of(i);
    const auto& weight = tasks_[i].weight;
    Index clipped = 0;
    if (factor.layout.any_dead() && !zeroes_dead_weights(params_))
      clipped = round_dead_weights(result, weight, factor.backend, factor.layout,
                                   scheme::range_search(params_, result.scale_unit(), weight_unit_),
                                   weight_unit_, doors_.grids != nullptr);
    check_scales(result, weight, factor.backend, params_.scale_type, weight_unit_, tasks_[i].name);
    Report& report = result.report();
    report.tokens = factor.tokens;
    report.damping = factor.damping;
    report.peak_bytes = memory_plan(result.rows(), result.cols(), params_, factor.backend).peak();
    report.measured =
        params_.measure == Measure::sampled && !factors_.sketch() ? Measure::full : params_.measure;
    report.together = static_cast<Index>(tasks_.size());
    const double unit = weight_unit_ * weight_unit_ * factor.hessian_unit;
    summarize(panels_, i, factor.layout, unit, result);
    report.clipped +=
        static_cast<double>(clipped) / static_cast<double>(result.rows() * result.cols());
    report.paper_error = report.damped_loss * factor.paper_error_per_loss;
  }

  Stopwatch watch_;
  const S& scheme_;
  const Params& params_;
  std::span<const Task<T>> tasks_;
  const Factors<B>& factors_;
  const Doors<B>& doors_;
  double weight_unit_;
  std::vector<QuantizedMatrix<S>> results_;
  PanelRows<T> rows_{{}, {}, {}};
  scheme::RangeSearch search_;
  ColumnLayout alive_{};  // no column dead, for Parity::dead_weights_in_range; else empty
  Index height_ = 1;      // rows of a panel
  std::vector<PanelReport> panels_;
};

}  // namespace gptq::solver
