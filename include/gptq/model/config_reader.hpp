// SPDX-License-Identifier: MIT
#pragma once

// ConfigReader: reads keys of a config.json, keeps track of them, and checks the ones never read.

#include <gptq/core/error.hpp>
#include <gptq/core/matrix_view.hpp>
#include <gptq/io/number.hpp>
#include <gptq/io/tensor.hpp>
#include <gptq/model/config_keys.hpp>

#include <nlohmann/json.hpp>

#include <cmath>  // std::isfinite
#include <set>
#include <string>
#include <type_traits>
#include <utility>  // std::move
#include <vector>

namespace gptq::model {

/// Reads keys of one JSON object; errors name the file and the key. A key whose value is null
/// counts as missing.
class ConfigReader {
 public:
  /// \throws FormatError  `json` is not an object
  ConfigReader(const nlohmann::json& json, std::string where)
      : json_(json), where_(std::move(where)) {
    if (!json_.is_object()) fail("is ", json_.dump().substr(0, 80), ", not an object");
  }

  /// Whether the key has a value; marks it as read.
  bool has(const char* key) const {
    read_.insert(key);
    return json_.contains(key) && !json_[key].is_null();
  }

  /// Whether somebody has asked for the key.
  bool was_read(const std::string& key) const { return read_.count(key) > 0; }

  /// All keys that somebody has asked for, whether they are there or not.
  std::vector<std::string> known_keys() const { return {read_.begin(), read_.end()}; }

  /// Whether the key is present, even if null.
  bool mentions(const char* key) const { return json_.contains(key); }

  /// \throws FormatError  the key is missing or its value is not a T; numbers are never truncated,
  /// and 0 and 1 count as flags, as in Python
  template <class T>
  T get(const char* key) const {
    if (!has(key)) fail("has no \"", key, "\"");
    const nlohmann::json& value = json_[key];
    if constexpr (std::is_same_v<T, bool>) {
      if (value.is_boolean()) return value.get<bool>();
      if (const auto number = io::json_number_as<int>(value); number == 0 || number == 1)
        return *number == 1;
      fail("\"", key, "\" has the value ", text(value), "; expected true or false");
    } else if constexpr (std::is_arithmetic_v<T>) {
      if (const auto number = io::json_number_as<T>(value)) return *number;
    } else {
      try {
        return value.get<T>();
      } catch (const nlohmann::json::exception&) {}
    }
    fail("\"", key, "\" has the value ", text(value), ", which is not of the expected type");
  }

  template <class T>
  T get_or(const char* key, T otherwise) const {
    return has(key) ? get<T>(key) : otherwise;
  }

  /// A whole number from `least` to 10⁹.
  Index size(const char* key, double least = 1) const {
    const auto value = get<double>(key);
    if (!(value >= least && value <= 1e9 && value == std::floor(value)))
      fail("\"", key, "\" = ", value, " is not a size");
    return static_cast<Index>(value);
  }
  Index size_or(const char* key, Index otherwise) const { return has(key) ? size(key) : otherwise; }

  double positive(const char* key) const {
    const auto value = get<double>(key);
    if (!(std::isfinite(value) && value > 0))
      fail("\"", key, "\" = ", value, " is not positive and finite");
    return value;
  }

  /// Checks all keys that were not read.
  /// \param what  what they belong to, for messages
  /// \returns     a note on unknown keys, or ""
  /// \throws FormatError  a key that changes what the model computes
  std::string finish(const std::string& what) const {
    std::vector<std::string> unknown;
    for (const auto& [key, value] : json_.items()) {
      if (read_.count(key) > 0) continue;
      switch (detail::key_meaning(key, value)) {
        case detail::KeyMeaning::harmless: break;
        case detail::KeyMeaning::unknown: unknown.push_back(key); break;
        case detail::KeyMeaning::computing:
          fail("\"", key, "\" = ", text(value), " changes what a ", what,
               " computes, which is not supported");
        case detail::KeyMeaning::suspicious:
          fail("\"", key, "\" = ", text(value),
               " is unknown, and its name suggests that it changes "
               "what the model computes (delete it from the file if it does not)");
      }
    }
    if (unknown.empty()) return {};
    return gptq::detail::message(where_, ": unknown, ignored: ", io::some_of(unknown));
  }

  /// For objects in which every key matters.
  /// \throws FormatError  a key that was not read has a value other than null or one of `neutral`
  /// (a JSON list)
  void finish_strictly(const std::string& what, const char* neutral = detail::never) const {
    for (const auto& [key, value] : json_.items())
      if (read_.count(key) == 0 && !detail::is_one_of(value, neutral))
        fail("\"", key, "\" = ", text(value), " is not supported for ", what);
  }

  template <class... Parts>
  [[noreturn]] void fail(const Parts&... parts) const {
    throw FormatError(gptq::detail::message(where_, ": ", parts...));
  }

  const std::string& where() const { return where_; }
  const nlohmann::json& json() const { return json_; }

  /// A value as text, for messages.
  static std::string text(const nlohmann::json& value) {
    if (value.is_number_float() && !std::isfinite(value.get<double>()))
      return gptq::detail::message(value.get<double>());
    const std::string all = value.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
    return all.size() > 200 ? all.substr(0, 200) + "..." : all;
  }

 private:
  const nlohmann::json& json_;
  std::string where_;
  mutable std::set<std::string> read_;
};

}  // namespace gptq::model
