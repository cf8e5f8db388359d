// SPDX-License-Identifier: MIT
#pragma once

// The hyperparameters of a GGUF file as a config.json. Keys that change what the model computes but
// that config.json cannot express are refused.

#include <gptq/model/architecture/gguf_registry.hpp>
#include <gptq/model/architecture/registry.hpp>
#include <gptq/model/gguf_rope.hpp>

#include <nlohmann/json.hpp>

#include <cmath>  // std::sqrt
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

/// \throws FormatError  the file is not a model
inline void require_model(const io::GgufFiles& gguf) {
  const auto where = gguf.path().string();
  const auto type = gguf.get_or<std::string>("general.type", "model");
  if (type == "adapter" || gguf.has("adapter.type"))
    throw FormatError(gptq::detail::message(
        where, ": is a LoRA adapter, not a model: merge it into its base model first"));
  if (type != "model")
    throw FormatError(
        gptq::detail::message(where, ": holds a \"", type, "\" (general.type), not a model"));
}

/// The number of embedding rows; all other statements of the vocabulary size must agree with it.
/// \throws FormatError  there are no embeddings, or the metadata disagrees
inline std::uint64_t gguf_vocabulary(const io::GgufFiles& gguf, const GgufReader& reader) {
  const bool there = gguf.contains("token_embd.weight");
  const io::Shape shape = there ? gguf.at("token_embd.weight").shape : io::Shape{};
  if (shape.size() != 2 || shape[0] < 1)
    reader.fail("has no tensor token_embd.weight with a row per token");
  const auto rows = static_cast<std::uint64_t>(shape[0]);
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

/// Sizes of heads and layers, under the usual names of a config.json.
inline nlohmann::ordered_json gguf_sizes(const GgufReader& reader,
                                         architecture::GgufFamily::Rope rope) {
  using Rope = architecture::GgufFamily::Rope;
  const bool latent = rope == Rope::latent;
  const auto heads = reader.size("attention.head_count"),
             stated_kv = reader.size_or("attention.head_count_kv", heads),
             kv_heads = latent ? heads : stated_kv, hidden = reader.size("embedding_length"),
             layers = reader.size("block_count");
  if (heads % kv_heads != 0)
    reader.fail(reader.key("attention.head_count"), " = ", heads, " is not a multiple of ",
                reader.key("attention.head_count_kv"), " = ", kv_heads);
  if (layers > 100'000)
    reader.fail(reader.key("block_count"), " = ", layers, " is not a number of layers");
  const char* const length = latent && reader.has("attention.key_length_mla")
                                 ? "attention.key_length_mla"
                                 : "attention.key_length";
  const bool stated = reader.has(length);
  const auto head_dim = stated ? reader.size(length) : hidden / heads;
  if (!stated && hidden % heads != 0)
    reader.fail(reader.key("embedding_length"), " = ", hidden, " is not a multiple of ",
                reader.key("attention.head_count"), " = ", heads);
  if (head_dim < 1 || head_dim > 65536 || (head_dim % 2 != 0 && rope == Rope::whole))
    reader.fail(stated
                    ? reader.key(length)
                    : reader.key("embedding_length") + " / " + reader.key("attention.head_count"),
                " = ", head_dim, " is not a valid head size (an even number)");
  for (const char* name : {"attention.value_length", "rope.dimension_count"}) {
    if (latent || (rope != Rope::whole && std::string(name) == "rope.dimension_count")) continue;
    if (const auto other = reader.get_or<std::uint64_t>(name, head_dim); other != head_dim)
      reader.fail(reader.key(name), " = ", other, ", which is not supported (the head size, ",
                  head_dim, ", is)");
  }
  if (const auto other = reader.get_or<std::uint64_t>("embedding_length_out", 0);
      other != 0 && other != hidden)
    reader.fail(reader.key("embedding_length_out"), " = ", other, ", which is not supported (",
                reader.key("embedding_length"), " = ", hidden, " is)");
  nlohmann::ordered_json sizes{{"hidden_size", hidden},
                               {"num_hidden_layers", layers},
                               {"num_attention_heads", heads},
                               {"num_key_value_heads", kv_heads},
                               {"head_dim", head_dim}};
  // A file whose MLPs are all experts has none for others.
  if (reader.has("feed_forward_length") || !reader.has("expert_feed_forward_length"))
    sizes["intermediate_size"] = reader.size("feed_forward_length");
  return sizes;
}

/// bos_token_id and eos_token_id, if they are ids of tokens, and pad_token_id, whose default in
/// transformers may lie outside the vocabulary.
inline void add_special_tokens(const io::GgufFiles& gguf, std::uint64_t vocabulary,
                               nlohmann::ordered_json& config, std::vector<std::string>* notes) {
  const auto pad = gguf_token_id(gguf.first(), "tokenizer.ggml.padding_token_id", vocabulary);
  config["pad_token_id"] = pad ? nlohmann::ordered_json(*pad) : nullptr;
  for (const char* id : {"bos", "eos"}) {
    const auto key = "tokenizer.ggml." + std::string(id) + "_token_id";
    if (const auto token = gguf_token_id(gguf.first(), key, vocabulary))
      config[std::string(id) + "_token_id"] = *token;
    else if (const auto found = gguf.metadata().find(key);
             notes && found != gguf.metadata().end() && found->second.as<std::int64_t>() != -1 &&
             found->second.as<std::int64_t>() != 4294967295)
      notes->push_back(gptq::detail::message(gguf.path().string(), ": ", key, " = ",
                                             found->second.text(), " is not an id of one of the ",
                                             vocabulary, " tokens: ignored"));
  }
}

}  // namespace detail

/// \param notes  receives decisions made on the caller's behalf, one sentence each
/// \throws FormatError  an unsupported architecture, missing metadata, or an unsupported key that
/// changes what the model computes
inline nlohmann::ordered_json gguf_config(const io::GgufFiles& gguf,
                                          std::vector<std::string>* notes = nullptr) {
  using architecture::GgufFamily;
  detail::require_model(gguf);
  const detail::GgufReader reader(gguf, gguf.get<std::string>("general.architecture") + ".");
  const GgufFamily& family = architecture::find_gguf(reader);
  const bool turns = family.rope != GgufFamily::Rope::none;
  const auto vocabulary = detail::gguf_vocabulary(gguf, reader);
  nlohmann::ordered_json config{
      {"architectures", {family.architecture}},
      {"model_type", architecture::find_by_name(family.architecture).model_type}};
  config.update(detail::gguf_sizes(reader, family.rope));
  const auto head_dim = config["head_dim"].get<std::uint64_t>();
  config["max_position_embeddings"] = reader.size_or("context_length", 2048);
  config["vocab_size"] = vocabulary;
  if (!family.epsilon.empty())
    config[std::string(family.epsilon)] = reader.positive(family.epsilon == GgufFamily::rms_epsilon
                                                              ? "attention.layer_norm_rms_epsilon"
                                                              : "attention.layer_norm_epsilon");
  if (turns)
    config["rope_theta"] =
        reader.has("rope.freq_base") ? reader.positive("rope.freq_base") : 10000.0;
  if (family.rope == GgufFamily::Rope::partial) {
    const auto turning = reader.size_or("rope.dimension_count", head_dim);
    config["partial_rotary_factor"] = static_cast<double>(turning) / static_cast<double>(head_dim);
  }
  config["hidden_act"] = "silu";
  config["tie_word_embeddings"] = !gguf.contains("output.weight");
  config["torch_dtype"] = "float16";
  detail::add_special_tokens(gguf, vocabulary, config, notes);
  const double theta = turns ? config["rope_theta"].get<double>() : 0;
  if (family.configure) family.configure(reader, config);

  // What the family did not ask for must not matter.
  if (!reader.was_read("rope.freq_base_swa") && reader.has("rope.freq_base_swa") &&
      reader.positive("rope.freq_base_swa") != theta)
    reader.fail(reader.key("rope.freq_base_swa"), " = ", reader.positive("rope.freq_base_swa"),
                " and ", reader.key("rope.freq_base"), " = ", theta,
                ": different values per layer are not supported");
  if (turns && !config.contains("rope_scaling"))
    if (auto scaling = detail::read_gguf_rope(reader, theta, static_cast<Index>(head_dim));
        !scaling.is_null())
      config["rope_scaling"] = std::move(scaling);
  for (const char* name : {"rope.scaling.original_context_length", "attention.sliding_window"}) {
    if (reader.was_read(name)) continue;
    if (const auto positions = reader.get_or<std::uint64_t>(name, 0);
        positions > 0 && positions < reader.size_or("context_length", 2048))
      reader.fail(reader.key(name), " = ", positions,
                  " is less than the context, which is not supported");
  }
  if (!reader.was_read("attention.scale"))
    if (const auto scale = reader.get_or<double>("attention.scale", 0);
        scale != 0 && std::abs(scale * std::sqrt(static_cast<double>(head_dim)) - 1) > 1e-4)
      reader.fail(reader.key("attention.scale"), " = ", scale,
                  " is not supported (1/sqrt of the head size is)");
  reader.finish();
  return config;
}

}  // namespace gptq::model
