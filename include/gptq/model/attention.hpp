// SPDX-License-Identifier: MIT
#pragma once

// What attention needs besides its operands: rotary angles of positions, and the head layout.

#include <gptq/core/matrix_view.hpp>
#include <gptq/model/config.hpp>

#include <cmath>  // std::cos, std::sin
#include <vector>

namespace gptq::model {

/// cos and sin of position · frequency.
struct RopeTable {
  Index half = 0;                   ///< pairs per head
  std::vector<float> cosine, sine;  ///< [positions, half]

  RopeTable() = default;
  RopeTable(const Rope& rope, Index head_dim, Index positions) : half(head_dim / 2) {
    const auto frequencies = rope.frequencies(head_dim);
    for (Index p = 0; p < positions; ++p)
      for (const double frequency : frequencies) {
        cosine.push_back(static_cast<float>(std::cos(static_cast<double>(p) * frequency)));
        sine.push_back(static_cast<float>(std::sin(static_cast<double>(p) * frequency)));
      }
  }
};

/// The heads of an attention layer.
struct AttentionShape {
  Index heads, kv_heads, head_dim;
  Index window;  ///< how many positions a query sees, itself included; 0: all
};

}  // namespace gptq::model
