// SPDX-License-Identifier: MIT
#pragma once

// JSON from files that may be hostile, or that Python wrote: nesting is bounded, and NaN, Infinity
// and -Infinity are accepted as numbers.

#include <gptq/io/file_kind.hpp>
#include <gptq/io/output_file.hpp>

#include <nlohmann/json.hpp>

#include <filesystem>
#include <limits>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace gptq::io {

namespace detail {

/// A number that JSON cannot express passes through the parser as a string that no file contains.
struct PythonNumber {
  std::string_view word, stand_in;
  double value;
};
inline constexpr PythonNumber python_numbers[] = {
    {"-Infinity", "\"\\u0000-Infinity\"", -std::numeric_limits<double>::infinity()},
    {"Infinity", "\"\\u0000Infinity\"", std::numeric_limits<double>::infinity()},
    {"NaN", "\"\\u0000NaN\"", std::numeric_limits<double>::quiet_NaN()}};

/// Replaces these words outside strings. \returns whether there were any
inline bool replace_python_numbers(std::string_view text, std::string& out) {
  if (text.find("NaN") == std::string_view::npos && text.find("Infinity") == std::string_view::npos)
    return false;
  out.clear();
  bool inside = false, any = false;
  for (std::size_t i = 0; i < text.size();) {
    std::size_t taken = 0;
    if (inside && text[i] == '\\' && i + 1 < text.size()) {
      out += text[i++];
    } else if (text[i] == '"') {
      inside = !inside;
    } else if (!inside) {
      for (const PythonNumber& number : python_numbers)
        if (taken == 0 && text.substr(i, number.word.size()) == number.word) {
          out += number.stand_in;
          taken = number.word.size();
          any = true;
        }
    }
    if (taken == 0) out += text[i++];
    i += taken;
  }
  return any;
}

template <class Json>
void restore_python_number(Json& parsed) {
  if (!parsed.is_string()) return;
  const auto& text = parsed.template get_ref<const std::string&>();
  if (text.empty() || text.front() != '\0') return;
  for (const PythonNumber& number : python_numbers)
    if (std::string_view(text).substr(1) == number.word) {
      parsed = number.value;
      return;
    }
}

}  // namespace detail

/// \param watch  called with each event and the value parsed; values for which it returns false are
/// dropped
/// \throws nlohmann::json::exception, FormatError
template <class Json = nlohmann::json, class Watch>
Json parse_json(std::string_view text, const Watch& watch) {
  constexpr int deepest = 64;
  std::string replaced;
  const bool python = detail::replace_python_numbers(text, replaced);
  return Json::parse(
      python ? std::string_view(replaced) : text,
      [&](int depth, typename Json::parse_event_t event, Json& parsed) {
        if (depth > deepest)
          throw FormatError(gptq::detail::message("JSON nested deeper than ", deepest, " levels"));
        if (python && event == Json::parse_event_t::value) detail::restore_python_number(parsed);
        return watch(event, parsed);
      });
}

template <class Json = nlohmann::json>
Json parse_json(std::string_view text) {
  return parse_json<Json>(text, [](auto, const Json&) { return true; });
}

/// A watch for `parse_json` that finds duplicate keys in an object.
class TwiceWatch {
 public:
  template <class Json>
  bool operator()(typename Json::parse_event_t event, const Json& parsed) {
    using Event = typename Json::parse_event_t;
    if (event == Event::object_start) keys_.emplace_back();
    if (event == Event::object_end) keys_.pop_back();
    if (event == Event::key &&
        !keys_.back().insert(parsed.template get_ref<const std::string&>()).second)
      twice_ = parsed.template get_ref<const std::string&>();
    return true;
  }

  /// The duplicate key, or "".
  const std::string& twice() const { return twice_; }

 private:
  std::vector<std::set<std::string>> keys_;  // of each open object
  std::string twice_;
};

/// Reads a JSON file.
/// \param keys_once  refuse duplicate keys, for which parsers see different values
/// \throws FormatError  not valid JSON; the message names the file, and what it is instead
template <class Json = nlohmann::json>
Json read_json(const std::filesystem::path& path, bool keys_once = false) {
  const std::string text = read_file(path);
  try {
    TwiceWatch watch;
    Json json =
        keys_once ? parse_json<Json>(
                        text, [&](auto event, const Json& parsed) { return watch(event, parsed); })
                  : parse_json<Json>(text);
    gptq::detail::require<FormatError>(watch.twice().empty(), "has the key \"", watch.twice(),
                                       "\" twice");
    return json;
  } catch (const nlohmann::json::exception& error) {
    const auto kind = file_kind(std::as_bytes(std::span(text.data(), text.size())));
    throw FormatError(gptq::detail::message(path.string(), ": ",
                                            kind.empty() ? "not valid JSON: " : "is ",
                                            kind.empty() ? error.what() : kind));
  } catch (const FormatError& error) {
    throw FormatError(gptq::detail::message(path.string(), ": ", error.what()));
  }
}

}  // namespace gptq::io
