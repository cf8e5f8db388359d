// SPDX-License-Identifier: MIT
#pragma once

// Range search: the grid of one group of one row, or of a lane of rows. For a given file format
// this choice matters more than any refinement of the rounding itself.

#include <gptq/scheme/grid.hpp>

#include <concepts>  // std::same_as
#include <limits>

namespace gptq::scheme {

/// How a group's range is searched; taken from Params.
struct RangeSearch {
  Range range = Range::weighted;  ///< how the range is chosen
  bool signed_scales = true;      ///< whether scales may be negative
  ScaleRounding rounding{};       ///< of scales
};

/// The search that the parameters ask for.
/// \param scale_unit, weight_unit  see ScaleRounding
inline RangeSearch range_search(const Params& params, float scale_unit, double weight_unit) {
  return {params.range,
          params.signed_scales && has_sign(params.scale_type),
          {params.scale_type, scale_unit, static_cast<float>(weight_unit)}};
}

/// Schemes that offer more grids for a range than the one that `fit` finds.
template <class S>
concept HasVariants = requires {
  S::variants;
};

namespace detail {

/// Schemes that find the level nearest to x / scale in a few operations, because levels are plain
/// numbers. (Between two that are equally near, `encode` may choose the other one.)
template <class S, class T>
concept HasLevels = requires(const S scheme, const T x, const Grid<T> grid) {
  scheme.nearest_level(x, grid);
};

/// Σ_j d_j (w_j − q_j)², the loss that the solver would see if these columns were rounded to
/// `grid`; or a part of it, if that is already no less than `best` in every row.
template <class S, class T, class Column, class Weight>
GPTQ_HD T grid_loss(const S& scheme, const Grid<T>& grid, const Column& column,
                    const Weight& weight, Index count, const T& best) {
  constexpr bool levels = HasLevels<S, T>;
  const T inverse = levels ? T(1) / grid.scale : T(1);
  const auto error = [&](Index j) {
    const T x = column(j) * inverse;
    if constexpr (levels) return x - scheme.nearest_level(x, grid);
    else return x - scheme.decode(scheme.encode(x, grid), grid);
  };
  const T unit = levels ? grid.scale * grid.scale : T(1);
  constexpr Index step = 16;
  T loss(0);
  for (Index first = 0; first < count; first += step) {
    const Index last = first + step < count ? first + step : count;
    for (Index j = first; j < last; ++j) loss += T(weight(j)) * error(j) * error(j);
    if (!any(loss * unit < best)) break;
  }
  return loss * unit;
}

/// The best scale for the codes that `grid` gives: s* = Σ d·u·w / Σ d·u², u the codes decoded with
/// scale 1.
template <class S, class T, class Column, class Weight>
GPTQ_HD Grid<T> refit_scale(const S& scheme, const Grid<T>& grid, const Column& column,
                            const Weight& weight, Index count, const ScaleRounding& rounding) {
  const Grid<T> unit{T(1), grid.zero};
  T cross(0), energy(0);
  for (Index j = 0; j < count; ++j) {
    const T x = column(j);
    const T level = scheme.decode(scheme.encode(x, grid), unit);
    const T weighted = T(weight(j)) * level;
    cross += weighted * x;
    energy += weighted * level;
  }
  const T scale = cross / select(energy > T(0), energy, T(1));
  return {select(energy > T(0), round_scale(scale, rounding), grid.scale), grid.zero};
}

/// Keeps, per row, the grid with the smaller loss; the first one wins a tie.
template <class T>
GPTQ_HD void keep_better(Grid<T>& best, T& best_loss, const Grid<T>& grid, const T& loss) {
  const auto better = loss < best_loss;
  best.scale = select(better, grid.scale, best.scale);
  best.zero = select(better, grid.zero, best.zero);
  best_loss = select(better, loss, best_loss);
}

}  // namespace detail

/// The grid for the fraction of the range, 1.00 down to 0.21, with the smallest Σ |w − q|^2.4; the
/// largest fraction wins a tie (the range search of the paper's code).
template <class T, class S, class Column>
GPTQ_HD Grid<T> fit_grid_mse(const S& scheme, const Column& column, Index count, const T& low,
                             const T& high, const ScaleRounding& rounding) {
  Grid<T> best{};
  T best_loss(0);
  for (int step = 0; step < 80; ++step) {
    const T share(1.0f - 0.01f * static_cast<float>(step));
    const Grid<T> grid = scheme.fit(low * share, high * share, rounding);
    T loss(0);
    for (Index j = 0; j < count; ++j) {
      const T x = column(j);
      loss += power(abs(x - scheme.decode(scheme.encode(x, grid), grid)), 2.4f);
    }
    if (step == 0) best = grid, best_loss = loss;
    else detail::keep_better(best, best_loss, grid, loss);
  }
  return best;
}

/// Schemes that search for their grids themselves, whatever Params::range says.
template <class S, class T, class Column, class Weight>
concept SearchesItself = requires(const S scheme, const Column& column, const Weight& weight,
                                  const RangeSearch& search) {
  { scheme.template search<T>(column, weight, Index{}, search) } -> std::same_as<Grid<T>>;
};

/// Scale and zero point for `count` weights of one group.
///
/// \param column  column(j): weight j of the group, one number or a lane
/// \param weight  weight(j) ≥ 0: what a squared error of that weight costs, the solver's pivots
///                d_j = R_jj²
template <class T, class S, class Column, class Weight>
GPTQ_HD Grid<T> fit_grid(const S& scheme, const Column& column, const Weight& weight, Index count,
                         const RangeSearch& search) {
  if constexpr (SearchesItself<S, T, Column, Weight>)
    return scheme.template search<T>(column, weight, count, search);
  T low(0), high(0);
  for (Index j = 0; j < count; ++j) {
    low = min(low, column(j));
    high = max(high, column(j));
  }
  const auto empty = (high - low) == T(0);  // only zeros: any grid has them
  low = select(empty, T(-1), low);
  high = select(empty, T(1), high);

  if (search.range == Range::mse)
    return fit_grid_mse(scheme, column, count, low, high, search.rounding);
  Grid<T> best = scheme.fit(low, high, search.rounding);
  if (search.range == Range::minmax) return best;

  int variants = 1;
  if constexpr (HasVariants<S>)
    if (!S::signed_variants || search.signed_scales) variants = S::variants;
  T best_loss = T(std::numeric_limits<float>::infinity());
  const auto loss_of = [&](const Grid<T>& grid) {
    return detail::grid_loss(scheme, grid, column, weight, count, best_loss);
  };
  best_loss = loss_of(best);
  T best_factor(1);
  const auto consider = [&](const T& factor, int variant) {
    Grid<T> grid = scheme.fit(low * factor, high * factor, search.rounding);
    if constexpr (HasVariants<S>) grid = scheme.variant(grid, variant);
    const T loss = loss_of(grid);
    best_factor = select(loss < best_loss, factor, best_factor);
    detail::keep_better(best, best_loss, grid, loss);
  };
  // Coarse: which fraction of the range to cover. Slightly more than all of it can pay off if the
  // levels then fall better.
  for (int variant = 0; variant < variants; ++variant)
    for (int step = 0; step < 17; ++step)
      consider(T(1.1f - 0.05f * static_cast<float>(step)), variant);
  // Fine: around each row's best factor.
  const T centre = best_factor;
  for (int variant = 0; variant < variants; ++variant)
    for (int step = -4; step <= 4; ++step)
      if (step != 0) consider(centre + T(0.01f * static_cast<float>(step)), variant);
  // Twice: codes for this scale, then the best scale for these codes.
  for (int round = 0; round < 2; ++round) {
    const Grid<T> grid = detail::refit_scale(scheme, best, column, weight, count, search.rounding);
    detail::keep_better(best, best_loss, grid, loss_of(grid));
  }
  return best;
}

}  // namespace gptq::scheme
