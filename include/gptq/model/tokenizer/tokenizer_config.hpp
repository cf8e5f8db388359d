// SPDX-License-Identifier: MIT
#pragma once

// Settings of tokenizer_config.json that say how texts are tokenized, as does tokenizer.json: where
// the two differ, transformers goes by one or the other, depending on its version and on the
// tokenizer's class.

#include <gptq/core/error.hpp>
#include <gptq/model/tokenizer/unsupported.hpp>

#include <nlohmann/json.hpp>

#include <optional>
#include <string>
#include <vector>

namespace gptq::model {

/// Where a tokenizer_config.json contradicts its tokenizer.json.
struct TokenizerContradictions {
  std::vector<std::string> notes;  ///< what is used, one sentence each
  std::string refusal;  ///< why every transformers version would tokenize differently, or ""
};

namespace detail {

/// What a tokenizer.json does to the ends of a text and to spaces.
struct TokenizerFacts {
  std::string before, after;     ///< special tokens around a text, separated by spaces
  bool adds_space = false;       ///< a space, or its mark, before a text
  bool marks_spaces = false;     ///< pieces as in SentencePiece
  bool byte_level = false;       ///< pieces of bytes
  bool byte_level_only = false;  ///< the same, and nothing else cuts the text
};

inline std::string member_text(const nlohmann::json& json, const char* key) {
  const auto found = json.is_object() ? json.find(key) : json.end();
  return found != json.end() && found->is_string() ? found->get<std::string>() : std::string();
}

inline std::optional<bool> member_flag(const nlohmann::json& json, const char* key) {
  const auto found = json.is_object() ? json.find(key) : json.end();
  if (found == json.end()) return std::nullopt;
  if (found->is_boolean()) return found->get<bool>();
  if (*found == 0 || *found == 1) return *found == 1;  // as in Python
  return std::nullopt;
}

inline nlohmann::json member(const nlohmann::json& json, const char* key) {
  const auto found = json.is_object() ? json.find(key) : json.end();
  return found == json.end() ? nlohmann::json() : *found;
}

/// Calls f for each component of a part of a tokenizer.json, including those in sequences.
template <class F>
void for_each_component(const nlohmann::json& part, const char* list, const F& f, int depth = 0) {
  if (!part.is_object() || depth > 16) return;
  if (member_text(part, "type") != "Sequence") return f(part, depth);
  for (const auto& inner : member(part, list)) for_each_component(inner, list, f, depth + 1);
}

inline TokenizerFacts tokenizer_facts(const nlohmann::json& tokenizer) {
  TokenizerFacts facts;
  for_each_component(member(tokenizer, "normalizer"), "normalizers",
                     [&](const nlohmann::json& step, int) {
                       if (member_text(step, "type") != "Prepend") return;
                       facts.adds_space = facts.marks_spaces = true;
                     });
  for_each_component(member(tokenizer, "pre_tokenizer"), "pretokenizers",
                     [&](const nlohmann::json& step, int depth) {
                       const std::string type = member_text(step, "type");
                       const bool space = member_flag(step, "add_prefix_space").value_or(false);
                       if (type == "Metaspace") {
                         const std::string scheme = member_text(step, "prepend_scheme");
                         facts.marks_spaces = true;
                         facts.adds_space |= scheme.empty() ? space : scheme != "never";
                       } else if (type == "ByteLevel") {
                         facts.byte_level = true;
                         facts.byte_level_only = depth == 0;
                         facts.adds_space |= space;
                       }
                     });
  for_each_component(member(tokenizer, "post_processor"), "processors",
                     [&](const nlohmann::json& step, int) {
                       bool behind = false;
                       for (const auto& piece : member(step, "single")) {
                         const auto token = member_text(member(piece, "SpecialToken"), "id");
                         std::string& to = behind ? facts.after : facts.before;
                         if (!token.empty()) to += (to.empty() ? "" : " ") + token;
                         behind = behind || (piece.is_object() && piece.contains("Sequence"));
                       }
                     });
  return facts;
}

}  // namespace detail

/// \param tokenizer  a tokenizer.json, which is what is used
/// \param config     the tokenizer_config.json beside it
inline TokenizerContradictions tokenizer_contradictions(const nlohmann::json& tokenizer,
                                                        const nlohmann::json& config) {
  using gptq::detail::message;
  TokenizerContradictions found;
  if (!config.is_object()) {
    found.notes.emplace_back("tokenizer_config.json: is not a JSON object; ignored");
    return found;
  }
  const auto facts = detail::tokenizer_facts(tokenizer);
  const auto stated = [&](const char* key) { return detail::member_flag(config, key); };
  const auto refuse = [&](const std::string& why) {
    if (found.refusal.empty())
      found.refusal = "tokenizer_config.json: " + why + " (if that is wrong, delete the key); " +
                      tokenize_elsewhere;
  };
  const std::string kind = detail::member_text(config, "tokenizer_class");
  const bool llama = kind.find("Llama") != std::string::npos,
             byte_class =
                 kind.find("GPT2") != std::string::npos || kind.find("Qwen2") != std::string::npos;

  if (stated("split_special_tokens").value_or(false))
    refuse(
        "\"split_special_tokens\" is true, but special tokens in a text would still be "
        "matched as such");

  // For a LlamaTokenizer, transformers 4 goes by these, transformers 5 by tokenizer.json.
  struct Around {
    const char* key;
    const char* where;
    const std::string& tokens;
    bool by_default;
  };
  for (const Around& side : {Around{"add_bos_token", "before", facts.before, true},
                             Around{"add_eos_token", "after", facts.after, false}}) {
    const auto wanted = stated(side.key);
    if (wanted.value_or(llama ? side.by_default : !side.tokens.empty()) == !side.tokens.empty())
      continue;
    found.notes.push_back(
        message("tokenizer_config.json: \"", side.key, "\" ",
                wanted ? (*wanted ? "is true" : "is false")
                       : (side.by_default ? "is missing, which means true in a " + kind
                                          : "is missing, which means false in a " + kind),
                ", but tokenizer.json puts ", side.tokens.empty() ? "nothing" : side.tokens, " ",
                side.where, " a text: tokenizer.json is used"));
  }

  // A byte-level class rebuilds its pre-tokenizer from add_prefix_space, false if missing; a
  // LlamaTokenizer does so only if the key is present. Others differ between versions.
  const auto space = stated("add_prefix_space");
  const bool wants_space =
      space.value_or(facts.byte_level && byte_class ? false : facts.adds_space);
  if (wants_space != facts.adds_space) {
    const std::string what = message(
        "\"add_prefix_space\" is ", space ? (*space ? "true" : "false") : "missing",
        ", but tokenizer.json puts ", facts.adds_space ? "a" : "no", " space before a text");
    const bool certain = (byte_class && facts.byte_level_only) || (llama && facts.marks_spaces);
    if (certain) refuse(what + ", which a " + kind + " ignores");
    else found.notes.push_back("tokenizer_config.json: " + what + ": tokenizer.json is used");
  }

  for (const char* key : {"do_lower_case", "strip_accents", "from_slow"})
    if (stated(key).value_or(false))
      found.notes.push_back(message("tokenizer_config.json: \"", key,
                                    "\" is true but ignored: tokenizer.json is used"));
  return found;
}

}  // namespace gptq::model
