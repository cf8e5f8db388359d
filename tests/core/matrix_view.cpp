// SPDX-License-Identifier: MIT

#include <gptq/core/matrix_view.hpp>
#include <gptq/eigen.hpp>

#include "../support/catch.hpp"

#include <Eigen/Core>

#include <type_traits>

using gptq::Index;

TEST_CASE("views of either storage order show the same matrix", "[matrix_view]") {
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

TEST_CASE("temporaries cannot be viewed and reading views cannot write", "[matrix_view]") {
  STATIC_REQUIRE(std::is_convertible_v<gptq::MatrixView<float>, gptq::MatrixView<const float>>);
  STATIC_REQUIRE(!std::is_convertible_v<gptq::MatrixView<const float>, gptq::MatrixView<float>>);
  STATIC_REQUIRE(sizeof(Index) == 8);
}

TEST_CASE("a size that does not fit memory is an error, not an overflow", "[matrix_view]") {
  const Index huge = Index(1) << 40;
  CHECK_THAT(error_of<gptq::InvalidArgument>([&] { gptq::detail::checked_size(huge, huge); }),
             ContainsSubstring("too large"));
  CHECK_THAT(error_of<gptq::InvalidArgument>([&] { gptq::detail::checked_size(-1, 3); }),
             ContainsSubstring("negative"));
  CHECK(gptq::detail::checked_size(46341, 46341) == Index(46341) * 46341);
}
