// SPDX-License-Identifier: MIT

// A scheme that branches on a weight cannot run on a lane of rows, and the contract says so.
// expects: use_on_rows

#include <gptq/gptq.hpp>

struct Sign {
  static constexpr int bits = 1, max_code = 1;

  template <class T>
  GPTQ_HD T encode(const T& x, const gptq::scheme::Grid<T>&) const {
#ifdef GPTQ_TEST_FAIL
    return x < T(0) ? T(0) : T(1);
#else
    return gptq::lane::select(x < T(0), T(0), T(1));
#endif
  }
  template <class T>
  GPTQ_HD T decode(const T& code, const gptq::scheme::Grid<T>& grid) const {
    return grid.scale * (code + code - T(1));
  }
  template <class T>
  GPTQ_HD gptq::scheme::Grid<T> fit(const T& low, const T& high,
                                    const gptq::scheme::ScaleRounding& rounding) const {
    return {gptq::scheme::round_scale(gptq::lane::max(-low, high), rounding), T(0)};
  }
};

int main() {
  return gptq::Quantizer<Sign, gptq::backend::Cpu>().params().group_size == 128 ? 0 : 1;
}
