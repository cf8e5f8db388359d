// SPDX-License-Identifier: MIT
#pragma once

// Recipe: how a model is to be quantized, as a file says it, in the words of the command line. Each
// kind of file is a translation to these words.

#include <gptq/core/error.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>  // std::min
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>  // std::pair
#include <vector>

namespace gptq::model {

/// The content of a recipe.
struct Recipe {
  /// Names of options without dashes, and values. "asym" and other flags have true or false;
  /// "override" and "skip" may come several times.
  std::vector<std::pair<std::string, std::string>> options{};
  /// What the names of all layers must begin with; empty: anything.
  std::string layers{};
  /// Keys that change nothing here, one sentence each.
  std::vector<std::string> notes{};
};

/// A recipe in our own words: {"bits": 3, "group-size": 64, "override": ["re:.*down_proj=bits:4"]}.
/// Whether the words are known, the caller sees.
/// \throws FormatError  a value is neither a word, a number, a flag nor a list of these
inline Recipe read_own_recipe(const nlohmann::ordered_json& json, const std::string& where) {
  Recipe recipe;
  for (const auto& [key, value] : json.items()) {
    const auto add = [&](const nlohmann::ordered_json& one) {
      if (!one.is_string() && !one.is_number() && !one.is_boolean())
        throw FormatError(gptq::detail::message(where, ": \"", key,
                                                "\" = ", one.dump().substr(0, 80),
                                                " is not a word, a number, true or false"));
      recipe.options.emplace_back(key, one.is_string() ? one.get<std::string>() : one.dump());
    };
    if (value.is_array())
      for (const auto& one : value) add(one);
    else if (!value.is_null()) add(value);
  }
  return recipe;
}

/// The word that is most like another one, for messages about unknown words: least insertions,
/// deletions and replacements.
inline std::string nearest_word(std::string_view word, const std::vector<std::string>& known) {
  const auto distance = [&](std::string_view other) {
    std::vector<std::size_t> row(other.size() + 1);
    for (std::size_t j = 0; j < row.size(); ++j) row[j] = j;
    for (std::size_t i = 0; i < word.size(); ++i) {
      std::size_t before = row[0];
      row[0] = i + 1;
      for (std::size_t j = 0; j < other.size(); ++j) {
        const std::size_t replaced = before + (word[i] == other[j] ? 0 : 1);
        before = row[j + 1];
        row[j + 1] = (std::min)({replaced, row[j] + 1, row[j + 1] + 1});
      }
    }
    return row.back();
  };
  std::string best;
  std::size_t least = ~std::size_t(0);
  for (const std::string& other : known)
    if (const std::size_t d = distance(other); d < least) least = d, best = other;
  return best;
}

}  // namespace gptq::model
