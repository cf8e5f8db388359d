// SPDX-License-Identifier: MIT
#pragma once

// What is checked of a model, the settings and the format before any work is done.

#include <gptq/core/params.hpp>
#include <gptq/model/format/registry.hpp>
#include <gptq/model/module_settings.hpp>

#include <string>
#include <string_view>

namespace gptq::model {

namespace detail {

/// "; formats that hold all modules with these settings: awq, plain", for messages about another
/// format; or "".
inline std::string formats_that_fit(const Description& description, const SettingsTable& table,
                                    std::string_view refused) {
  std::string names;
  for (const std::string& name : format_names()) {
    if (name == refused) continue;
    const auto format = make_format(name, io::DType::F32);
    try {
      for_each_quantized(description, table,
                         [&](const LinearSpec& linear, const ModuleSettings& settings) {
                           format->require_fits(linear, settings);
                         });
      format->require_fits(description, table);
    } catch (const InvalidArgument&) {
      continue;
    }
    names += (names.empty() ? "" : ", ") + name;
  }
  return names.empty() ? "" : "; formats that hold all modules with these settings: " + names;
}

}  // namespace detail

/// Checks every module of a model against the format's rules before any work is done.
/// \throws InvalidArgument  names the module, the size and the rule
inline void require_quantizable(const Description& description, const SettingsTable& table,
                                const Params& params, const Format& format) {
  using gptq::detail::require;
  for (std::size_t i = 0; i < table.overrides.size(); ++i)
    for (std::size_t j = 0; j < i; ++j)
      require(table.overrides[i].pattern.text() != table.overrides[j].pattern.text(),
              "there are two overrides for \"", table.overrides[i].pattern.text(), "\"");
  const auto require_fits = [&](const auto& check) {
    try {
      check();
    } catch (const InvalidArgument& error) {
      throw InvalidArgument(error.what() +
                            detail::formats_that_fit(description, table, format.name()));
    }
  };
  Index quantized = 0;
  for_each_quantized(description, table,
                     [&](const LinearSpec& linear, const ModuleSettings& settings) {
                       Params own = params;
                       own.group_size = settings.group_size;
                       own.validate();
                       require_fits([&] { format.require_fits(linear, settings); });
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
  require_fits([&] { format.require_fits(description, table); });
}

}  // namespace gptq::model
