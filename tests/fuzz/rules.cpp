// SPDX-License-Identifier: MIT

#include "harness.hpp"

#include <gptq/model/module_settings.hpp>
#include <gptq/model/tokenizer/unicode.hpp>

void fuzz::rules(Input input) {
  const auto given = parts(input);
  if (given.size() != 3) return;
  const auto &rule = given[0], &skip = given[1], &name = given[2];
  may_refuse([&] {
    gptq::model::unicode::require_utf8(name);
    gptq::model::SettingsTable table;
    may_refuse([&] { table.overrides.push_back(gptq::model::Override::parse(rule)); });
    may_refuse([&] { table.skips.push_back(gptq::model::NamePattern(skip)); });
    table.find(name);
    for (const auto& pattern : table.skips) gptq::model::Regex(pattern.expression());
  });
  may_refuse([&] {
    gptq::model::unicode::require_utf8(name);
    if (name.starts_with("re:")) return;
    const gptq::model::NamePattern exact(name);
    require(exact.matches(name), "a name matches itself");
    require(!exact.matches(name + "x") && !exact.matches("x" + name), "and nothing longer");
  });
}
