// SPDX-License-Identifier: MIT

// What is optional in a backend is asked for where it is needed, with a sentence.
// expects: gptq: (Hessian::merge needs add|CrossMoment needs accumulate_cross)
// fails with: -DMERGE
// fails with: -DCROSS

#include <gptq/backend/reference.hpp>
#include <gptq/calibration/cross_moment.hpp>
#include <gptq/calibration/hessian.hpp>

struct Plain : gptq::backend::Reference {
  void add(Matrix& sum, const Matrix& other) const = delete;
  template <class T>
  void accumulate_cross(Matrix& sum, gptq::MatrixView<const T> a,
                        gptq::MatrixView<const T> b) const = delete;
};

int main() {
  gptq::Hessian<Plain> hessian(8);
#if defined(MERGE)
  hessian.merge(hessian);
#elif defined(CROSS)
  gptq::CrossMoment<Plain> moment(8, 8);
  const float x[8] = {};
  moment.add(gptq::MatrixView<const float>(x, 1, 8), gptq::MatrixView<const float>(x, 1, 8));
#endif
  return hessian.in_features() == 8 ? 0 : 1;
}
