// SPDX-License-Identifier: MIT
#pragma once

// The decoder's kernels, as functions that any C++ compiler can call; decoder.cu defines them.
//
// All work is queued on the stream. Pointers refer to memory that the device can access; rows are
// contiguous. In functions of each element, y may be an operand.

#include <gptq/config.hpp>
#include <gptq/core/matrix_view.hpp>
#include <gptq/model/step.hpp>

#include <cuda_runtime_api.h>

#include <cstdint>

namespace gptq::model::cuda {

/// Heads side by side in the rows of q, k and v, whose rows are tokens, sequence after sequence.
struct AttentionOperands {
  MatrixView<const float> q, k, v;
  MatrixView<float> out;
  Index heads, kv_heads, head_dim, value_dim, length;
  Index window;  ///< how many positions a query sees, itself included; 0: all
  float scale, softcap;
  const float* slopes;  ///< of each head; null: none
  bool rounded_slopes;  ///< see PositionBias
  const float* sinks;   ///< of each head; null: none
};

/// Heads side by side in rows, which are tokens, sequence after sequence.
struct DeltaRuleOperands {
  MatrixView<const float> q, k, v, a, b;
  MatrixView<float> y;
  step::DeltaRule how;
  const float *a_log, *dt_bias;
  Index length;
};

/// What logits go through.
struct HeadOperands {
  const float* bias;  ///< of the whole vocabulary; null: none
  float scale, softcap;
};

/// The running softmax of each row's logits, accumulated a strip of columns at a time.
struct SoftmaxState {
  float* top;      ///< the largest so far
  double* sum;     ///< Σ exp(logit − top)
  double* target;  ///< logit of the row's target, once seen
};

#pragma GCC visibility push(hidden)

/// Normalizes each part of a row.
/// \param weight, bias  null: there is none
void norm(cudaStream_t stream, MatrixView<const float> x, const step::Norm& how,
          const float* weight, const float* bias, MatrixView<float> y);

/// Rotates each head of row r by its position, r mod length; tables are [positions, half].
void rope(cudaStream_t stream, MatrixView<float> x, const float* cosine, const float* sine,
          const step::Rope& how, Index half, Index length);

/// softmax(scale·q·kᵀ)·v within each sequence, for one tile of queries and keys at a time.
/// \param shared_memory  bytes available to a block
void attention(cudaStream_t stream, const AttentionOperands& operands, Index shared_memory);

/// y = f(x)
void activate(cudaStream_t stream, MatrixView<const float> x, Activation kind, MatrixView<float> y);

/// y = f(gate) · up; a gate of one column scales rows.
void gated(cudaStream_t stream, MatrixView<const float> gate, MatrixView<const float> up,
           const step::Gated& how, MatrixView<float> y);

/// y = value
void fill(cudaStream_t stream, float value, MatrixView<float> y);

/// y = factor · x
void scale(cudaStream_t stream, MatrixView<const float> x, float factor, MatrixView<float> y);

/// y = x, at most `limit` in magnitude
void clamp(cudaStream_t stream, MatrixView<const float> x, float limit, MatrixView<float> y);

/// y = x + the row of the token's position + `offset`
void add_positions(cudaStream_t stream, MatrixView<const float> x, const float* table, Index offset,
                   Index length, MatrixView<float> y);

/// See step::Sharpen.
void sharpen(cudaStream_t stream, MatrixView<const float> x, const step::Sharpen& how, Index length,
             MatrixView<float> y);

/// See step::Columns.
void columns(cudaStream_t stream, MatrixView<const float> x, const step::Columns& how,
             MatrixView<float> y);

/// See step::Join.
void join(cudaStream_t stream, MatrixView<const float> a, MatrixView<const float> b,
          const step::Join& how, MatrixView<float> y);

/// Weights of the chosen experts, −1 for the others.
/// \param bias     null: there is none
/// \param scratch  route_scratch numbers per row
void choose_experts(cudaStream_t stream, MatrixView<const float> logits, const step::Route& how,
                    const float* bias, float* scratch, MatrixView<float> weights);

/// The rows in which the expert was chosen.
/// \param tokens  has room for all rows
void list_tokens(cudaStream_t stream, MatrixView<const float> routes, Index expert, Index* tokens,
                 Index* count);

/// Row r of y is row tokens[r] of x.
void gather(cudaStream_t stream, MatrixView<const float> x, const Index* tokens,
            MatrixView<float> y);

/// Adds row r of x, times the token's weight for the expert, to row tokens[r] of y.
void scatter(cudaStream_t stream, MatrixView<const float> x, MatrixView<const float> routes,
             Index expert, const Index* tokens, MatrixView<float> y);

/// A causal convolution of each column: weight [columns, taps], the last tap is the token itself.
void convolution(cudaStream_t stream, MatrixView<const float> x, const float* weight, Index taps,
                 Index length, MatrixView<float> y);

/// See step::DeltaRule.
void delta_rule(cudaStream_t stream, const DeltaRuleOperands& operands);

/// y(r, c) += bias[c]
void add_bias(cudaStream_t stream, const float* bias, MatrixView<float> y);

/// y += x
void add(cudaStream_t stream, MatrixView<const float> x, MatrixView<float> y);

/// to = a − b
void subtract(cudaStream_t stream, MatrixView<const float> a, MatrixView<const float> b,
              MatrixView<float> to);

/// y = x rounded to the symmetric 8-bit grid with that scale.
void round_to_int8(cudaStream_t stream, MatrixView<const float> x, float scale, float* y);

/// Adds the logits of columns [first, first + logits.cols()).
void add_logits(cudaStream_t stream, MatrixView<const float> logits, const std::int32_t* targets,
                Index first, const HeadOperands& head, const SoftmaxState& state);

#pragma GCC visibility pop

}  // namespace gptq::model::cuda
