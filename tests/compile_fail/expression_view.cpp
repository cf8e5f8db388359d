// SPDX-License-Identifier: MIT
// expects: gptq: view\(\) needs a matrix, a map or a block

#include <gptq/eigen.hpp>

float first() {
  const Eigen::MatrixXf matrix = Eigen::MatrixXf::Ones(2, 2);
#ifdef GPTQ_TEST_FAIL
  const auto view = gptq::view(matrix * 2);  // an expression, which has no numbers in memory
#else
  const auto view = gptq::view(matrix.leftCols(1));
#endif
  return view(0, 0);
}
