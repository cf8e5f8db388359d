// SPDX-License-Identifier: MIT
#pragma once

// The row solver: takes one lane of rows through one block of columns. Rows are independent and
// share the factor, so this is all of GPTQ that is not a matrix product. Written once for both a
// lane on the CPU and a thread on a GPU.

#include <gptq/config.hpp>
#include <gptq/core/matrix_view.hpp>
#include <gptq/core/params.hpp>
#include <gptq/lane/arithmetic.hpp>
#include <gptq/lane/rank.hpp>
#include <gptq/scheme/grid.hpp>

#include <cstdint>
#include <type_traits>  // std::is_same_v

namespace gptq::kernel {

using lane::abs, lane::count, lane::load, lane::rank_ascending, lane::select, lane::store,
    lane::store_codes, lane::sum;

/// A block of columns for one lane of neighbouring rows. Memory is input-major: column j of the
/// lane starts at j · stride and is one load.
template <class Scalar>
struct ColumnBlock {
  Index width = 0;                 ///< columns in the block
  Index stride = 0;                ///< from one column to the next, in weight, carry and codes
  const Scalar* weight = nullptr;  ///< W_b
  Scalar* carry = nullptr;         ///< in: what earlier blocks carry to it; out: what it carries on
  std::uint8_t* codes = nullptr;   ///< out
  Scalar* targets = nullptr;       ///< out: V_b, unless null
  const Scalar* factor = nullptr;  ///< diagonal block of R or of R⁻¹, row-major
  Index factor_stride = 0;         ///< from one row of the factor to the next
  const Scalar* scales = nullptr;  ///< of group g: scales[g · grid_stride]
  const Scalar* zeros = nullptr;   ///< zero points likewise
  Index grid_stride = 0;           ///< from one group to the next
  const Index* group = nullptr;    ///< group[j]: of column j
  Sparsity sparsity{};             ///< `of` divides the width
};

/// What the solver measures while it rounds a block, added up over consecutive lanes.
struct ColumnSums {
  double* loss = nullptr;  ///< per column: Σ_rows d_j·(V_j − Q_j)², d_j = R_jj²
  Index clipped = 0;       ///< weights beyond the ends of their grid
  Index rows = 0;          ///< of the lane, padding excluded

  /// Adds a column of one lane.
  /// \param cost    d_j
  /// \param square  (V_j − Q_j)²
  /// \param beyond  whether V_j is beyond the ends of its grid
  template <class T, class Mask>
  void add(Index column, double cost, const T& square, const Mask& beyond) {
    loss[column] += cost * sum(square, rows);
    clipped += count(square, beyond, rows);
  }
};

/// Block LDLᵀ. With D = W − Q, the value that column j should have once all earlier columns are
/// rounded is V_j = W_j + (Σ_{k<j} D_k R_kj) / R_jj (LDLQ; the same number that the paper's updates
/// leave in column j). The factor is R.
struct LeftLooking {
  /// V_j.
  template <class T, class Scalar>
  static GPTQ_HD T target(const T& weight, const T& correction, Scalar pivot) {
    return weight + correction * T(Scalar(1) / pivot);
  }
  /// By how much all columns before a window change its `count` weights while none of these is
  /// rounded: x in x·R_ww = T_w for corrections T_w. factor(i, k) is R_ww.
  template <class T, class Factor>
  static GPTQ_HD void changes(const T* correction, int count, const Factor& factor, T* change) {
    for (int k = 0; k < count; ++k) {
      change[k] = correction[k];
      for (int i = 0; i < k; ++i) change[k] = change[k] - change[i] * T(factor(i, k));
      change[k] = change[k] * T(1 / factor(k, k));
    }
  }
  /// What this column carries to later ones.
  template <class T, class Scalar>
  static GPTQ_HD T carry(const T& weight, const T& /*target*/, const T& rounded, Scalar /*pivot*/) {
    return weight - rounded;
  }
  /// √d_j: an error of e costs d_j·e².
  template <class Scalar>
  static GPTQ_HD double root_cost(Scalar pivot) {
    return static_cast<double>(pivot);
  }
};

/// The paper's updates. Column j passes (Q_j − V_j)/U_jj on, and V_k = W_k + Σ_{j<k} of that times
/// U_jk. The factor is U = R⁻¹, the Cholesky factor of H⁻¹ = UᵀU.
struct LazyBatch {
  /// V_j.
  template <class T, class Scalar>
  static GPTQ_HD T target(const T& weight, const T& correction, Scalar /*pivot*/) {
    return weight + correction;
  }
  /// By how much all columns before a window change its `count` weights: the corrections.
  template <class T, class Factor>
  static GPTQ_HD void changes(const T* correction, int count, const Factor& /*factor*/, T* change) {
    for (int k = 0; k < count; ++k) change[k] = correction[k];
  }
  /// What this column carries to later ones.
  template <class T, class Scalar>
  static GPTQ_HD T carry(const T& /*weight*/, const T& target, const T& rounded, Scalar pivot) {
    return (rounded - target) * T(Scalar(1) / pivot);
  }
  /// √d_j: an error of e costs d_j·e².
  template <class Scalar>
  static GPTQ_HD double root_cost(Scalar pivot) {
    return 1 / static_cast<double>(pivot);
  }
};

/// Ranks the columns of the sparsity pattern that starts at `first` by the cost of zeroing them,
/// (√d_j·|v_j|)², v_j the weights as corrected by all columns before the pattern.
template <class Form, class T, class Scalar>
GPTQ_HD void rank_costs(const ColumnBlock<Scalar>& block, Index first, const T* correction,
                        T* rank) {
  const int count = static_cast<int>(block.sparsity.of);
  const auto factor = [&](Index i, Index k) {
    return block.factor[(first + i) * block.factor_stride + first + k];
  };
  T cost[Sparsity::largest];
  Form::changes(correction, count, factor, cost);
  for (int k = 0; k < count; ++k) {
    const T weight = load(block.weight + (first + k) * block.stride, T{});
    cost[k] = abs(weight + cost[k]) * T(static_cast<Scalar>(Form::root_cost(factor(k, k))));
  }
  rank_ascending(cost, count, rank);
}

/// Rounds the columns of one sparsity pattern (if dense, a single column) to the nearest codes of
/// their grids, the smallest weights of the pattern to zero. Leaves W − Q in carry.
template <class T, class S, class Scalar>
GPTQ_HD void round_pattern(const S& scheme, const ColumnBlock<Scalar>& block, Index first) {
  const auto round = [&](Index column, const T& weight, const T& wanted) {
    const Index group = block.group[column] * block.grid_stride;
    const scheme::Grid<T> grid{load(block.scales + group, T{}), load(block.zeros + group, T{})};
    const T code = scheme.encode(wanted, grid);
    store_codes(block.codes + column * block.stride, code);
    store(block.carry + column * block.stride, weight - scheme.decode(code, grid));
  };
  const auto weight_at = [&](Index column) {
    return load(block.weight + column * block.stride, T{});
  };
  if (block.sparsity.dense()) {
    const T weight = weight_at(first);
    round(first, weight, weight);
    return;
  }
  const int of = static_cast<int>(block.sparsity.of);
  const T zeros(static_cast<Scalar>(block.sparsity.zeros));
  T size[Sparsity::largest] = {}, rank[Sparsity::largest] = {};
  for (int k = 0; k < of; ++k) size[k] = abs(weight_at(first + k));
  rank_ascending(size, of, rank);
  for (int k = 0; k < of; ++k) {
    const T weight = weight_at(first + k);
    round(first + k, weight, select(rank[k] < zeros, T(0), weight));
  }
}

/// The most columns that solve_columns takes in one go.
constexpr int columns_at_once = Sparsity::largest;

/// Which blocks code is compiled for: any, or only one kind where code for any would take too many
/// registers.
enum class Blocks { any, dense, sparse };

/// Rounds `some` columns from `first` on, for one lane T. The corrections of these columns stay in
/// registers: each rounded column adds to those of later columns at once.
/// \tparam Width  `some`, if it is known and the block is dense; 0: any number (sparsity.of divides
/// it
///                if the block is sparse), slower, but compiled once for all
template <int Width, Blocks Kind, class T, class Form, class S, class Scalar, class Sums>
GPTQ_HD void solve_columns(const S& scheme, const ColumnBlock<Scalar>& block, Index first, int some,
                           Sums& sums) {
  constexpr int most = Width > 0 ? Width : columns_at_once;
  const int width = Width > 0 ? Width : some;
  const auto factor = [&](Index k, Index j) {
    return T(block.factor[k * block.factor_stride + j]);
  };
  [[maybe_unused]] constexpr int steps = Width > 0 ? Width : 1;  // unrolled
  struct Inputs {
    T weight;
    scheme::Grid<T> grid;
  };
  const auto read = [&](Index column) {
    const Index group = block.group[column] * block.grid_stride;
    return Inputs{load(block.weight + column * block.stride, T{}),
                  {load(block.scales + group, T{}), load(block.zeros + group, T{})}};
  };
  // A thread with a single row issues all its loads before it waits for any; a lane of rows lacks
  // the registers for that, but has a cache.
  constexpr bool ahead = Width > 0 && std::is_same_v<T, Scalar>;
  [[maybe_unused]] Inputs inputs[ahead ? most : 1];
  if constexpr (ahead) {
    GPTQ_UNROLL(most)
    for (int j = 0; j < most; ++j) inputs[j] = read(first + j);
  }
  T correction[most];
  GPTQ_UNROLL(steps)
  for (int j = 0; j < width; ++j)
    correction[j] = load(block.carry + (first + j) * block.stride, T{});
  GPTQ_UNROLL(4)
  for (Index k = 0; k < first; ++k) {
    const T carried = load(block.carry + k * block.stride, T{});
    GPTQ_UNROLL(most)
    for (int j = 0; j < width; ++j) correction[j] += carried * factor(k, first + j);
  }
  constexpr bool perhaps = Width == 0 && Kind != Blocks::dense;
  const bool sparse = perhaps && (Kind == Blocks::sparse || !block.sparsity.dense());
  [[maybe_unused]] T rank[perhaps ? most : 1];  // of the costs of zeroing the columns of a pattern
  GPTQ_UNROLL(steps)
  for (int j = 0; j < width; ++j) {
    const Index column = first + j;
    if constexpr (perhaps)
      if (sparse && j % static_cast<int>(block.sparsity.of) == 0)
        rank_costs<Form>(block, column, correction + j, rank + j);
    const auto [weight, grid] = ahead ? inputs[ahead ? j : 0] : read(column);
    const Scalar pivot = block.factor[column * block.factor_stride + column];

    const T target = Form::target(weight, correction[j], pivot);
    if (block.targets) store(block.targets + column * block.stride, target);
    T wanted = target;
    if constexpr (perhaps)
      if (sparse)
        wanted = select(rank[j] < T(static_cast<Scalar>(block.sparsity.zeros)), T(0), target);
    const T code = scheme.encode(wanted, grid);
    const T rounded = scheme.decode(code, grid);
    const T carried = Form::carry(weight, target, rounded, pivot);
    GPTQ_UNROLL(steps)
    for (int k = j + 1; k < width; ++k) correction[k] += carried * factor(column, first + k);

    store(block.carry + column * block.stride, carried);
    store_codes(block.codes + column * block.stride, code);
    const T miss = target - rounded;
    const double root_cost = Form::root_cost(pivot);
    // The sign of the scale says which end is the lower one.
    const T beyond = (wanted - rounded) * grid.scale;
    sums.add(column, root_cost * root_cost, miss * miss,
             ((code == T(0)) & (beyond < T(0))) | ((code == T(S::max_code)) & (beyond > T(0))));
  }
}

/// All columns of a block for one lane of rows.
template <Blocks Kind, class T, class Form, class S, class Scalar, class Sums>
GPTQ_HD void solve_block(const S& scheme, const ColumnBlock<Scalar>& block, Sums& sums) {
  Index first = 0;
  if constexpr (Kind != Blocks::sparse)
    if (Kind == Blocks::dense || block.sparsity.dense())
      for (; first + columns_at_once <= block.width; first += columns_at_once)
        solve_columns<columns_at_once, Kind, T, Form>(scheme, block, first, columns_at_once, sums);
  if constexpr (Kind == Blocks::dense) {
    for (; first < block.width; ++first)
      solve_columns<1, Kind, T, Form>(scheme, block, first, 1, sums);
  } else {
    while (first < block.width) {
      const Index rest = block.width - first;
      const int some = static_cast<int>(rest < columns_at_once ? rest : columns_at_once);
      solve_columns<0, Kind, T, Form>(scheme, block, first, some, sums);
      first += some;
    }
  }
}

}  // namespace gptq::kernel
