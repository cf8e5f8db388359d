// SPDX-License-Identifier: MIT
#pragma once

// What is checked of a model, the settings and the format before any work is done.

#include <gptq/core/params.hpp>
#include <gptq/model/format/registry.hpp>
#include <gptq/model/module_settings.hpp>

#include <algorithm>  // std::find
#include <string>
#include <string_view>

namespace gptq::model {

namespace detail {

/// Whether settings are those of their type of numbers, in a format that holds it.
/// \throws InvalidArgument  names the module, the setting and what there is
inline void require_type_fits(const LinearSpec& linear, const ModuleSettings& settings,
                              const Format& format) {
  using gptq::detail::require;
  const NumberTypeInfo& type = info(settings.type);
  const auto types = format.types();
  require(std::find(types.begin(), types.end(), settings.type) != types.end(), "the ",
          format.name(), " format holds no numbers of the type ", type.name, " (", linear.name,
          ")");
  require(type.bits == 0 || settings.bits == type.bits, "bits = ", settings.bits, " of ",
          linear.name, ": ", type.name, " has ", type.bits);
  require(type.any_group || settings.group_size == type.group_size, "groups of ",
          settings.group_size, " of ", linear.name, ": ", type.name, " has ",
          type.group_size == -1 ? "one per output (-1)"
                                : gptq::detail::message("blocks of ", type.group_size));
  require(type.type == NumberType::integer || settings.symmetric, linear.name, ": ", type.name,
          " has no zero points");
}

/// The same for all modules, and what the format asks of them together.
/// \throws InvalidArgument  names the module, the setting and the rule
inline void require_all_fit(const Description& description, const SettingsTable& table,
                            const Format& format) {
  for_each_quantized(description, table,
                     [&](const LinearSpec& linear, const ModuleSettings& settings) {
                       require_type_fits(linear, settings, format);
                       format.require_fits(linear, settings);
                     });
  format.require_fits(description, table);
}

/// "; formats that hold all modules with these settings: awq, plain", for messages about another
/// format; or "".
inline std::string formats_that_fit(const Description& description, const SettingsTable& table,
                                    std::string_view refused) {
  std::string names;
  for (const std::string& name : format_names()) {
    if (name == refused) continue;
    try {
      require_all_fit(description, table, *make_format(name, io::DType::F32));
    } catch (const InvalidArgument&) {
      continue;
    }
    names += (names.empty() ? "" : ", ") + name;
  }
  return names.empty() ? "" : "; formats that hold all modules with these settings: " + names;
}

}  // namespace detail

/// Checks that a format can hold every module of a model.
/// \throws InvalidArgument  names the module, the setting, the rule and the formats that can
inline void require_fits(const Description& description, const SettingsTable& table,
                         const Format& format) {
  try {
    detail::require_all_fit(description, table, format);
  } catch (const InvalidArgument& error) {
    throw InvalidArgument(error.what() +
                          detail::formats_that_fit(description, table, format.name()));
  }
}

/// Checks every module of a model against the settings and the format's rules before any work is
/// done.
/// \throws InvalidArgument  names the module, the size and the rule
inline void require_quantizable(const Description& description, const SettingsTable& table,
                                const Params& params, const Format& format) {
  using gptq::detail::require;
  for (std::size_t i = 0; i < table.overrides.size(); ++i)
    for (std::size_t j = 0; j < i; ++j)
      require(table.overrides[i].pattern.text() != table.overrides[j].pattern.text(),
              "there are two overrides for \"", table.overrides[i].pattern.text(), "\"");
  const auto for_each = [&](const auto& check) {
    for_each_quantized(description, table,
                       [&](const LinearSpec& linear, const ModuleSettings& settings) {
                         Params own = params;
                         own.group_size = settings.group_size;
                         check(linear, own);
                       });
  };
  for_each([](const LinearSpec&, const Params& own) { own.validate(); });
  require_fits(description, table, format);
  Index quantized = 0;
  for_each([&](const LinearSpec& linear, const Params& own) {
    require_divisible(own, linear.in, linear.name);
    require(own.group_size <= linear.in, "group_size = ", own.group_size,
            " is larger than in_features = ", linear.in, " of ", linear.name,
            " (-1: one group per output)");
    ++quantized;
  });
  std::string example;  // the last module of the first layer
  if (!description.layers.empty())
    for (const LinearSpec& linear : description.layers.front().linears())
      if (linear.quantize) example = linear.name;
  const auto uses = detail::rule_uses(description, table);
  for (const auto& use : uses)
    require(use.matches > 0, "no module's name matches \"", use.text, "\" (names are like ",
            example, "; re:EXPRESSION matches from the start)");
  require(quantized > 0, "every module is skipped: there is nothing to quantize");
  for (const auto& use : uses)
    require(use.applies > 0, use.option, " ", use.text,
            " never applies: for every module that it matches, ", use.instead, " takes precedence");
}

}  // namespace gptq::model
