// SPDX-License-Identifier: MIT
#pragma once

// ModuleSettings: how each linear module is quantized, from the settings of the whole run,
// overrides and skips by name.

#include <gptq/core/params.hpp>
#include <gptq/model/layer_weights.hpp>
#include <gptq/model/tokenizer/regex.hpp>
#include <gptq/pack/gptq.hpp>

#include <charconv>  // std::from_chars
#include <optional>
#include <string>
#include <vector>

namespace gptq::model {

/// Which modules a rule is for: a full name, or "re:" and a regular expression that must match from
/// the name's start.
class NamePattern {
 public:
  /// \throws InvalidArgument  the regular expression is wrong
  explicit NamePattern(const std::string& text)
      : regex_(text.rfind("re:", 0) == 0 ? text.substr(3) : quote(text) + "$"), source_(text) {}

  bool matches(const std::string& name) const { return regex_.matches_start(name); }

  const std::string& text() const { return source_; }

  /// As a regular expression for other programs.
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

/// How one module is quantized.
struct ModuleSettings {
  int bits = 4;
  bool symmetric = true;
  Index group_size = 128;

  bool operator==(const ModuleSettings&) const = default;
};

/// "PATTERN=bits:8,group-size:64,sym:false"
struct Override {
  NamePattern pattern;
  std::optional<int> bits;
  std::optional<Index> group_size;
  std::optional<bool> symmetric;

  /// \throws InvalidArgument  names the part that is wrong
  static Override parse(const std::string& text) {
    using gptq::detail::require;
    const std::size_t equals = text.rfind('=');
    require(equals != std::string::npos && equals > 0, "the override \"", text,
            "\" is not PATTERN=KEY:VALUE[,KEY:VALUE]");
    Override rule{NamePattern(text.substr(0, equals)), {}, {}, {}};
    std::string rest = text.substr(equals + 1);
    while (!rest.empty()) {
      const std::size_t comma = (std::min)(rest.find(','), rest.size());
      const std::string part = rest.substr(0, comma);
      rest.erase(0, comma + 1);
      const std::size_t colon = part.find(':');
      require(colon != std::string::npos, "the override \"", text, "\": \"", part,
              "\" is not KEY:VALUE");
      const std::string key = part.substr(0, colon), value = part.substr(colon + 1);
      int number = 0;
      const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
      const bool is_number = error == std::errc{} && end == value.data() + value.size();
      if (key == "bits" && is_number) rule.bits = number;
      else if ((key == "group-size" || key == "group_size") && is_number) rule.group_size = number;
      else if (key == "sym" && (value == "true" || value == "false"))
        rule.symmetric = value == "true";
      else
        require(false, "the override \"", text, "\": \"", part,
                "\" is none of bits:N, group-size:N, sym:true|false");
    }
    return rule;
  }
};

/// The settings of a run.
struct SettingsTable {
  ModuleSettings base;
  std::vector<Override> overrides;  ///< the first one that matches wins
  std::vector<NamePattern> skips;

  /// What applies to a module; nothing where it is left as it is.
  std::optional<ModuleSettings> find(const std::string& name) const {
    for (const NamePattern& skip : skips)
      if (skip.matches(name)) return std::nullopt;
    ModuleSettings settings = base;
    for (const Override& rule : overrides)
      if (rule.pattern.matches(name)) {
        settings.bits = rule.bits.value_or(settings.bits);
        settings.group_size = rule.group_size.value_or(settings.group_size);
        settings.symmetric = rule.symmetric.value_or(settings.symmetric);
        break;
      }
    return settings;
  }
};

/// Checks every module of a model against the format's rules before any work is done.
/// \throws InvalidArgument  names the module, the size and the rule
inline void require_quantizable(const ModelConfig& config, const SettingsTable& table,
                                const Params& params) {
  Index quantized = 0;
  std::vector<bool> used(table.overrides.size() + table.skips.size(), false);
  const auto text_of = [&](std::size_t rule) {
    return rule < table.overrides.size() ? table.overrides[rule].pattern.text()
                                         : table.skips[rule - table.overrides.size()].text();
  };
  for (std::size_t i = 0; i < table.overrides.size(); ++i)
    for (std::size_t j = 0; j < i; ++j)
      gptq::detail::require(text_of(i) != text_of(j), "two overrides are for \"", text_of(i), "\"");
  for (Index layer = 0; layer < config.layers; ++layer)
    for (int m = 0; m < module_count; ++m) {
      const auto module = static_cast<Module>(m);
      const std::string name = full_name(layer, module);
      for (std::size_t i = 0; i < used.size(); ++i)
        if (!used[i])
          used[i] = i < table.overrides.size()
                        ? table.overrides[i].pattern.matches(name)
                        : table.skips[i - table.overrides.size()].matches(name);
      const auto settings = table.find(name);
      if (!settings) continue;
      const ModuleShape shape = module_shape(config, module);
      Params own = params;
      own.group_size = settings->group_size;
      own.validate();
      pack::require_gptq_shape(shape.in, shape.out, settings->bits, name);
      require_divisible(own, shape.in, name);
      ++quantized;
    }
  for (std::size_t i = 0; i < used.size(); ++i)
    gptq::detail::require(used[i], "no module's name matches \"", text_of(i),
                          "\" (names are like model.layers.0.mlp.down_proj; re:EXPRESSION matches "
                          "from the start)");
  gptq::detail::require(quantized > 0, "every module is skipped: there is nothing to quantize");
}

}  // namespace gptq::model
