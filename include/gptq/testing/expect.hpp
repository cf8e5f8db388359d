// SPDX-License-Identifier: MIT
#pragma once

// What tests of backends compare with: plain matrices, and errors that name the operation.

#include <gptq/core/error.hpp>
#include <gptq/core/matrix_view.hpp>

#include <algorithm>  // std::max
#include <cmath>      // std::abs
#include <cstdint>
#include <stdexcept>
#include <string_view>
#include <vector>

namespace gptq::testing {

/// An operation gives something else than it must; the message names it.
struct Nonconforming : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// \throws Nonconforming
template <class... Parts>
void expect(bool condition, std::string_view operation, const Parts&... parts) {
  if (!condition) throw Nonconforming(gptq::detail::message(operation, ": ", parts...));
}

/// \param size  of the numbers that the value is made of, which the tolerance is relative to
inline void expect_near(double value, double expected, double tolerance, double size,
                        std::string_view operation) {
  expect(std::abs(value - expected) <= tolerance * (std::max)(size, std::abs(expected)), operation,
         value, " should be ", expected);
}

/// A dense row-major matrix of double.
struct Table {
  Table() = default;
  Table(Index r, Index c) : rows(r), cols(c), data(static_cast<std::size_t>(r * c)) {}

  double& operator()(Index r, Index c) { return data[static_cast<std::size_t>(r * cols + c)]; }
  double operator()(Index r, Index c) const { return data[static_cast<std::size_t>(r * cols + c)]; }
  MatrixView<double> view() { return {data.data(), rows, cols}; }
  double largest() const {
    double most = 0;
    for (const double x : data) most = (std::max)(most, std::abs(x));
    return most;
  }

  Index rows = 0, cols = 0;
  std::vector<double> data;
};

/// \param tolerance  relative to the largest number of the table
/// \param upper      look at the upper triangle alone
inline void expect_near(const Table& value, const Table& expected, double tolerance,
                        std::string_view operation, bool upper = false) {
  const double size = expected.largest();
  for (Index r = 0; r < expected.rows; ++r)
    for (Index c = upper ? r : 0; c < expected.cols; ++c)
      expect(std::abs(value(r, c) - expected(r, c)) <= tolerance * size, operation, "(", r, ", ", c,
             ") is ", value(r, c), ", should be ", expected(r, c));
}

/// Numbers from -1 to 1 that are the same everywhere.
class Noise {
 public:
  explicit Noise(std::uint32_t seed) : state_(seed * 2654435761u + 1) {}
  double operator()() {
    state_ = state_ * 1664525u + 1013904223u;
    return static_cast<double>(state_ >> 8) / 0x1p23 - 1;
  }

 private:
  std::uint32_t state_;
};

}  // namespace gptq::testing
