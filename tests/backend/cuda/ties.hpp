// SPDX-License-Identifier: MIT
#pragma once

// Two results of the same solve in single precision, on different devices: where they first differ,
// it must be at a tie that single precision cannot decide, checked in double precision.

#include "../../support/catch.hpp"
#include "../../support/layer.hpp"

#include <gptq/backend/reference.hpp>
#include <gptq/factor/factor.hpp>

#include <algorithm>
#include <cmath>
#include <vector>

namespace test {

/// The solve of one row in double precision, for given codes before a position.
class ExactRow {
 public:
  /// \param r  the factor, H = R·Rᵀ, by position
  ExactRow(const Matrix& r, const gptq::ColumnLayout& layout, const Matrix& weight, Index row)
      : r_(r), layout_(layout), residual_(static_cast<std::size_t>(layout.columns())) {
    for (Index p = 0; p < layout.columns(); ++p)
      weight_.push_back(layout.dead(p) ? 0 : weight(row, layout.column(p)));
  }

  /// The target of position p, with those before it rounded.
  double at(Index p) const { return weight_[std::size_t(p)] + carried(p, p) / r_(p, p); }

  void set(Index p, double rounded) {
    residual_[std::size_t(p)] = weight_[std::size_t(p)] - rounded;
  }

  /// What the grid of a group is fitted to: its weights, or their targets once all positions before
  /// the group are rounded.
  std::vector<double> source(Index g, bool corrected) const {
    const auto members = layout_.members(g);
    std::vector<Index> positions(members.begin(), members.end());
    std::sort(positions.begin(), positions.end());
    const Index first = positions.front();
    std::vector<double> more(positions.size(), 0.0);  // in order, without gaps
    for (std::size_t k = 0; corrected && k < positions.size(); ++k) {
      const Index p = positions[k];
      double x = carried(p, first);
      for (std::size_t l = 0; l < k; ++l) x -= more[l] * r_(positions[l], p);
      more[k] = x / r_(p, p);
    }
    std::vector<double> values;
    for (const Index p : members)
      values.push_back(weight_[std::size_t(p)] +
                       (corrected ? more[static_cast<std::size_t>(p - first)] : 0.0));
    return values;
  }

 private:
  /// Σ (w − q)_j R_jp over the first `count` positions
  double carried(Index p, Index count) const {
    double sum = 0;
    for (Index j = 0; j < count; ++j) sum += residual_[std::size_t(j)] * r_(j, p);
    return sum;
  }

  const Matrix& r_;
  const gptq::ColumnLayout& layout_;
  std::vector<double> weight_, residual_;
};

/// Checks that a and b have the same codes and grids, except for rows that differ from a tie on: a
/// weight halfway between two numbers of the grid, or two grids equally good for a group.
/// (Range::minmax: only with Groups::static_.)
/// \return  how many rows differ
template <class S>
Index require_ties_alone(const Layer& layer, const gptq::Params& params,
                         const gptq::QuantizedMatrix<S>& a, const gptq::QuantizedMatrix<S>& b) {
  const gptq::backend::Reference exact;
  auto settings = params;
  settings.damping = a.report().damping.fraction;
  const auto factor = gptq::factorize(calibrate(layer, exact), settings);
  const gptq::ColumnLayout& layout = factor.layout;
  const Index n = a.cols();
  Matrix r(n, n);
  exact.download(factor.r, gptq::MatrixView<double>(r.data.data(), n, n));
  const bool corrected = params.groups == gptq::Groups::dynamic;
  Index parted = 0;
  for (Index row = 0; row < a.rows(); ++row) {
    ExactRow solve(r, layout, layer.weight, row);
    // Σ d·|w − q|ᵖ over a group with the grid of q, as the search computes it.
    const auto loss = [&](const gptq::QuantizedMatrix<S>& q, Index g) {
      const gptq::scheme::Grid<float> grid{q.scales()(row, g), q.zeros()(row, g)};
      const auto members = layout.members(g);
      const auto values = solve.source(g, corrected);
      double sum = 0;
      for (std::size_t k = 0; k < values.size(); ++k) {
        const auto x = static_cast<float>(values[k]);
        const double error =
            values[k] - static_cast<double>(q.scheme().decode(q.scheme().encode(x, grid), grid));
        sum += params.range == gptq::Range::weighted
                   ? layout.pivots()[std::size_t(members[k])] * error * error
                   : std::pow(std::abs(error), 2.4);
      }
      return sum;
    };
    std::vector<bool> fitted(static_cast<std::size_t>(a.groups()), false);
    for (Index p = 0; p < n; ++p) {
      const Index c = layout.column(p), g = layout.group()[std::size_t(p)];
      INFO("row " << row << ", position " << p << ", column " << c << ", group " << g);
      const double scale = static_cast<double>(a.scales()(row, g)),
                   other = static_cast<double>(b.scales()(row, g));
      if (!fitted[std::size_t(g)]) {
        fitted[std::size_t(g)] = true;
        if (std::abs(scale - other) > 1e-5 * std::abs(scale) ||
            a.zeros()(row, g) != b.zeros()(row, g)) {
          // The ends of a range are found exactly, so there is only one grid for them.
          CHECK(params.range != gptq::Range::minmax);
          CHECK(loss(a, g) == Approx(loss(b, g)).epsilon(1e-4));
          ++parted;
          break;
        }
      }
      const double mine = static_cast<double>(a(row, c)), theirs = static_cast<double>(b(row, c));
      if (a.codes()(row, c) != b.codes()(row, c)) {
        const double value = solve.at(p);
        CHECK(std::abs(std::abs(value - mine) - std::abs(value - theirs)) <
              2e-3 * std::abs(mine - theirs));
        ++parted;
        break;
      }
      solve.set(p, mine);
    }
  }
  return parted;
}

}  // namespace test
