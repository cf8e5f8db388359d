// SPDX-License-Identifier: MIT
#pragma once

// The weights of inputs that were always zero in calibration: nothing is known about their effect,
// so they are rounded to nearest, on the grids chosen for the other weights.

#include <gptq/kernel/column_layout.hpp>
#include <gptq/quantized_matrix.hpp>
#include <gptq/scheme/range.hpp>

#include <algorithm>  // std::all_of, std::min
#include <atomic>
#include <vector>

namespace gptq::solver {

/// Whether the weights of dead inputs become zero; a sparsity pattern zeroes them before others.
inline bool zeroes_dead_weights(const Params& params) {
  return params.parity.zero_dead_weights || !params.sparsity.dense();
}

/// Rounds the weights in the dead columns of `layout`, which the solver has treated as zeros.
///
/// Grids stay those of the live weights, so all other codes and all figures stay as they are; dead
/// weights beyond the ends of the grid are clipped. Only where all live weights of a row's group
/// are zero is the grid fitted to the dead ones.
/// \param search  how the grids were chosen
/// \param unit    of the weight, see weight_unit
/// \param given   whether the grids are the caller's and must stay
/// \return  the number of clipped weights
template <class S, class B, class W>
Index round_dead_weights(QuantizedMatrix<S>& quantized, MatrixView<const W> weight,
                         const B& backend, const ColumnLayout& layout,
                         const scheme::RangeSearch& search, double unit, bool given) {
  using Scalar = typename B::Scalar;
  struct Group {
    std::vector<Index> dead{}, live{};  // columns
  };
  std::vector<Group> groups(static_cast<std::size_t>(layout.groups()));
  for (Index p = 0; p < layout.columns(); ++p) {
    Group& group = groups[std::size_t(layout.group()[std::size_t(p)])];
    (layout.dead(p) ? group.dead : group.live).push_back(layout.column(p));
  }
  const auto codes = quantized.codes();
  const S& scheme = quantized.scheme();
  const auto scale_unit = static_cast<Scalar>(unit);
  std::atomic<Index> clipped{0};
  const Index height = backend.footprint(weight.rows(), weight.cols(), {}).panel_rows;
  const Index strips = (weight.rows() + height - 1) / height;
  backend.for_each(layout.groups() * strips, [&](Index job) {
    const Index g = job / strips, first = job % strips * height;
    const Group& group = groups[std::size_t(g)];
    if (group.dead.empty()) return;
    const Index rows = (std::min)(height, weight.rows() - first);
    const auto count = static_cast<Index>(group.dead.size());
    std::vector<Scalar> weights(static_cast<std::size_t>(rows * count));  // in units
    const MatrixView<Scalar> values(weights.data(), rows, count);
    for (Index j = 0; j < count; ++j)
      backend.download(backend.upload(weight.block(first, group.dead[std::size_t(j)], rows, 1)),
                       values.middle_cols(j, 1));
    for (Scalar& w : weights) w *= static_cast<Scalar>(1 / unit);

    for (Index r = 0; r < rows; ++r) {
      const Index row = first + r;
      scheme::Grid<Scalar> grid{static_cast<Scalar>(quantized.scales()(row, g)) / scale_unit,
                                static_cast<Scalar>(quantized.zeros()(row, g))};
      const auto value = [&](Index j) { return values(r, j); };
      if (!given && std::all_of(group.live.begin(), group.live.end(), [&](Index c) {
            return scheme.decode(static_cast<Scalar>(codes(row, c)), grid) == 0;
          })) {
        grid = scheme::fit_grid<Scalar>(
            scheme, value, [](Index) { return Scalar(1); }, count, search);
        quantized.scales()(row, g) = static_cast<float>(grid.scale * scale_unit);
        quantized.zeros()(row, g) = static_cast<float>(grid.zero);
        for (const Index c : group.live)
          codes(row, c) = static_cast<std::uint8_t>(scheme.encode(Scalar(0), grid));
      }
      for (Index j = 0; j < count; ++j) {
        const Scalar code = scheme.encode(value(j), grid);
        const Scalar beyond = (value(j) - scheme.decode(code, grid)) * grid.scale;
        if ((code == 0 && beyond < 0) || (code == S::max_code && beyond > 0)) ++clipped;
        codes(row, group.dead[std::size_t(j)]) = static_cast<std::uint8_t>(code);
      }
    }
  });
  return clipped;
}

}  // namespace gptq::solver
