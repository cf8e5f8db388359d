// SPDX-License-Identifier: MIT
#pragma once

// Adds up the measurements of a weight's panels for its report.

#include <gptq/quantized_matrix.hpp>
#include <gptq/solver/measure.hpp>

#include <algorithm>  // std::max
#include <vector>

namespace gptq::solver {

/// The measurements of a solved panel, one entry per section.
struct PanelReport {
  std::vector<Piece> pieces{};      ///< which rows of which weight
  std::vector<SectionSums> sums{};  ///< losses and clipped weights
  std::vector<double> penalties{};  ///< Σ_p added_p·‖D_p‖²: the damping's share of the loss
  Baseline baseline{};              ///< empty for Measure::none
  Timings seconds{};                ///< fit, solve and measure
};

/// Fills in losses, relative errors and the fraction of clipped weights.
/// \param panels  in row order, so that sums do not depend on which one finished first
/// \param weight  its index in the batch
/// \param unit    of losses
template <class S>
void summarize(const std::vector<PanelReport>& panels, std::size_t weight,
               const ColumnLayout& layout, double unit, QuantizedMatrix<S>& result) {
  Report& report = result.report();
  double penalty = 0, output_energy = 0, rtn_loss = 0;
  double dead_loss = 0;  // of dead inputs: in no loss, but in the penalty
  Index clipped = 0;
  for (const PanelReport& panel : panels)
    for (std::size_t i = 0; i < panel.pieces.size(); ++i) {
      if (panel.pieces[i].weight != weight) continue;
      for (Index p = 0; p < layout.columns(); ++p) {
        const double loss = panel.sums[i].column_loss[std::size_t(p)] * unit;
        (layout.dead(p) ? dead_loss : result.column_loss()[std::size_t(layout.column(p))]) += loss;
      }
      penalty += panel.penalties[i];
      if (report.measured != Measure::none) {
        output_energy += panel.baseline.output_energy[i];
        rtn_loss += panel.baseline.rtn_loss[i];
      }
      clipped += panel.sums[i].clipped;
    }
  for (const double loss : result.column_loss()) report.damped_loss += loss;
  report.loss = (std::max)(0.0, report.damped_loss + dead_loss - penalty * unit);
  if (report.damping.round_to_nearest) {  // measured with a stand-in for H
    report.loss = report.damped_loss = Report::unknown;
    for (double& loss : result.column_loss()) loss = Report::unknown;
  } else if (output_energy > 0) {
    report.relative_error = report.loss / (output_energy * unit);
    report.rtn_relative_error = (std::max)(0.0, rtn_loss) / output_energy;
  }
  report.clipped =
      static_cast<double>(clipped) / static_cast<double>(result.rows() * result.cols());
}

}  // namespace gptq::solver
