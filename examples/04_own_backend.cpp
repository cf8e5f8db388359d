// SPDX-License-Identifier: MIT

// A backend of your own: where matrices live and how they are multiplied. Here host memory and one
// line of Eigen for each product; HostWorker does the rest. `test_backend` checks that it is right.

#include <gptq/gptq.hpp>
#include <gptq/testing/backend.hpp>

#include <iostream>

using gptq::Index, gptq::MatrixView;
using RowMajor = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

struct Plain {
  using Scalar = double;
  using Matrix = gptq::backend::HostMatrix<double>;

  static auto eigen(const Matrix& m) { return RowMajor::Map(m.data(), m.rows(), m.cols()); }
  static auto eigen(Matrix& m) { return RowMajor::Map(m.data(), m.rows(), m.cols()); }

  struct Worker : gptq::backend::HostWorker<double, double, 1> {
    void propagate(Matrix& out, Index to, Index to_count, const Matrix& factor, const Matrix& in,
                   Index from, Index from_count) const {
      eigen(out).middleRows(to, to_count) +=
          eigen(factor).block(from, to, from_count, to_count).transpose() *
          eigen(in).middleRows(from, from_count);
    }
    using HostWorker::targets;
    Matrix targets(gptq::kernel::LeftLooking, const Matrix& factor, const Panel& panel, Index first,
                   Index last) const {
      Matrix v(last - first, panel.weight.cols());
      const auto block = eigen(factor).block(first, first, v.rows(), v.rows());
      eigen(v) = eigen(panel.weight).middleRows(first, v.rows()) +
                 block.transpose().triangularView<Eigen::Lower>().solve(
                     eigen(panel.carry).middleRows(first, v.rows()));
      return v;
    }
    void multiply(Matrix& out, Index first, Index rows, const Matrix& factor,
                  const Matrix& in) const {
      eigen(out).middleRows(first, rows) += eigen(factor).middleRows(first, rows) * eigen(in);
    }
    std::vector<double> energy(const Matrix& factor, const Matrix& a, const Panel&) const {
      return {(eigen(factor).transpose().triangularView<Eigen::Lower>() * eigen(a)).squaredNorm()};
    }
  };

  Matrix zeros(Index rows, Index cols) const { return Matrix::zeros(rows, cols); }
  template <class T>
  Matrix upload(MatrixView<const T> from) const {
    Matrix m(from.rows(), from.cols());
    for (Index r = 0; r < m.rows(); ++r)
      for (Index c = 0; c < m.cols(); ++c)
        m(r, c) = static_cast<double>(gptq::to_float(from(r, c)));
    return m;
  }
  template <class T>
  void download(const Matrix& from, MatrixView<T> to) const {
    for (Index r = 0; r < from.rows(); ++r)
      for (Index c = 0; c < from.cols(); ++c) to(r, c) = static_cast<T>(from(r, c));
  }
  template <class T>
  double largest(MatrixView<const T> view) const {
    const Matrix copy = upload(view);
    double most = 0;
    for (Index i = 0; i < copy.rows() * copy.cols(); ++i)
      most = std::isnan(copy.data()[i]) ? INFINITY : std::max(most, std::abs(copy.data()[i]));
    return most;
  }
  template <class T>
  void accumulate(Matrix& sum, MatrixView<const T> view, const float* token_weights) const {
    const Matrix copy = upload(view);
    Eigen::VectorXd w = Eigen::VectorXd::Ones(view.rows());
    if (token_weights) w = Eigen::VectorXf::Map(token_weights, view.rows()).template cast<double>();
    eigen(sum) += eigen(copy).transpose() * w.asDiagonal() * eigen(copy);  // one triangle would do
  }
  std::vector<double> diagonal(const Matrix& m) const {
    const Eigen::VectorXd d = eigen(m).diagonal();
    return {d.begin(), d.end()};
  }
  Matrix arrange(const Matrix& from, std::span<const Index> order, double factor,
                 std::span<const double> added) const {
    Matrix to(from.rows(), from.cols());
    const RowMajor whole = eigen(from).selfadjointView<Eigen::Upper>();
    eigen(to) = factor * whole(order, order);
    eigen(to).triangularView<Eigen::StrictlyLower>().setZero();
    eigen(to).diagonal() += Eigen::VectorXd::Map(added.data(), to.rows());
    return to;
  }
  Index factorize(Matrix& h) const {  // H = R·Rᵀ: H reversed is L·Lᵀ
    for (Index k = h.rows() - 1; k >= 0; --k) {
      const double pivot = h(k, k) - eigen(h).row(k).tail(h.rows() - 1 - k).squaredNorm();
      if (!(pivot > 1e-15 * h(k, k))) return k;
      h(k, k) = std::sqrt(pivot);
      eigen(h).col(k).head(k) -= eigen(h).topRightCorner(k, h.rows() - 1 - k) *
                                 eigen(h).row(k).tail(h.rows() - 1 - k).transpose();
      eigen(h).col(k).head(k) /= h(k, k);
    }
    return -1;
  }
  template <class F>
  void for_panels(Index rows, F&& panel) const {
    panel(Worker(), Index{0}, rows);
  }
  template <class F>
  void for_each(Index jobs, F&& job) const {
    for (Index i = 0; i < jobs; ++i) job(i);
  }
  gptq::backend::Footprint footprint(Index rows, Index, const gptq::Params&) const {
    return {.panel_rows = rows};
  }
};
static_assert(gptq::backend::Backend<Plain>);

int main() {
  gptq::testing::test_backend(Plain(), 1e-12);
  const Eigen::MatrixXf weight = Eigen::MatrixXf::Random(64, 128);
  gptq::Hessian hessian(128, Plain());
  hessian.add(Eigen::MatrixXf::Random(500, 128).eval());
  const auto layer =
      gptq::Quantizer<gptq::scheme::Int4, Plain>({.group_size = 32}).quantize(weight, hessian);
  std::cout << "relative output error: " << layer.report().relative_error << ", round to nearest "
            << layer.report().rtn_relative_error << '\n';
  return layer.report().relative_error < layer.report().rtn_relative_error ? 0 : 1;
}
