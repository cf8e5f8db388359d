// SPDX-License-Identifier: MIT
#pragma once

// The pre-tokenizer of a tokenizer.json: how the text is cut into the words that byte-pair encoding
// sees.

#include <gptq/model/tokenizer/normalizer.hpp>

#include <functional>
#include <string>
#include <vector>

namespace gptq::model {

/// How a text is cut before byte pairs are merged.
class PreTokenizer {
 public:
  PreTokenizer() = default;

  /// \throws FormatError  a type that is not supported
  explicit PreTokenizer(const nlohmann::json& config) { add(config); }

  /// \param at_start  whether the text is the beginning of what the user gave, not what follows a
  /// special token
  std::vector<std::string> operator()(std::string text, bool at_start) const {
    std::vector<std::string> pieces;
    if (!text.empty()) pieces.push_back(std::move(text));
    for (const auto& step : steps_) {
      std::vector<std::string> next;
      for (std::size_t i = 0; i < pieces.size(); ++i)
        step(std::move(pieces[i]), at_start && i == 0, next);
      pieces = std::move(next);
    }
    return pieces;
  }

 private:
  using Step = std::function<void(std::string piece, bool first, std::vector<std::string>& out)>;

  /// What becomes of the text that a Split matches.
  enum class Behavior { removed, isolated, merged_with_previous, merged_with_next, contiguous };

  void add(const nlohmann::json& config) {
    if (config.is_null()) return;
    const auto type = config.at("type").get<std::string>();
    if (type == "Sequence") {
      for (const auto& part : config.at("pretokenizers")) add(part);
    } else if (type == "ByteLevel") {
      add_byte_level(config.value("add_prefix_space", true), config.value("use_regex", true));
    } else if (type == "Digits") {
      add_split(Regex(config.value("individual_digits", false) ? "\\p{N}" : "\\p{N}+"),
                Behavior::isolated, false);
    } else if (type == "Split") {
      const auto& pattern = config.at("pattern");
      add_split(Regex(pattern.contains("Regex")
                          ? pattern["Regex"].get<std::string>()
                          : "\\Q" + pattern.at("String").get<std::string>() + "\\E"),
                parse_behavior(config.at("behavior").get<std::string>()),
                config.value("invert", false));
    } else if (type == "Metaspace") {
      const bool legacy_prefix = config.value("add_prefix_space", true);
      add_metaspace(config.value("replacement", "\u2581"),
                    config.value("prepend_scheme", legacy_prefix ? "always" : "never"),
                    config.value("split", true));
    } else {
      unsupported_component("the pre-tokenizer " + type);
    }
  }

  static Behavior parse_behavior(const std::string& name) {
    if (name == "Removed") return Behavior::removed;
    if (name == "Isolated") return Behavior::isolated;
    if (name == "MergedWithPrevious") return Behavior::merged_with_previous;
    if (name == "MergedWithNext") return Behavior::merged_with_next;
    if (name == "Contiguous") return Behavior::contiguous;
    unsupported_component("the split behavior " + name);
  }

  void add_byte_level(bool add_prefix_space, bool use_regex) {
    if (add_prefix_space)
      steps_.emplace_back([](std::string piece, bool, std::vector<std::string>& out) {
        out.push_back(piece.front() == ' ' ? std::move(piece) : " " + piece);
      });
    if (use_regex)
      add_split(
          Regex(
              "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"),
          Behavior::isolated, false);
    steps_.emplace_back([](const std::string& piece, bool, std::vector<std::string>& out) {
      std::string text;
      for (const char byte : piece)
        text += unicode::byte_alphabet()[static_cast<unsigned char>(byte)];
      out.push_back(std::move(text));
    });
  }

  void add_metaspace(const std::string& replacement, const std::string& prepend_scheme,
                     bool split) {
    steps_.emplace_back([=](const std::string& piece, bool first, std::vector<std::string>& out) {
      std::string text;
      for (const char c : piece) c == ' ' ? text += replacement : text += c;
      const bool prepend = prepend_scheme == "always" || (prepend_scheme == "first" && first);
      if (prepend && text.rfind(replacement, 0) != 0) text = replacement + text;
      out.push_back(std::move(text));
    });
    if (split) add_split(Regex("\\Q" + replacement + "\\E"), Behavior::merged_with_next, false);
  }

  void add_split(Regex regex, Behavior behavior, bool invert) {
    steps_.emplace_back([=](const std::string& piece, bool, std::vector<std::string>& out) {
      struct Part {
        std::size_t begin, end;
        bool match;
      };
      std::vector<Part> parts;
      std::size_t done = 0;
      for (const auto& [begin, end] : regex.find_all(piece)) {
        if (begin > done) parts.push_back({done, begin, invert});
        parts.push_back({begin, end, !invert});
        done = end;
      }
      if (done < piece.size()) parts.push_back({done, piece.size(), invert});

      std::vector<Part> merged;
      bool after_match = false;
      for (const Part& part : parts) {
        const bool with_last =
            !merged.empty() &&
            ((behavior == Behavior::contiguous && part.match == after_match) ||
             (behavior == Behavior::merged_with_previous && part.match && !after_match) ||
             (behavior == Behavior::merged_with_next && !part.match && after_match));
        if (with_last) merged.back().end = part.end;
        else if (behavior != Behavior::removed || !part.match) merged.push_back(part);
        after_match = part.match;
      }
      for (const Part& part : merged)
        out.push_back(piece.substr(part.begin, part.end - part.begin));
    });
  }

  std::vector<Step> steps_;
};

}  // namespace gptq::model
