// SPDX-License-Identifier: MIT
#pragma once

// Rotary position embeddings as config.json files describe them.

#include <gptq/model/config_reader.hpp>
#include <gptq/model/rope.hpp>

#include <nlohmann/json.hpp>

#include <optional>
#include <string>
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

/// transformers 5 keeps everything in rope_parameters; earlier versions in rope_theta and
/// rope_scaling, which transformers 5 prefers where it is not empty.
/// \param head_dim  coordinates of a head
inline Rope parse_rope(const ConfigReader& config, Index head_dim,
                       std::vector<std::string>& notes) {
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
  rope.dims = head_dim;
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

}  // namespace gptq::model::architecture
