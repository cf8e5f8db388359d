// SPDX-License-Identifier: MIT
#pragma once

// Rotary position embeddings as GGUF files describe them.

#include <gptq/model/gguf_reader.hpp>
#include <gptq/model/rope.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>  // std::max_element
#include <cmath>      // std::abs
#include <string>
#include <utility>  // std::pair
#include <vector>

namespace gptq::model::detail {

/// YaRN as the rope_scaling of a config.json; null: the file has another kind or none.
inline nlohmann::ordered_json gguf_yarn(const GgufReader& reader) {
  if (reader.get_or<std::string>("rope.scaling.type", "") != "yarn") return nullptr;
  nlohmann::ordered_json yarn{
      {"rope_type", "yarn"},
      {"factor", reader.positive("rope.scaling.factor")},
      {"original_max_position_embeddings", reader.size("rope.scaling.original_context_length")}};
  for (const auto& [name, key] : {std::pair{"rope.scaling.yarn_beta_fast", "beta_fast"},
                                  std::pair{"rope.scaling.yarn_beta_slow", "beta_slow"}})
    if (reader.has(name)) yarn[key] = reader.positive(name);
  return yarn;
}

/// RoPE scaling as llama.cpp reads it, as the rope_scaling of a config.json; null: none.
inline nlohmann::ordered_json gguf_rope_scaling(const GgufReader& reader) {
  if (auto yarn = gguf_yarn(reader); !yarn.is_null()) return yarn;
  // Without a type, scaling is linear; without a factor, there is none.
  const auto type = reader.get_or<std::string>("rope.scaling.type", "linear");
  if (type != "none" && type != "linear")
    reader.fail("the rope scaling \"", type, "\" (", reader.key("rope.scaling.type"),
                ") is not supported (none, linear and yarn are)");
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
inline nlohmann::ordered_json llama3_rope_scaling(const io::GgufFiles& gguf, double theta,
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

/// The rope_scaling of a config.json; null: none.
/// \throws FormatError  scaling that a config.json cannot express
inline nlohmann::ordered_json read_gguf_rope(const GgufReader& reader, double theta,
                                             Index head_dim) {
  auto scaling = gguf_rope_scaling(reader);
  if (!reader.files().contains("rope_freqs.weight")) return scaling;
  if (!scaling.is_null())
    reader.fail("has the tensor rope_freqs.weight and ", reader.key("rope.scaling.factor"), " = ",
                scaling["factor"].get<double>(), "; only one of the two is supported");
  return llama3_rope_scaling(reader.files(), theta, head_dim);
}

}  // namespace gptq::model::detail
