// SPDX-License-Identifier: MIT
#pragma once

// GgufReader: reads the metadata keys of one architecture, keeps track of them, and checks the ones
// never read.

#include <gptq/core/error.hpp>
#include <gptq/io/gguf_files.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>  // std::find, std::find_if
#include <cmath>      // std::isfinite
#include <cstdint>
#include <iterator>  // std::begin
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>  // std::move

namespace gptq::model::detail {

/// Whether a value, or every element of an array, is in a JSON list.
inline bool is_gguf_value_of(const io::GgufValue& value, const char* list) {
  const auto all = nlohmann::json::parse(list);
  const auto one_of = [&](const io::GgufValue& element) {
    for (const auto& wanted : all)
      if (wanted.is_boolean()  ? element.as<bool>() == wanted.get<bool>()
          : wanted.is_string() ? element.as<std::string>() == wanted.get<std::string>()
                               : element.as<double>() == wanted.get<double>())
        return true;
    return false;
  };
  const io::GgufArray* array = value.array();
  return array ? io::GgufValue::for_each(*array, one_of) : one_of(value);
}

/// A GGUF metadata key, without its "llama." prefix, that is not read, and its neutral values (as
/// JSON; for an array, those of its elements).
struct GgufKey {
  std::string_view name;
  const char* neutral;
};

inline constexpr GgufKey gguf_neutral_keys[] = {{"attention.causal", "[true]"},
                                                {"attention.clamp_kqv", "[0]"},
                                                {"attention.key_length_mla", "[0]"},
                                                {"attention.key_length_swa", "[0]"},
                                                {"attention.kv_lora_rank", "[0]"},
                                                {"attention.max_alibi_bias", "[0]"},
                                                {"attention.output_scale", "[0, 1]"},
                                                {"attention.q_lora_rank", "[0]"},
                                                {"attention.relative_buckets_count", "[0]"},
                                                {"attention.shared_kv_layers", "[0]"},
                                                {"attention.sliding_window_pattern", "[0, false]"},
                                                {"attention.temperature_length", "[0]"},
                                                {"attention.temperature_scale", "[0]"},
                                                {"attention.value_length_mla", "[0]"},
                                                {"attention.value_length_swa", "[0]"},
                                                {"attn_logit_softcapping", "[0]"},
                                                {"embedding_scale", "[0, 1]"},
                                                {"expert_feed_forward_length", "[0]"},
                                                {"expert_gating_func", "[0]"},
                                                {"expert_group_count", "[0]"},
                                                {"expert_group_used_count", "[0]"},
                                                {"expert_shared_count", "[0]"},
                                                {"expert_shared_feed_forward_length", "[0]"},
                                                {"expert_used_count", "[0]"},
                                                {"expert_weights_norm", "[false]"},
                                                {"expert_weights_scale", "[0, 1]"},
                                                {"final_logit_softcapping", "[0]"},
                                                {"hidden_activation", R"(["", "silu", "swish"])"},
                                                {"interleave_moe_layer_step", "[0]"},
                                                {"leading_dense_block_count", "[0]"},
                                                {"logit_scale", "[0, 1]"},
                                                {"moe_every_n_layers", "[0]"},
                                                {"nextn_predict_layers", "[0]"},
                                                {"pooling_type", "[0, -1, 4294967295]"},
                                                {"residual_scale", "[0, 1]"},
                                                {"rope.dimension_sections", "[0]"},
                                                {"rope.scaling.attn_factor", "[1]"},
                                                {"rope.scaling.yarn_attn_factor", "[1, -1]"},
                                                {"rope.scaling.yarn_ext_factor", "[0, -1]"},
                                                {"rope.scaling.yarn_log_multiplier", "[0]"},
                                                {"swin_norm", "[false]"},
                                                {"use_parallel_residual", "[false]"}};

/// Keys that do not affect what llama.cpp computes for these architectures: those of YaRN's ramp
/// matter only together with yarn_ext_factor.
inline constexpr std::string_view gguf_harmless_keys[] = {
    "attention.group_norm_epsilon", "attention.group_norm_groups", "attention.layer_norm_epsilon",
    "classifier.output_labels",     "decoder_start_token_id",      "rope.scaling.finetuned",
    "rope.scaling.yarn_beta_fast",  "rope.scaling.yarn_beta_slow", "tensor_data_layout"};

/// Keys that may have one value per layer.
inline constexpr std::string_view gguf_layered_keys[] = {
    "attention.head_count", "attention.head_count_kv", "feed_forward_length"};

/// Reads the keys of one architecture, keeps track of them, and checks the ones never read.
class GgufReader {
 public:
  GgufReader(const io::GgufFiles& gguf, std::string prefix)
      : gguf_(gguf), prefix_(std::move(prefix)) {}

  const io::GgufFiles& files() const { return gguf_; }
  /// Whether somebody has asked for the key.
  bool was_read(const std::string& name) const { return read_.count(name) > 0; }

  std::string key(const std::string& name) const { return prefix_ + name; }
  bool has(const std::string& name) const {
    read_.insert(name);
    return gguf_.has(key(name));
  }
  template <class T>
  T get(const std::string& name) const {
    read_.insert(name);
    if constexpr (std::is_arithmetic_v<T> && !std::is_same_v<T, bool>)
      for (const std::string_view layered : gguf_layered_keys)
        if (const auto found = gguf_.metadata().find(key(name));
            layered == name && found != gguf_.metadata().end() && found->second.array())
          return of_all_layers<T>(name, *found->second.array());
    return gguf_.get<T>(key(name));
  }
  template <class T>
  T get_or(const std::string& name, T otherwise) const {
    return has(name) ? get<T>(name) : otherwise;
  }
  /// A whole number from 1 to 10⁹.
  std::uint64_t size(const std::string& name) const {
    const auto value = get<std::uint64_t>(name);
    if (value == 0 || value > 1'000'000'000) fail(key(name), " = ", value, " is not a size");
    return value;
  }
  std::uint64_t size_or(const std::string& name, std::uint64_t otherwise) const {
    return has(name) ? size(name) : otherwise;
  }
  /// A number that is positive and finite.
  double positive(const std::string& name) const {
    const auto value = get<double>(name);
    if (!(std::isfinite(value) && value > 0))
      fail(key(name), " = ", value, " is not positive and finite");
    return value;
  }

  /// \throws FormatError  a key of this architecture that was not read changes what the model
  /// computes, or might
  void finish() const {
    for (auto entry = gguf_.metadata().lower_bound(prefix_);
         entry != gguf_.metadata().end() && entry->first.rfind(prefix_, 0) == 0; ++entry) {
      const std::string name = entry->first.substr(prefix_.size());
      if (read_.count(name) > 0) continue;
      const auto known = std::find_if(std::begin(gguf_neutral_keys), std::end(gguf_neutral_keys),
                                      [&](const GgufKey& k) { return k.name == name; });
      if (known != std::end(gguf_neutral_keys)) {
        if (!is_gguf_value_of(entry->second, known->neutral))
          fail("the metadata key ", entry->first, " = ", entry->second.text(),
               " changes what the model computes, which is not supported");
      } else if (std::find(std::begin(gguf_harmless_keys), std::end(gguf_harmless_keys), name) ==
                 std::end(gguf_harmless_keys)) {
        fail("the metadata key ", entry->first, " = ", entry->second.text(),
             " is unknown, and such keys may change what the model computes (remove it if "
             "this one does not)");
      }
    }
  }

  template <class... Parts>
  [[noreturn]] void fail(const Parts&... parts) const {
    throw FormatError(gptq::detail::message(gguf_.path().string(), ": ", parts...));
  }

 private:
  /// \throws FormatError  the values differ between layers, or there is not one per layer
  template <class T>
  T of_all_layers(const std::string& name, const io::GgufArray& array) const {
    const auto layers = get<std::uint64_t>("block_count");
    if (array.count != layers || layers == 0)
      fail(key(name), " has ", array.count, " entries for ", layers, " layers (",
           key("block_count"), ")");
    std::optional<T> first;
    std::uint64_t at = 0;
    io::GgufValue::for_each(array, [&](const io::GgufValue& element) {
      const auto value = element.as<T>();
      if (!value)
        fail(key(name), "[", at, "] = ", element.text(), " is not a number of the expected type");
      if (!first) first = value;
      if (*value != *first)
        fail(key(name), "[0] = ", *first, " and ", key(name), "[", at, "] = ", *value,
             ": different values per layer are not supported");
      ++at;
      return true;
    });
    return *first;
  }

  const io::GgufFiles& gguf_;
  std::string prefix_;
  mutable std::set<std::string> read_;
};

}  // namespace gptq::model::detail
