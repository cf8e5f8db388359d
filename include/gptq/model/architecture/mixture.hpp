// SPDX-License-Identifier: MIT
#pragma once

// Mixtures of experts: Mixtral, Qwen2-MoE, Qwen3-MoE, OLMoE, GraniteMoE, GLM-4.5, Ernie 4.5 MoE,
// MiniMax-M2, HunYuan MoE.

#include <gptq/model/architecture/llama_kin.hpp>
#include <gptq/model/architecture/olmo.hpp>

#include <optional>
#include <string>
#include <vector>

namespace gptq::model::architecture {

/// A router and experts with gated MLPs.
struct MixturePart {
  Index experts = 0, width = 0;
  step::Route route{};
  step::Gated gated{Activation::silu};
  bool biased = false;  ///< the router and the experts' modules have biases
  std::string router = "mlp.gate", experts_prefix = "mlp.experts.";
  std::string bias{};  ///< the tensor of the router's bias for the choice, or empty
  std::vector<Index> bias_shape{};
  std::string gate = "gate_proj", up = "up_proj", down = "down_proj";
};

/// An MLP that sees every token.
struct SharedExpert {
  MlpPart mlp;
  std::string router{};  ///< its result is multiplied by σ of this module's; empty: it is not
};

/// \throws FormatError  impossible numbers
inline void require_experts(const ConfigReader& config, const MixturePart& p, Index layers) {
  if (p.experts < 1 || p.experts > 4096)
    config.fail(p.experts, " experts per layer are not possible (1 to 4096 are)");
  if (layers * p.experts > 100'000)
    config.fail(layers, " layers of ", p.experts, " experts are too many");
  if (p.route.chosen < 1 || p.route.chosen > p.experts)
    config.fail("\"num_experts_per_tok\" = ", p.route.chosen, " of ", p.experts, " experts");
  if (p.route.groups < 1 || p.experts % p.route.groups != 0 || p.route.chosen_groups < 1 ||
      p.route.chosen_groups > p.route.groups)
    config.fail("\"n_group\" = ", p.route.groups, " and \"topk_group\" = ", p.route.chosen_groups,
                " of ", p.experts, " experts");
  if (p.route.chosen > p.experts / p.route.groups * p.route.chosen_groups)
    config.fail("\"num_experts_per_tok\" = ", p.route.chosen,
                ", but the groups have fewer experts");
}

/// Σ weight · expert(y) over the experts that the router chose.
inline Value mixture(Block& b, Value y, const MixturePart& p) {
  step::Route route = p.route;
  if (!p.bias.empty())
    route.bias =
        b.vector(p.bias, p.bias_shape.empty() ? std::vector<Index>{p.experts} : p.bias_shape);
  const Value logits = b.unquantized_linear(y, p.router, p.experts, p.biased);
  const Value routes = b.route(logits, route);
  return b.experts(y, routes, p.experts, p.experts_prefix, [&](Block& e, Value rows) {
    const Value gate = e.linear(rows, p.gate, p.width, p.biased);
    const Value up = e.linear(rows, p.up, p.width, p.biased);
    return e.linear(e.gated(gate, up, p.gated), p.down, b.width({0}), p.biased);
  });
}

/// The shared expert's share of the result.
inline Value shared(Block& b, Value y, const SharedExpert& p) {
  const Value m = gated_mlp(b, y, p.mlp);
  if (p.router.empty()) return m;
  const Value gate = b.unquantized_linear(y, p.router, 1);
  return b.gated(gate, m, {Activation::sigmoid});
}

/// Experts and the shared one.
inline Value mixture_and_shared(Block& b, Value y, const MixturePart& p,
                                const std::optional<SharedExpert>& beside) {
  const Value routed = mixture(b, y, p);
  return beside ? b.add(routed, shared(b, y, *beside)) : routed;
}

/// Tensors that hold gate and up, and down, of all experts of a layer.
/// \param before  prefix of the experts' modules
inline void add_stacks(Description& to, const std::string& gate_up, const std::string& down,
                       const std::string& before, const MixturePart& p) {
  const Index hidden = to.sizes.hidden, width = p.width;
  const ExpertStack::Part gate{before, "." + p.gate, 0, 1, width},
      up{before, "." + p.up, width, 1, width}, whole{before, "." + p.down, 0, 1, hidden};
  to.stacks.push_back({gate_up, "", p.experts, 2 * width, hidden, false, {gate, up}});
  to.stacks.push_back({down, "", p.experts, hidden, width, false, {whole}});
}

/// What transformers 5 may write instead of modules per expert.
inline void add_usual_stacks(Description& to, const std::string& layer, const MixturePart& p) {
  const std::string before = layer + p.experts_prefix;
  add_stacks(to, before + "gate_up_proj", before + "down_proj", before, p);
}

/// Layers in the order of Llama, whose MLP is a mixture where `is_sparse` says so.
template <class IsSparse>
void add_mixture_layers(const ConfigReader& config, Description& to, const UsualParts& p,
                        const MixturePart& experts, const std::optional<SharedExpert>& beside,
                        const IsSparse& is_sparse) {
  require_experts(config, experts, to.sizes.layers);
  add_ends(to, p.tied, p.norm);
  to.fused = {usual_fusion().front()};
  require_usual_aliases(config, to,
                        {{"rms_norm_eps", p.norm.epsilon},
                         {"biases of q, k and v", p.attention.qkv_bias},
                         {"bias of o", p.attention.o_bias},
                         {"norms of q and k", p.attention.qk_norm.has_value()}});
  for (Index i = 0; i < to.sizes.layers; ++i) {
    Block block = layer_block(to, i);
    const bool sparse = is_sparse(i);
    if (sparse) add_usual_stacks(to, block.prefix(), experts);
    to.layers.push_back(pre_norm_layer(
        std::move(block), to.sizes.hidden, p.norm,
        [&](Block& b, Value x) { return attention(b, x, p.attention); },
        [&](Block& b, Value y) {
          return sparse ? mixture_and_shared(b, y, experts, beside) : gated_mlp(b, y, p.mlp);
        }));
  }
}

/// How many experts there are, under any of its names.
inline Index read_experts(const ConfigReader& config) {
  Index experts = 0;
  for (const char* key : {"num_experts", "num_local_experts", "n_routed_experts"})
    if (config.has(key)) experts = config.size(key);
  if (experts == 0) config.fail("has no \"num_experts\"");
  return experts;
}

inline void describe_mixtral(const ConfigReader& config, Description& to) {
  UsualParts p = read_usual(config, to, false, {.theta = 1000000});
  p.attention.how.window = config.size_or("sliding_window", 0);
  MixturePart m{.experts = read_experts(config), .width = to.sizes.intermediate};
  m.route = {.chosen = config.size_or("num_experts_per_tok", 2), .normalized = true};
  m.router = "block_sparse_moe.gate", m.experts_prefix = "block_sparse_moe.experts.";
  m.gate = "w1", m.up = "w3", m.down = "w2";
  add_mixture_layers(config, to, p, m, std::nullopt, [](Index) { return true; });
}

/// Which layers are sparse: every decoder_sparse_step-th one that is not in mlp_only_layers.
inline std::vector<bool> read_sparse(const ConfigReader& config, Index layers) {
  const Index every = config.size_or("decoder_sparse_step", 1);
  std::vector<bool> sparse;
  for (Index i = 0; i < layers; ++i) sparse.push_back((i + 1) % every == 0);
  for (const Index i : config.get_or<std::vector<Index>>("mlp_only_layers", {}))
    if (i >= 0 && i < layers) sparse[std::size_t(i)] = false;
  return sparse;
}

/// Windows as in Qwen2 and Qwen3: none unless use_sliding_window is set.
inline void refuse_windows(const ConfigReader& config) {
  if (config.get_or<bool>("use_sliding_window", false) && config.has("sliding_window"))
    config.fail("\"use_sliding_window\" = true is not supported for mixtures of experts");
  config.has("sliding_window");
  for (const std::string& type : config.get_or<std::vector<std::string>>("layer_types", {}))
    if (type != "full_attention") config.fail("the layer type \"", type, "\" is not supported");
}

/// The shared expert of Qwen, whose result a gate scales.
inline SharedExpert read_gated_shared(const ConfigReader& config, const MixturePart& m) {
  const Index width = config.size("shared_expert_intermediate_size");
  return {named_mlp("mlp.shared_expert", width, m.gated.kind), "mlp.shared_expert_gate"};
}

/// Qwen2-MoE has biases of q, k and v and a shared expert with a gate; Qwen3-MoE norms of q and k.
template <bool Third>
void describe_qwen_moe(const ConfigReader& config, Description& to) {
  UsualParts p = read_usual(config, to, false);
  if (Third) {
    normalize_heads(p.attention, p.norm);
  } else {
    p.attention.qkv_bias = config.get_or<bool>("qkv_bias", true);
    p.attention.o_bias = false;
  }
  refuse_windows(config);
  MixturePart m{.experts = read_experts(config), .width = config.size("moe_intermediate_size")};
  m.route = {.chosen = config.size("num_experts_per_tok"),
             .normalized = config.get_or<bool>("norm_topk_prob", false)};
  m.gated.kind = p.mlp.activation;
  std::optional<SharedExpert> beside;
  if (!Third) beside = read_gated_shared(config, m);
  const auto sparse = read_sparse(config, to.sizes.layers);
  add_mixture_layers(config, to, p, m, beside, [&](Index i) { return sparse[std::size_t(i)]; });
}

/// Norms of q and k over all heads.
inline void describe_olmoe(const ConfigReader& config, Description& to) {
  UsualParts p = read_usual(config, to, false);
  p.attention.qk_norm = p.norm;
  p.attention.clip = read_clip(config);
  MixturePart m{.experts = read_experts(config), .width = to.sizes.intermediate};
  m.route = {.chosen = config.size("num_experts_per_tok"),
             .normalized = config.get_or<bool>("norm_topk_prob", false)};
  m.gated.kind = p.mlp.activation;
  add_mixture_layers(config, to, p, m, std::nullopt, [](Index) { return true; });
}

/// A choice by σ(z) + bias, weights σ(z).
inline step::Route sigmoid_route(const ConfigReader& config, bool normalized, double least_sum) {
  step::Route route{.score = step::Route::Score::sigmoid,
                    .chosen = config.size("num_experts_per_tok"),
                    .normalized = normalized,
                    .least_sum = least_sum};
  if (config.has("routed_scaling_factor")) route.scale = config.positive("routed_scaling_factor");
  route.groups = config.size_or("n_group", 1);
  route.chosen_groups = config.size_or("topk_group", 1);
  route.group_score = step::Route::GroupScore::two_best;
  return route;
}

/// The shared experts of DeepSeek and GLM: one MLP, as wide as all of them together.
inline std::optional<SharedExpert> read_shared(const ConfigReader& config, const MixturePart& m,
                                               const char* key = "n_shared_experts") {
  const Index count = config.has(key) ? config.size(key, 0) : 0;
  if (count == 0) return std::nullopt;
  return SharedExpert{named_mlp("mlp.shared_experts", count * m.width, m.gated.kind)};
}

/// Layers behind the decoder's, which predict tokens further ahead.
inline void ignore_prediction_layers(const ConfigReader& config, Description& to) {
  const Index extra =
      config.has("num_nextn_predict_layers") ? config.size("num_nextn_predict_layers", 0) : 0;
  for (Index i = 0; i < extra; ++i)
    to.ignored.push_back(to.layers_prefix + std::to_string(to.sizes.layers + i) + ".");
}

/// GLM-4.5
inline void describe_glm4_moe(const ConfigReader& config, Description& to) {
  UsualParts p = read_usual(config, to, false, {.partial = 0.5, .may_be_partial = true});
  p.attention.o_bias = false;
  if (config.get_or<bool>("use_qk_norm", false)) {
    normalize_heads(p.attention, p.norm);
  }
  MixturePart m{.experts = read_experts(config), .width = config.size("moe_intermediate_size")};
  m.route = sigmoid_route(config, config.get_or<bool>("norm_topk_prob", true), 1e-20);
  m.gated.kind = p.mlp.activation;
  m.bias = "mlp.gate.e_score_correction_bias";
  const Index dense =
      config.has("first_k_dense_replace") ? config.size("first_k_dense_replace", 0) : 1;
  ignore_prediction_layers(config, to);
  add_mixture_layers(config, to, p, m, read_shared(config, m), [&](Index i) { return i >= dense; });
}

/// A choice by softmax + bias, weights softmax.
inline void describe_ernie_moe(const ConfigReader& config, Description& to) {
  UsualParts p = read_usual(config, to, true, {.theta = 500000});
  p.attention.rope->interleaved = true;
  p.attention.qkv_bias = p.attention.o_bias = p.mlp.bias = config.get_or<bool>("use_bias", false);
  MixturePart m{.experts = config.size("moe_num_experts"),
                .width = config.size("moe_intermediate_size")};
  m.route = {.chosen = config.size("moe_k"), .normalized = true};
  config.has("moe_norm_min");
  m.gated.kind = p.mlp.activation;
  m.bias = "mlp.moe_statics.e_score_correction_bias";
  m.bias_shape = {1, m.experts};
  const Index every = config.size_or("moe_layer_interval", 1),
              first =
                  config.has("moe_layer_start_index") ? config.size("moe_layer_start_index", 0) : 1;
  const Index stated = config.has("moe_layer_end_index")
                           ? static_cast<Index>(config.get<double>("moe_layer_end_index"))
                           : -1;
  const Index last = stated < 0 ? to.sizes.layers - 1 : stated;
  add_mixture_layers(config, to, p, m, read_shared(config, m, "moe_num_shared_experts"),
                     [&](Index i) { return (i + 1) % every == 0 && i >= first && i <= last; });
}

inline void describe_minimax(const ConfigReader& config, Description& to) {
  RopeRules rules{.theta = 5000000, .may_be_partial = true};
  if (config.has("rotary_dim") && config.has("head_dim"))
    rules.partial = config.positive("rotary_dim") / config.positive("head_dim");
  UsualParts p = read_usual(config, to, false, rules);
  p.attention.qkv_bias = p.attention.o_bias = false;
  if (config.get_or<bool>("use_qk_norm", true)) p.attention.qk_norm = p.norm;
  if (config.get_or<std::string>("qk_norm_type", "per_layer") != "per_layer")
    config.fail("\"qk_norm_type\" is not \"per_layer\"");
  MixturePart m{.experts = read_experts(config), .width = to.sizes.intermediate};
  m.route = sigmoid_route(config, true, 0);
  m.router = "block_sparse_moe.gate", m.experts_prefix = "block_sparse_moe.experts.";
  m.bias = "block_sparse_moe.e_score_correction_bias";
  m.gate = "w1", m.up = "w3", m.down = "w2";
  add_mixture_layers(config, to, p, m, std::nullopt, [](Index) { return true; });
}

/// HunYuan: norms of q and k behind the rotation, a shared MLP.
inline void describe_hunyuan_moe(const ConfigReader& config, Description& to) {
  const UsualParts p = read_hunyuan(config, to);
  for (const char* key : {"moe_topk", "num_experts"})
    if (config.has(key) && config.json()[key].is_array())
      config.fail("\"", key, "\" with different values per layer is not supported");
  MixturePart m{.experts = read_experts(config), .width = to.sizes.intermediate};
  m.route = {.chosen = config.size("moe_topk"), .normalized = true};
  m.gated.kind = p.mlp.activation;
  m.router = "mlp.gate.wg";
  const SharedExpert beside{named_mlp("mlp.shared_mlp", to.sizes.intermediate, m.gated.kind)};
  add_mixture_layers(config, to, p, m, beside, [](Index) { return true; });
}

/// GraniteMoE, GraniteMoE-Shared and the attention-only GraniteMoE-Hybrid: experts stacked, a
/// shared MLP whose gate and up are joined.
inline void describe_granite_moe(const ConfigReader& config, Description& to) {
  UsualParts p = read_usual(config, to, true);
  const GraniteScales scales(config);
  p.attention.how.scale = scales.attention;
  p.attention.o_bias = p.attention.qkv_bias;
  const bool hybrid = to.architecture.find("Hybrid") != std::string::npos;
  if (hybrid) {
    if (config.get_or<std::string>("position_embedding_type", "") != "rope")
      p.attention.rope.reset();
    for (const std::string& type : config.get_or<std::vector<std::string>>("layer_types", {}))
      if (type != "attention" && type != "full_attention")
        config.fail("has layers of the type \"", type,
                    "\", a state-space layer, which is not supported");
    for (const char* key : {"mamba_chunk_size", "mamba_conv_bias", "mamba_d_conv", "mamba_d_head",
                            "mamba_d_state", "mamba_expand", "mamba_n_groups", "mamba_n_heads",
                            "mamba_proj_bias", "time_step_limit", "time_step_min", "time_step_max"})
      config.has(key);  // no layer uses them
  }
  MixturePart m{.width = to.sizes.intermediate};
  if (config.has("num_local_experts")) m.experts = config.size("num_local_experts", 0);
  m.gated.kind = p.mlp.activation;
  m.route = {
      .chosen = config.has("num_experts_per_tok") ? config.size("num_experts_per_tok", 0) : 0,
      .normalized = true};
  m.router = "block_sparse_moe.router.layer", m.experts_prefix = "block_sparse_moe.experts.";
  if (m.experts > 0) require_experts(config, m, to.sizes.layers);
  MlpPart mlp{.activation = p.mlp.activation};
  if (config.has("shared_intermediate_size"))
    mlp.width = config.size("shared_intermediate_size", 0);
  mlp.down = "shared_mlp.output_linear";
  if (m.experts == 0 && mlp.width == 0) config.fail("has neither experts nor a shared MLP");
  add_granite_ends(to, p, scales);
  to.fused = {usual_fusion().front()};
  require_usual_aliases(config, to, {{"rms_norm_eps", p.norm.epsilon}});
  for (Index i = 0; i < to.sizes.layers; ++i) {
    Block block = layer_block(to, i);
    const std::string moe = block.prefix() + "block_sparse_moe.", before = moe + "experts.";
    if (m.experts > 0)
      add_stacks(to, moe + "input_linear.weight", moe + "output_linear.weight", before, m);
    to.layers.push_back(pre_norm_layer(
        std::move(block), to.sizes.hidden, p.norm,
        [&](Block& b, Value x) { return b.scale(attention(b, x, p.attention), scales.residual); },
        [&](Block& b, Value y) {
          std::vector<Value> parts;
          if (m.experts > 0) parts.push_back(mixture(b, y, m));
          if (mlp.width > 0) parts.push_back(fused_gated_mlp(b, y, mlp, "shared_mlp.input_linear"));
          const Value sum = parts.size() == 2 ? b.add(parts[0], parts[1]) : parts[0];
          return b.scale(sum, scales.residual);
        }));
  }
}

}  // namespace gptq::model::architecture
