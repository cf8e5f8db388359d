// SPDX-License-Identifier: MIT
#pragma once

// Qwen3-Next, Qwen3.5 and Qwen3.5-MoE (text): three of four layers have a gated delta rule instead
// of attention, the others attention whose result is gated.

#include <gptq/model/architecture/mixture.hpp>

#include <optional>
#include <string>
#include <vector>

namespace gptq::model::architecture {

/// Linear attention with a gated delta rule.
struct DeltaPart {
  step::DeltaRule how;
  Index taps;
  step::Norm norm;     ///< of each head's result, with plain weights
  bool joined_inputs;  ///< q, k, v and z of a key head side by side, b and a too

  Index key_width() const { return how.key_heads * how.key_dim; }
  Index value_width() const { return how.value_heads * how.value_dim; }
};

inline Value delta_layer(Block& b, Value x, const DeltaPart& p) {
  const Index keys = p.key_width(), values = p.value_width();
  Value qkv = x, z = x, first = x, second = x;  // β's and the decay's input
  if (p.joined_inputs) {
    const Index dk = p.how.key_dim, heads = p.how.value_heads / p.how.key_heads,
                dv = heads * p.how.value_dim, group = 2 * dk + 2 * dv;
    const Value all = b.linear(x, "linear_attn.in_proj_qkvz", 2 * keys + 2 * values);
    const Value ba = b.unquantized_linear(x, "linear_attn.in_proj_ba", 2 * p.how.value_heads);
    const Value q = b.columns(all, 0, dk, group);
    const Value k = b.columns(all, dk, dk, group);
    const Value v = b.columns(all, 2 * dk, dv, group);
    z = b.columns(all, 2 * dk + dv, dv, group);
    qkv = b.join(b.join(q, k, 1, keys), v, 1, values);
    first = b.columns(ba, 0, heads, 2 * heads);
    second = b.columns(ba, heads, heads, 2 * heads);
  } else {
    qkv = b.linear(x, "linear_attn.in_proj_qkv", 2 * keys + values);
    z = b.linear(x, "linear_attn.in_proj_z", values);
    const auto plain = [&](const char* name) {
      return b.unquantized_linear(x, name, p.how.value_heads);
    };
    first = plain("linear_attn.in_proj_b");
    second = plain("linear_attn.in_proj_a");
  }
  qkv = b.activate(b.convolution(qkv, "linear_attn.conv1d", p.taps), Activation::silu);
  const Value q = b.columns(qkv, 0, keys);
  const Value k = b.columns(qkv, keys, keys);
  const Value v = b.columns(qkv, 2 * keys, values);
  const Value y =
      b.delta_rule(q, k, v, second, first, p.how, "linear_attn.A_log", "linear_attn.dt_bias");
  const Value gated = b.gated(z, b.norm(y, "linear_attn.norm", p.norm), {Activation::silu});
  return b.linear(gated, "linear_attn.out_proj", b.width({0}));
}

/// Attention whose q module has a gate beside each head.
inline Value gated_attention(Block& b, Value x, const AttentionPart& p) {
  const Index d = p.head_dim;
  const Value both = b.linear(x, p.q, 2 * p.q_width(), p.qkv_bias);
  const Value k = b.linear(x, p.k, p.kv_width(), p.qkv_bias);
  const Value v = b.linear(x, p.v, p.kv_width(), p.qkv_bias);
  const Value q = b.columns(both, 0, d, 2 * d);
  const Value gate = b.columns(both, d, d, 2 * d);
  const Value a = attend(b, q, k, v, p);
  return b.linear(b.gated(gate, a, {Activation::sigmoid}), p.o, b.width({0}), p.o_bias);
}

enum class QwenNext { next, dense, mixture };

template <QwenNext Kind>
void describe_qwen_next(const ConfigReader& config, Description& to) {
  SizeKeys keys;
  if (Kind == QwenNext::mixture) keys.intermediate = nullptr;
  to.sizes = read_sizes(config, 256, keys);
  step::Norm norm = read_rms(config);
  DeltaPart delta{.how = {.key_heads = config.size("linear_num_key_heads"),
                          .value_heads = config.size("linear_num_value_heads"),
                          .key_dim = config.size("linear_key_head_dim"),
                          .value_dim = config.size("linear_value_head_dim")},
                  .taps = config.size("linear_conv_kernel_dim"),
                  .norm = {.epsilon = norm.epsilon, .size = config.size("linear_value_head_dim")},
                  .joined_inputs = Kind == QwenNext::next};
  if (delta.how.value_heads % delta.how.key_heads != 0)
    config.fail("\"linear_num_value_heads\" = ", delta.how.value_heads,
                " is not a multiple of \"linear_num_key_heads\" = ", delta.how.key_heads);
  norm.added = 1;
  AttentionPart a = usual_attention(to.sizes);
  a.qkv_bias = a.o_bias = config.get_or<bool>("attention_bias", false);
  normalize_heads(a, norm);
  a.rope = step::Rope{
      .table = to.rope(parse_rope(
          config, a.head_dim, to.notes,
          {.theta = 10000000, .partial = 0.25, .may_be_partial = true, .is_mixed = true})),
      .head_dim = a.head_dim};
  const MlpPart mlp{.width = to.sizes.intermediate,
                    .activation = read_activation(config, {"hidden_act"}, "silu")};
  MixturePart m;
  std::optional<SharedExpert> beside;
  std::vector<bool> sparse(static_cast<std::size_t>(to.sizes.layers), Kind != QwenNext::dense);
  if (Kind != QwenNext::dense) {
    m = {.experts = read_experts(config), .width = config.size("moe_intermediate_size")};
    m.route = {.chosen = config.size("num_experts_per_tok"),
               .normalized = config.get_or<bool>("norm_topk_prob", true)};
    m.gated.kind = mlp.activation;
    require_experts(config, m, to.sizes.layers);
    beside = read_gated_shared(config, m);
    sparse = read_sparse(config, to.sizes.layers);
  }
  const Index every = config.size_or("full_attention_interval", 4);
  std::vector<std::string> types;
  for (Index i = 0; i < to.sizes.layers; ++i)
    types.push_back((i + 1) % every == 0 ? "full_attention" : "linear_attention");
  types = config.get_or<std::vector<std::string>>("layer_types", types);
  if (static_cast<Index>(types.size()) != to.sizes.layers)
    config.fail("\"layer_types\" has ", types.size(), " entries for ", to.sizes.layers, " layers");
  add_ends(to, config.get_or<bool>("tie_word_embeddings", false), norm);
  to.fused = {usual_fusion().front()};
  if (Kind == QwenNext::dense) to.fused = usual_fusion();
  for (const char* key : {"mtp_num_hidden_layers", "mtp_use_dedicated_embeddings",
                          "attn_output_gate", "mamba_ssm_dtype", "mlp_only_layers"})
    config.has(key);  // the gate is always there, predictions further ahead are left out
  ignore_prediction_layers(config, to);
  require_usual_aliases(config, to, {{"rms_norm_eps", norm.epsilon}});
  for (Index i = 0; i < to.sizes.layers; ++i) {
    const std::string& type = types[std::size_t(i)];
    if (type != "linear_attention" && type != "full_attention")
      config.fail("the layer type \"", type, "\" is not supported");
    Block block = layer_block(to, i);
    if (sparse[std::size_t(i)]) add_usual_stacks(to, block.prefix(), m);
    to.layers.push_back(pre_norm_layer(
        std::move(block), to.sizes.hidden, norm,
        [&](Block& b, Value x) {
          return type == "linear_attention" ? delta_layer(b, x, delta) : gated_attention(b, x, a);
        },
        [&](Block& b, Value y) {
          return sparse[std::size_t(i)] ? mixture_and_shared(b, y, m, beside)
                                        : gated_mlp(b, y, mlp);
        }));
  }
}

}  // namespace gptq::model::architecture
