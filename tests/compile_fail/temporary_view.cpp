// SPDX-License-Identifier: MIT
// expects: deleted

#include <gptq/eigen.hpp>

void first() {
#ifdef GPTQ_TEST_FAIL
  gptq::view(Eigen::MatrixXf(2, 2));  // gone before the view is used
#else
  const Eigen::MatrixXf matrix(2, 2);
  gptq::view(matrix);
#endif
}
