// SPDX-License-Identifier: MIT
#pragma once

// Tokens listed in the files next to a tokenizer.json: transformers adds them to it.

#include <gptq/model/tokenizer/added_tokens.hpp>

#include <nlohmann/json.hpp>

#include <map>
#include <string>
#include <vector>

namespace gptq::model {

/// A token of tokenizer_config.json, special_tokens_map.json or added_tokens.json.
struct ListedToken {
  AddedToken token;
  bool has_id = false;     ///< token.id is given
  bool has_flags = false;  ///< how it is matched is given: single_word, lstrip, ...
  std::string where;       ///< file and key, for messages
};

namespace detail {

inline ListedToken listed_token(const nlohmann::json& json, const std::string& where) {
  ListedToken listed;
  listed.where = where;
  listed.token.special = true;
  if (json.is_string()) {
    listed.token.content = json.get<std::string>();
    return listed;
  }
  listed.token.content = json.at("content").get<std::string>();
  listed.token.single_word = json.value("single_word", false);
  listed.token.lstrip = json.value("lstrip", false);
  listed.token.rstrip = json.value("rstrip", false);
  listed.token.special = json.value("special", true);
  listed.token.normalized = json.value("normalized", !listed.token.special);
  return listed;
}

/// bos_token, pad_token, ... and additional_special_tokens.
inline void append_special_tokens(const nlohmann::json& config, const std::string& file,
                                  std::vector<ListedToken>& listed) {
  for (const char* name :
       {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"})
    if (config.contains(name) && !config[name].is_null())
      listed.push_back(listed_token(config[name], file + ": " + name));
  for (const char* name : {"additional_special_tokens", "extra_special_tokens"})
    if (config.contains(name) && (config[name].is_array() || config[name].is_object()))
      for (const auto& token : config[name])
        listed.push_back(listed_token(token, file + ": " + name));
}

inline TokenId listed_id(const std::string& text, const std::string& where) {
  const auto id = nlohmann::json::parse(text, nullptr, false);
  return token_id(id.is_discarded() ? nlohmann::json(text) : id, "of " + where);
}

}  // namespace detail

/// The tokens listed next to a tokenizer.json, in the order in which transformers adds them.
/// \param files  by name; those that list no tokens are ignored
/// \throws FormatError  a malformed file
inline std::vector<ListedToken> listed_tokens(const std::map<std::string, std::string>& files) {
  const auto json = [&](const std::string& name) {
    const auto file = files.find(name);
    return file == files.end() ? nlohmann::json::object()
                               : nlohmann::json::parse(file->second, nullptr, false);
  };
  const auto config = json("tokenizer_config.json");
  std::vector<ListedToken> listed, specials;
  std::string where = "tokenizer_config.json";
  try {
    if (!config.is_object()) return {};
    detail::append_special_tokens(config, where, specials);
    if (config.contains("added_tokens_decoder")) {
      std::map<TokenId, ListedToken> tokens;
      for (const auto& [id, token] : config["added_tokens_decoder"].items()) {
        const std::string key = where + ": added_tokens_decoder: " + id;
        ListedToken one = detail::listed_token(token, key);
        one.token.special = token.value("special", false);
        one.token.normalized = token.value("normalized", !one.token.special);
        one.token.id = detail::listed_id(id, key);
        one.has_id = one.has_flags = true;
        tokens.insert_or_assign(one.token.id, std::move(one));
      }
      for (auto& [id, token] : tokens) listed.push_back(std::move(token));
    } else {
      where = "special_tokens_map.json";
      if (const auto map = json(where); map.is_object())
        detail::append_special_tokens(map, where, specials);
      where = "added_tokens.json";
      if (const auto added = json(where); added.is_object()) {
        std::map<TokenId, ListedToken> tokens;
        for (const auto& [content, id] : added.items()) {
          ListedToken one;
          one.where = where;
          one.token.content = content;
          one.token.id = token_id(id, content);
          one.has_id = true;
          one.token.special = false;
          for (const ListedToken& special : specials)
            one.token.special = one.token.special || special.token.content == content;
          one.token.normalized = !one.token.special;
          tokens.insert_or_assign(one.token.id, std::move(one));
        }
        for (auto& [id, token] : tokens) listed.push_back(std::move(token));
      }
    }
  } catch (const nlohmann::json::exception& error) {
    throw FormatError(gptq::detail::message(where, " is malformed: ", error.what()));
  }
  listed.insert(listed.end(), specials.begin(), specials.end());
  return listed;
}

}  // namespace gptq::model
