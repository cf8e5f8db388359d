// SPDX-License-Identifier: MIT
#pragma once

// The decoder's kernels, as functions that any C++ compiler can call; decoder.cu defines them.
//
// All work is queued on the stream. Pointers refer to memory that the device can access; rows are
// contiguous.

#include <gptq/config.hpp>
#include <gptq/core/matrix_view.hpp>

#include <cuda_runtime_api.h>

#include <cstdint>

namespace gptq::model::cuda {

/// Heads side by side in the rows of q, k and v, whose rows are tokens, sequence after sequence.
struct AttentionOperands {
  MatrixView<const float> q, k, v;
  MatrixView<float> out;
  Index heads, kv_heads, head_dim, length;
  Index window;  ///< how many positions a query sees, itself included; 0: all
};

/// The running softmax of each row's logits, accumulated a strip of columns at a time.
struct SoftmaxState {
  float* top;      ///< the largest so far
  double* sum;     ///< Σ exp(logit − top)
  double* target;  ///< logit of the row's target, once seen
};

#pragma GCC visibility push(hidden)

/// y = x / √(mean x² + ε) · weight, for each part of `size` numbers of a row; y may be x.
void rms_norm(cudaStream_t stream, MatrixView<const float> x, const float* weight, Index size,
              float epsilon, MatrixView<float> y);

/// Rotates each head of row r by its position, r mod length; tables are [positions, half].
void rope(cudaStream_t stream, MatrixView<float> x, const float* cosine, const float* sine,
          Index half, Index length);

/// softmax(q·kᵀ/√d)·v within each sequence, for one tile of queries and keys at a time.
/// \param shared_memory  bytes available to a block
void attention(cudaStream_t stream, const AttentionOperands& operands, Index shared_memory);

/// gate ← silu(gate) · up
void silu_mul(cudaStream_t stream, const float* up, Index count, float* gate);

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
                Index first, const SoftmaxState& state);

#pragma GCC visibility pop

}  // namespace gptq::model::cuda
