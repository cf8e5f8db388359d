// SPDX-License-Identifier: MIT
#pragma once

// What ALiBi adds to the scores of a head, on any device.

#include <gptq/config.hpp>
#include <gptq/core/half.hpp>
#include <gptq/core/matrix_view.hpp>

namespace gptq::model {

/// A line over the positions of keys.
struct PositionBias {
  float slope = 0;       ///< 0: there is none
  float scale = 1;       ///< of the scores
  bool rounded = false;  ///< as Falcon computes it: rounded to bfloat16, scaled like q·k

  GPTQ_HD float operator()(Index position) const {
    const auto at = static_cast<float>(position);
    if (!rounded) return slope * at;
    return scale * to_float(to_bfloat16(to_float(to_bfloat16(slope)) * at));
  }
};

}  // namespace gptq::model
