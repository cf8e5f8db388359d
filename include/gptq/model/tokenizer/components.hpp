// SPDX-License-Identifier: MIT
#pragma once

// Components of a tokenizer.json, for files that are built from other formats.

#include <gptq/model/tokenizer/word_cache.hpp>

#include <nlohmann/json.hpp>

#include <optional>
#include <string>

namespace gptq::model::detail {

inline nlohmann::json split_isolated(const std::string& regex) {
  return {{"type", "Split"},
          {"pattern", {{"Regex", regex}}},
          {"behavior", "Isolated"},
          {"invert", false}};
}

inline nlohmann::json byte_level(bool use_regex) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", false},
          {"trim_offsets", true},
          {"use_regex", use_regex}};
}

/// A token put before or after each text.
struct NamedToken {
  std::string content;
  TokenId id = 0;
};

/// The post-processor that puts tokens around texts; null if there are none.
inline nlohmann::json template_processing(const std::optional<NamedToken>& before,
                                          const std::optional<NamedToken>& after) {
  if (!before && !after) return nullptr;
  auto tokens = nlohmann::json::object(), single = nlohmann::json::array(),
       pair = nlohmann::json::array();
  const auto add_token = [&](const std::optional<NamedToken>& token, nlohmann::json& to, int type) {
    if (!token) return;
    tokens[token->content] = {
        {"id", token->content}, {"ids", {token->id}}, {"tokens", {token->content}}};
    to.push_back({{"SpecialToken", {{"id", token->content}, {"type_id", type}}}});
  };
  const auto add_text = [&](const char* text, nlohmann::json& to, int type) {
    add_token(before, to, type);
    to.push_back({{"Sequence", {{"id", text}, {"type_id", type}}}});
    add_token(after, to, type);
  };
  add_text("A", single, 0);
  add_text("A", pair, 0);
  add_text("B", pair, 1);
  return {{"type", "TemplateProcessing"},
          {"single", single},
          {"pair", pair},
          {"special_tokens", tokens}};
}

}  // namespace gptq::model::detail
