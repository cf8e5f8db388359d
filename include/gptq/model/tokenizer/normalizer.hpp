// SPDX-License-Identifier: MIT
#pragma once

// The normalizer of a tokenizer.json: what happens to the text before it is split.

#include <gptq/model/tokenizer/character_classes.hpp>
#include <gptq/model/tokenizer/regex.hpp>
#include <gptq/model/tokenizer/unicode.hpp>

#include <nlohmann/json.hpp>

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>  // std::pair
#include <vector>

namespace gptq::model {

/// Whether {Word} or {^Word} follows, in any spelling.
inline bool is_word_property(std::string_view text) {
  std::string name;
  for (const char c : text.substr(0, text.find('}')))
    if (std::string_view("{^ _-").find(c) == std::string_view::npos)
      name += static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  return name == "word";
}

/// Whether a group begins that sets option P: POSIX brackets match ASCII only.
inline bool sets_ascii_option(std::string_view text) {
  if (text.substr(0, 2) != "(?") return false;
  const auto options = text.substr(2, text.find_first_not_of("imxWDSPa-", 2) - 2);
  const auto behind = text.substr(2 + options.size(), 1);
  return options.find('P') != options.npos && (behind == ":" || behind == ")");
}

/// Rewrites an expression so that all versions of Oniguruma read it as 6.9.10 does, which the
/// tokenizers library is built with: before 6.9.9, [:punct:] lacks symbols, and repeated line ends
/// (`\\R+`) stop after the first.
inline std::string for_every_oniguruma(std::string_view pattern) {
  const std::pair<std::string_view, std::string_view> names[] = {{"[:punct:]", "\\p{P}\\p{S}"},
                                                                 {"[:^punct:]", "[^\\p{P}\\p{S}]"}};
  std::string out;
  int brackets = 0;  // open ones
  bool ascii = false, punctuation = false;
  while (!pattern.empty()) {
    std::size_t taken = pattern[0] == '\\' && pattern.size() > 1 ? 2 : 1;
    std::string_view written = pattern.substr(0, taken);
    if (brackets == 0 && pattern.substr(0, 3) == "(?~")
      unsupported_component("an expression with (?~...)");  // read differently since 6.9.9
    if (brackets == 0) ascii = ascii || sets_ascii_option(pattern);
    if ((written == "\\p" || written == "\\P") && is_word_property(pattern.substr(2)))
      unsupported_component("an expression with \\p{Word} (\\w means the same)");
    if (brackets == 0 && written == "\\R")
      written = "(?>\\r\\n|[\\n-\\r\\x{85}\\x{2028}\\x{2029}])";
    for (const auto& [name, meaning] : names)
      if (brackets > 0 && pattern.substr(0, name.size()) == name) {
        taken = name.size();
        written = meaning;
        punctuation = true;
      }
    if (written == "[") {
      ++brackets;
      for (const char literal : {'^', ']'})  // a ] in first place is literal
        if (pattern.substr(taken, 1) == std::string_view(&literal, 1)) ++taken;
      written = pattern.substr(0, taken);
    } else if (written == "]" && brackets > 0) {
      --brackets;
    }
    out += written;
    pattern.remove_prefix(taken);
  }
  if (ascii && punctuation) unsupported_component("an expression with (?P) and [:punct:]");
  return out;
}

/// An expression of a tokenizer.json.
/// \throws FormatError  Oniguruma does not accept it
inline Regex tokenizer_regex(const std::string& pattern) {
  try {
    return Regex(for_every_oniguruma(pattern));
  } catch (const InvalidArgument& error) {
    throw FormatError(gptq::detail::message(error.what(), "; ", tokenize_elsewhere));
  }
}

/// A string of a tokenizer.json that becomes part of the text.
/// \throws FormatError  it is not valid UTF-8
inline std::string tokenizer_text(const nlohmann::json& json) {
  auto text = json.get<std::string>();
  unicode::require_utf8(text);
  return text;
}

/// Calls `f(begin, end)` wherever `part`, which is not empty, occurs in the text.
template <class F>
bool for_each_literal(std::string_view text, std::string_view part, Effort& effort, const F& f) {
  for (std::size_t at = text.find(part); at != text.npos; at = text.find(part, at + part.size())) {
    effort.step();
    if (!f(at, at + part.size())) return false;
  }
  return true;
}

/// What happens to a text before it is split.
class Normalizer {
 public:
  Normalizer() = default;

  /// \throws FormatError  an unsupported type
  explicit Normalizer(const nlohmann::json& config) { add(config, 0); }

  bool empty() const { return steps_.empty(); }

  /// \throws FormatError  the text becomes too large, or an expression takes too many steps
  std::string operator()(std::string text, Effort& effort) const {
    for (const auto& step : steps_) {
      effort.pause();
      text = step(std::move(text), effort);
      effort.require_size(text.size());
    }
    return text;
  }

 private:
  using Step = std::function<std::string(std::string, Effort&)>;

  void add(const nlohmann::json& config, int depth) {
    if (config.is_null()) return;
    const auto type = config.at("type").get<std::string>();
    if (type == "Sequence") {
      if (depth > 16) unsupported_component("a normalizer nested deeper than 16 levels");
      for (const auto& part : config.at("normalizers")) add(part, depth + 1);
    } else if (type == "NFC" || type == "NFD" || type == "NFKC" || type == "NFKD") {
      using unicode::Form;
      const Form form = type == "NFC"    ? Form::nfc
                        : type == "NFD"  ? Form::nfd
                        : type == "NFKC" ? Form::nfkc
                                         : Form::nfkd;
      steps_.emplace_back([form](const std::string& text, Effort& effort) {
        return unicode::normalize(text, form, [&] { effort.step(); });
      });
    } else if (type == "Prepend") {
      steps_.emplace_back(
          [prefix = tokenizer_text(config.at("prepend"))](const std::string& text, Effort&) {
            return text.empty() ? text : prefix + text;
          });
    } else if (type == "Replace") {
      add_replace(config);
    } else if (type == "Lowercase") {
      steps_.emplace_back(
          [](const std::string& text, Effort&) { return unicode::lower_case(text); });
    } else if (type == "StripAccents") {
      steps_.emplace_back([](const std::string& text, Effort&) {
        std::string out;
        for (std::string_view rest = text; !rest.empty();) {
          const auto [code_point, size] = unicode::first_character(rest);
          if (!unicode::is_mark(code_point)) out += rest.substr(0, size);
          rest.remove_prefix(size);
        }
        return out;
      });
    } else if (type == "Strip") {
      add_strip(config.value("strip_left", false), config.value("strip_right", false));
    } else if (type == "ByteLevel") {
      steps_.emplace_back(
          [](const std::string& text, Effort&) { return unicode::to_byte_alphabet(text); });
    } else {
      unsupported_component("the normalizer " + type);
    }
  }

  /// Removes white space from the ends of the text.
  void add_strip(bool left, bool right) {
    steps_.emplace_back([left, right](const std::string& text, Effort&) {
      std::string_view rest = text;
      while (left && !rest.empty()) {
        const auto [code_point, size] = unicode::first_character(rest);
        if (!unicode::is_white_space(code_point)) break;
        rest.remove_prefix(size);
      }
      while (right && !rest.empty()) {
        const std::string_view last = unicode::last_character(rest);
        if (!unicode::is_white_space(unicode::first_character(last).code_point)) break;
        rest.remove_suffix(last.size());
      }
      return std::string(rest);
    });
  }

  void add_replace(const nlohmann::json& config) {
    const auto content = tokenizer_text(config.at("content"));
    const auto& pattern = config.at("pattern");
    std::optional<Regex> regex;
    if (pattern.contains("Regex")) regex = tokenizer_regex(pattern["Regex"].get<std::string>());
    const std::string literal = regex ? "" : tokenizer_text(pattern.at("String"));
    if (!regex && literal.empty())
      unsupported_component("the normalizer Replace with an empty pattern");
    steps_.emplace_back([=](const std::string& text, Effort& effort) {
      std::string out;
      std::size_t done = 0;
      const auto replace = [&](std::size_t begin, std::size_t end) {
        out.append(text, done, begin - done).append(content);
        effort.require_size(out.size());
        done = end;
        return true;
      };
      if (regex) regex->for_each_match(text, effort, replace);
      else for_each_literal(text, literal, effort, replace);
      return out.append(text, done);
    });
  }

  std::vector<Step> steps_;
};

}  // namespace gptq::model
