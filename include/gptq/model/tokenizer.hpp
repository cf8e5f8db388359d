// SPDX-License-Identifier: MIT
#pragma once

// Tokenizer: text to token ids as described by a Hugging Face tokenizer.json, for byte-pair
// encodings - byte-level (GPT-2, Llama 3, Qwen, SmolLM) and with word-boundary marks and byte
// fallback (Llama 2, Mistral, Gemma) - and for unigram models.

#include <gptq/model/tokenizer/added_tokens.hpp>
#include <gptq/model/tokenizer/listed_tokens.hpp>
#include <gptq/model/tokenizer/normalizer.hpp>
#include <gptq/model/tokenizer/pre_tokenizer.hpp>
#include <gptq/model/tokenizer/token_model.hpp>

#include <limits>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

namespace gptq::model {

/// Turns text into the token ids that a model was trained on.
class Tokenizer {
 public:
  /// All ids of the text.
  static constexpr std::size_t all = std::numeric_limits<std::size_t>::max();

  /// Caches words from earlier texts.
  class Memory {
    friend class Tokenizer;
    WordCache pieces_, parts_;
  };

  /// \param config  a parsed tokenizer.json
  /// \param listed  tokens listed in other files, see listed_tokens()
  /// \throws FormatError  an unsupported component, or a file that contradicts itself
  explicit Tokenizer(const nlohmann::json& config, const std::vector<ListedToken>& listed = {}) try
      : normalizer_(part(config, "normalizer")),
        pre_tokenizer_(part(config, "pre_tokenizer")),
        model_(config.at("model")) {
    for (const auto& token : part(config, "added_tokens")) {
      AddedToken added{.content = token.at("content").get<std::string>(),
                       .id = token_id(token.at("id"), token.at("content").dump()),
                       .single_word = token.value("single_word", false),
                       .lstrip = token.value("lstrip", false),
                       .rstrip = token.value("rstrip", false),
                       .normalized = token.value("normalized", false),
                       .special = token.value("special", false)};
      add_token({std::move(added), true, true, "added_tokens"});
    }
    for (const ListedToken& token : listed) add_listed_token(token);
    find_added_tokens();
    add_post_processor(part(config, "post_processor"), 0);
  } catch (const nlohmann::json::exception& error) {
    throw FormatError(gptq::detail::message("tokenizer.json is malformed: ", error.what()));
  }

  /// The ids of a text, with the special tokens that the tokenizer puts around it.
  /// \param enough  stop after this many ids: they are the first of the whole text
  /// \param stop    polled now and then; return true to stop
  /// \throws FormatError  the text is not valid UTF-8, costs too much (see Effort), or contains a
  /// token that the model does not have
  /// \throws Cancelled    `stop` returned true
  std::vector<TokenId> encode(std::string_view text, std::size_t enough = all,
                              const Stop& stop = {}) const {
    std::vector<TokenId> ids;
    Memory memory;
    append(text, ids, memory, enough, stop);
    return ids;
  }

  /// Appends the ids of a text until there are `enough`; otherwise like encode().
  /// \param memory  shared by all texts of a thread
  void append(std::string_view text, std::vector<TokenId>& ids, Memory& memory,
              std::size_t enough = all, const Stop& stop = {}) const {
    unicode::require_utf8(text);
    Effort effort(text.size(), stop);
    effort.pause();
    require_agreed_tokens(text);
    const std::size_t before = ids.size();
    ids.insert(ids.end(), prefix_.begin(), prefix_.end());
    const auto go_on = [&] { return ids.size() < enough; };
    const bool whole = go_on() && raw_tokens_.for_each_section(text, effort, [&](auto raw) {
      const bool raw_first = raw.text.data() == text.data();
      if (raw.id >= 0) {
        ids.push_back(raw.id);
        return go_on();
      }
      const std::string normal = normalizer_(std::string(raw.text), effort);
      const std::size_t start = raw_first ? start_size(raw.text, normal, effort) : 0;
      return normalized_tokens_.for_each_section(normal, effort, [&](auto section) {
        if (section.id >= 0) {
          ids.push_back(section.id);
          return go_on();
        }
        const bool first = static_cast<std::size_t>(section.text.data() - normal.data()) < start;
        return pre_tokenizer_.cut(section.text, first, effort,
                                  PieceSink([&](std::string_view piece, bool piece_first) {
                                    encode_piece(piece, piece_first, memory, effort, ids, enough);
                                    return go_on();
                                  }));
      });
    });
    if (whole) ids.insert(ids.end(), suffix_.begin(), suffix_.end());
    if (ids.size() > enough) ids.resize((std::max)(enough, before));
    require_ids(ids, before);
  }

  /// One more than the largest id.
  TokenId size() const {
    TokenId size = model_.size();
    for (const auto& [id, token] : added_) size = (std::max)(size, id + 1);
    return size;
  }

  /// The token that is put before each text without being asked for, usually a BOS token; of
  /// several, the first.
  std::optional<TokenId> bos() const {
    return prefix_.empty() ? std::nullopt : std::optional(prefix_.front());
  }

  /// The tokens that are put before each text: none, a BOS token, or several.
  const std::vector<TokenId>& prefix() const { return prefix_; }

  /// From now on, puts no tokens before and after texts.
  void leave_out_surrounding_tokens() {
    prefix_.clear();
    suffix_.clear();
  }

  /// From now on, refuses texts with ids of `count` or above.
  void set_limit(TokenId count) { limit_ = count; }

 private:
  static nlohmann::json part(const nlohmann::json& config, const char* name) {
    const auto found = config.find(name);
    return found == config.end() ? nlohmann::json() : *found;
  }

  /// Bytes of the normalized text that come from the first character of the user's text: a piece
  /// that begins there may be transformed differently.
  std::size_t start_size(std::string_view text, std::string_view normal, Effort& effort) const {
    if (!pre_tokenizer_.asks_for_start() || text.empty()) return 0;
    const std::size_t size = unicode::first_character(text).size;
    if (normalizer_.empty()) return size;
    const std::string first = normalizer_(std::string(text.substr(0, size)), effort);
    if (first + normalizer_(std::string(text.substr(size)), effort) != normal)
      unsupported_component(
          "Metaspace with the prepend_scheme \"first\" after a normalizer that "
          "combines the first characters of a text");
    return first.size();
  }

  void encode_piece(std::string_view piece, bool first, Memory& memory, Effort& effort,
                    std::vector<TokenId>& ids, std::size_t enough) const {
    effort.step();
    const auto encode = [&](std::vector<TokenId>& out, std::size_t wanted) {
      if (pre_tokenizer_.changes_pieces())
        model_.encode(pre_tokenizer_.word(piece, first, effort), memory.parts_, effort, out,
                      wanted);
      else model_.encode(piece, memory.parts_, effort, out, wanted);
    };
    // At the start of the user's text, a piece may be transformed differently.
    if (first || piece.size() > WordCache::longest) encode(ids, enough);
    else memory.pieces_.append(piece, ids, [&](auto& out) { encode(out, all); });
  }

  /// Adds a token as the tokenizers library does: its id comes from the vocabulary, or is the next
  /// free one.
  void add_token(const ListedToken& listed) {
    AddedToken token = listed.token;
    if (token.content.empty()) return;
    if (token.special) specials_.try_emplace(token.content, true);
    const auto known = ids_.find(token.content);
    const auto in_vocabulary = model_.find(token.content);
    token.id = known != ids_.end() ? known->second
               : in_vocabulary     ? *in_vocabulary
                                   : (std::max)(next_id_, model_.count());
    if (listed.has_id && listed.token.id != token.id)
      contest(token.content,
              gptq::detail::message("has the id ", listed.token.id, " in ", listed.where,
                                    ", but would be added as ", token.id));
    next_id_ = (std::max)(next_id_, token.id + 1);
    ids_.insert_or_assign(token.content, token.id);
    added_.insert_or_assign(token.id, token);
    order_.push_back(std::move(token));
  }

  /// Adds a token from another file, unless it is there already.
  void add_listed_token(const ListedToken& listed) {
    const auto known = ids_.find(listed.token.content);
    if (known == ids_.end()) return add_token(listed);
    const AddedToken &ours = added_.at(known->second), &theirs = listed.token;
    if (listed.has_id && theirs.id != ours.id)
      contest(ours.content, gptq::detail::message("has the id ", ours.id, ", but in ", listed.where,
                                                  " it has ", theirs.id));
    if (listed.has_flags &&
        (ours.single_word != theirs.single_word || ours.lstrip != theirs.lstrip ||
         ours.rstrip != theirs.rstrip || ours.normalized != theirs.normalized))
      contest(ours.content, gptq::detail::message("is matched differently than ", listed.where,
                                                  " says (single_word, lstrip, rstrip or "
                                                  "normalized)"));
  }

  void contest(const std::string& content, const std::string& how) {
    contested_.try_emplace(content, how);
  }

  /// A token that two files describe differently does not matter until a text contains it.
  void require_agreed_tokens(std::string_view text) const {
    for (const auto& [content, how] : contested_)
      gptq::detail::require<FormatError>(text.find(content) == text.npos, "the token \"", content,
                                         "\", which is in the text, ", how, "; ",
                                         tokenize_elsewhere);
  }

  /// Registers special tokens first, then the others, each for raw or for normalized text.
  void find_added_tokens() {
    for (const bool special : {true, false})
      for (const AddedToken& token : order_) {
        if ((specials_.count(token.content) > 0) != special) continue;
        AddedToken found = added_.at(ids_.at(token.content));  // as last added
        found.content = token.content;
        if (token.normalized) {
          Effort effort(found.content.size());
          found.content = normalizer_(found.content, effort);
          if (found.content.empty())  // which the tokenizers library finds in odd places
            unsupported_component("the added token " + nlohmann::json(token.content).dump() +
                                  ", of which the normalizer leaves nothing");
        }
        (token.normalized ? normalized_tokens_ : raw_tokens_).add(std::move(found));
      }
    order_.clear();
    specials_.clear();
  }

  /// \throws FormatError  an id outside the model's vocabulary
  void require_ids(const std::vector<TokenId>& ids, std::size_t begin) const {
    for (std::size_t i = begin; i < ids.size(); ++i) {
      if (ids[i] < limit_) continue;
      const auto added = added_.find(ids[i]);
      throw FormatError(gptq::detail::message(
          "the text has the token \"",
          added == added_.end() ? model_.token(ids[i]) : added->second.content, "\" with the id ",
          ids[i], ", but the model has embeddings for ", limit_,
          " tokens; remove it from the text, or ", tokenize_elsewhere));
    }
  }

  /// Reads only what affects the ids of a single text: special tokens before and after it.
  void add_post_processor(const nlohmann::json& config, int depth) {
    if (config.is_null()) return;
    const auto type = config.at("type").get<std::string>();
    if (type == "Sequence") {
      if (depth > 16) unsupported_component("a post-processor nested deeper than 16 levels");
      for (const auto& part : config.at("processors")) add_post_processor(part, depth + 1);
    } else if (type == "TemplateProcessing") {
      if (has_template_) unsupported_component("two TemplateProcessing post-processors");
      has_template_ = true;
      int texts = 0;
      for (const auto& piece : config.at("single")) {
        if (piece.contains("Sequence")) {
          ++texts;
          continue;
        }
        const auto name = piece.at("SpecialToken").at("id").get<std::string>();
        for (const auto& id : config.at("special_tokens").at(name).at("ids"))
          (texts == 0 ? prefix_ : suffix_).push_back(token_id(id, name));
      }
      if (texts != 1)
        unsupported_component("a template that contains the text " + std::to_string(texts) +
                              " times");
    } else if (type != "ByteLevel") {
      unsupported_component("the post-processor " + type);
    }
  }

  Normalizer normalizer_;
  PreTokenizer pre_tokenizer_;
  TokenModel model_;
  std::unordered_map<std::string, TokenId> ids_;            // of added tokens
  std::unordered_map<TokenId, AddedToken> added_;           // by id, as last added
  std::unordered_map<std::string, bool> specials_;          // only while tokens are added
  std::vector<AddedToken> order_;                           // only while tokens are added
  std::unordered_map<std::string, std::string> contested_;  // tokens that files disagree on
  TokenId next_id_ = 0;
  AddedTokens raw_tokens_;         // found in the raw text
  AddedTokens normalized_tokens_;  // found after normalization
  std::vector<TokenId> prefix_, suffix_;
  bool has_template_ = false;
  TokenId limit_ = std::numeric_limits<TokenId>::max();
};

}  // namespace gptq::model
