// SPDX-License-Identifier: MIT
#pragma once

// gpt-oss: attention sinks, experts with biases and a clamped gate, weights in MXFP4.

#include <gptq/model/architecture/mixture.hpp>

#include <string>

namespace gptq::model::architecture {

inline void describe_gpt_oss(const ConfigReader& config, Description& to) {
  UsualParts p = read_usual(config, to, false, {.theta = 150000});
  p.attention.qkv_bias = p.attention.o_bias = config.get_or<bool>("attention_bias", true);
  const Index hidden = to.sizes.hidden, width = to.sizes.intermediate,
              experts = read_experts(config);
  MixturePart m{.experts = experts, .width = width, .biased = true, .router = "mlp.router"};
  m.gated.limit = config.has("swiglu_limit") ? config.positive("swiglu_limit") : 7.0;
  if (config.has("swiglu_alpha")) m.gated.alpha = config.positive("swiglu_alpha");
  for (const char* key : {"num_experts_per_tok", "experts_per_token"})
    if (config.has(key)) m.route.chosen = config.size(key);
  m.route.normalized = true;
  require_experts(config, m, to.sizes.layers);
  const auto slides = read_sliding(config, to.sizes.layers, 0);
  const Index window = config.size_or("sliding_window", 128);
  const bool alternate = !config.has("layer_types");
  config.has("initial_context_length");

  add_ends(to, p.tied, p.norm);
  to.fused = {usual_fusion().front()};
  require_usual_aliases(config, to,
                        {{"rms_norm_eps", p.norm.epsilon},
                         {"biases of q, k and v", p.attention.qkv_bias},
                         {"bias of o", p.attention.o_bias}});
  for (Index i = 0; i < to.sizes.layers; ++i) {
    Block block = layer_block(to, i);
    const std::string before = block.prefix() + "mlp.experts.";
    // gate and up alternate in the rows of one tensor.
    to.stacks.push_back({before + "gate_up_proj",
                         before + "gate_up_proj_bias",
                         experts,
                         2 * width,
                         hidden,
                         true,
                         {{before, ".gate_proj", 0, 2, width}, {before, ".up_proj", 1, 2, width}}});
    to.stacks.push_back({before + "down_proj",
                         before + "down_proj_bias",
                         experts,
                         hidden,
                         width,
                         true,
                         {{before, ".down_proj", 0, 1, hidden}}});
    AttentionPart a = p.attention;
    if (alternate ? i % 2 == 0 : bool(slides[std::size_t(i)])) a.how.window = window;
    a.how.sinks = block.vector("self_attn.sinks", {a.heads});
    to.layers.push_back(pre_norm_layer(
        std::move(block), hidden, p.norm, [&](Block& b, Value x) { return attention(b, x, a); },
        [&](Block& b, Value y) { return mixture(b, y, m); }));
  }
}

}  // namespace gptq::model::architecture
