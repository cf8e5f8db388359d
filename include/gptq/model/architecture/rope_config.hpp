// SPDX-License-Identifier: MIT
#pragma once

// Rotary position embeddings as config.json files describe them.

#include <gptq/model/config_reader.hpp>
#include <gptq/model/rope.hpp>

#include <nlohmann/json.hpp>

#include <cmath>  // std::isfinite, std::log, std::pow, std::sqrt
#include <optional>
#include <string>
#include <utility>  // std::pair
#include <vector>

namespace gptq::model::architecture {

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

/// What a family does with rotary embeddings.
struct RopeRules {
  double theta = 10000;  ///< if the file says nothing
  double partial = 1;    ///< of a head's coordinates, those that turn; if the file says nothing
  bool may_be_partial = false;
  bool ignores_partial = false;  ///< all coordinates turn, whatever the file says
  bool is_mixed =
      false;  ///< settings for positions in images, which are equal for text, may be there
};

/// Fills in what depends on the type of scaling.
inline void read_rope_scaling(const ConfigReader& config, const ConfigReader& rope_config,
                              const std::string& type, const std::optional<double>& original,
                              Rope& rope) {
  const auto context = [&] {
    if (original) return *original;
    return config.has("max_position_embeddings") ? config.positive("max_position_embeddings") : 0.0;
  };
  /// From the original context to that of the model.
  const auto read_factor = [&] {
    if (rope_config.has("factor")) return rope_config.positive("factor");
    const double longest = config.positive("max_position_embeddings");
    return longest / context();
  };
  const auto at_least_one_position = [&] {
    rope.original_positions = context();
    if (rope.original_positions < 1)
      rope_config.fail("has no \"original_max_position_embeddings\"");
  };
  if (type == "linear") {
    rope.kind = Rope::Kind::linear;
    rope.factor = rope_config.positive("factor");
  } else if (type == "llama3") {
    rope.kind = Rope::Kind::llama3;
    rope.factor = rope_config.positive("factor");
    rope.low_freq_factor = rope_config.positive("low_freq_factor");
    rope.high_freq_factor = rope_config.positive("high_freq_factor");
    if (!original) rope_config.fail("has no \"original_max_position_embeddings\"");
    rope.original_positions = *original;
    if (rope.low_freq_factor >= rope.high_freq_factor)
      rope_config.fail("\"low_freq_factor\" = ", rope.low_freq_factor,
                       " is not less than \"high_freq_factor\" = ", rope.high_freq_factor);
  } else if (type == "yarn") {
    rope.kind = Rope::Kind::yarn;
    at_least_one_position();
    rope.factor = read_factor();
    if (rope_config.get_or<double>("beta_fast", 0) != 0)
      rope.beta_fast = rope_config.positive("beta_fast");
    if (rope_config.get_or<double>("beta_slow", 0) != 0)
      rope.beta_slow = rope_config.positive("beta_slow");
    if (rope_config.has("llama_4_scaling_beta"))
      rope.sharpen_beta = rope_config.positive("llama_4_scaling_beta");
    rope.truncate = rope_config.get_or<bool>("truncate", true);
    const auto grown = [&](double m) {
      return rope.factor <= 1 ? 1.0 : 0.1 * m * std::log(rope.factor) + 1;
    };
    const double mscale = rope_config.get_or<double>("mscale", 0),
                 all_dim = rope_config.get_or<double>("mscale_all_dim", 0);
    rope.amplitude = rope_config.has("attention_factor") ? rope_config.positive("attention_factor")
                     : mscale != 0 && all_dim != 0       ? grown(mscale) / grown(all_dim)
                                                         : grown(1);
    rope.score_scale = all_dim != 0 ? grown(all_dim) * grown(all_dim) : 1;
  } else if (type == "longrope" || type == "su") {
    rope.kind = Rope::Kind::longrope;
    at_least_one_position();
    rope.factor = read_factor();
    for (const auto& [key, list] : {std::pair{"short_factor", &rope.short_stretches},
                                    std::pair{"long_factor", &rope.long_stretches}}) {
      *list = rope_config.get<std::vector<double>>(key);
      if (static_cast<Index>(list->size()) != rope.dims / 2)
        rope_config.fail("\"", key, "\" has ", list->size(), " numbers for ", rope.dims / 2,
                         " pairs of coordinates");
      for (const double x : *list)
        if (!(x > 0 && std::isfinite(x))) rope_config.fail("\"", key, "\" has the number ", x);
    }
    rope.amplitude = rope_config.has("attention_factor") ? rope_config.positive("attention_factor")
                     : rope.factor <= 1
                         ? 1.0
                         : std::sqrt(1 + std::log(rope.factor) / std::log(rope.original_positions));
    if (!std::isfinite(rope.amplitude)) rope_config.fail("the original context is 1 position");
  } else if (type == "dynamic") {
    if (rope_config.has("alpha")) {  // Hunyuan: always
      const auto d = static_cast<double>(rope.dims);
      rope_config.has("factor");
      rope.theta *= std::pow(rope_config.positive("alpha"), d / (d - 2));
      return;
    }
    rope.kind = Rope::Kind::dynamic;
    at_least_one_position();
    rope.factor = rope_config.positive("factor");
  } else if (type != "default") {
    rope_config.fail("the rope type \"", type,
                     "\" is not supported (default, linear, llama3, yarn, longrope and dynamic "
                     "are)");
  }
}

/// transformers 5 keeps everything in rope_parameters; earlier versions in rope_theta and
/// rope_scaling, which transformers 5 prefers where it is not empty.
/// \param head_dim  coordinates of a head
inline Rope parse_rope(const ConfigReader& config, Index head_dim, std::vector<std::string>& notes,
                       const RopeRules& rules = {}) {
  const auto part = [&](const char* key) {
    const nlohmann::json value = config.has(key) ? config.json()[key] : nlohmann::json::object();
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
  const double partial = rules.ignores_partial ? 1.0 : turning.value().value_or(rules.partial);
  if (rules.is_mixed)
    for (const ConfigReader* place : {&from_scaling, &from_parameters})
      for (const char* key : {"mrope_section", "mrope_interleaved"}) place->has(key);
  if (partial != 1 && !rules.may_be_partial)
    config.fail("\"partial_rotary_factor\" = ", partial, " is not supported (1 is)");

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
  rope.dims = static_cast<Index>(static_cast<double>(head_dim) * partial);
  if (rope.dims < 2 || rope.dims > head_dim || rope.dims % 2 != 0)
    config.fail("\"partial_rotary_factor\" = ", partial, " turns ", rope.dims, " of ", head_dim,
                " coordinates of a head, which is not an even number of them");
  rope.theta = theta.value().value_or(rules.theta);
  read_rope_scaling(config, rope_config, type, original.value(), rope);
  for (const ConfigReader* place : {&from_scaling, &from_parameters})
    place->finish_strictly("the rope type \"" + type + "\"", "[1, false]");
  return rope;
}

/// Layers of two kinds with rules of their own: nested in rope_parameters, as transformers 5 writes
/// them, or one rule for both.
struct LayerRopes {
  Rope full, sliding;
};

/// \param scaling_of_both  old files: whether rope_scaling concerns sliding layers, too
inline LayerRopes parse_layer_ropes(const ConfigReader& config, Index head_dim,
                                    std::vector<std::string>& notes, const RopeRules& rules,
                                    bool scaling_of_both) {
  const bool nested = config.has("rope_parameters") &&
                      config.json()["rope_parameters"].is_object() &&
                      config.json()["rope_parameters"].contains("full_attention");
  const auto of = [&](const char* kind) {
    nlohmann::json json = config.json();
    json["rope_parameters"] = config.json()["rope_parameters"][kind];
    json.erase("rope_theta");
    json.erase("rope_scaling");
    return parse_rope(ConfigReader(json, config.where() + ": " + kind), head_dim, notes, rules);
  };
  if (nested) {
    for (const auto& [kind, rule] : config.json()["rope_parameters"].items())
      if (kind != "full_attention" && kind != "sliding_attention")
        config.fail("\"rope_parameters\" has settings for \"", kind,
                    "\" layers, which is not supported");
    for (const char* key : {"rope_theta", "rope_scaling", "original_max_position_embeddings"})
      config.has(key);  // read by each kind
    return {of("full_attention"), of("sliding_attention")};
  }
  LayerRopes ropes;
  ropes.full = ropes.sliding = parse_rope(config, head_dim, notes, rules);
  if (!scaling_of_both) ropes.sliding = Rope{.dims = ropes.full.dims, .theta = ropes.full.theta};
  return ropes;
}

}  // namespace gptq::model::architecture
