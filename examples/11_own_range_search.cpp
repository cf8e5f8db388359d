// SPDX-License-Identifier: MIT

// A range search of your own: a scheme with `search` chooses its grids itself. Here it tries four
// fractions of the range and minimizes the largest error of a group instead of a sum of squares.

#include <gptq/gptq.hpp>

#include <iostream>

struct SmallestMiss : gptq::scheme::Int4 {
  // T is a number, or a lane of rows; column(j) is weight j of the group, importance(j) the cost of
  // its squared error.
  template <class T, class Column, class Importance>
  GPTQ_HD gptq::scheme::Grid<T> search(const Column& column, const Importance& /*importance*/,
                                       gptq::Index count,
                                       const gptq::scheme::RangeSearch& choices) const {
    using gptq::lane::abs, gptq::lane::max, gptq::lane::select;
    T reach(1e-20f);
    for (gptq::Index j = 0; j < count; ++j) reach = max(reach, abs(column(j)));
    gptq::scheme::Grid<T> best = fit(-reach, reach, choices.rounding);
    T least(1e30f);
    for (const float share : {1.0f, 0.97f, 0.94f, 0.91f}) {
      const auto grid = fit(-reach * T(share), reach * T(share), choices.rounding);
      T miss(0);
      for (gptq::Index j = 0; j < count; ++j)
        miss = max(miss, abs(column(j) - decode(encode(column(j), grid), grid)));
      best.scale = select(miss < least, grid.scale, best.scale);
      least = select(miss < least, miss, least);
    }
    return best;
  }
};
static_assert(gptq::scheme::Scheme<SmallestMiss>);

int main() {
  using Backend = gptq::backend::Cpu;
  const Eigen::MatrixXf weight = Eigen::MatrixXf::Random(64, 128);
  const Backend backend;
  gptq::Hessian hessian(128, backend);
  hessian.add(Eigen::MatrixXf::Random(512, 128).eval());
  const gptq::Params params{.group_size = 32};
  const auto mine = gptq::Quantizer<SmallestMiss, Backend>(params).quantize(weight, hessian);
  const auto stock = gptq::Quantizer<gptq::scheme::Int4, Backend>(params).quantize(weight, hessian);
  std::cout << "relative output error: " << mine.report().relative_error << ", stock search "
            << stock.report().relative_error << '\n';
  return stock.report().relative_error <= mine.report().relative_error ? 0 : 1;
}
