// SPDX-License-Identifier: MIT

// The large products, with and without matrix tiles, against double precision.

#include <gptq/backend/cpu/tiled_products.hpp>
#include <gptq/core/half.hpp>
#include <gptq/exec/threads.hpp>

#include "../support/catch.hpp"

#include <random>
#include <vector>

using gptq::Index;
using gptq::MatrixView;
namespace cpu = gptq::backend::cpu;

namespace {

struct Numbers {
  Index rows, cols;
  std::vector<float> data;
  Numbers(Index r, Index c, unsigned seed)
      : rows(r), cols(c), data(static_cast<std::size_t>(r * c)) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    for (float& x : data) x = normal(random);
  }
  MatrixView<const float> view() const { return {data.data(), rows, cols}; }
  MatrixView<float> view() { return {data.data(), rows, cols}; }
};

/// ‖computed − exact‖ / ‖exact‖ over the elements that `wanted` selects.
template <class Exact, class Wanted>
double error(MatrixView<const float> computed, const Exact& exact, const Wanted& wanted) {
  double difference = 0, size = 0;
  for (Index r = 0; r < computed.rows(); ++r)
    for (Index c = 0; c < computed.cols(); ++c)
      if (wanted(r, c)) {
        const double e = exact(r, c);
        difference += std::pow(static_cast<double>(computed(r, c)) - e, 2), size += e * e;
      }
  return std::sqrt(difference / size);
}

bool all(Index, Index) { return true; }
bool upper(Index r, Index c) { return r <= c; }

/// The allowed error: of split products on tiles, else of single precision.
double tolerance(bool tiles) { return tiles ? 8e-6 : 1e-6; }

}  // namespace

TEST_CASE("products are right for all shapes, split or not", "[products]") {
  const gptq::exec::Threads threads(2);
  for (const auto precision : {gptq::Precision::single, gptq::Precision::split}) {
    const bool tiles = cpu::use_tiles<float>(precision == gptq::Precision::split);
    for (const auto& shape : {std::tuple<Index, Index, Index>{1, 1, 1},
                              {3, 40, 17},
                              {64, 32, 32},
                              {130, 77, 1030},
                              {600, 96, 65},
                              {33, 1000, 31}}) {
      const Index tokens = std::get<0>(shape), in = std::get<1>(shape), out = std::get<2>(shape);
      INFO(tokens << " x " << in << " x " << out << ", tiles " << tiles);
      const Numbers x(tokens, in, 1), w(out, in, 2), b(tokens, out, 3);
      const auto product = [&](Index r, Index c) {
        double sum = 0;
        for (Index k = 0; k < in; ++k)
          sum += static_cast<double>(x.view()(r, k)) * static_cast<double>(w.view()(c, k));
        return sum;
      };
      Numbers y(tokens, out, 4);
      const Numbers before = y;
      cpu::multiply_transposed(threads, y.view(), x.view(), w.view(), true, precision);
      CHECK(error(
                std::as_const(y).view(),
                [&](Index r, Index c) {
                  return product(r, c) + static_cast<double>(before.view()(r, c));
                },
                all) < tolerance(tiles));
      cpu::multiply_transposed(threads, y.view(), x.view(), w.view(), false, precision);
      CHECK(error(std::as_const(y).view(), product, all) < tolerance(tiles));

      const auto gram = [&](const Numbers& left) {
        return [&](Index r, Index c) {
          double sum = 0;
          for (Index t = 0; t < tokens; ++t)
            sum += static_cast<double>(left.view()(t, r)) * static_cast<double>(x.view()(t, c));
          return sum;
        };
      };
      Numbers sum(in, in, 5);
      std::fill(sum.data.begin(), sum.data.end(), 0.0f);
      cpu::add_gram<gptq::exec::Threads, float>(threads, sum.view(), x.view(), tiles);
      CHECK(error(std::as_const(sum).view(), gram(x), upper) < tolerance(tiles));
      Numbers cross(out, in, 6);
      std::fill(cross.data.begin(), cross.data.end(), 0.0f);
      cpu::add_cross<gptq::exec::Threads, float>(threads, cross.view(), b.view(), x.view(), tiles);
      CHECK(error(std::as_const(cross).view(), gram(b), all) < tolerance(tiles));
    }
  }
}

TEST_CASE("bfloat16 numbers have exact products on tiles", "[products]") {
  if (!cpu::use_tiles<float>(true))
    return skip("this processor has no matrix tiles, or they may not be used");
  Numbers x(64, 96, 1), w(32, 96, 2);
  for (float& v : x.data) v = gptq::to_float(gptq::to_bfloat16(v));
  for (float& v : w.data) v = gptq::to_float(gptq::to_bfloat16(v));
  Numbers y(64, 32, 3);
  cpu::multiply_transposed(gptq::exec::Threads(1), y.view(), std::as_const(x).view(),
                           std::as_const(w).view(), false, gptq::Precision::split);
  CHECK(error(
            std::as_const(y).view(),
            [&](Index r, Index c) {
              double sum = 0;
              for (Index k = 0; k < 96; ++k)
                sum += static_cast<double>(x.view()(r, k)) * static_cast<double>(w.view()(c, k));
              return sum;
            },
            all) < 2e-7);
}

TEST_CASE("products in bfloat16 are those of rounded operands", "[products]") {
  if (!cpu::use_tiles<float>(true))
    return skip("this processor has no matrix tiles, or they may not be used");
  for (const bool add : {false, true}) {
    const Numbers x(130, 77, 1), w(1030, 77, 2), before(130, 1030, 3);
    Numbers y = before;
    cpu::multiply_transposed(gptq::exec::Threads(2), y.view(), x.view(), w.view(), add,
                             gptq::Precision::bfloat16);
    const auto rounded = [](const Numbers& m, Index r, Index c) {
      return static_cast<double>(gptq::to_float(gptq::to_bfloat16(m.view()(r, c))));
    };
    CHECK(error(
              std::as_const(y).view(),
              [&](Index r, Index c) {
                double sum = add ? static_cast<double>(before.view()(r, c)) : 0;
                for (Index k = 0; k < 77; ++k) sum += rounded(x, r, k) * rounded(w, c, k);
                return sum;
              },
              all) < 1e-6);
  }
}

TEST_CASE("products have the same bits for any number of threads", "[products][determinism]") {
  const Numbers x(700, 210, 1), w(333, 210, 2), b(700, 90, 3);
  for (const auto precision : {gptq::Precision::single, gptq::Precision::split}) {
    const bool tiles = cpu::use_tiles<float>(precision == gptq::Precision::split);
    const auto run = [&](int count) {
      const gptq::exec::Threads threads(count);
      Numbers y(700, 333, 4), sum(210, 210, 5), cross(90, 210, 6);
      cpu::multiply_transposed(threads, y.view(), x.view(), w.view(), false, precision);
      cpu::add_gram<gptq::exec::Threads, float>(threads, sum.view(), x.view(), tiles);
      cpu::add_cross<gptq::exec::Threads, float>(threads, cross.view(), b.view(), x.view(), tiles);
      y.data.insert(y.data.end(), cross.data.begin(), cross.data.end());
      for (Index r = 0; r < 210; ++r)
        for (Index c = r; c < 210; ++c) y.data.push_back(sum.view()(r, c));
      return y.data;
    };
    const auto expected = run(1);
    for (const int threads : {2, 3, 8}) CHECK(run(threads) == expected);
  }
}
