// SPDX-License-Identifier: MIT
#pragma once

// Tokenizer: text to token ids as a Hugging Face tokenizer.json describes it, for byte-pair
// encodings - byte-level (GPT-2, Llama 3, Qwen, SmolLM) and with word-boundary marks and byte
// fallback (Llama 2, Mistral).

#include <gptq/model/tokenizer/added_tokens.hpp>
#include <gptq/model/tokenizer/bpe.hpp>
#include <gptq/model/tokenizer/normalizer.hpp>
#include <gptq/model/tokenizer/pre_tokenizer.hpp>

#include <string>
#include <unordered_map>
#include <vector>

namespace gptq::model {

/// From text to the ids that a model was trained on.
class Tokenizer {
 public:
  /// \param config  a parsed tokenizer.json
  /// \throws FormatError  a component that is not supported, or a file that contradicts itself
  explicit Tokenizer(const nlohmann::json& config) try
      : normalizer_(config.value("normalizer", nlohmann::json{})),
        pre_tokenizer_(config.value("pre_tokenizer", nlohmann::json{})),
        bpe_(config.at("model")) {
    for (const auto& token : config.value("added_tokens", nlohmann::json::array())) {
      AddedToken added{.content = token.at("content").get<std::string>(),
                       .id = token_id(token.at("id"), token.at("content").dump()),
                       .single_word = token.value("single_word", false),
                       .lstrip = token.value("lstrip", false),
                       .rstrip = token.value("rstrip", false)};
      const bool normalized = token.value("normalized", false);
      if (normalized) added.content = normalizer_(added.content);
      size_ = (std::max)(size_, added.id + 1);
      (normalized ? normalized_tokens_ : raw_tokens_).add(std::move(added));
    }
    add_post_processor(config.value("post_processor", nlohmann::json{}));
    size_ = (std::max)(size_, bpe_.size());
  } catch (const nlohmann::json::exception& error) {
    throw FormatError(gptq::detail::message("tokenizer.json is not as expected: ", error.what()));
  }

  /// Ids of a text, with the special tokens that the tokenizer puts around one.
  /// \throws FormatError  the text is not valid UTF-8
  std::vector<TokenId> encode(std::string_view text) const {
    unicode::require_utf8(text);
    std::vector<TokenId> ids = prefix_;
    std::unordered_map<std::string, std::vector<TokenId>> seen;  // words repeat
    bool at_start = true;
    for (const auto& raw : raw_tokens_.split(text)) {
      if (raw.id >= 0) {
        ids.push_back(raw.id);
      } else {
        const std::string normal = normalizer_(std::string(raw.text));
        for (const auto& section : normalized_tokens_.split(normal)) {
          if (section.id >= 0) {
            ids.push_back(section.id);
          } else {
            for (const std::string& word : pre_tokenizer_(std::string(section.text), at_start))
              encode_word(word, seen, ids);
          }
          at_start = false;
        }
      }
      at_start = false;
    }
    ids.insert(ids.end(), suffix_.begin(), suffix_.end());
    return ids;
  }

  /// One more than the largest id.
  TokenId size() const { return size_; }

 private:
  void encode_word(const std::string& word,
                   std::unordered_map<std::string, std::vector<TokenId>>& seen,
                   std::vector<TokenId>& ids) const {
    if (word.size() > 256) return bpe_.encode(word, ids);
    const auto [entry, fresh] = seen.try_emplace(word);
    if (fresh) bpe_.encode(word, entry->second);
    ids.insert(ids.end(), entry->second.begin(), entry->second.end());
  }

  /// Only what concerns the ids of a single text: special tokens before and behind it.
  void add_post_processor(const nlohmann::json& config) {
    if (config.is_null()) return;
    const auto type = config.at("type").get<std::string>();
    if (type == "Sequence") {
      for (const auto& part : config.at("processors")) add_post_processor(part);
    } else if (type == "TemplateProcessing") {
      bool before = true;
      for (const auto& piece : config.at("single")) {
        if (piece.contains("Sequence")) {
          before = false;
          continue;
        }
        const auto name = piece.at("SpecialToken").at("id").get<std::string>();
        for (const auto& id : config.at("special_tokens").at(name).at("ids"))
          (before ? prefix_ : suffix_).push_back(token_id(id, name));
      }
    } else if (type != "ByteLevel") {
      unsupported_component("the post-processor " + type);
    }
  }

  Normalizer normalizer_;
  PreTokenizer pre_tokenizer_;
  Bpe bpe_;
  AddedTokens raw_tokens_;         // found in the text as it is
  AddedTokens normalized_tokens_;  // found after normalization
  std::vector<TokenId> prefix_, suffix_;
  TokenId size_ = 0;
};

}  // namespace gptq::model
