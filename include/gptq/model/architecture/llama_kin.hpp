// SPDX-License-Identifier: MIT
#pragma once

// Decoders that differ from Llama in one or two parts: Granite, SmolLM3, Seed-OSS, Ernie 4.5,
// Ministral, Arcee, Nemotron, StableLM, Starcoder2, HunYuan, Phi-3, GLM.

#include <gptq/model/architecture/parts.hpp>

#include <string>
#include <vector>

namespace gptq::model::architecture {

/// What a layer of most decoders depends on; `describe_` functions fill it and record the layers.
struct UsualParts {
  step::Norm norm;
  AttentionPart attention;
  MlpPart mlp;
  bool tied = false;
};

/// Sizes, RMSNorm, rotation of whole heads, silu, attention_bias for q, k, v and o, mlp_bias.
inline UsualParts read_usual(const ConfigReader& config, Description& to, bool tied_default,
                             const RopeRules& rules = {}) {
  to.sizes = read_sizes(config);
  UsualParts p{.norm = read_rms(config), .attention = usual_attention(to.sizes), .mlp = {}};
  p.attention.rope =
      step::Rope{.table = to.rope(parse_rope(config, to.sizes.head_dim, to.notes, rules)),
                 .head_dim = to.sizes.head_dim};
  p.attention.qkv_bias = p.attention.o_bias = config.get_or<bool>("attention_bias", false);
  p.mlp = {.width = to.sizes.intermediate,
           .activation = read_activation(config, {"hidden_act"}, "silu"),
           .bias = config.get_or<bool>("mlp_bias", false)};
  p.tied = config.get_or<bool>("tie_word_embeddings", tied_default);
  return p;
}

/// Ends, aliases and layers in the order of Llama.
template <class Attention, class Mlp>
void add_pre_norm(const ConfigReader& config, Description& to, const UsualParts& p,
                  const Attention& attention_of, const Mlp& mlp) {
  add_ends(to, p.tied, p.norm);
  to.fused = usual_fusion();
  require_usual_aliases(config, to,
                        {{"rms_norm_eps", p.norm.epsilon},
                         {"biases of q, k and v", p.attention.qkv_bias},
                         {"bias of o", p.attention.o_bias},
                         {"biases of the MLP", p.mlp.bias},
                         {"norms of q and k", p.attention.qk_norm.has_value()}});
  for (Index i = 0; i < to.sizes.layers; ++i) {
    const AttentionPart a = attention_of(i);
    to.layers.push_back(pre_norm_layer(
        layer_block(to, i), to.sizes.hidden, p.norm,
        [&](Block& b, Value x) { return attention(b, x, a); },
        [&](Block& b, Value y) { return mlp(b, y, p.mlp); }));
  }
}

/// Seed-OSS: biases of o by a key of their own.
inline void describe_seed_oss(const ConfigReader& config, Description& to) {
  UsualParts p = read_usual(config, to, false);
  p.attention.qkv_bias = config.get_or<bool>("attention_bias", true);
  p.attention.o_bias = config.get_or<bool>("attention_out_bias", false);
  add_pre_norm(
      config, to, p, [&](Index) { return p.attention; }, gated_mlp);
}

/// Ernie 4.5: interleaved rotation, one key for all biases.
inline void describe_ernie(const ConfigReader& config, Description& to) {
  UsualParts p = read_usual(config, to, true, {.theta = 500000});
  p.attention.rope->interleaved = true;
  p.attention.qkv_bias = p.attention.o_bias = p.mlp.bias = config.get_or<bool>("use_bias", false);
  add_pre_norm(
      config, to, p, [&](Index) { return p.attention; }, gated_mlp);
}

/// Arcee: an MLP without a gate.
inline void describe_arcee(const ConfigReader& config, Description& to) {
  UsualParts p = read_usual(config, to, false);
  p.mlp.activation = read_activation(config, {"hidden_act"}, "relu2");
  add_pre_norm(
      config, to, p, [&](Index) { return p.attention; }, plain_mlp);
}

/// Nemotron: LayerNorm with 1 + w, partial rotation, an MLP without a gate.
inline void describe_nemotron(const ConfigReader& config, Description& to) {
  UsualParts p = read_usual(config, to, false, {.partial = 0.5, .may_be_partial = true});
  p.norm = read_layer_norm(config, "norm_eps");
  p.norm.added = 1;
  p.mlp.activation = read_activation(config, {"hidden_act"}, "relu2");
  add_pre_norm(
      config, to, p, [&](Index) { return p.attention; }, plain_mlp);
}

/// HunYuan: norms of q and k behind the rotation.
inline UsualParts read_hunyuan(const ConfigReader& config, Description& to) {
  UsualParts p = read_usual(config, to, false);
  normalize_heads(p.attention, p.norm);
  p.attention.q_norm = "self_attn.query_layernorm", p.attention.k_norm = "self_attn.key_layernorm";
  p.attention.rope_first = true;
  return p;
}

inline void describe_hunyuan(const ConfigReader& config, Description& to) {
  const UsualParts p = read_hunyuan(config, to);
  add_pre_norm(
      config, to, p, [&](Index) { return p.attention; }, gated_mlp);
}

/// SmolLM3: some layers do not rotate. 1 in no_rope_layers means that the layer does.
inline void describe_smollm3(const ConfigReader& config, Description& to) {
  const UsualParts p = read_usual(config, to, true, {.theta = 2000000});
  const Index layers = to.sizes.layers, interval = config.size_or("no_rope_layer_interval", 4);
  std::vector<int> rotates;
  if (config.has("no_rope_layers")) rotates = config.get<std::vector<int>>("no_rope_layers");
  else
    for (Index i = 0; i < layers; ++i) rotates.push_back((i + 1) % interval != 0);
  if (static_cast<Index>(rotates.size()) != layers)
    config.fail("\"no_rope_layers\" has ", rotates.size(), " entries for ", layers, " layers");
  const bool windows = config.get_or<bool>("use_sliding_window", false);
  std::vector<bool> slides = read_sliding(config, layers, 0);
  if (!windows) slides.assign(slides.size(), false);
  const Index window = windows ? read_window(config, slides) : 0;
  config.has("sliding_window");
  add_pre_norm(
      config, to, p,
      [&](Index i) {
        AttentionPart a = p.attention;
        if (rotates[std::size_t(i)] == 0) a.rope.reset();
        if (slides[std::size_t(i)]) a.how.window = window;
        return a;
      },
      gated_mlp);
}

/// Ministral: windows by layer_types. Ministral 3 sharpens attention beyond its first context.
inline void describe_ministral(const ConfigReader& config, Description& to) {
  UsualParts p = read_usual(config, to, false, {.theta = 1000000});
  const std::vector<bool> slides = read_sliding(config, to.sizes.layers, 0);
  const Index window = config.has("sliding_window") ? read_window(config, slides) : 0;
  const Rope& rope = to.ropes[0];
  if (rope.sharpen_beta != 0) {
    p.attention.sharpen_beta = rope.sharpen_beta;
    p.attention.sharpen_length = rope.original_positions;
  }
  const bool all = !config.has("layer_types") && window > 0;
  add_pre_norm(
      config, to, p,
      [&](Index i) {
        AttentionPart a = p.attention;
        if (all || slides[std::size_t(i)]) a.how.window = window;
        return a;
      },
      gated_mlp);
}

/// Granite: scaled embeddings, attention, residuals and logits.
struct GraniteScales {
  double embedding, attention, residual, logits;
  explicit GraniteScales(const ConfigReader& config)
      : embedding(number(config, "embedding_multiplier")),
        attention(number(config, "attention_multiplier")),
        residual(number(config, "residual_multiplier")),
        logits(number(config, "logits_scaling")) {}

 private:
  static double number(const ConfigReader& config, const char* key) {
    return config.has(key) ? config.positive(key) : 1.0;
  }
};

/// The ends of a Granite.
inline void add_granite_ends(Description& to, const UsualParts& p, const GraniteScales& scales) {
  add_ends(to, p.tied, p.norm);
  to.entry = Block(to.base);
  to.entry.output(to.entry.scale(to.entry.input(to.sizes.hidden), scales.embedding));
  to.head.scale = 1 / scales.logits;
}

inline void describe_granite(const ConfigReader& config, Description& to) {
  UsualParts p = read_usual(config, to, false);
  const GraniteScales scales(config);
  p.attention.how.scale = scales.attention;
  p.attention.o_bias = p.attention.qkv_bias;
  add_granite_ends(to, p, scales);
  to.fused = usual_fusion();
  require_usual_aliases(config, to, {{"rms_norm_eps", p.norm.epsilon}});
  for (Index i = 0; i < to.sizes.layers; ++i)
    to.layers.push_back(pre_norm_layer(
        layer_block(to, i), to.sizes.hidden, p.norm,
        [&](Block& b, Value x) { return b.scale(attention(b, x, p.attention), scales.residual); },
        [&](Block& b, Value y) { return b.scale(gated_mlp(b, y, p.mlp), scales.residual); }));
}

/// StableLM: LayerNorm, partial rotation; some are parallel or have norms of q and k.
inline void describe_stablelm(const ConfigReader& config, Description& to) {
  UsualParts p = read_usual(config, to, false, {.partial = 0.25, .may_be_partial = true});
  p.norm = read_layer_norm(config, "layer_norm_eps");
  p.attention.qkv_bias = config.get_or<bool>("use_qkv_bias", false);
  p.attention.o_bias = false;
  if (config.get_or<bool>("qk_layernorm", false)) {
    p.attention.qk_norm = step::Norm{.kind = step::Norm::Kind::layer,
                                     .epsilon = p.norm.epsilon,
                                     .size = to.sizes.head_dim,
                                     .weights = step::Norm::Weights::in_tensors};
    p.attention.q_norm = "self_attn.q_layernorm.norms";
    p.attention.k_norm = "self_attn.k_layernorm.norms";
  }
  const bool parallel = config.get_or<bool>("use_parallel_residual", false);
  add_pre_norm(
      config, to, p, [&](Index) { return p.attention; }, gated_mlp);
  for (Index i = 0; parallel && i < to.sizes.layers; ++i)
    to.layers[std::size_t(i)] = parallel_layer(
        layer_block(to, i), to.sizes.hidden, p.norm,
        [&](Block& b, Value x) { return attention(b, x, p.attention); },
        [&](Block& b, Value x) { return gated_mlp(b, x, p.mlp); });
}

/// Starcoder2: LayerNorm, an MLP without a gate, windows everywhere.
inline void describe_starcoder2(const ConfigReader& config, Description& to) {
  UsualParts p = read_usual(config, to, true);
  p.norm = read_layer_norm(config, "norm_epsilon");
  p.attention.qkv_bias = p.attention.o_bias = p.mlp.bias = config.get_or<bool>("use_bias", true);
  p.attention.how.window = config.size_or("sliding_window", 0);
  p.mlp.activation = read_activation(config, {"hidden_act"}, "gelu_pytorch_tanh");
  p.mlp.up = "mlp.c_fc", p.mlp.down = "mlp.c_proj";
  add_pre_norm(
      config, to, p, [&](Index) { return p.attention; }, plain_mlp);
}

/// Phi-3: joined projections.
inline void describe_phi3(const ConfigReader& config, Description& to) {
  UsualParts p = read_usual(config, to, false, {.may_be_partial = true});
  require_usual_aliases(config, to, {{"rms_norm_eps", p.norm.epsilon}});
  p.attention.qkv_bias = p.attention.o_bias = false;
  p.attention.how.window = config.size_or("sliding_window", 0);
  add_ends(to, p.tied, p.norm);
  for (Index i = 0; i < to.sizes.layers; ++i)
    to.layers.push_back(pre_norm_layer(
        layer_block(to, i), to.sizes.hidden, p.norm,
        [&](Block& b, Value x) { return fused_attention(b, x, p.attention, "self_attn.qkv_proj"); },
        [&](Block& b, Value y) { return fused_gated_mlp(b, y, p.mlp, "mlp.gate_up_proj"); }));
}

/// GLM: interleaved rotation of half a head, gate and up joined; GLM-4 has norms of outputs, too.
template <bool Sandwich>
void describe_glm(const ConfigReader& config, Description& to) {
  UsualParts p = read_usual(config, to, false, {.partial = 0.5, .may_be_partial = true});
  p.attention.rope->interleaved = true;
  p.attention.o_bias = false;
  const auto attend_part = [&](Block& b, Value x) { return attention(b, x, p.attention); };
  const auto mlp_part = [&](Block& b, Value y) {
    return fused_gated_mlp(b, y, p.mlp, "mlp.gate_up_proj");
  };
  add_ends(to, p.tied, p.norm);
  to.fused = {usual_fusion().front()};
  require_usual_aliases(config, to, {{"rms_norm_eps", p.norm.epsilon}});
  for (Index i = 0; i < to.sizes.layers; ++i) {
    const SandwichNames names{.before_attention = "input_layernorm",
                              .after_attention = "post_self_attn_layernorm",
                              .before_mlp = "post_attention_layernorm",
                              .after_mlp = "post_mlp_layernorm"};
    to.layers.push_back(Sandwich ? sandwich_layer(layer_block(to, i), to.sizes.hidden, p.norm,
                                                  attend_part, mlp_part, names)
                                 : pre_norm_layer(layer_block(to, i), to.sizes.hidden, p.norm,
                                                  attend_part, mlp_part));
  }
}

}  // namespace gptq::model::architecture
