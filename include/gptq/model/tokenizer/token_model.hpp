// SPDX-License-Identifier: MIT
#pragma once

// TokenModel: what turns the words of a text into ids, a BPE or a Unigram model.

#include <gptq/model/tokenizer/bpe.hpp>
#include <gptq/model/tokenizer/unigram.hpp>

#include <nlohmann/json.hpp>

#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace gptq::model {

/// The "model" of a tokenizer.json.
class TokenModel {
 public:
  /// \throws FormatError  another kind of model, or one with unsupported options
  explicit TokenModel(const nlohmann::json& config) : model_(parse(config)) {}

  std::optional<TokenId> find(std::string_view token) const {
    return std::visit([&](const auto& model) { return model.find(token); }, model_);
  }

  /// The number of tokens in the vocabulary.
  TokenId count() const {
    return std::visit([](const auto& model) { return model.count(); }, model_);
  }

  /// One more than the largest id.
  TokenId size() const {
    return std::visit([](const auto& model) { return model.size(); }, model_);
  }

  /// The token with this id, for messages.
  std::string token(TokenId id) const {
    return std::visit([&](const auto& model) { return model.token(id); }, model_);
  }

  /// Appends the ids of one word, but may stop once `ids` holds `enough`.
  /// \param parts  caches parts of words
  void encode(std::string_view word, WordCache& parts, Effort& effort, std::vector<TokenId>& ids,
              std::size_t enough) const {
    if (const auto* bpe = std::get_if<Bpe>(&model_)) bpe->encode(word, parts, effort, ids, enough);
    else std::get<Unigram>(model_).encode(word, effort, ids);
  }

 private:
  using Model = std::variant<Bpe, Unigram>;

  static Model parse(const nlohmann::json& config) {
    // Files that do not name the type tell it by their vocabulary.
    const bool lists = config.contains("vocab") && config["vocab"].is_array();
    const std::string type = config.value("type", config.contains("merges") ? "BPE"
                                                  : lists                   ? "Unigram"
                                                                            : "of no type");
    if (type == "Unigram") return Unigram(config);
    if (type == "BPE") return Bpe(config);
    unsupported_component("the model " + type);
  }

  Model model_;
};

}  // namespace gptq::model
