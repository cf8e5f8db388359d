// SPDX-License-Identifier: MIT
#pragma once

// The operations that blocks are made of: a closed set. A new one needs a type here, a function of
// Block that records it, and an operation on each device.

#include <gptq/config.hpp>
#include <gptq/core/error.hpp>
#include <gptq/core/matrix_view.hpp>

#include <cmath>  // std::floor, std::log1p, std::sqrt
#include <span>
#include <variant>
#include <vector>

namespace gptq::model {

/// Element-wise functions, by the names that config.json files use.
enum class Activation {
  silu,       ///< x·σ(x)
  gelu,       ///< ½x·(1 + erf(x/√2))
  gelu_tanh,  ///< ½x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))
  relu,
  relu_squared,  ///< max(x, 0)²
  sigmoid,
};

namespace step {

/// What flows into the block.
struct Input {};

/// RMSNorm: x / √(mean x² + ε)·w. LayerNorm: the same of x − mean x, plus b.
struct Norm {
  enum class Kind { rms, layer };
  Kind kind = Kind::rms;
  double epsilon = 1e-6;
  Index size = 0;  ///< columns normalized together; 0: the row
  bool weighted = true, biased = false;
  /// How the weights of parts are stored: one for all; per row of a matrix; in a tensor per part.
  enum class Weights { shared, in_rows, in_tensors };
  Weights weights = Weights::shared;
  float added = 0;             ///< to the stored weight
  int weight = -1, bias = -1;  ///< numbers of vectors; set by Block::norm
};

/// A product with a linear module's weight.
struct Linear {
  int linear;  ///< its number in the block
};

/// Of every `period` columns, `count` from `first` on.
struct Columns {
  Index first, count, period;
};

/// Per head, columns of one value, then columns of another.
struct Join {
  Index heads, a, b;  ///< columns per head
};

/// Rotates coordinates of each head by the token's position.
struct Rope {
  int table;  ///< which of the model's tables
  Index head_dim;
  Index first = 0;           ///< the first coordinate that turns
  bool interleaved = false;  ///< pairs are (2i, 2i + 1), not (i, i + half)
};

/// Causal attention within each window: softmax(scale·q·kᵀ)·v, head by head.
struct Attention {
  Index heads, kv_heads, head_dim, value_dim;
  Index window = 0;             ///< how many positions a query sees, itself included; 0: all
  double scale = 0;             ///< 0: 1/√head_dim
  double softcap = 0;           ///< s ← cap·tanh(s/cap); 0: none
  std::vector<float> slopes{};  ///< ALiBi, per head: slope · position of the key joins each score
  bool scaled_slopes = false;   ///< as Falcon computes them: rounded to bfloat16, scaled like q·k
  int sinks = -1;  ///< a vector of one logit per head, which joins the softmax and is dropped
};

/// The factor of the scores q·k.
inline float score_scale(const Attention& how) {
  return how.scale != 0 ? static_cast<float>(how.scale)
                        : 1.0f / std::sqrt(static_cast<float>(how.head_dim));
}

/// A function of each element.
struct Activate {
  Activation kind;
};

/// f(gate) · up, element by element. With a limit, as in gpt-oss: gate is at most the limit, up at
/// most that in magnitude, and the result is gate·σ(α·gate)·(up + 1).
struct Gated {
  Activation kind;
  double limit = 0, alpha = 1.702;
};

/// A sum.
struct Add {};

/// A multiple.
struct Scale {
  double factor;
};

/// To [−limit, limit].
struct Clamp {
  double limit;
};

/// Adds a row of a table: that of the token's position + `offset`.
struct Positions {
  int table;
  Index offset;
};

/// \throws InvalidArgument  a table [positions, cols] ends before the window does
inline void require_positions(std::span<const float> table, Index cols, Index offset,
                              Index length) {
  const Index rows = static_cast<Index>(table.size()) / cols;
  gptq::detail::require(length + offset <= rows, "windows of ", length,
                        " tokens, but the model has ", rows - offset, " positions");
}

/// Multiplies a row by 1 + β·ln(1 + ⌊position / length⌋), so that attention stays sharp far beyond
/// the context of training.
struct Sharpen {
  double beta, length;

  GPTQ_HD float factor(Index position) const {
    return static_cast<float>(
        1 + beta * std::log1p(std::floor(static_cast<double>(position) / length)));
  }
};

/// A choice of `chosen` experts per token and their weights, from logits.
struct Route {
  enum class Score { softmax, sigmoid };
  /// What a group of experts is worth: its best expert, or the sum of its two best.
  enum class GroupScore { best, two_best };
  Score score = Score::softmax;
  Index chosen = 1;
  bool normalized = false;  ///< weights of the chosen are divided by their sum + `least_sum`
  double least_sum = 0;
  double scale = 1;                     ///< and multiplied by this
  int bias = -1;                        ///< a vector added for the choice, not to the weights
  Index groups = 1, chosen_groups = 1;  ///< experts outside the best groups are not chosen
  GroupScore group_score = GroupScore::best;
};

/// The rows of the tokens that were routed to the step's expert.
struct Gather {};

/// Σ over experts of weight · rows, at the rows' tokens. Reads routes, then each expert's rows.
struct Scatter {};

/// A causal convolution of each column.
struct Convolution {
  int weight;
  Index taps;
};

/// The gated delta rule, per value head, with a state S [key_dim, value_dim] that starts at zero:
///   g = −exp(a_log)·softplus(a + dt_bias), β = σ(b), q and k of unit length, q·1/√key_dim
///   S ← e^g·S;  S ← S + k·(β·(v − Sᵀk))ᵀ;  y = Sᵀq
struct DeltaRule {
  Index key_heads, value_heads, key_dim, value_dim;
  int a_log = -1, dt_bias = -1;  ///< vectors; set by Block::delta_rule
};

/// What a step does, for people.
inline const char* name(const Input&) { return "input"; }
inline const char* name(const Norm&) { return "norm"; }
inline const char* name(const Linear&) { return "linear"; }
inline const char* name(const Columns&) { return "columns"; }
inline const char* name(const Join&) { return "join"; }
inline const char* name(const Rope&) { return "rotate"; }
inline const char* name(const Attention&) { return "attention"; }
inline const char* name(const Activate&) { return "activation"; }
inline const char* name(const Gated&) { return "gate"; }
inline const char* name(const Add&) { return "add"; }
inline const char* name(const Scale&) { return "scale"; }
inline const char* name(const Clamp&) { return "clamp"; }
inline const char* name(const Positions&) { return "add positions"; }
inline const char* name(const Sharpen&) { return "sharpen"; }
inline const char* name(const Route&) { return "choose experts"; }
inline const char* name(const Gather&) { return "rows of the expert"; }
inline const char* name(const Scatter&) { return "sum of the experts"; }
inline const char* name(const Convolution&) { return "convolution"; }
inline const char* name(const DeltaRule&) { return "delta rule"; }

using Any =
    std::variant<Input, Norm, Linear, Columns, Join, Rope, Attention, Activate, Gated, Add, Scale,
                 Clamp, Positions, Sharpen, Route, Gather, Scatter, Convolution, DeltaRule>;

}  // namespace step
}  // namespace gptq::model
