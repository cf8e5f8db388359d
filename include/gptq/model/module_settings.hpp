// SPDX-License-Identifier: MIT
#pragma once

// ModuleSettings: how each linear module is quantized, from the settings of the whole run,
// overrides and skips by name.

#include <gptq/core/params.hpp>
#include <gptq/model/description.hpp>
#include <gptq/model/number_type.hpp>
#include <gptq/model/tokenizer/regex.hpp>

#include <charconv>  // std::from_chars
#include <optional>
#include <string>
#include <vector>

namespace gptq::model {

/// Which modules a rule applies to: a full name, or "re:" and a regular expression that must match
/// from the name's start. It is written to the folder, where engines apply it with Python's re.
class NamePattern {
 public:
  /// \throws InvalidArgument  the regular expression is invalid, or Python reads it differently
  explicit NamePattern(const std::string& text)
      : regex_(text.rfind("re:", 0) == 0 ? text.substr(3) : quote(text) + "$",
               Regex::Syntax::python),
        source_(text) {}

  /// \throws InvalidArgument  the expression takes too many steps
  bool matches(const std::string& name) const {
    try {
      return regex_.matches_start(name);
    } catch (const FormatError&) {  // its message is for tokenizers
      throw InvalidArgument(
          gptq::detail::message("the rule ", source_, " takes too many steps at ", name));
    }
  }

  const std::string& text() const { return source_; }

  /// The rule as a regular expression for other programs.
  std::string expression() const {
    return source_.rfind("re:", 0) == 0 ? source_.substr(3) : quote(source_) + "$";
  }

 private:
  static std::string quote(const std::string& text) {
    std::string out = "^";
    for (const char c : text) {
      if (std::string_view(".*+?()[]{}|\\^$").find(c) != std::string_view::npos) out += '\\';
      out += c;
    }
    return out;
  }

  Regex regex_;
  std::string source_;
};

/// Who chooses the codes.
enum class Method {
  gptq,              ///< the solver, calibrated on a text
  round_to_nearest,  ///< nobody: each weight on its own
};

/// How one module is quantized.
struct ModuleSettings {
  int bits = 4;
  bool symmetric = true;
  Index group_size = 128;
  NumberType type = NumberType::integer;

  bool operator==(const ModuleSettings&) const = default;
};

/// Settings with numbers of this type and what belongs to them.
inline ModuleSettings settings_of(const NumberTypeInfo& info) {
  return {.bits = info.bits > 0 ? info.bits : 4, .group_size = info.group_size, .type = info.type};
}

/// "PATTERN=bits:8,group-size:64"
struct Override {
  NamePattern pattern;
  std::optional<int> bits;
  std::optional<Index> group_size;

  /// \throws InvalidArgument  names the wrong part
  static Override parse(const std::string& text) {
    using gptq::detail::require;
    const std::size_t equals = text.rfind('=');
    require(equals != std::string::npos && equals > 0, "the override \"", text,
            "\" is not PATTERN=KEY:VALUE[,KEY:VALUE]");
    Override rule{NamePattern(text.substr(0, equals)), {}, {}};
    std::string rest = text.substr(equals + 1);
    require(!rest.empty(), "the override \"", text,
            "\" changes nothing: nothing follows the = (bits:N, group-size:N)");
    for (bool more = true; more;) {
      const std::size_t comma = (std::min)(rest.find(','), rest.size());
      const std::string part = rest.substr(0, comma);
      more = comma < rest.size();
      rest.erase(0, comma + 1);
      const std::size_t colon = part.find(':');
      require(colon != std::string::npos, "the override \"", text, "\": \"", part,
              "\" is not KEY:VALUE");
      const std::string key = part.substr(0, colon), value = part.substr(colon + 1);
      int number = 0;
      const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
      const bool is_number = error == std::errc{} && end == value.data() + value.size();
      const bool group_size = key == "group-size" || key == "group_size";
      require(!(key == "bits" && rule.bits) && !(group_size && rule.group_size), "the override \"",
              text, "\" has ", key, " twice");
      if (key == "bits" && is_number) rule.bits = number;
      else if (group_size && is_number) rule.group_size = number;
      else
        require(
            false, "the override \"", text, "\": \"", part,
            key == "sym"
                ? "\" would mix symmetric and asymmetric grids, which the GPTQ format "
                  "cannot store: zero points are stored the same way throughout a model (--asym)"
                : "\" is none of bits:N, group-size:N");
    }
    return rule;
  }
};

/// The settings of a run.
struct SettingsTable {
  ModuleSettings base;
  std::vector<Override> overrides;  ///< the first one that matches wins
  std::vector<NamePattern> skips;

  /// The settings of a module; nothing if it is not quantized.
  std::optional<ModuleSettings> find(const std::string& name) const {
    for (const NamePattern& skip : skips)
      if (skip.matches(name)) return std::nullopt;
    ModuleSettings settings = base;
    for (const Override& rule : overrides)
      if (rule.pattern.matches(name)) {
        settings.bits = rule.bits.value_or(settings.bits);
        settings.group_size = rule.group_size.value_or(settings.group_size);
        break;
      }
    return settings;
  }
};

/// f(linear module, settings) for each one that is quantized, layer by layer.
template <class F>
void for_each_quantized(const Description& description, const SettingsTable& table, const F& f) {
  description.for_each_linear([&](const LinearSpec& linear) {
    if (const auto settings = table.find(linear.name)) f(linear, *settings);
  });
}

namespace detail {

/// The rules of a table in order of precedence: skips first.
struct RuleUse {
  std::string option, text;
  Index matches = 0;                 ///< modules whose names match
  Index applies = 0;                 ///< modules not taken by an earlier rule
  std::string first, last, instead;  ///< names of modules, and the rule that came first
};

inline std::vector<RuleUse> rule_uses(const Description& description, const SettingsTable& table) {
  std::vector<RuleUse> uses;
  std::vector<const NamePattern*> patterns;
  const auto add = [&](const char* option, const NamePattern& pattern) {
    uses.push_back({option, pattern.text(), 0, 0, {}, {}, {}});
    patterns.push_back(&pattern);
  };
  for (const NamePattern& skip : table.skips) add("--skip", skip);
  for (const Override& rule : table.overrides) add("--override", rule.pattern);
  description.for_each_linear([&](const LinearSpec& linear) {
    const RuleUse* taken = nullptr;
    for (std::size_t i = 0; i < uses.size(); ++i) {
      if (!patterns[i]->matches(linear.name)) continue;
      ++uses[i].matches;
      if (taken) {
        uses[i].instead = taken->option + " " + taken->text;
        continue;
      }
      taken = &uses[i];
      if (uses[i].applies++ == 0) uses[i].first = linear.name;
      uses[i].last = linear.name;
    }
  });
  return uses;
}

}  // namespace detail

/// How many modules each rule applies to, one sentence each, since an expression easily matches
/// more or less than intended ("model\\.layers\\.1" matches layers 10 to 19 too).
inline std::vector<std::string> rule_notes(const Description& description,
                                           const SettingsTable& table) {
  std::vector<std::string> notes;
  for (const auto& use : detail::rule_uses(description, table)) {
    std::string note =
        gptq::detail::message(use.option, " ", use.text, " applies to ", use.applies,
                              use.applies == 1 ? " module (" : " modules (", use.first);
    if (use.applies > 1) note += " to " + use.last;
    note += ")";
    if (use.applies < use.matches)
      note += gptq::detail::message("; for ", use.matches - use.applies,
                                    " others that it matches, ", use.instead, " takes precedence");
    notes.push_back(std::move(note));
  }
  return notes;
}

}  // namespace gptq::model
