// SPDX-License-Identifier: MIT

// A scheme of your own: all that GPTQ needs to know about a grid is how numbers become codes and
// codes become numbers. Here a weight is -1, 0 or +1 times a scale.

#include <gptq/gptq.hpp>

#include <iostream>

struct Ternary {
  static constexpr int bits = 2, max_code = 2;  // codes 0, 1, 2

  // T is a number, or a lane of rows: use only arithmetic and the names of lane/arithmetic.hpp.
  template <class T>
  GPTQ_HD T encode(const T& x, const gptq::scheme::Grid<T>& grid) const {
    using gptq::lane::clamp, gptq::lane::round_even;
    return clamp<T>(round_even(x / grid.scale), T(-1), T(1)) + T(1);
  }
  template <class T>
  GPTQ_HD T decode(const T& code, const gptq::scheme::Grid<T>& grid) const {
    return grid.scale * (code - T(1));
  }
  template <class T>
  GPTQ_HD gptq::scheme::Grid<T> fit(const T& low, const T& high,
                                    const gptq::scheme::ScaleRounding& rounding) const {
    using gptq::lane::max;
    return {gptq::scheme::round_scale(max(-low, high), rounding), T(0)};
  }
};
static_assert(gptq::scheme::Scheme<Ternary>);

int main() {
  using Backend = gptq::backend::Cpu;
  const Eigen::MatrixXf weight = Eigen::MatrixXf::Random(64, 128);
  const Eigen::MatrixXf activations = Eigen::MatrixXf::Random(512, 128);
  const Backend backend;
  gptq::Hessian hessian(128, backend);
  hessian.add(activations);
  for (const auto solver : {gptq::Solver::left_looking, gptq::Solver::lazy_batch}) {
    gptq::Params params{.group_size = 32};
    params.solver = solver;
    const auto layer = gptq::Quantizer<Ternary, Backend>(params).quantize(weight, hessian);
    std::cout << "relative output error of three levels: " << layer.report().relative_error
              << ", round to nearest " << layer.report().rtn_relative_error << '\n';
    if (!(layer.report().relative_error < layer.report().rtn_relative_error)) return 1;
  }
  return 0;
}
