// SPDX-License-Identifier: MIT
#pragma once

// The operations that blocks are made of: a closed set. A new one needs a type here, a function of
// Block that records it, and an operation on each device.

#include <gptq/core/matrix_view.hpp>

#include <variant>

namespace gptq::model {

/// Element-wise functions, by the names that config.json files use.
enum class Activation {
  silu,  ///< x·σ(x)
};

namespace step {

struct Input {};

/// RMSNorm: x / √(mean x² + ε)·w.
struct Norm {
  double epsilon = 1e-6;
  Index size = 0;   ///< columns normalized together; 0: the row
  int weight = -1;  ///< number of a vector; set by Block::norm
};

struct Linear {
  int linear;  ///< its number in the block
};

/// Rotates coordinates of each head by the token's position.
struct Rope {
  int table;  ///< which of the model's tables
  Index head_dim;
};

/// Causal attention within each window: softmax(q·kᵀ/√head_dim)·v, head by head.
struct Attention {
  Index heads, kv_heads, head_dim;
  Index window = 0;  ///< how many positions a query sees, itself included; 0: all
};

/// f(gate) · up, element by element.
struct Gated {
  Activation kind;
};

struct Add {};

using Any = std::variant<Input, Norm, Linear, Rope, Attention, Gated, Add>;

}  // namespace step
}  // namespace gptq::model
