// SPDX-License-Identifier: MIT
#pragma once

// ModelConfig: the hyperparameters of a decoder, from the config.json of a model folder.

#include <gptq/core/error.hpp>
#include <gptq/core/matrix_view.hpp>

#include <nlohmann/json.hpp>

#include <cmath>  // std::isfinite
#include <numbers>
#include <string>
#include <vector>

namespace gptq::model {

/// Rotary position embedding.
struct Rope {
  enum class Kind { plain, linear, llama3 };

  double theta = 10000;
  Kind kind = Kind::plain;
  double factor = 1;              ///< linear: positions are divided by it; llama3: long waves are
  double low_freq_factor = 1;     ///< llama3
  double high_freq_factor = 4;    ///< llama3
  double original_positions = 0;  ///< llama3: context length of the model before it was stretched

  /// Radians per position of each pair of a head's coordinates, scaling included.
  std::vector<double> frequencies(Index head_dim) const {
    std::vector<double> out;
    for (Index i = 0; i < head_dim / 2; ++i) {
      const double plain =
          std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
      out.push_back(plain / stretch(2 * std::numbers::pi / plain));
    }
    return out;
  }

  /// By how much a wave of this length (in positions) is stretched.
  double stretch(double wavelength) const {
    if (kind == Kind::plain) return 1;
    if (kind == Kind::linear) return factor;
    const double low = original_positions / low_freq_factor,
                 high = original_positions / high_freq_factor;
    if (wavelength < high) return 1;
    if (wavelength > low) return factor;
    const double smooth =
        (original_positions / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor);
    return 1 / ((1 - smooth) / factor + smooth);
  }
};

/// What a model's config.json says, as far as a decoder needs it.
struct ModelConfig {
  /// LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM or Qwen3ForCausalLM.
  std::string architecture;
  Index hidden = 0, intermediate = 0, layers = 0, vocabulary = 0, context = 0;
  Index heads = 0, kv_heads = 0, head_dim = 0;
  double norm_epsilon = 1e-6;
  Rope rope;
  /// Per layer: how many positions attention reaches back, itself included; 0: all.
  std::vector<Index> window;
  bool tied_embeddings = false;
  /// RMSNorm on each head of q and k (Qwen3).
  bool qk_norm = false;
  /// Biases of q, k and v; of o; of gate, up and down.
  bool qkv_bias = false, o_bias = false, mlp_bias = false;

  /// \throws FormatError  an architecture or an option that is not supported, a missing or
  /// impossible value
  static ModelConfig parse(const nlohmann::json& json, const std::string& where);
};

namespace detail {

/// Reads keys of a config.json; errors name the file and the key.
class ConfigReader {
 public:
  ConfigReader(const nlohmann::json& json, std::string where)
      : json_(json), where_(std::move(where)) {}

  bool has(const char* key) const { return json_.contains(key) && !json_[key].is_null(); }

  template <class T>
  T get(const char* key) const {
    if (!has(key)) fail("has no \"", key, "\"");
    try {
      return json_[key].get<T>();
    } catch (const nlohmann::json::exception&) {
      fail("\"", key, "\" has the value ", json_[key].dump(),
           ", which is not of the expected kind");
    }
  }

  template <class T>
  T get_or(const char* key, T otherwise) const {
    return has(key) ? get<T>(key) : otherwise;
  }

  Index size(const char* key, double least = 1) const {
    const auto value = get<double>(key);
    if (!(value >= least && value <= 1e9 && value == std::floor(value)))
      fail("\"", key, "\" = ", value, " is not a size");
    return static_cast<Index>(value);
  }

  double positive(const char* key) const {
    const auto value = get<double>(key);
    if (!(std::isfinite(value) && value > 0))
      fail("\"", key, "\" = ", value, " is not positive and finite");
    return value;
  }

  template <class... Parts>
  [[noreturn]] void fail(const Parts&... parts) const {
    throw FormatError(gptq::detail::message(where_, ": ", parts...));
  }

 private:
  const nlohmann::json& json_;
  std::string where_;
};

inline Rope parse_rope(const nlohmann::json& json, const std::string& where) {
  const ConfigReader config(json, where);
  // transformers 5 keeps everything in rope_parameters, earlier versions in rope_theta and
  // rope_scaling.
  const char* key = config.has("rope_parameters") ? "rope_parameters" : "rope_scaling";
  const nlohmann::json scaling = config.has(key) ? json[key] : nlohmann::json::object();
  if (!scaling.is_object()) config.fail("\"", key, "\" is ", scaling.dump(), ", not an object");
  for (const auto& [name, value] : scaling.items())
    if (value.is_object())
      config.fail("\"", key, "\" has settings of its own for \"", name,
                  "\" layers, which is not supported");
  const ConfigReader rope_config(scaling, where + ": " + key);
  Rope rope;
  if (config.has("rope_theta")) rope.theta = config.positive("rope_theta");
  if (rope_config.has("rope_theta")) rope.theta = rope_config.positive("rope_theta");
  for (const ConfigReader* reader : {&config, &rope_config})
    if (reader->has("partial_rotary_factor") && reader->positive("partial_rotary_factor") != 1)
      reader->fail("\"partial_rotary_factor\" = ", reader->positive("partial_rotary_factor"),
                   " is not supported (1 is)");
  const auto type = rope_config.get_or<std::string>(
      "rope_type", rope_config.get_or<std::string>("type", "default"));
  if (type == "default") return rope;
  if (type != "linear" && type != "llama3")
    rope_config.fail("the rope type \"", type,
                     "\" is not supported (default, linear and llama3 are)");
  rope.factor = rope_config.positive("factor");
  if (type == "linear") {
    rope.kind = Rope::Kind::linear;
  } else {
    rope.kind = Rope::Kind::llama3;
    rope.low_freq_factor = rope_config.positive("low_freq_factor");
    rope.high_freq_factor = rope_config.positive("high_freq_factor");
    rope.original_positions = rope_config.positive("original_max_position_embeddings");
  }
  return rope;
}

/// Mistral: every layer. Qwen: by layer_types, or from max_window_layers on where
/// use_sliding_window is set.
inline std::vector<Index> parse_windows(const ConfigReader& config, const ModelConfig& model) {
  std::vector<Index> windows(std::size_t(model.layers), 0);
  if (!config.has("sliding_window")) return windows;
  const Index window = config.size("sliding_window");
  const bool qwen = model.architecture != "MistralForCausalLM";
  if (qwen && !config.get_or<bool>("use_sliding_window", false)) return windows;
  if (config.has("layer_types")) {
    const auto types = config.get<std::vector<std::string>>("layer_types");
    if (types.size() != windows.size())
      config.fail("\"layer_types\" has ", types.size(), " entries for ", windows.size(), " layers");
    for (std::size_t i = 0; i < types.size(); ++i)
      if (types[i] == "sliding_attention") windows[i] = window;
      else if (types[i] != "full_attention")
        config.fail("the layer type \"", types[i], "\" is not supported");
  } else {
    const bool partly = qwen && config.has("max_window_layers");
    const Index first = partly ? config.size("max_window_layers", 0) : 0;
    for (Index i = first; i < model.layers; ++i) windows[std::size_t(i)] = window;
  }
  return windows;
}

}  // namespace detail

inline ModelConfig ModelConfig::parse(const nlohmann::json& json, const std::string& where) {
  const detail::ConfigReader config(json, where);
  ModelConfig model;
  const auto names = config.get<std::vector<std::string>>("architectures");
  if (names.size() != 1)
    config.fail("\"architectures\" names ", names.size(), " architectures, one expected");
  model.architecture = names[0];
  const bool known =
      model.architecture == "LlamaForCausalLM" || model.architecture == "MistralForCausalLM" ||
      model.architecture == "Qwen2ForCausalLM" || model.architecture == "Qwen3ForCausalLM";
  if (!known)
    config.fail("the architecture ", model.architecture,
                " is not supported (LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM and "
                "Qwen3ForCausalLM are)");
  if (const auto act = config.get_or<std::string>("hidden_act", "silu"); act != "silu")
    config.fail("the activation \"", act, "\" is not supported (silu is)");

  model.hidden = config.size("hidden_size");
  model.intermediate = config.size("intermediate_size");
  model.layers = config.size("num_hidden_layers");
  if (model.layers > 100'000)
    config.fail("\"num_hidden_layers\" = ", model.layers, " is not a number of layers");
  model.vocabulary = config.size("vocab_size");
  model.context =
      config.has("max_position_embeddings") ? config.size("max_position_embeddings") : 0;
  model.heads = config.size("num_attention_heads");
  model.kv_heads =
      config.has("num_key_value_heads") ? config.size("num_key_value_heads") : model.heads;
  model.head_dim = config.has("head_dim") ? config.size("head_dim") : model.hidden / model.heads;
  if (model.heads % model.kv_heads != 0)
    config.fail("num_attention_heads = ", model.heads,
                " is not a multiple of num_key_value_heads = ", model.kv_heads);
  if (model.head_dim % 2 != 0 || model.head_dim == 0)
    config.fail("head_dim = ", model.head_dim, " is not even");
  model.norm_epsilon = config.has("rms_norm_eps") ? config.positive("rms_norm_eps") : 1e-6;
  model.rope = detail::parse_rope(json, where);
  model.tied_embeddings = config.get_or<bool>("tie_word_embeddings", false);
  model.qk_norm = model.architecture == "Qwen3ForCausalLM";
  const bool attention_bias = config.get_or<bool>("attention_bias", false);
  model.qkv_bias = attention_bias || model.architecture == "Qwen2ForCausalLM";
  model.o_bias = attention_bias && model.architecture != "Qwen2ForCausalLM";
  model.mlp_bias = config.get_or<bool>("mlp_bias", false);
  model.window = detail::parse_windows(config, model);
  return model;
}

}  // namespace gptq::model
