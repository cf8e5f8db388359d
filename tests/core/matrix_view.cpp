// SPDX-License-Identifier: MIT

#include <gptq/core/matrix_view.hpp>
#include <gptq/eigen.hpp>
#include <gptq/gptq.hpp>

#include "../support/catch.hpp"

#include <Eigen/Core>

#include <type_traits>
#include <vector>

using gptq::Index;
using Cpu = gptq::backend::Cpu;

TEST_CASE("views in either storage order show the same matrix", "[matrix_view]") {
  const Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> rows =
      Eigen::MatrixXf::Random(5, 7);
  const Eigen::MatrixXf cols = rows;
  const auto a = gptq::view(rows), b = gptq::view(cols), c = gptq::view(cols).transposed();
  CHECK(a.data() == rows.data());
  CHECK(b.data() == cols.data());
  CHECK(a.col_stride() == 1);
  CHECK(b.row_stride() == 1);
  for (Index r = 0; r < 5; ++r)
    for (Index k = 0; k < 7; ++k) {
      CHECK(a(r, k) == rows(r, k));
      CHECK(b(r, k) == rows(r, k));
      CHECK(c(k, r) == rows(r, k));
    }
}

TEST_CASE("a view of a block of an Eigen matrix points into it", "[matrix_view]") {
  const Eigen::MatrixXf whole = Eigen::MatrixXf::Random(6, 8);
  const auto part = gptq::view(whole.block(1, 2, 3, 4));
  CHECK(part.rows() == 3);
  CHECK(part.cols() == 4);
  CHECK(part.data() == &whole(1, 2));
  CHECK(part(2, 3) == whole(3, 5));
  const auto inner = gptq::view(whole).block(1, 2, 3, 4).middle_cols(1, 2).middle_rows(2, 1);
  CHECK(inner(0, 1) == whole(3, 4));
}

TEST_CASE("temporaries cannot be viewed and const views cannot write", "[matrix_view]") {
  STATIC_REQUIRE(std::is_convertible_v<gptq::MatrixView<float>, gptq::MatrixView<const float>>);
  STATIC_REQUIRE(!std::is_convertible_v<gptq::MatrixView<const float>, gptq::MatrixView<float>>);
  STATIC_REQUIRE(sizeof(Index) == 8);
}

TEST_CASE("a size too large for memory is an error, not an overflow", "[matrix_view]") {
  const Index huge = Index(1) << 40;
  CHECK_THAT(error_of<gptq::InvalidArgument>([&] { gptq::detail::checked_size(huge, huge); }),
             ContainsSubstring("too large"));
  CHECK_THAT(error_of<gptq::InvalidArgument>([&] { gptq::detail::checked_size(-1, 3); }),
             ContainsSubstring("negative"));
  CHECK(gptq::detail::checked_size(46341, 46341) == Index(46341) * 46341);
}

TEST_CASE("Eigen's matrices are accepted wherever views are, expressions are not",
          "[matrix_view]") {
  using gptq::StridedMatrix;
  using Rows = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  static_assert(StridedMatrix<Eigen::MatrixXf> && StridedMatrix<Rows> &&
                StridedMatrix<Eigen::Map<const Eigen::MatrixXf>> &&
                StridedMatrix<decltype(Rows().block(0, 0, 1, 1))>);
  static_assert(!StridedMatrix<decltype(Rows() + Rows())> &&
                !StridedMatrix<gptq::MatrixView<const float>>);

  const Cpu backend;
  const Eigen::MatrixXf x = Eigen::MatrixXf::Random(90, 40), w = Eigen::MatrixXf::Random(12, 40);
  const Rows x_rows = x.cast<double>();
  gptq::Hessian a(32, backend), b(32, backend), c(32, backend);
  a.add(gptq::view(x.middleCols(3, 32)));
  b.add(x.middleCols(3, 32));
  c.add(x_rows.middleCols(3, 32), std::vector<float>(90, 1.0f));
  for (Index i = 0; i < 32; ++i) {
    CHECK(a.sum()(0, i) == b.sum()(0, i));
    CHECK(a.sum()(0, i) == Approx(c.sum()(0, i)));
  }
  const gptq::Quantizer<gptq::scheme::Int4, Cpu> quantizer({.group_size = 16});
  const auto factor = quantizer.factorize(a);
  const auto expected = gptq::to_eigen(quantizer.quantize(gptq::view(w.middleCols(3, 32)), factor));
  CHECK(gptq::to_eigen(quantizer.quantize(w.middleCols(3, 32), factor)) == expected);
  CHECK(gptq::to_eigen(quantizer.quantize(w.middleCols(3, 32), a)) == expected);
  const auto view = gptq::view(w.middleCols(3, 32));
  const std::vector<gptq::MatrixView<const float>> views{view, view};
  for (const auto& q : quantizer.quantize(views, factor)) CHECK(gptq::to_eigen(q) == expected);
  const std::vector<const gptq::Hessian<Cpu>*> hessians{&a, &b};
  for (const auto& q : quantizer.quantize(views, hessians)) CHECK(gptq::to_eigen(q) == expected);
}
