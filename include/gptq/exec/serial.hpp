// SPDX-License-Identifier: MIT
#pragma once

// exec::Serial: everything on the calling thread.

#include <gptq/core/matrix_view.hpp>

namespace gptq::exec {

/// Runs everything on the calling thread.
struct Serial {
  template <class F>
  void parallel_for(Index n, F&& f) const {
    for (Index i = 0; i < n; ++i) f(i);
  }
  int concurrency() const { return 1; }
};

}  // namespace gptq::exec
