// SPDX-License-Identifier: MIT
#pragma once

// The hyperparameters of a GGUF file as a config.json. Keys that change what the model computes but
// that config.json cannot express are refused.

#include <gptq/io/gguf.hpp>
#include <gptq/model/architecture/registry.hpp>
#include <gptq/model/gguf_reader.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>  // std::max_element
#include <cmath>      // std::sqrt
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace gptq::model {

/// A token that the metadata names; none if the key is missing or is -1 (in 32 bits also
/// 4294967295), which is how writers say "none", or if it is not an id of one of the `vocabulary`
/// tokens, which llama.cpp does not use either.
/// \throws FormatError  the value is not a whole number
inline std::optional<std::uint64_t> gguf_token_id(const io::Gguf& gguf, const std::string& key,
                                                  std::uint64_t vocabulary) {
  const auto found = gguf.metadata().find(key);
  if (found == gguf.metadata().end()) return std::nullopt;
  if (!found->second.as<std::int64_t>() && !found->second.as<std::uint64_t>())
    gguf.get<std::uint64_t>(key);  // throws an error that says what it is
  const auto id = found->second.as<std::uint64_t>();
  return id && *id < vocabulary ? id : std::nullopt;
}

namespace detail {

/// \throws FormatError  the file is one part of a split model, or is not a model
inline void require_whole_model(const io::Gguf& gguf) {
  const auto where = gguf.path().string();
  if (const auto parts = gguf.get_or<std::uint64_t>("split.count", 1); parts > 1)
    throw FormatError(gptq::detail::message(
        where, ": is part ", gguf.get_or<std::uint64_t>("split.no", 0) + 1, " of ", parts,
        " of a model that was split (split.no, split.count); join the parts first: "
        "llama-gguf-split --merge FIRST_PART WHOLE.gguf"));
  const auto type = gguf.get_or<std::string>("general.type", "model");
  if (type == "adapter" || gguf.has("adapter.type"))
    throw FormatError(gptq::detail::message(
        where, ": is a LoRA adapter, not a model: merge it into its base model first"));
  if (type != "model")
    throw FormatError(
        gptq::detail::message(where, ": holds a \"", type, "\" (general.type), not a model"));
}

/// RoPE scaling as llama.cpp reads it, as the rope_scaling of a config.json; null: none.
inline nlohmann::ordered_json gguf_rope_scaling(const GgufReader& reader) {
  // Without a type, scaling is linear; without a factor, there is none.
  const auto type = reader.get_or<std::string>("rope.scaling.type", "linear");
  if (type != "none" && type != "linear")
    reader.fail("the rope scaling \"", type, "\" (", reader.key("rope.scaling.type"),
                ") is not supported (none and linear are)");
  double factor = 0;  // not given
  for (const char* name : {"rope.scaling.factor", "rope.scale_linear"}) {
    if (!reader.has(name) || reader.get<double>(name) == 0) continue;
    const double stated = reader.positive(name);
    if (factor != 0 && stated != factor)
      reader.fail(reader.key(name), " = ", stated, " and ", reader.key("rope.scaling.factor"),
                  " = ", factor, " contradict each other");
    factor = stated;
  }
  if (factor == 0 || factor == 1) return nullptr;
  if (type == "none")
    reader.fail(reader.key("rope.scaling.factor"), " = ", factor, ", but ",
                reader.key("rope.scaling.type"), " is \"none\"");
  return {{"rope_type", "linear"}, {"factor", factor}};
}

/// Llama 3: the file holds the stretch factor of each wave. The rule behind them is recovered and
/// checked.
inline nlohmann::ordered_json llama3_rope_scaling(const io::Gguf& gguf, double theta,
                                                  Index head_dim) {
  const auto where = gguf.path().string();
  const auto& shape = gguf.at("rope_freqs.weight").shape;
  gptq::detail::require<FormatError>(io::element_count(shape) == head_dim / 2, where,
                                     ": tensor rope_freqs.weight has the shape ",
                                     io::to_string(shape), "; expected [", head_dim / 2, "]");
  std::vector<float> factors(static_cast<std::size_t>(head_dim / 2));
  gguf.read("rope_freqs.weight", factors);
  const Rope rope{.dims = head_dim,
                  .theta = theta,
                  .kind = Rope::Kind::llama3,
                  .factor = *std::max_element(factors.begin(), factors.end()),
                  .original_positions = 8192};
  const auto stretched = rope.frequencies();
  const auto plain = Rope{.dims = head_dim, .theta = rope.theta}.frequencies();
  for (std::size_t i = 0; i < factors.size(); ++i)
    gptq::detail::require<FormatError>(
        std::abs(plain[i] / stretched[i] - static_cast<double>(factors[i])) <
            1e-3 * static_cast<double>(factors[i]),
        where, ": rope_freqs.weight[", i, "] = ", factors[i], " does not follow the Llama 3 rule (",
        plain[i] / stretched[i], " expected); other rules cannot be expressed in a config.json");
  return {{"rope_type", "llama3"},
          {"factor", rope.factor},
          {"low_freq_factor", 1.0},
          {"high_freq_factor", 4.0},
          {"original_max_position_embeddings", 8192}};
}

/// The number of embedding rows; all other statements of the vocabulary size must agree with it.
/// \throws FormatError  there are no embeddings, or the metadata disagrees
inline std::uint64_t gguf_vocabulary(const io::Gguf& gguf, const GgufReader& reader) {
  const auto embeddings = gguf.tensors().find("token_embd.weight");
  if (embeddings == gguf.tensors().end() || embeddings->second.shape.size() != 2 ||
      embeddings->second.shape[0] < 1)
    reader.fail("has no tensor token_embd.weight with a row per token");
  const auto rows = static_cast<std::uint64_t>(embeddings->second.shape[0]);
  if (!reader.has("vocab_size")) return rows;
  const auto stated = reader.size("vocab_size");
  if (stated != rows)
    reader.fail(reader.key("vocab_size"), " = ", stated, ", but token_embd.weight has ", rows,
                " rows");
  const auto tokens = gguf.metadata().find("tokenizer.ggml.tokens");
  if (tokens != gguf.metadata().end() && tokens->second.array() &&
      tokens->second.array()->count != stated)
    reader.fail(reader.key("vocab_size"), " = ", stated, ", but tokenizer.ggml.tokens has ",
                tokens->second.array()->count, " entries");
  return rows;
}

}  // namespace detail

/// \param notes  receives decisions made on the caller's behalf, one sentence each
/// \throws FormatError  an unsupported architecture, missing metadata, or an unsupported key that
/// changes what the model computes
inline nlohmann::ordered_json gguf_config(const io::Gguf& gguf,
                                          std::vector<std::string>* notes = nullptr) {
  detail::require_whole_model(gguf);
  const auto arch = gguf.get<std::string>("general.architecture");
  const auto where = gguf.path().string();
  const architecture::Architecture& architecture = architecture::find_gguf(arch, where);
  const detail::GgufReader reader(gguf, arch + ".");
  if (const auto experts = reader.get_or<std::uint64_t>("expert_count", 0); experts > 0)
    reader.fail("mixtures of experts are not supported (", reader.key("expert_count"), " = ",
                experts, ")");

  const auto heads = reader.size("attention.head_count"),
             kv_heads = reader.size_or("attention.head_count_kv", heads),
             hidden = reader.size("embedding_length"), layers = reader.size("block_count");
  if (heads % kv_heads != 0)
    reader.fail(reader.key("attention.head_count"), " = ", heads, " is not a multiple of ",
                reader.key("attention.head_count_kv"), " = ", kv_heads);
  if (layers > 100'000)
    reader.fail(reader.key("block_count"), " = ", layers, " is not a number of layers");
  const bool stated = reader.has("attention.key_length");
  const auto head_dim = stated ? reader.size("attention.key_length") : hidden / heads;
  if (!stated && hidden % heads != 0)
    reader.fail(reader.key("embedding_length"), " = ", hidden, " is not a multiple of ",
                reader.key("attention.head_count"), " = ", heads);
  if (head_dim < 2 || head_dim > 65536 || head_dim % 2 != 0)
    reader.fail(stated
                    ? reader.key("attention.key_length")
                    : reader.key("embedding_length") + " / " + reader.key("attention.head_count"),
                " = ", head_dim, " is not a valid head size (an even number)");
  for (const char* name : {"attention.value_length", "rope.dimension_count"})
    if (const auto other = reader.get_or<std::uint64_t>(name, head_dim); other != head_dim)
      reader.fail(reader.key(name), " = ", other, ", which is not supported (the head size, ",
                  head_dim, ", is)");
  if (const auto other = reader.get_or<std::uint64_t>("embedding_length_out", 0);
      other != 0 && other != hidden)
    reader.fail(reader.key("embedding_length_out"), " = ", other, ", which is not supported (",
                reader.key("embedding_length"), " = ", hidden, " is)");
  const auto vocabulary = detail::gguf_vocabulary(gguf, reader);
  const double theta = reader.has("rope.freq_base") ? reader.positive("rope.freq_base") : 10000.0;
  if (reader.has("rope.freq_base_swa") && reader.positive("rope.freq_base_swa") != theta)
    reader.fail(reader.key("rope.freq_base_swa"), " = ", reader.positive("rope.freq_base_swa"),
                " and ", reader.key("rope.freq_base"), " = ", theta,
                ": different values per layer are not supported");

  nlohmann::ordered_json config{
      {"architectures", {architecture.name}},
      {"model_type", architecture.model_type},
      {"hidden_size", hidden},
      {"intermediate_size", reader.size("feed_forward_length")},
      {"num_hidden_layers", layers},
      {"num_attention_heads", heads},
      {"num_key_value_heads", kv_heads},
      {"head_dim", head_dim},
      {"max_position_embeddings", reader.size_or("context_length", 2048)},
      {"vocab_size", vocabulary},
      {"rms_norm_eps", reader.positive("attention.layer_norm_rms_epsilon")},
      {"rope_theta", theta},
      {"hidden_act", "silu"},
      {"tie_word_embeddings", gguf.tensors().count("output.weight") == 0},
      {"torch_dtype", "float16"}};
  const auto has_bias = [&](const char* tensor) {
    return gguf.tensors().count(std::string("blk.0.") + tensor + ".bias") > 0;
  };
  if (architecture.gguf->attention_bias)
    config["attention_bias"] = has_bias("attn_q") && has_bias("attn_output");
  if (architecture.gguf->mlp_bias) config["mlp_bias"] = has_bias("ffn_gate");
  for (const char* id : {"bos", "eos"}) {
    const auto key = "tokenizer.ggml." + std::string(id) + "_token_id";
    if (const auto token = gguf_token_id(gguf, key, vocabulary))
      config[std::string(id) + "_token_id"] = *token;
    else if (const auto found = gguf.metadata().find(key);
             notes && found != gguf.metadata().end() && found->second.as<std::int64_t>() != -1 &&
             found->second.as<std::int64_t>() != 4294967295)
      notes->push_back(gptq::detail::message(where, ": ", key, " = ", found->second.text(),
                                             " is not an id of one of the ", vocabulary,
                                             " tokens: ignored"));
  }

  auto scaling = detail::gguf_rope_scaling(reader);
  if (gguf.tensors().count("rope_freqs.weight") > 0) {
    if (!scaling.is_null())
      reader.fail("has the tensor rope_freqs.weight and ", reader.key("rope.scaling.factor"), " = ",
                  scaling["factor"].get<double>(), "; only one of the two is supported");
    scaling = detail::llama3_rope_scaling(gguf, config["rope_theta"].get<double>(),
                                          static_cast<Index>(head_dim));
  }
  if (!scaling.is_null()) config["rope_scaling"] = scaling;
  for (const char* name : {"rope.scaling.original_context_length", "attention.sliding_window"})
    if (const auto positions = reader.get_or<std::uint64_t>(name, 0);
        positions > 0 && positions < config["max_position_embeddings"].get<std::uint64_t>())
      reader.fail(reader.key(name), " = ", positions,
                  " is less than the context, which is not supported");
  if (const auto scale = reader.get_or<double>("attention.scale", 0);
      scale != 0 && std::abs(scale * std::sqrt(static_cast<double>(head_dim)) - 1) > 1e-4)
    reader.fail(reader.key("attention.scale"), " = ", scale,
                " is not supported (1/sqrt of the head size is)");
  reader.finish();
  return config;
}

}  // namespace gptq::model
