// SPDX-License-Identifier: MIT
#pragma once

// What the panels of a weight have measured, as the report of the whole.

#include <gptq/kernel/column_layout.hpp>
#include <gptq/quantized_matrix.hpp>
#include <gptq/solver/panel_solver.hpp>

#include <algorithm>  // std::max
#include <map>

namespace gptq::solver {

/// \param panels    by first row, so that sums do not depend on who finished first
/// \param baseline  whether the panels have measured it
/// \param unit      of losses and energies
template <class S>
void summarize(const std::map<Index, solver::PanelReport>& panels, const ColumnLayout& layout,
               bool baseline, double unit, QuantizedMatrix<S>& result) {
  Report& report = result.report();
  double penalty = 0, output_energy = 0, rtn_loss = 0;
  double dead_loss = 0;  // of inputs that count in no loss, which the penalty has too
  Index clipped = 0;
  for (const auto& [first, panel] : panels) {
    for (Index p = 0; p < layout.columns(); ++p) {
      const double loss = panel.column_loss[std::size_t(p)] * unit;
      (layout.dead(p) ? dead_loss : result.column_loss()[std::size_t(layout.column(p))]) += loss;
    }
    penalty += panel.penalty;
    output_energy += panel.output_energy;
    rtn_loss += panel.rtn_loss;
    clipped += panel.clipped;
    report.seconds.fit += panel.seconds.fit;
    report.seconds.solve += panel.seconds.solve;
    report.seconds.measure += panel.seconds.measure;
  }
  penalty *= unit;
  output_energy *= unit;
  rtn_loss *= unit;
  for (const double loss : result.column_loss()) report.damped_loss += loss;
  report.loss = (std::max)(0.0, report.damped_loss + dead_loss - penalty);
  if (report.damping.round_to_nearest) {  // what was measured is not H
    report.loss = report.damped_loss = Report::unknown;
    for (double& loss : result.column_loss()) loss = Report::unknown;
    baseline = false;
  }
  report.clipped =
      static_cast<double>(clipped) / static_cast<double>(result.rows() * result.cols());
  if (baseline && output_energy > 0) {
    report.relative_error = report.loss / output_energy;
    report.rtn_relative_error = (std::max)(0.0, rtn_loss) / output_energy;
  }
}

}  // namespace gptq::solver
