// SPDX-License-Identifier: MIT
#pragma once

// The normalizer of a tokenizer.json: what happens to the text before it is cut.

#include <gptq/model/tokenizer/regex.hpp>
#include <gptq/model/tokenizer/unicode.hpp>

#include <nlohmann/json.hpp>

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace gptq::model {

/// A component that this library does not implement, with the way round it.
[[noreturn]] inline void unsupported_component(const std::string& what) {
  throw FormatError(gptq::detail::message("the tokenizer uses ", what,
                                          ", which is not supported; tokenize with another program "
                                          "and pass the ids with --tokens FILE"));
}

/// What happens to a text before it is cut.
class Normalizer {
 public:
  Normalizer() = default;

  /// \throws FormatError  a type that is not supported
  explicit Normalizer(const nlohmann::json& config) { add(config); }

  std::string operator()(std::string text) const {
    for (const auto& step : steps_) text = step(std::move(text));
    return text;
  }

 private:
  void add(const nlohmann::json& config) {
    if (config.is_null()) return;
    const auto type = config.at("type").get<std::string>();
    if (type == "Sequence") {
      for (const auto& part : config.at("normalizers")) add(part);
    } else if (type == "NFC" || type == "NFD" || type == "NFKC" || type == "NFKD") {
      using unicode::Form;
      const Form form = type == "NFC"    ? Form::nfc
                        : type == "NFD"  ? Form::nfd
                        : type == "NFKC" ? Form::nfkc
                                         : Form::nfkd;
      steps_.emplace_back(
          [form](const std::string& text) { return unicode::normalize(text, form); });
    } else if (type == "Prepend") {
      steps_.emplace_back(
          [prefix = config.at("prepend").get<std::string>()](const std::string& text) {
            return text.empty() ? text : prefix + text;
          });
    } else if (type == "Replace") {
      add_replace(config);
    } else {
      unsupported_component("the normalizer " + type);
    }
  }

  void add_replace(const nlohmann::json& config) {
    const auto content = config.at("content").get<std::string>();
    const auto& pattern = config.at("pattern");
    std::optional<Regex> regex;
    if (pattern.contains("Regex")) regex.emplace(pattern["Regex"].get<std::string>());
    const std::string literal = regex ? "" : pattern.at("String").get<std::string>();
    if (!regex && literal.empty()) unsupported_component("the normalizer Replace of an empty text");
    steps_.emplace_back([=](const std::string& text) {
      std::string out;
      std::size_t done = 0;
      const auto replace = [&](std::size_t begin, std::size_t end) {
        out.append(text, done, begin - done).append(content);
        done = end;
      };
      if (regex)
        for (const auto& [begin, end] : regex->find_all(text)) replace(begin, end);
      else
        for (std::size_t at = text.find(literal); at != std::string::npos;
             at = text.find(literal, done))
          replace(at, at + literal.size());
      return out.append(text, done);
    });
  }

  std::vector<std::function<std::string(std::string)>> steps_;
};

}  // namespace gptq::model
