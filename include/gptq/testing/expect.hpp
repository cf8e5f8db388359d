// SPDX-License-Identifier: MIT
#pragma once

// What tests of backends are made of: plain matrices, and errors that name the operation.

#include <gptq/core/error.hpp>
#include <gptq/core/matrix_view.hpp>

#include <algorithm>  // std::max
#include <cmath>      // std::abs
#include <cstdint>
#include <stdexcept>
#include <string_view>
#include <vector>

namespace gptq::testing {

/// An operation gave a wrong result; the message names it.
struct Nonconforming : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// \throws Nonconforming  the condition is false; the message is made of the parts
template <class... Parts>
void expect(bool condition, std::string_view operation, const Parts&... parts) {
  if (!condition) throw Nonconforming(gptq::detail::message(operation, ": ", parts...));
}

/// Compares a value.
/// \param size  magnitude of the numbers behind the value, to which the tolerance is relative
inline void expect_near(double value, double expected, double tolerance, double size,
                        std::string_view operation) {
  expect(std::abs(value - expected) <= tolerance * (std::max)(size, std::abs(expected)), operation,
         value, " should be ", expected);
}

/// A dense row-major matrix of double.
struct Table {
  Table() = default;
  /// All zeros.
  Table(Index r, Index c) : rows(r), cols(c), data(static_cast<std::size_t>(r * c)) {}

  /// Element (r, c), unchecked.
  double& operator()(Index r, Index c) { return data[static_cast<std::size_t>(r * cols + c)]; }
  /// Element (r, c), unchecked.
  double operator()(Index r, Index c) const { return data[static_cast<std::size_t>(r * cols + c)]; }
  /// The whole table.
  MatrixView<double> view() { return {data.data(), rows, cols}; }
  /// The largest magnitude.
  double largest() const {
    double most = 0;
    for (const double x : data) most = (std::max)(most, std::abs(x));
    return most;
  }

  /// Its shape.
  Index rows = 0, cols = 0;
  std::vector<double> data;  ///< row by row
};

/// Compares a matrix.
/// \param tolerance  relative to the largest number of the table
/// \param upper      compare only the upper triangle
inline void expect_near(const Table& value, const Table& expected, double tolerance,
                        std::string_view operation, bool upper = false) {
  const double size = expected.largest();
  for (Index r = 0; r < expected.rows; ++r)
    for (Index c = upper ? r : 0; c < expected.cols; ++c)
      expect(std::abs(value(r, c) - expected(r, c)) <= tolerance * size, operation, "(", r, ", ", c,
             ") is ", value(r, c), ", should be ", expected(r, c));
}

/// Random numbers from -1 to 1, the same on every platform.
class Noise {
 public:
  /// Each seed has a sequence of its own.
  explicit Noise(std::uint32_t seed) : state_(seed * 2654435761u + 1) {}
  /// The next number.
  double operator()() {
    state_ = state_ * 1664525u + 1013904223u;
    return static_cast<double>(state_ >> 8) / 0x1p23 - 1;
  }

 private:
  std::uint32_t state_;
};

}  // namespace gptq::testing
