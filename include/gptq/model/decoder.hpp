// SPDX-License-Identifier: MIT
#pragma once

// Decoder: the forward pass of a Llama-like model, split into pieces so that calibration can look
// at the inputs of linear modules in between. It holds no weights: layers are passed in.

#include <gptq/model/attention.hpp>
#include <gptq/model/layer_weights.hpp>

#include <algorithm>  // std::max
#include <cstdint>
#include <utility>  // std::as_const, std::move

namespace gptq::model {

/// Tokens that go through a layer at once: whole sequences.
inline Index chunk_tokens(Index length) { return (std::max)(Index(1), 4096 / length) * length; }

/// Bytes needed for one layer and for a chunk on its way through it.
inline std::uint64_t decoder_bytes(const ModelConfig& config, Index length) {
  Index weights = 0;
  for (int m = 0; m < module_count; ++m) {
    const auto [out, in] = module_shape(config, static_cast<Module>(m));
    weights += out * in;
  }
  // Includes the split parts of operands: see Precision::split.
  const Index numbers = 4 * (config.intermediate + config.heads * config.head_dim + config.hidden);
  return sizeof(float) * static_cast<std::uint64_t>(2 * weights + chunk_tokens(length) * numbers);
}

/// Rows of all tensors are tokens: whole sequences of `length` tokens, one after the other.
/// \tparam Operations  matmul, rms_norm, rope, attention, silu_mul, embedding on its own tensors
/// (CpuOperations, CudaOperations)
template <class Operations>
class Decoder {
 public:
  using Tensor = typename Operations::Tensor;
  using View = typename Operations::View;
  using ConstView = typename Operations::ConstView;
  using Layer = typename Operations::Layer;

  /// \param length  tokens per sequence
  Decoder(ModelConfig config, Index length, Operations operations)
      : config_(std::move(config)),
        operations_(std::move(operations)),
        length_(length),
        rope_(operations_.place(RopeTable(config_.rope, config_.head_dim, length))) {}

  const ModelConfig& config() const { return config_; }
  const Operations& operations() const { return operations_; }
  Index length() const { return length_; }

  /// Input of q, k and v.
  Tensor attention_input(ConstView hidden, const Layer& layer) const {
    return operations_.rms_norm(hidden, layer.attention_norm, config_.norm_epsilon);
  }

  /// Input of o, from the input of q, k and v.
  Tensor attend(ConstView x, const Layer& layer, Index index) const {
    Tensor q = linear(x, layer[Module::q]), k = linear(x, layer[Module::k]);
    const Tensor v = linear(x, layer[Module::v]);
    if (config_.qk_norm) {
      operations_.rms_norm_heads(q.view(), layer.q_norm, config_.norm_epsilon);
      operations_.rms_norm_heads(k.view(), layer.k_norm, config_.norm_epsilon);
    }
    operations_.rope(q.view(), rope_, length_);
    operations_.rope(k.view(), rope_, length_);
    const AttentionShape shape{config_.heads, config_.kv_heads, config_.head_dim,
                               config_.window[std::size_t(index)]};
    return operations_.attention(std::as_const(q).view(), std::as_const(k).view(), v.view(), shape,
                                 length_);
  }

  /// Adds the output of o to the residual stream.
  void add_attention(View hidden, ConstView attended, const Layer& layer) const {
    add_linear(hidden, attended, layer[Module::o]);
  }

  /// Input of gate and up.
  Tensor mlp_input(ConstView hidden, const Layer& layer) const {
    return operations_.rms_norm(hidden, layer.mlp_norm, config_.norm_epsilon);
  }

  /// Input of down, from the input of gate and up.
  Tensor activate(ConstView x, const Layer& layer) const {
    Tensor gate = linear(x, layer[Module::gate]);
    operations_.silu_mul(gate, linear(x, layer[Module::up]));
    return gate;
  }

  /// Adds the output of down to the residual stream.
  void add_mlp(View hidden, ConstView activated, const Layer& layer) const {
    add_linear(hidden, activated, layer[Module::down]);
  }

  /// One whole layer.
  void forward(View hidden, const Layer& layer, Index index) const {
    add_attention(hidden, attend(attention_input(hidden, layer).view(), layer, index).view(),
                  layer);
    add_mlp(hidden, activate(mlp_input(hidden, layer).view(), layer).view(), layer);
  }

 private:
  template <class Linear>
  Tensor linear(ConstView x, const Linear& module) const {
    return operations_.matmul(x, module.weight.view(), module.bias);
  }
  template <class Linear>
  void add_linear(View y, ConstView x, const Linear& module) const {
    operations_.matmul_add(y, x, module.weight.view(), module.bias);
  }

  ModelConfig config_;
  Operations operations_;
  Index length_;
  typename Operations::Rope rope_;
};

}  // namespace gptq::model
