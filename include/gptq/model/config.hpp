// SPDX-License-Identifier: MIT
#pragma once

// ModelConfig: the hyperparameters of a decoder, from the config.json of a model folder.

#include <gptq/core/error.hpp>
#include <gptq/core/matrix_view.hpp>
#include <gptq/model/config_aliases.hpp>
#include <gptq/model/config_reader.hpp>

#include <nlohmann/json.hpp>

#include <cmath>  // std::pow
#include <numbers>
#include <optional>
#include <string>
#include <vector>

namespace gptq::model {

/// Rotary position embedding.
struct Rope {
  enum class Kind { plain, linear, llama3 };

  double theta = 10000;
  Kind kind = Kind::plain;
  double factor = 1;              ///< linear: divides positions; llama3: stretches long waves
  double low_freq_factor = 1;     ///< llama3
  double high_freq_factor = 4;    ///< llama3
  double original_positions = 0;  ///< llama3: context length before scaling

  /// Radians per position for each pair of a head's coordinates, scaling included.
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

/// What a decoder needs from a model's config.json.
struct ModelConfig {
  /// LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM or Qwen3ForCausalLM.
  std::string architecture;
  Index hidden = 0, intermediate = 0, layers = 0, vocabulary = 0, context = 0;
  Index heads = 0, kv_heads = 0, head_dim = 0;
  double norm_epsilon = 1e-6;
  Rope rope;
  /// Per layer: how many positions a query sees, itself included; 0: all.
  std::vector<Index> window;
  bool tied_embeddings = false;
  /// RMSNorm on each head of q and k (Qwen3).
  bool qk_norm = false;
  /// Biases of q, k and v; of o; of gate, up and down.
  bool qkv_bias = false, o_bias = false, mlp_bias = false;
  /// Decisions made on the caller's behalf, and unknown keys; one sentence each.
  std::vector<std::string> notes;

  /// \throws FormatError  an unsupported architecture or option, a missing or impossible value, or
  /// an unsupported key that changes what the model computes
  static ModelConfig parse(const nlohmann::json& json, const std::string& where);
};

namespace detail {

/// What is specific to an architecture.
struct Architecture {
  const char* name;        ///< as in config.json
  const char* model_type;  ///< as in config.json
  bool qk_norm;            ///< RMSNorm on each head of q and k
  bool qkv_bias;           ///< q, k and v always have biases, whatever attention_bias says
  bool attention_bias;     ///< whether attention_bias applies
  bool mlp_bias;           ///< whether mlp_bias applies
  Index head_dim;          ///< default; 0: hidden_size / num_attention_heads
};

inline constexpr Architecture architectures[] = {
    {"LlamaForCausalLM", "llama", false, false, true, true, 0},
    {"MistralForCausalLM", "mistral", false, false, false, false, 0},
    {"Qwen2ForCausalLM", "qwen2", false, true, false, false, 0},
    {"Qwen3ForCausalLM", "qwen3", true, false, true, false, 128}};

/// transformers goes by model_type, vLLM and most others by architectures.
/// \throws FormatError  an unsupported architecture, or the two keys disagree
inline const Architecture& parse_architecture(const ConfigReader& config) {
  const auto names = config.get_or<std::vector<std::string>>("architectures", {});
  const auto type = config.get_or<std::string>("model_type", "");
  if (names.size() > 1)
    config.fail("\"architectures\" names ", names.size(), " architectures; expected one");
  if (names.empty() && type.empty()) config.fail("has no \"architectures\"");
  for (const Architecture& a : architectures) {
    if (names.empty() ? a.model_type != type : a.name != names[0]) continue;
    if (!type.empty() && a.model_type != type)
      config.fail("\"architectures\" says ", a.name, " and \"model_type\" says ", type,
                  " (loaders go by one or the other; ", a.name, " is of type ", a.model_type, ")");
    return a;
  }
  std::string all;
  for (const Architecture& a : architectures) all += std::string(all.empty() ? "" : ", ") + a.name;
  if (names.empty()) config.fail("the model type ", type, " is not supported (", all, " are)");
  config.fail("the architecture ", names[0], " is not supported (", all, " are)");
}

/// A number that may be given in several places. \throws FormatError  they differ
class StatedOnce {
 public:
  explicit StatedOnce(const char* key) : key_(key) {}
  void look(const ConfigReader& reader) {
    if (!reader.has(key_)) return;
    const double value = reader.positive(key_);
    if (value_ && *value_ != value)
      reader.fail("\"", key_, "\" = ", value, ", and ", place_, " says ", *value_);
    if (!value_) value_ = value, place_ = reader.where();
  }
  const std::optional<double>& value() const { return value_; }

 private:
  const char* key_;
  std::optional<double> value_;
  std::string place_;
};

/// "rope_type", called "type" in older files.
inline std::string rope_type(const ConfigReader& rope) {
  const auto type =
      rope.get_or<std::string>("rope_type", rope.get_or<std::string>("type", "default"));
  if (const auto old = rope.get_or<std::string>("type", type); old != type)
    rope.fail("\"rope_type\" is \"", type, "\" and \"type\" is \"", old, "\"");
  return type;
}

/// transformers 5 keeps everything in rope_parameters; earlier versions in rope_theta and
/// rope_scaling, which transformers 5 prefers where it is not empty.
inline Rope parse_rope(const nlohmann::json& json, const ConfigReader& config,
                       std::vector<std::string>& notes) {
  const auto part = [&](const char* key) {
    const nlohmann::json value = config.has(key) ? json[key] : nlohmann::json::object();
    if (!value.is_object())
      config.fail("\"", key, "\" is ", ConfigReader::text(value), ", not an object");
    for (const auto& [name, setting] : value.items())
      if (setting.is_object())
        config.fail("\"", key, "\" has separate settings for \"", name,
                    "\" layers, which is not supported");
    return value;
  };
  const nlohmann::json scaling = part("rope_scaling"), parameters = part("rope_parameters");
  const bool by_scaling = !scaling.empty();
  const ConfigReader from_scaling(scaling, config.where() + ": rope_scaling"),
      from_parameters(parameters, config.where() + ": rope_parameters");
  const ConfigReader& rope_config = by_scaling ? from_scaling : from_parameters;
  const ConfigReader* const places[] = {&config, &from_scaling, &from_parameters};

  StatedOnce theta("rope_theta"), turning("partial_rotary_factor"),
      original("original_max_position_embeddings");
  for (const ConfigReader* place : places) {
    theta.look(*place);
    turning.look(*place);
    original.look(*place);
  }
  if (turning.value().value_or(1) != 1)
    config.fail("\"partial_rotary_factor\" = ", *turning.value(), " is not supported (1 is)");

  const auto type = rope_type(rope_config);
  if (by_scaling && !parameters.empty()) {
    const auto other = rope_type(from_parameters);
    bool contradicts = other != type && other != "default";
    for (const auto& [key, value] : parameters.items()) {
      if (other != type || key == "rope_theta" || key == "type" || key == "rope_type") continue;
      contradicts = contradicts || !scaling.contains(key) || scaling[key] != value;
      from_parameters.has(key.c_str());
    }
    if (contradicts)
      config.fail("\"rope_scaling\" is ", ConfigReader::text(scaling),
                  " and \"rope_parameters\" is ", ConfigReader::text(parameters),
                  ", which contradict each other");
    const bool stated = config.has("rope_theta") || from_scaling.has("rope_theta");
    if (!stated && theta.value().value_or(10000) != 10000)
      config.fail("\"rope_theta\" = ", *theta.value(),
                  " is in rope_parameters only, which "
                  "transformers ignores if there is a rope_scaling (put it there, too)");
    notes.push_back(gptq::detail::message(config.where(),
                                          ": has rope_scaling and rope_parameters: rope_scaling (",
                                          type, ") is used, as in transformers 5"));
  }

  Rope rope;
  rope.theta = theta.value().value_or(rope.theta);
  if (type == "linear") {
    rope.kind = Rope::Kind::linear;
  } else if (type == "llama3") {
    rope.kind = Rope::Kind::llama3;
    rope.low_freq_factor = rope_config.positive("low_freq_factor");
    rope.high_freq_factor = rope_config.positive("high_freq_factor");
    if (!original.value()) rope_config.fail("has no \"original_max_position_embeddings\"");
    rope.original_positions = *original.value();
    if (rope.low_freq_factor >= rope.high_freq_factor)
      rope_config.fail("\"low_freq_factor\" = ", rope.low_freq_factor,
                       " is not less than \"high_freq_factor\" = ", rope.high_freq_factor);
  } else if (type != "default") {
    rope_config.fail("the rope type \"", type,
                     "\" is not supported (default, linear and llama3 are)");
  }
  if (rope.kind != Rope::Kind::plain) rope.factor = rope_config.positive("factor");
  for (const ConfigReader* place : {&from_scaling, &from_parameters})
    place->finish_strictly("the rope type \"" + type + "\"", "[1, false]");
  return rope;
}

/// Mistral: every layer. Qwen: by layer_types, or from max_window_layers on where
/// use_sliding_window is set. Missing keys default to what transformers uses.
inline std::vector<Index> parse_windows(const ConfigReader& config, const ModelConfig& model,
                                        std::vector<std::string>& notes) {
  std::vector<Index> windows(std::size_t(model.layers), 0);
  const bool mistral = model.architecture == "MistralForCausalLM",
             llama = model.architecture == "LlamaForCausalLM";
  const bool used = config.get_or<bool>("use_sliding_window", mistral);
  if (mistral && !used && config.has("sliding_window"))
    config.fail("\"use_sliding_window\" is false and \"sliding_window\" is ",
                config.size("sliding_window"), ", which a ", model.architecture, " always uses");
  Index window = config.size_or("sliding_window", 0);
  if (used && !llama && !config.mentions("sliding_window")) {
    window = 4096;
    notes.push_back(config.where() +
                    ": has no \"sliding_window\": using 4096, as transformers does");
  }
  const bool reaches = window > 0 && (model.context == 0 || window < model.context);
  const bool stated_unused = config.has("use_sliding_window") && !used;
  if (llama && reaches && !stated_unused)
    config.fail("\"sliding_window\" = ", window, ": transformers ignores it in a ",
                model.architecture,
                ", but other loaders use it (set it to null, or make the model a "
                "MistralForCausalLM)");
  if (used && !llama && window > 0) {
    const Index first = mistral                           ? 0
                        : config.has("max_window_layers") ? config.size("max_window_layers", 0)
                                                          : 28;
    for (Index i = first; i < model.layers; ++i) windows[std::size_t(i)] = window;
  }
  if (!config.has("layer_types")) return windows;

  const auto types = config.get<std::vector<std::string>>("layer_types");
  if (types.size() != windows.size())
    config.fail("\"layer_types\" has ", types.size(), " entries for ", windows.size(), " layers");
  const bool decides = used && !llama && !mistral;
  for (std::size_t i = 0; i < types.size(); ++i) {
    const bool slides = types[i] == "sliding_attention";
    if (!slides && types[i] != "full_attention")
      config.fail("the layer type \"", types[i], "\" is not supported");
    if (slides && window == 0)
      config.fail("layer ", i, " is of type \"", types[i],
                  "\", but there is no \"sliding_window\"");
    const Index expected = slides ? window : 0;
    if (windows[i] == expected) continue;
    // Before layer_types, transformers wrote max_window_layers alone; since then, both.
    if (!decides || config.has("max_window_layers"))
      config.fail("\"layer_types\" says \"", types[i], "\" for layer ", i,
                  ", which contradicts the other keys (use_sliding_window, sliding_window, "
                  "max_window_layers)");
    windows[i] = expected;
  }
  return windows;
}

/// Checks the activation, under all the names it goes by.
inline void require_silu(const ConfigReader& config) {
  for (const char* key :
       {"hidden_act", "hidden_activation", "activation_function", "activation", "activation_fn",
        "activation_type", "act_fn", "ffn_activation", "mlp_act", "mlp_activation"})
    if (const auto act = config.get_or<std::string>(key, "silu");
        act != "silu" && act != "swish" && (act != "swiglu" || std::string(key) == "hidden_act"))
      config.fail("the activation \"", act, "\" (\"", key, "\") is not supported (silu is)");
}

/// The values that the decoder uses, under the names that `aliases` refer to.
inline nlohmann::json used_values(const ModelConfig& model) {
  return {{"hidden_size", model.hidden},
          {"intermediate_size", model.intermediate},
          {"num_hidden_layers", model.layers},
          {"num_attention_heads", model.heads},
          {"num_key_value_heads", model.kv_heads},
          {"num_attention_heads / num_key_value_heads", model.heads / model.kv_heads},
          {"head_dim", model.head_dim},
          {"vocab_size", model.vocabulary},
          {"rms_norm_eps", model.norm_epsilon},
          {"rope_theta", model.rope.theta},
          {"tie_word_embeddings", model.tied_embeddings},
          {"not tie_word_embeddings", !model.tied_embeddings},
          {"biases of q, k and v", model.qkv_bias},
          {"bias of o", model.o_bias},
          {"biases of the MLP", model.mlp_bias},
          {"norms of q and k", model.qk_norm}};
}

/// Other model families use other names for the same values; a loader that knows those names would
/// compute something else.
/// \throws FormatError  an alias differs from the value used
inline void require_agreeing_aliases(const ConfigReader& config, const ModelConfig& model) {
  const nlohmann::json used = used_values(model);
  for (const Alias& alias : aliases) {
    const std::string name(alias.name);
    if (!config.has(name.c_str())) continue;
    const auto agrees = [&](std::string_view standard) {
      const auto found = used.find(std::string(standard));
      if (found == used.end()) return false;
      return found->is_boolean() ? config.get<bool>(name.c_str()) == found->get<bool>()
                                 : config.get<double>(name.c_str()) == found->get<double>();
    };
    if (agrees(alias.standard) || agrees(alias.or_standard)) continue;
    const std::string standard(alias.standard);
    config.fail("\"", name, "\" = ", ConfigReader::text(config.get<nlohmann::json>(name.c_str())),
                ", and \"", standard, "\" is ", used[standard].dump(),
                config.mentions(standard.c_str()) || standard.find(' ') != std::string::npos
                    ? ""
                    : " by default",
                ": a loader that reads \"", name,
                "\" would compute something else (delete it if it is wrong)");
  }
}

}  // namespace detail

inline ModelConfig ModelConfig::parse(const nlohmann::json& json, const std::string& where) {
  const detail::ConfigReader config(json, where);
  ModelConfig model;
  const detail::Architecture& architecture = detail::parse_architecture(config);
  model.architecture = architecture.name;
  detail::require_silu(config);

  model.hidden = config.size("hidden_size");
  model.intermediate = config.size("intermediate_size");
  model.layers = config.size("num_hidden_layers");
  if (model.layers > 100'000)
    config.fail("\"num_hidden_layers\" = ", model.layers, " is not a number of layers");
  model.vocabulary = config.size("vocab_size");
  model.context = config.size_or("max_position_embeddings", 0);
  model.heads = config.size("num_attention_heads");
  model.kv_heads = config.size_or("num_key_value_heads", model.heads);
  if (model.heads % model.kv_heads != 0)
    config.fail("num_attention_heads = ", model.heads,
                " is not a multiple of num_key_value_heads = ", model.kv_heads);
  if (config.has("head_dim")) {
    model.head_dim = config.size("head_dim");
  } else if (architecture.head_dim > 0 && !config.mentions("head_dim")) {
    model.head_dim = architecture.head_dim;
  } else {
    model.head_dim = model.hidden / model.heads;
    if (model.hidden % model.heads != 0)
      config.fail("has no \"head_dim\", and hidden_size = ", model.hidden,
                  " is not a multiple of num_attention_heads = ", model.heads);
  }
  if (model.head_dim % 2 != 0 || model.head_dim == 0)
    config.fail("head_dim = ", model.head_dim, " is not even");
  model.norm_epsilon = config.has("rms_norm_eps") ? config.positive("rms_norm_eps") : 1e-6;
  model.rope = detail::parse_rope(json, config, model.notes);
  model.tied_embeddings = config.get_or<bool>("tie_word_embeddings", false);
  model.qk_norm = architecture.qk_norm;
  const bool attention_bias =
      architecture.attention_bias && config.get_or<bool>("attention_bias", false);
  model.qkv_bias = attention_bias || architecture.qkv_bias;
  model.o_bias = attention_bias;
  if (architecture.qkv_bias && !config.get_or<bool>("attention_bias", true))
    model.notes.push_back(where + ": \"attention_bias\" is false but ignored: q, k and v of a " +
                          model.architecture + " always have biases");
  model.mlp_bias = architecture.mlp_bias && config.get_or<bool>("mlp_bias", false);
  model.window = detail::parse_windows(config, model, model.notes);
  detail::require_agreeing_aliases(config, model);
  if (config.has("auto_map"))
    model.notes.push_back(where +
                          ": \"auto_map\" refers to custom code, which is neither "
                          "run nor copied: the model is treated as a plain " +
                          model.architecture);
  if (std::string note = config.finish(model.architecture); !note.empty())
    model.notes.push_back(std::move(note));
  return model;
}

}  // namespace gptq::model
