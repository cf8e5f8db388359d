// SPDX-License-Identifier: MIT
#pragma once

// A GGUF file as a Hugging Face model: its tensors under their Hugging Face names and its
// hyperparameters as a config.json.

#include <gptq/io/checkpoint.hpp>
#include <gptq/io/gguf.hpp>
#include <gptq/model/config.hpp>

#include <algorithm>  // std::max_element
#include <memory>
#include <string>
#include <utility>  // std::move
#include <vector>

namespace gptq::model {

/// \throws FormatError  an architecture that is not supported, or missing metadata
inline nlohmann::ordered_json gguf_config(const io::Gguf& gguf) {
  const auto arch = gguf.get<std::string>("general.architecture");
  const auto where = gguf.path().string();
  std::string architecture, model_type;
  if (arch == "llama") architecture = "LlamaForCausalLM", model_type = "llama";
  else if (arch == "qwen2") architecture = "Qwen2ForCausalLM", model_type = "qwen2";
  else if (arch == "qwen3") architecture = "Qwen3ForCausalLM", model_type = "qwen3";
  else
    throw FormatError(gptq::detail::message(where, ": the architecture \"", arch,
                                            "\" is not supported (llama, qwen2 and qwen3 are)"));
  const auto key = [&](const char* name) { return arch + "." + name; };
  if (gguf.get_or<std::uint64_t>(key("expert_count"), 0) > 0)
    throw FormatError(gptq::detail::message(where, ": mixtures of experts are not supported (",
                                            key("expert_count"), " = ",
                                            gguf.get<std::uint64_t>(key("expert_count")), ")"));

  const auto heads = gguf.get<std::uint64_t>(key("attention.head_count"));
  const auto hidden = gguf.get<std::uint64_t>(key("embedding_length"));
  gptq::detail::require<FormatError>(heads > 0, where, ": ", key("attention.head_count"), " = 0");
  const auto head_dim = gguf.get_or<std::uint64_t>(key("attention.key_length"), hidden / heads);
  gptq::detail::require<FormatError>(head_dim >= 2 && head_dim <= 65536, where, ": ",
                                     key("attention.key_length"), " = ", head_dim,
                                     " is not the size of a head");
  if (const auto turned = gguf.get_or<std::uint64_t>(key("rope.dimension_count"), head_dim);
      turned != head_dim)
    throw FormatError(gptq::detail::message(where, ": ", key("rope.dimension_count"), " = ", turned,
                                            ", which is not supported (the size of a head, ",
                                            head_dim, ", is)"));
  if (const auto parts = gguf.get_or<std::uint64_t>("split.count", 1); parts > 1)
    throw FormatError(gptq::detail::message(
        where, ": is one of ", parts,
        " parts of a model (split.count); join them first, with llama-gguf-split --merge"));
  std::uint64_t vocabulary = gguf.get_or<std::uint64_t>(key("vocab_size"), 0);
  if (const auto found = gguf.tensors().find("token_embd.weight");
      found != gguf.tensors().end() && found->second.shape.size() == 2)
    vocabulary = static_cast<std::uint64_t>(found->second.shape[0]);

  nlohmann::ordered_json config{
      {"architectures", {architecture}},
      {"model_type", model_type},
      {"hidden_size", hidden},
      {"intermediate_size", gguf.get<std::uint64_t>(key("feed_forward_length"))},
      {"num_hidden_layers", gguf.get<std::uint64_t>(key("block_count"))},
      {"num_attention_heads", heads},
      {"num_key_value_heads", gguf.get_or<std::uint64_t>(key("attention.head_count_kv"), heads)},
      {"head_dim", head_dim},
      {"max_position_embeddings", gguf.get_or<std::uint64_t>(key("context_length"), 2048)},
      {"vocab_size", vocabulary},
      {"rms_norm_eps", gguf.get<double>(key("attention.layer_norm_rms_epsilon"))},
      {"rope_theta", gguf.get_or<double>(key("rope.freq_base"), 10000.0)},
      {"hidden_act", "silu"},
      {"tie_word_embeddings", gguf.tensors().count("output.weight") == 0},
      {"torch_dtype", "float16"}};
  const auto has_bias = [&](const char* tensor) {
    return gguf.tensors().count(std::string("blk.0.") + tensor + ".bias") > 0;
  };
  if (arch != "qwen2") config["attention_bias"] = has_bias("attn_q") && has_bias("attn_output");
  if (arch == "llama") config["mlp_bias"] = has_bias("ffn_gate");
  for (const char* id : {"bos", "eos"})
    if (const auto token = "tokenizer.ggml." + std::string(id) + "_token_id"; gguf.has(token))
      if (const auto number = gguf.get<std::int64_t>(token); number >= 0)  // -1: none
        config[std::string(id) + "_token_id"] = number;

  const auto scaling = gguf.get_or<std::string>(key("rope.scaling.type"), "none");
  if (scaling == "linear") {
    config["rope_scaling"] = {{"rope_type", "linear"},
                              {"factor", gguf.get<double>(key("rope.scaling.factor"))}};
  } else if (scaling != "none") {
    throw FormatError(gptq::detail::message(where, ": the rope scaling \"", scaling,
                                            "\" is not supported (none and linear are)"));
  }
  if (gguf.tensors().count("rope_freqs.weight") > 0) {
    // Llama 3: the file holds by how much each wave is stretched. The rule behind it is recovered
    // and checked.
    std::vector<float> factors(static_cast<std::size_t>(head_dim / 2));
    const auto& shape = gguf.tensors().at("rope_freqs.weight").shape;
    gptq::detail::require<FormatError>(
        io::element_count(shape) == static_cast<Index>(factors.size()), where,
        ": tensor rope_freqs.weight has the shape ", io::to_string(shape), ", [", factors.size(),
        "] expected");
    gguf.read("rope_freqs.weight", factors);
    Rope rope{.theta = config["rope_theta"].get<double>(),
              .kind = Rope::Kind::llama3,
              .factor = *std::max_element(factors.begin(), factors.end()),
              .original_positions = 8192};
    const auto stretched = rope.frequencies(static_cast<Index>(head_dim));
    const auto plain = Rope{.theta = rope.theta}.frequencies(static_cast<Index>(head_dim));
    for (std::size_t i = 0; i < factors.size(); ++i)
      gptq::detail::require<FormatError>(
          std::abs(plain[i] / stretched[i] - static_cast<double>(factors[i])) <
              1e-3 * static_cast<double>(factors[i]),
          where, ": rope_freqs.weight[", i, "] = ", factors[i],
          " does not follow the Llama 3 rule (", plain[i] / stretched[i],
          " expected), which config.json could express");
    config["rope_scaling"] = {{"rope_type", "llama3"},
                              {"factor", rope.factor},
                              {"low_freq_factor", 1.0},
                              {"high_freq_factor", 4.0},
                              {"original_max_position_embeddings", 8192}};
  }
  return config;
}

/// Tensors of a GGUF file by Hugging Face name, dequantized, with the rows of q and k in Hugging
/// Face order.
class GgufSource : public io::TensorSource {
 public:
  explicit GgufSource(std::shared_ptr<const io::Gguf> gguf, const ModelConfig& config)
      : gguf_(std::move(gguf)), config_(config) {
    for (const auto& [name, tensor] : gguf_->tensors()) {
      if (name == "rope_freqs.weight") continue;  // in the configuration
      names_[hf_name(name)] = name;
    }
  }

  std::vector<std::string> names() const override {
    std::vector<std::string> names;
    for (const auto& [name, gguf_name] : names_) names.push_back(name);
    return names;
  }
  bool contains(const std::string& name) const override { return names_.count(name) > 0; }
  io::Shape shape(const std::string& name) const override { return tensor(name).shape; }
  std::string type_name(const std::string& name) const override {
    const auto& t = tensor(name);
    return t.type ? std::string(t.type->name) : "ggml type " + std::to_string(t.type_number);
  }
  std::uint64_t stored_bytes(const std::string& name) const override {
    return tensor(name).bytes.size();
  }
  io::DType output_type(const std::string& /*name*/) const override { return io::DType::F16; }
  std::string where(const std::string& /*name*/) const override { return gguf_->path().string(); }

  void read(const std::string& name, std::span<float> out) const override {
    const io::GgufTensor& t = tensor(name);
    gptq::detail::require<FormatError>(static_cast<Index>(out.size()) == io::element_count(t.shape),
                                       where(name), ": tensor ", name, " has the shape ",
                                       io::to_string(t.shape), ", ", out.size(), " numbers wanted");
    gguf_->read(names_.at(name), out);
    gguf_->file().release(t.bytes);
    if (config_.architecture == "LlamaForCausalLM") {
      const bool q = name.find("self_attn.q_proj.") != std::string::npos,
                 k = name.find("self_attn.k_proj.") != std::string::npos;
      if (q || k) unpermute(q ? config_.heads : config_.kv_heads, out);
    }
  }

  std::vector<std::byte> output_bytes(const std::string& name) const override {
    std::vector<float> numbers(static_cast<std::size_t>(io::element_count(shape(name))));
    read(name, numbers);
    std::vector<std::byte> bytes(numbers.size() * 2);
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      const float16 half = to_float16(numbers[i]);
      gptq::detail::require<NumericalError>((half.bits & 0x7c00u) != 0x7c00u, where(name),
                                            ": tensor ", name, ": element ", i, " = ", numbers[i],
                                            " does not fit fp16");
      std::memcpy(&bytes[2 * i], &half, 2);
    }
    return bytes;
  }

 private:
  const io::GgufTensor& tensor(const std::string& name) const {
    const auto found = names_.find(name);
    gptq::detail::require<FormatError>(found != names_.end(), where(name), ": has no tensor for ",
                                       name);
    return gguf_->tensors().at(found->second);
  }

  /// \throws FormatError  a tensor that a decoder of this kind does not have
  std::string hf_name(const std::string& name) const {
    static const std::map<std::string, std::string> outside{
        {"token_embd.weight", "model.embed_tokens.weight"},
        {"output_norm.weight", "model.norm.weight"},
        {"output.weight", "lm_head.weight"}};
    static const std::map<std::string, std::string> inside{
        {"attn_norm", "input_layernorm"},    {"ffn_norm", "post_attention_layernorm"},
        {"attn_q", "self_attn.q_proj"},      {"attn_k", "self_attn.k_proj"},
        {"attn_v", "self_attn.v_proj"},      {"attn_output", "self_attn.o_proj"},
        {"attn_q_norm", "self_attn.q_norm"}, {"attn_k_norm", "self_attn.k_norm"},
        {"ffn_gate", "mlp.gate_proj"},       {"ffn_up", "mlp.up_proj"},
        {"ffn_down", "mlp.down_proj"}};
    if (const auto found = outside.find(name); found != outside.end()) return found->second;
    if (name.rfind("blk.", 0) == 0) {
      const std::size_t layer_end = name.find('.', 4), last = name.rfind('.');
      if (layer_end != std::string::npos && last > layer_end) {
        const auto found = inside.find(name.substr(layer_end + 1, last - layer_end - 1));
        if (found != inside.end())
          return "model.layers." + name.substr(4, layer_end - 4) + "." + found->second +
                 name.substr(last);
      }
    }
    throw FormatError(gptq::detail::message(gguf_->path().string(), ": the tensor ", name,
                                            " has no place in a ", config_.architecture));
  }

  /// GGUF interleaves the two halves of each head of q and k: its row 2i + t is row t·D/2 + i of
  /// the head.
  void unpermute(Index heads, std::span<float> rows) const {
    const Index head_dim = config_.head_dim, half = head_dim / 2;
    const Index width = static_cast<Index>(rows.size()) / (heads * head_dim);
    std::vector<float> head(static_cast<std::size_t>(head_dim * width));
    for (Index h = 0; h < heads; ++h) {
      float* block = rows.data() + h * head_dim * width;
      std::copy_n(block, head.size(), head.data());
      for (Index i = 0; i < half; ++i)
        for (Index t = 0; t < 2; ++t)
          std::copy_n(head.data() + (2 * i + t) * width, width, block + (t * half + i) * width);
    }
  }

  std::shared_ptr<const io::Gguf> gguf_;
  ModelConfig config_;
  std::map<std::string, std::string> names_;  // Hugging Face name -> GGUF name
};

}  // namespace gptq::model
