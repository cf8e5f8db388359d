// SPDX-License-Identifier: MIT
#pragma once

// Makes a GGUF file of a model folder, by the rules of llama.cpp's converter.

#include <gptq/model/model_files.hpp>

#include "gguf_builder.hpp"

#include <algorithm>  // std::copy
#include <cmath>      // std::exp
#include <map>
#include <set>
#include <string>
#include <utility>  // std::move
#include <vector>

namespace test {

/// What the converter does for one architecture.
struct GgufRules {
  std::string arch;
  /// Names in a layer, Hugging Face to GGUF, where not as in `usual_gguf_names`.
  std::map<std::string, std::string> names{};
  bool interleaves = false;     ///< the rows of q and k
  bool plus_one = false;        ///< to the weights of norms
  bool transposes = false;      ///< matrices in layers
  bool regroups = false;        ///< rows of query_key_value
  bool deals = false;           ///< value heads of a delta rule: the first of each key head, ...
  bool single_experts = false;  ///< a tensor for each, as in old files
  bool joins_gate_up = false;   ///< of experts
};

inline const std::map<std::string, std::string>& usual_gguf_names() {
  static const std::map<std::string, std::string> names{
      {"input_layernorm", "attn_norm"},
      {"ln_1", "attn_norm"},
      {"norm_1", "attn_norm"},
      {"ln_mlp", "attn_norm"},
      {"ln_attn", "attn_norm_2"},
      {"post_attention_layernorm", "ffn_norm"},
      {"pre_feedforward_layernorm", "ffn_norm"},
      {"ln_2", "ffn_norm"},
      {"norm_2", "ffn_norm"},
      {"post_feedforward_layernorm", "post_ffw_norm"},
      {"post_mlp_layernorm", "post_ffw_norm"},
      {"post_self_attn_layernorm", "post_attention_norm"},
      {"self_attn.q_proj", "attn_q"},
      {"self_attn.k_proj", "attn_k"},
      {"self_attn.v_proj", "attn_v"},
      {"self_attn.qkv_proj", "attn_qkv"},
      {"attention.query_key_value", "attn_qkv"},
      {"self_attention.query_key_value", "attn_qkv"},
      {"attn.c_attn", "attn_qkv"},
      {"attn.Wqkv", "attn_qkv"},
      {"self_attn.o_proj", "attn_output"},
      {"self_attn.dense", "attn_output"},
      {"attention.dense", "attn_output"},
      {"self_attention.dense", "attn_output"},
      {"attn.c_proj", "attn_output"},
      {"attn.out_proj", "attn_output"},
      {"self_attn.q_norm", "attn_q_norm"},
      {"self_attn.k_norm", "attn_k_norm"},
      {"self_attn.query_layernorm", "attn_q_norm"},
      {"self_attn.key_layernorm", "attn_k_norm"},
      {"self_attn.q_layernorm.norms", "attn_q_norm"},
      {"self_attn.k_layernorm.norms", "attn_k_norm"},
      {"self_attn.q_a_proj", "attn_q_a"},
      {"self_attn.q_a_layernorm", "attn_q_a_norm"},
      {"self_attn.q_b_proj", "attn_q_b"},
      {"self_attn.kv_a_proj_with_mqa", "attn_kv_a_mqa"},
      {"self_attn.kv_a_layernorm", "attn_kv_a_norm"},
      {"mlp.gate_proj", "ffn_gate"},
      {"mlp.up_proj", "ffn_up"},
      {"mlp.gate_up_proj", "ffn_up"},
      {"mlp.fc1", "ffn_up"},
      {"mlp.c_fc", "ffn_up"},
      {"mlp.dense_h_to_4h", "ffn_up"},
      {"ffn.up_proj", "ffn_up"},
      {"mlp.down_proj", "ffn_down"},
      {"mlp.fc2", "ffn_down"},
      {"mlp.c_proj", "ffn_down"},
      {"mlp.dense_4h_to_h", "ffn_down"},
      {"ffn.down_proj", "ffn_down"},
      {"mlp.gate", "ffn_gate_inp"},
      {"mlp.gate.wg", "ffn_gate_inp"},
      {"mlp.router", "ffn_gate_inp"},
      {"block_sparse_moe.gate", "ffn_gate_inp"},
      {"block_sparse_moe.router.layer", "ffn_gate_inp"},
      {"experts.gate_proj", "ffn_gate_exps"},
      {"experts.w1", "ffn_gate_exps"},
      {"experts.up_proj", "ffn_up_exps"},
      {"experts.w3", "ffn_up_exps"},
      {"experts.down_proj", "ffn_down_exps"},
      {"experts.w2", "ffn_down_exps"},
      {"mlp.shared_expert_gate", "ffn_gate_inp_shexp"},
      {"shared_mlp.output_linear", "ffn_down_shexp"}};
  return names;
}

/// Adds the tensors of a folder to a GGUF file.
class GgufConverter {
 public:
  GgufConverter(const gptq::model::ModelFiles& model, GgufRules rules, GgufBuilder& to)
      : model_(model), sizes_(model.description.sizes), rules_(std::move(rules)), to_(to) {
    for (const std::string& name : model.tensors->names()) convert(name);
    if (rules_.joins_gate_up) join_gates();
    for (auto& [name, stack] : stacks_) {
      stack.shape.insert(stack.shape.begin(), static_cast<std::int64_t>(stack.members.size()));
      std::vector<float> all;
      for (auto& [number, numbers] : stack.members)
        all.insert(all.end(), numbers.begin(), numbers.end());
      to_.tensor(name, stack.shape, all);
    }
  }

 private:
  using Index = gptq::Index;
  using Numbers = std::vector<float>;
  struct Stack {
    std::vector<std::int64_t> shape;
    std::map<int, Numbers> members;
  };

  static bool ends_with(const std::string& text, const std::string& end) {
    return text.ends_with(end);
  }

  /// Puts the rows of each expert's up behind those of its gate.
  void join_gates() {
    std::map<std::string, Stack> joined;
    for (auto& [name, stack] : stacks_) {
      if (const auto at = name.find("ffn_gate_exps"); at != std::string::npos) {
        const Stack& up = stacks_.at(name.substr(0, at) + "ffn_up_exps.weight");
        for (auto& [number, numbers] : stack.members)
          numbers.insert(numbers.end(), up.members.at(number).begin(), up.members.at(number).end());
        stack.shape[0] *= 2;
        joined[name.substr(0, at) + "ffn_gate_up_exps.weight"] = stack;
      } else if (name.find("ffn_up_exps") == std::string::npos) {
        joined[name] = stack;
      }
    }
    stacks_ = joined;
  }

  void convert(const std::string& name) {
    const gptq::io::Shape hf_shape = model_.tensors->shape(name);
    std::vector<std::int64_t> shape(hf_shape.begin(), hf_shape.end());
    Numbers x(static_cast<std::size_t>(gptq::io::element_count(hf_shape)));
    model_.tensors->read(name, x);
    const auto& d = model_.description;
    if (!name.starts_with(d.layers_prefix)) return outside(name, shape, std::move(x));
    const std::string rest = name.substr(d.layers_prefix.size());
    const std::string layer = "blk." + rest.substr(0, rest.find('.')) + ".";
    std::string module = rest.substr(rest.find('.') + 1);
    std::string ending;
    if (const auto dot = module.rfind('.');
        ends_with(module, ".weight") || ends_with(module, ".bias"))
      ending = module.substr(dot), module = module.substr(0, dot);

    if (module == "self_attn.kv_b_proj") return latent(layer, shape, x);
    if (module.starts_with("linear_attn.")) return delta(layer, module.substr(12), shape, x);
    if (module == "shared_mlp.input_linear") return halves(layer, shape, x);
    if (ends_with(module, "e_score_correction_bias"))
      return void(to_.tensor(layer + "exp_probs_b.bias", {std::int64_t(x.size())}, x));
    if (module == "self_attn.sinks") return void(to_.tensor(layer + "attn_sinks.weight", shape, x));
    if (module == "mlp.shared_expert_gate") shape = {shape[1]};
    if (rules_.interleaves && module == "self_attn.q_proj") interleave(x, sizes_.heads);
    if (rules_.interleaves && module == "self_attn.k_proj") interleave(x, sizes_.kv_heads);
    if (rules_.regroups && ends_with(module, "query_key_value")) regroup(x);
    if (rules_.transposes && shape.size() == 2) transpose(x, shape);
    if (rules_.plus_one && ending == ".weight" && module.find("norm") != std::string::npos)
      add_one(x);

    // ".experts.3." or ".norms.3"
    for (const std::string list : {"experts.", "norms."}) {
      const auto at = module.find("." + list);
      if (at == std::string::npos) continue;
      const std::string tail = module.substr(at + 1 + list.size());
      const std::string of = list == "norms." ? module.substr(0, at) + ".norms"
                                              : "experts" + tail.substr(tail.find('.'));
      if (rules_.single_experts) {
        std::string single = name_of(of);
        single = single.substr(0, single.find("_exps")) + "." + std::to_string(std::stoi(tail));
        return void(to_.tensor(layer + single + ending, shape, x));
      }
      Stack& stack = stacks_[layer + name_of(of) + ending];
      stack.shape = shape;
      stack.members[std::stoi(tail)] = x;
      return;
    }
    for (const std::string shared :
         {"mlp.shared_expert.", "mlp.shared_experts.", "mlp.shared_mlp."})
      if (module.starts_with(shared))
        return void(to_.tensor(
            layer + name_of("mlp." + module.substr(shared.size())) + "_shexp" + ending, shape, x));
    to_.tensor(layer + name_of(module) + ending, shape, x);
  }

  std::string name_of(const std::string& module) const {
    for (const auto* names : {&rules_.names, &usual_gguf_names()})
      if (const auto found = names->find(module); found != names->end()) return found->second;
    throw std::runtime_error("no GGUF name for " + module);
  }

  void outside(const std::string& name, const std::vector<std::int64_t>& shape, Numbers x) {
    const auto& d = model_.description;
    const std::string ending = name.substr(name.rfind('.'));
    std::string module = name.substr(0, name.rfind('.'));
    if (name == d.embeddings) return void(to_.tensor("token_embd.weight", shape, x));
    if (module == d.head.linear.name) return void(to_.tensor("output" + ending, shape, x));
    module = module.substr(d.base.size());
    if (module == "wpe") return void(to_.tensor("position_embd.weight", shape, x));
    if (module == "word_embeddings_layernorm")
      return void(to_.tensor("token_embd_norm" + ending, shape, x));
    if (rules_.plus_one && ending == ".weight") add_one(x);
    to_.tensor("output_norm" + ending, shape, x);
  }

  static void add_one(Numbers& x) {
    for (float& number : x) number += 1;
  }

  void interleave(Numbers& x, Index heads) const {
    const Index half = sizes_.head_dim / 2, width = Index(x.size()) / (heads * 2 * half);
    const Numbers from = x;
    for (Index h = 0; h < heads; ++h)
      for (Index i = 0; i < half; ++i)
        for (Index t = 0; t < 2; ++t)
          for (Index k = 0; k < width; ++k)
            x[std::size_t(((h * half + i) * 2 + t) * width + k)] =
                from[std::size_t(((h * 2 + t) * half + i) * width + k)];
  }

  /// Groups of heads of q with their k and v: all of q, all of k, all of v.
  void regroup(Numbers& x) const {
    const Index kv = sizes_.kv_heads, queries = sizes_.heads / kv, group = queries + 2;
    const Index head = Index(x.size()) / (kv * group);
    Numbers q, k, v;
    for (Index g = 0; g < kv; ++g)
      for (Index i = 0; i < group; ++i) {
        Numbers& to = i < queries ? q : i == queries ? k : v;
        const auto first = x.begin() + (g * group + i) * head;
        to.insert(to.end(), first, first + head);
      }
    x = q;
    x.insert(x.end(), k.begin(), k.end());
    x.insert(x.end(), v.begin(), v.end());
  }

  static void transpose(Numbers& x, std::vector<std::int64_t>& shape) {
    const Numbers from = x;
    const auto rows = shape[0], cols = shape[1];
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t c = 0; c < cols; ++c)
        x[std::size_t(c * rows + r)] = from[std::size_t(r * cols + c)];
    shape = {cols, rows};
  }

  /// A gated delta rule.
  void delta(const std::string& layer, const std::string& module, std::vector<std::int64_t> shape,
             Numbers& x) {
    const auto& c = model_.config_json.contains("text_config") ? model_.config_json["text_config"]
                                                               : model_.config_json;
    const auto size = [&](const char* key) { return c[key].get<std::int64_t>(); };
    const auto keys = size("linear_num_key_heads"), values = size("linear_num_value_heads"),
               dk = size("linear_key_head_dim"), dv = size("linear_value_head_dim"),
               shared = values / keys;
    // Row `to` of a value head's dim, in the file's order, from row `from`.
    const auto deal = [&](Numbers& all, std::int64_t first, std::int64_t dim, std::int64_t width) {
      if (!rules_.deals) return;
      const Numbers from = all;
      for (std::int64_t k = 0; k < keys; ++k)
        for (std::int64_t v = 0; v < shared; ++v)
          for (std::int64_t i = 0; i < dim * width; ++i)
            all[std::size_t(first * width + (v * keys + k) * dim * width + i)] =
                from[std::size_t(first * width + (k * shared + v) * dim * width + i)];
    };
    const auto width = shape.back();
    if (module == "A_log") {
      for (float& number : x) number = -std::exp(number);
      deal(x, 0, 1, 1);
      return void(to_.tensor(layer + "ssm_a", shape, x));
    }
    if (module == "dt_bias") {
      deal(x, 0, 1, 1);
      return void(to_.tensor(layer + "ssm_dt.bias", shape, x));
    }
    if (module == "conv1d") {
      deal(x, 2 * keys * dk, dv, width);
      return void(to_.tensor(layer + "ssm_conv1d.weight", {shape[0], width}, x));
    }
    if (module == "in_proj_qkvz") {
      Numbers parts[4];
      const std::int64_t sizes[] = {dk, dk, shared * dv, shared * dv};
      auto at = x.begin();
      for (std::int64_t k = 0; k < keys; ++k)
        for (int part = 0; part < 4; ++part) {
          parts[part].insert(parts[part].end(), at, at + sizes[part] * width);
          at += sizes[part] * width;
        }
      Numbers qkv = parts[0];
      for (const int part : {1, 2}) qkv.insert(qkv.end(), parts[part].begin(), parts[part].end());
      to_.tensor(layer + "attn_qkv.weight", {std::int64_t(qkv.size()) / width, width}, qkv);
      return void(to_.tensor(layer + "attn_gate.weight", {values * dv, width}, parts[3]));
    }
    if (module == "in_proj_qkv") deal(x, 2 * keys * dk, dv, width);
    if (module == "in_proj_z") deal(x, 0, dv, width);
    if (module == "in_proj_a" || module == "in_proj_b") deal(x, 0, 1, width);
    if (module == "out_proj" && rules_.deals) {
      const Numbers from = x;
      for (std::int64_t r = 0; r < shape[0]; ++r) {
        Numbers row(from.begin() + r * width, from.begin() + (r + 1) * width);
        deal(row, 0, dv, 1);
        std::copy(row.begin(), row.end(), x.begin() + r * width);
      }
    }
    const std::map<std::string, std::string> names{
        {"in_proj_qkv", "attn_qkv"}, {"in_proj_z", "attn_gate"}, {"in_proj_a", "ssm_alpha"},
        {"in_proj_b", "ssm_beta"},   {"in_proj_ba", "ssm_ba"},   {"norm", "ssm_norm"},
        {"out_proj", "ssm_out"}};
    to_.tensor(layer + names.at(module) + ".weight", shape, x);
  }

  void halves(const std::string& layer, const std::vector<std::int64_t>& shape, const Numbers& x) {
    const auto middle = x.begin() + std::ptrdiff_t(x.size() / 2);
    to_.tensor(layer + "ffn_gate_shexp.weight", {shape[0] / 2, shape[1]}, {x.begin(), middle});
    to_.tensor(layer + "ffn_up_shexp.weight", {shape[0] / 2, shape[1]}, {middle, x.end()});
  }

  /// kv_b_proj: per head, rows of k (which become columns) and rows of v.
  void latent(const std::string& layer, const std::vector<std::int64_t>& shape, const Numbers& x) {
    const auto& c = model_.config_json;
    const auto keys = c["qk_nope_head_dim"].get<std::int64_t>(),
               values = c["v_head_dim"].get<std::int64_t>(), rank = shape[1],
               heads = shape[0] / (keys + values);
    Numbers k, v;
    for (std::int64_t h = 0; h < heads; ++h) {
      const float* head = &x[std::size_t(h * (keys + values) * rank)];
      for (std::int64_t r = 0; r < rank; ++r)
        for (std::int64_t i = 0; i < keys; ++i) k.push_back(head[i * rank + r]);
      v.insert(v.end(), head + keys * rank, head + (keys + values) * rank);
    }
    to_.tensor(layer + "attn_k_b.weight", {heads, rank, keys}, k);
    to_.tensor(layer + "attn_v_b.weight", {heads, values, rank}, v);
  }

  const gptq::model::ModelFiles& model_;
  const gptq::model::Sizes sizes_;
  GgufRules rules_;
  GgufBuilder& to_;
  std::map<std::string, Stack> stacks_;
};

}  // namespace test
