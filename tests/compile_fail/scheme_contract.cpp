// SPDX-License-Identifier: MIT
// expects: Scheme<.*Halves|'Halves' does not satisfy 'Scheme'

#include <gptq/backend/reference.hpp>
#include <gptq/quantizer.hpp>

/// Two numbers per group.
struct Halves {
  static constexpr int bits = 1, max_code = 1;

  template <class T>
  T encode(const T& x, const gptq::scheme::Grid<T>&) const {
    return gptq::scheme::select(x < T(0), T(0), T(1));
  }
#ifndef GPTQ_TEST_FAIL  // a scheme without decode
  template <class T>
  T decode(const T& code, const gptq::scheme::Grid<T>& grid) const {
    return (code - T(0.5f)) * grid.scale;
  }
#endif
  template <class T>
  gptq::scheme::Grid<T> fit(const T& low, const T& high,
                            const gptq::scheme::ScaleRounding& rounding) const {
    return {gptq::scheme::round_scale(high - low, rounding), T(0)};
  }
};

gptq::Quantizer<Halves, gptq::backend::Reference> quantizer;
