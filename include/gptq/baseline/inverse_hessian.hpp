// SPDX-License-Identifier: MIT
#pragma once

// The inverse Hessian of the inputs that are still free, on which the Optimal Brain family works.

#include <gptq/core/error.hpp>
#include <gptq/core/matrix_view.hpp>

#include <cmath>  // std::isfinite
#include <vector>

namespace gptq::baseline {

/// A dense row-major matrix that owns its elements.
class Dense {
 public:
  /// All zeros.
  Dense(Index rows, Index cols)
      : rows_(rows), cols_(cols), data_(static_cast<std::size_t>(rows * cols)) {}

  Index rows() const { return rows_; }                       ///< number of rows
  Index cols() const { return cols_; }                       ///< number of columns
  double* row(Index r) { return data_.data() + r * cols_; }  ///< element (r, 0)
  /// Element (r, c), unchecked.
  double& operator()(Index r, Index c) { return data_[static_cast<std::size_t>(r * cols_ + c)]; }
  /// Element (r, c), unchecked.
  double operator()(Index r, Index c) const {
    return data_[static_cast<std::size_t>(r * cols_ + c)];
  }
  /// The whole matrix.
  MatrixView<const double> view() const { return {data_.data(), rows_, cols_}; }

 private:
  Index rows_, cols_;
  std::vector<double> data_;
};

/// A copy of a view.
inline Dense copy_of(MatrixView<const double> from) {
  Dense to(from.rows(), from.cols());
  for (Index r = 0; r < from.rows(); ++r)
    for (Index c = 0; c < from.cols(); ++c) to(r, c) = from(r, c);
  return to;
}

/// Checks that a Hessian is that of a weight's inputs.
/// \throws InvalidArgument  the weight is empty, or the Hessian not [inputs, inputs]
/// \throws NumericalError   an element of either is not finite
inline void require_fits(MatrixView<const double> weight, MatrixView<const double> hessian) {
  detail::require(weight.rows() > 0 && weight.cols() > 0, "a weight of ", weight.rows(), " x ",
                  weight.cols());
  detail::require(hessian.rows() == weight.cols() && hessian.cols() == weight.cols(),
                  "a Hessian of ", hessian.rows(), " x ", hessian.cols(), " for ", weight.cols(),
                  " inputs");
  const auto require_finite = [](MatrixView<const double> matrix, const char* name) {
    for (Index r = 0; r < matrix.rows(); ++r)
      for (Index c = 0; c < matrix.cols(); ++c)
        detail::require<NumericalError>(std::isfinite(matrix(r, c)), name, "(", r, ", ", c,
                                        ") = ", matrix(r, c), " is not finite");
  };
  require_finite(weight, "weight");
  require_finite(hessian, "Hessian");
}

/// H⁻¹ of the free inputs, updated as inputs are fixed one by one.
class InverseHessian {
 public:
  /// By Gauss-Jordan elimination, n³ operations in double precision.
  /// \param hessian  [n, n], symmetric positive definite: damp it first
  /// \throws InvalidArgument  not square
  /// \throws NumericalError   a pivot is not positive
  explicit InverseHessian(MatrixView<const double> hessian)
      : inverse_(copy_of(hessian)), free_(static_cast<std::size_t>(hessian.rows()), true) {
    const Index n = hessian.rows();
    detail::require(n == hessian.cols(), "a Hessian of ", n, " x ", hessian.cols());
    for (Index k = 0; k < n; ++k) {
      const double pivot = inverse_(k, k);
      detail::require<NumericalError>(pivot > 0, "the Hessian is not positive definite: pivot ", k,
                                      " is ", pivot);
      inverse_(k, k) = 1;
      for (Index j = 0; j < n; ++j) inverse_(k, j) /= pivot;
      for (Index i = 0; i < n; ++i) {
        if (i == k) continue;
        const double factor = inverse_(i, k);
        inverse_(i, k) = 0;
        for (Index j = 0; j < n; ++j) inverse_(i, j) -= factor * inverse_(k, j);
      }
    }
  }

  Index size() const { return inverse_.rows(); }              ///< number of inputs
  bool free(Index q) const { return free_[std::size_t(q)]; }  ///< whether input q is not fixed
  /// Element (i, j) of the inverse.
  double operator()(Index i, Index j) const { return inverse_(i, j); }

  /// Removes input q: the inverse of H without row and column q, by one step of elimination (OBC,
  /// Lemma 1): H⁻¹ − H⁻¹_{:,q}·H⁻¹_{q,:} / [H⁻¹]_qq.
  void fix(Index q) {
    const Index n = size();
    const double pivot = inverse_(q, q);
    for (Index i = 0; i < n; ++i) {
      const double factor = inverse_(i, q) / pivot;
      if (i == q || factor == 0) continue;
      for (Index j = 0; j < n; ++j) inverse_(i, j) -= factor * inverse_(q, j);
    }
    for (Index j = 0; j < n; ++j) inverse_(q, j) = inverse_(j, q) = 0;
    free_[std::size_t(q)] = false;
  }

  /// Sets weight q of a row to `value` and moves the free weights so that the output changes least:
  /// δw = −(w_q − value) / [H⁻¹]_qq · H⁻¹_{:,q} (OBS). Returns the cost,
  /// (w_q − value)² / [H⁻¹]_qq, and fixes q.
  /// \throws InvalidArgument  q is not an input, or already fixed
  double set(double* row, Index q, double value) {
    detail::require(q >= 0 && q < size() && free(q), "input ", q, " of ", size(),
                    " cannot be fixed: it is fixed already, or does not exist");
    const double error = row[q] - value, pivot = inverse_(q, q);
    for (Index j = 0; j < size(); ++j)
      if (free(j) && j != q) row[j] -= error / pivot * inverse_(j, q);
    row[q] = value;
    fix(q);
    return error * error / pivot;
  }

 private:
  Dense inverse_;
  std::vector<bool> free_;
};

}  // namespace gptq::baseline
