// SPDX-License-Identifier: MIT
#pragma once

// The parts that layers of most families consist of: attention, an MLP, and the order of norms and
// sums around them.

#include <gptq/model/architecture/architecture.hpp>
#include <gptq/model/architecture/common.hpp>
#include <gptq/model/architecture/rope_config.hpp>

#include <optional>
#include <string>
#include <vector>

namespace gptq::model::architecture {

/// Projections, norms of q and k, rotation and attention.
struct AttentionPart {
  Index heads = 0, kv_heads = 0, head_dim = 0;
  bool qkv_bias = false, o_bias = false;
  std::string q = "self_attn.q_proj", k = "self_attn.k_proj", v = "self_attn.v_proj",
              o = "self_attn.o_proj";
  std::optional<step::Norm> qk_norm{};  ///< its size: one head; 0: all heads
  std::string q_norm = "self_attn.q_norm", k_norm = "self_attn.k_norm";
  bool rope_first = false;  ///< rotation comes before the norms
  double clip = 0;          ///< q, k and v are limited to ±clip; 0: they are not
  std::optional<step::Rope> rope{};
  double sharpen_beta = 0, sharpen_length = 0;  ///< see step::Sharpen
  step::Attention how{};                        ///< window, scale, soft-cap, slopes

  Index q_width() const { return heads * head_dim; }
  Index kv_width() const { return kv_heads * head_dim; }
};

/// Norms of each head of q and k.
inline void normalize_heads(AttentionPart& p, step::Norm norm) {
  norm.size = p.head_dim;
  p.qk_norm = norm;
}

/// From projected q, k and v to the input of o.
inline Value attend(Block& b, Value q, Value k, Value v, const AttentionPart& p) {
  const auto normalize = [&] {
    if (!p.qk_norm) return;
    q = b.norm(q, p.q_norm, *p.qk_norm);
    k = b.norm(k, p.k_norm, *p.qk_norm);
  };
  const auto rotate = [&] {
    if (!p.rope) return;
    q = b.rope(q, *p.rope);
    k = b.rope(k, *p.rope);
  };
  if (!p.rope_first) normalize();
  if (p.clip > 0) {
    q = b.clamp(q, p.clip);
    k = b.clamp(k, p.clip);
    v = b.clamp(v, p.clip);
  }
  rotate();
  if (p.rope_first) normalize();
  if (p.sharpen_beta != 0) q = b.sharpen(q, p.sharpen_beta, p.sharpen_length);
  step::Attention how = p.how;
  how.heads = p.heads, how.kv_heads = p.kv_heads;
  how.head_dim = p.head_dim;
  if (how.value_dim == 0) how.value_dim = p.head_dim;
  return b.attention(q, k, v, how);
}

/// With q, k and v as modules of their own.
inline Value attention(Block& b, Value x, const AttentionPart& p) {
  const Value q = b.linear(x, p.q, p.q_width(), p.qkv_bias);
  const Value k = b.linear(x, p.k, p.kv_width(), p.qkv_bias);
  const Value v = b.linear(x, p.v, p.kv_width(), p.qkv_bias);
  const Value a = attend(b, q, k, v, p);
  return b.linear(a, p.o, b.width({0}), p.o_bias);
}

/// With one module for q, k and v, whose outputs are all of q, all of k, all of v.
inline Value fused_attention(Block& b, Value x, const AttentionPart& p, const std::string& qkv) {
  const Index q = p.q_width(), kv = p.kv_width();
  const Value all = b.linear(x, qkv, q + 2 * kv, p.qkv_bias);
  const Value queries = b.columns(all, 0, q);
  const Value keys = b.columns(all, q, kv);
  const Value values = b.columns(all, q + kv, kv);
  const Value a = attend(b, queries, keys, values, p);
  return b.linear(a, p.o, b.width({0}), p.o_bias);
}

/// With one module for q, k and v, whose outputs are grouped by heads of k: the group's heads of q,
/// then its k and v.
inline Value grouped_attention(Block& b, Value x, const AttentionPart& p, const std::string& qkv) {
  const Index d = p.head_dim, queries = p.heads / p.kv_heads * d, group = queries + 2 * d;
  const Value all = b.linear(x, qkv, p.kv_heads * group, p.qkv_bias);
  const Value q = b.columns(all, 0, queries, group);
  const Value k = b.columns(all, queries, d, group);
  const Value v = b.columns(all, queries + d, d, group);
  const Value a = attend(b, q, k, v, p);
  return b.linear(a, p.o, b.width({0}), p.o_bias);
}

/// An MLP, with a gate or without.
struct MlpPart {
  Index width = 0;
  Activation activation = Activation::silu;
  bool bias = false;
  std::string gate = "mlp.gate_proj", up = "mlp.up_proj", down = "mlp.down_proj";
};

/// A gated MLP without biases whose modules are called `name`.gate_proj, up_proj and down_proj.
inline MlpPart named_mlp(const std::string& name, Index width, Activation activation) {
  return {.width = width,
          .activation = activation,
          .gate = name + ".gate_proj",
          .up = name + ".up_proj",
          .down = name + ".down_proj"};
}

/// down(f(gate) · up)
inline Value gated_mlp(Block& b, Value y, const MlpPart& p) {
  const Value gate = b.linear(y, p.gate, p.width, p.bias);
  const Value up = b.linear(y, p.up, p.width, p.bias);
  const Value m = b.gated(gate, up, {p.activation});
  return b.linear(m, p.down, b.width({0}), p.bias);
}

/// With one module for gate and up, in this order.
inline Value fused_gated_mlp(Block& b, Value y, const MlpPart& p, const std::string& gate_up) {
  const Value all = b.linear(y, gate_up, 2 * p.width, p.bias);
  const Value gate = b.columns(all, 0, p.width);
  const Value up = b.columns(all, p.width, p.width);
  const Value m = b.gated(gate, up, {p.activation});
  return b.linear(m, p.down, b.width({0}), p.bias);
}

/// down(f(up))
inline Value plain_mlp(Block& b, Value y, const MlpPart& p) {
  const Value m = b.activate(b.linear(y, p.up, p.width, p.bias), p.activation);
  return b.linear(m, p.down, b.width({0}), p.bias);
}

/// Norms of a layer's inputs: r = h + attention(norm h); r + mlp(norm r).
/// \param attention_part, mlp_part  called with the block and an input
template <class A, class M>
Block pre_norm_layer(Block b, Index hidden, const step::Norm& norm, const A& attention_part,
                     const M& mlp_part, const std::string& first = "input_layernorm",
                     const std::string& second = "post_attention_layernorm") {
  const Value h = b.input(hidden);
  const Value x = b.norm(h, first, norm);
  const Value r = b.add(h, attention_part(b, x));
  const Value y = b.norm(r, second, norm);
  b.output(b.add(r, mlp_part(b, y)));
  return b;
}

/// Norms of a layer's outputs alone: r = h + norm attention(h); r + norm mlp(r).
template <class A, class M>
Block post_norm_layer(Block b, Index hidden, const step::Norm& norm, const A& attention_part,
                      const M& mlp_part) {
  const Value h = b.input(hidden);
  const Value a = b.norm(attention_part(b, h), "post_attention_layernorm", norm);
  const Value r = b.add(h, a);
  const Value m = b.norm(mlp_part(b, r), "post_feedforward_layernorm", norm);
  b.output(b.add(r, m));
  return b;
}

/// The names of the four norms around attention and MLP.
struct SandwichNames {
  std::string before_attention = "input_layernorm", after_attention = "post_attention_layernorm",
              before_mlp = "pre_feedforward_layernorm", after_mlp = "post_feedforward_layernorm";
};

/// Norms of inputs and of outputs.
template <class A, class M>
Block sandwich_layer(Block b, Index hidden, const step::Norm& norm, const A& attention_part,
                     const M& mlp_part, const SandwichNames& names = {}) {
  const Value h = b.input(hidden);
  const Value x = b.norm(h, names.before_attention, norm);
  const Value a = b.norm(attention_part(b, x), names.after_attention, norm);
  const Value r = b.add(h, a);
  const Value y = b.norm(r, names.before_mlp, norm);
  const Value m = b.norm(mlp_part(b, y), names.after_mlp, norm);
  b.output(b.add(r, m));
  return b;
}

/// Attention and MLP side by side, on one norm of the input: h + attention(x) + mlp(x).
template <class A, class M>
Block parallel_layer(Block b, Index hidden, const step::Norm& norm, const A& attention_part,
                     const M& mlp_part, const std::string& name = "input_layernorm") {
  const Value h = b.input(hidden);
  const Value x = b.norm(h, name, norm);
  const Value r = b.add(h, attention_part(b, x));
  b.output(b.add(r, mlp_part(b, x)));
  return b;
}

/// RMSNorm with the ε of a config.json.
inline step::Norm read_rms(const ConfigReader& config) {
  return {.epsilon = config.has("rms_norm_eps") ? config.positive("rms_norm_eps") : 1e-6};
}

/// LayerNorm with weights and biases.
inline step::Norm read_layer_norm(const ConfigReader& config, const char* key,
                                  double otherwise = 1e-5) {
  return {.kind = step::Norm::Kind::layer,
          .epsilon = config.has(key) ? config.positive(key) : otherwise,
          .biased = true};
}

/// Which layers see only a window, from layer_types or, if that is missing, from a pattern: the
/// last of every `pattern` layers sees everything.
inline std::vector<bool> read_sliding(const ConfigReader& config, Index layers, Index pattern) {
  std::vector<bool> slides;
  if (!config.has("layer_types")) {
    for (Index i = 0; i < layers; ++i) slides.push_back(pattern > 0 && (i + 1) % pattern != 0);
    return slides;
  }
  const auto types = config.get<std::vector<std::string>>("layer_types");
  if (static_cast<Index>(types.size()) != layers)
    config.fail("\"layer_types\" has ", types.size(), " entries for ", layers, " layers");
  for (const std::string& type : types) {
    if (type != "sliding_attention" && type != "full_attention" && type != "attention")
      config.fail("the layer type \"", type, "\" is not supported");
    slides.push_back(type == "sliding_attention");
  }
  return slides;
}

/// \throws FormatError  a layer slides and there is no window
inline Index read_window(const ConfigReader& config, const std::vector<bool>& slides) {
  const Index window = config.size_or("sliding_window", 0);
  for (std::size_t i = 0; i < slides.size(); ++i)
    if (slides[i] && window == 0)
      config.fail("layer ", i,
                  " is of type \"sliding_attention\", but there is no "
                  "\"sliding_window\"");
  return window;
}

/// Attention as a config.json of the usual kind describes it, without rotation.
inline AttentionPart usual_attention(const Sizes& s) {
  return {.heads = s.heads, .kv_heads = s.kv_heads, .head_dim = s.head_dim};
}

/// Embeddings, final norm and head under the names that most models use.
inline void add_ends(Description& to, bool tied, const step::Norm& norm,
                     const std::string& final_norm = "norm", const std::string& head = "lm_head") {
  const Sizes& s = to.sizes;
  to.entry = nothing(s.hidden);
  to.exit = Block(to.base);
  to.exit.output(to.exit.norm(to.exit.input(s.hidden), final_norm, norm));
  to.head.linear = {.name = head, .out = s.vocabulary, .in = s.hidden};
  to.head.tied = tied;
}

/// A layer's block, with names relative to the model's base: "layers." and its number.
inline Block layer_block(const Description& to, Index i) {
  return Block(to.layers_prefix + std::to_string(i) + ".");
}

/// q, k and v, and gate and up, which engines join.
inline std::vector<FusedModules> usual_fusion() {
  return {{"self_attn.qkv_proj",
           "q, k and v",
           {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"}},
          {"mlp.gate_up_proj", "gate and up", {"mlp.gate_proj", "mlp.up_proj"}}};
}

/// Checks the other names of what every decoder has.
inline void require_usual_aliases(const ConfigReader& config, const Description& to,
                                  nlohmann::json further = nlohmann::json::object()) {
  nlohmann::json used = used_values(to.sizes);
  used.update({{"tie_word_embeddings", to.head.tied}, {"not tie_word_embeddings", !to.head.tied}});
  if (!to.ropes.empty()) used["rope_theta"] = to.ropes[0].theta;
  used.update(further);
  require_agreeing_aliases(config, used);
}

}  // namespace gptq::model::architecture
