// SPDX-License-Identifier: MIT
#pragma once

// The pre-tokenizer of a tokenizer.json: how the text is split into the words that the model sees.
// Words are passed on one by one; no list of them is kept.

#include <gptq/model/tokenizer/character_classes.hpp>
#include <gptq/model/tokenizer/normalizer.hpp>

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>  // std::move
#include <vector>

namespace gptq::model {

/// A reference to a function that returns false when it has enough.
template <class... Arguments>
class Sink {
 public:
  template <class F>
  explicit Sink(const F& f)
      : object_(&f), call_([](const void* object, Arguments... arguments) {
          return (*static_cast<const F*>(object))(arguments...);
        }) {}

  bool operator()(Arguments... arguments) const { return call_(object_, arguments...); }

 private:
  const void* object_;
  bool (*call_)(const void*, Arguments...);
};

/// Receives the pieces of a text: a piece, and whether it is at the start of the user's text.
using PieceSink = Sink<std::string_view, bool>;
/// Receives begin and end of each match in a piece.
using MatchSink = Sink<std::size_t, std::size_t>;

/// How a text is split into words.
class PreTokenizer {
 public:
  PreTokenizer() = default;

  /// \throws FormatError  an unsupported type
  explicit PreTokenizer(const nlohmann::json& config) {
    add(config, 0);
    if (steps_.size() > 64) unsupported_component("a pre-tokenizer of more than 64 steps");
    for (std::size_t i = 0; i < steps_.size(); ++i)
      if (steps_[i].cut) cuts_ = i + 1;
  }

  /// Passes the pieces of the text to the sink, before any final steps that only transform pieces.
  /// \param first  whether this is the start of the user's text, not what follows a special token
  /// \return false if the sink had enough
  bool cut(std::string_view text, bool first, Effort& effort, const PieceSink& sink) const {
    return text.empty() || cut_from(0, text, first, effort, sink);
  }

  /// Whether a piece may be transformed differently at the start of the user's text.
  bool asks_for_start() const { return asks_for_start_; }

  /// Whether word() changes pieces.
  bool changes_pieces() const { return cuts_ < steps_.size(); }

  /// A piece as the model sees it.
  std::string word(std::string_view piece, bool first, Effort& effort) const {
    std::string text(piece);
    for (std::size_t i = cuts_; i < steps_.size(); ++i) {
      steps_[i].write(text, first);
      effort.require_size(text.size());
    }
    return text;
  }

 private:
  /// Either splits a piece or transforms it.
  struct Step {
    std::function<bool(std::string_view piece, bool first, Effort&, const PieceSink&)> cut;
    std::function<void(std::string& piece, bool first)> write;
  };

  /// What happens to the text that a Split matches.
  enum class Behavior { removed, isolated, merged_with_previous, merged_with_next, contiguous };

  bool cut_from(std::size_t step, std::string_view piece, bool first, Effort& effort,
                const PieceSink& sink) const {
    if (step == cuts_) return sink(piece, first);
    const auto next = [&](std::string_view part, bool part_first) {
      return cut_from(step + 1, part, part_first, effort, sink);
    };
    if (steps_[step].cut) return steps_[step].cut(piece, first, effort, PieceSink(next));
    std::string text(piece);
    steps_[step].write(text, first);
    effort.require_size(text.size());
    return next(text, first);
  }

  void add(const nlohmann::json& config, int depth) {
    if (config.is_null()) return;
    const auto type = config.at("type").get<std::string>();
    if (type == "Sequence") {
      if (depth > 16) unsupported_component("a pre-tokenizer nested deeper than 16 levels");
      for (const auto& part : config.at("pretokenizers")) add(part, depth + 1);
    } else if (type == "ByteLevel") {
      add_byte_level(config.value("add_prefix_space", true), config.value("use_regex", true));
    } else if (type == "Digits") {
      add_split(characters(Regex::is_number), config.value("individual_digits", false)
                                                  ? Behavior::isolated
                                                  : Behavior::contiguous);
    } else if (type == "Punctuation") {
      add_split(characters(unicode::is_punctuation),
                parse_behavior(config.value("behavior", "Isolated")));
    } else if (type == "WhitespaceSplit") {
      add_split(characters(unicode::is_white_space), Behavior::removed);
    } else if (type == "Whitespace") {
      // Word characters as defined by the regex crate, which the tokenizers library uses here.
      const std::string word = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{200c}\\x{200d}";
      add_split(matches(Regex("[" + word + "]+|[^" + word + "\\s]+")), Behavior::removed, true);
    } else if (type == "CharDelimiterSplit") {
      const auto delimiter = tokenizer_text(config.at("delimiter"));
      require_one_character("delimiter of CharDelimiterSplit", delimiter);
      add_split(literals(delimiter), Behavior::removed);
    } else if (type == "Split") {
      const auto& pattern = config.at("pattern");
      Finder find;
      if (pattern.contains("Regex")) {
        find = matches(tokenizer_regex(pattern["Regex"].get<std::string>()));
      } else {
        const std::string literal = tokenizer_text(pattern.at("String"));
        find = literal.empty() ? matches(Regex("")) : literals(literal);  // "" matches everywhere
      }
      add_split(std::move(find), parse_behavior(config.at("behavior").get<std::string>()),
                config.value("invert", false));
    } else if (type == "Metaspace") {
      const bool legacy_prefix = config.value("add_prefix_space", true);
      add_metaspace(config.contains("replacement") ? tokenizer_text(config["replacement"])
                                                   : std::string("\u2581"),
                    config.value("prepend_scheme", legacy_prefix ? "always" : "never"),
                    config.value("split", true));
    } else {
      unsupported_component("the pre-tokenizer " + type);
    }
  }

  /// Passes all matches in a piece to the sink until that returns false.
  using Finder = std::function<bool(std::string_view piece, Effort&, const MatchSink&)>;

  static Finder matches(Regex regex) {
    return
        [regex = std::move(regex)](std::string_view piece, Effort& effort, const MatchSink& sink) {
          return regex.for_each_match(piece, effort, sink);
        };
  }

  static Finder literals(std::string literal) {
    return [literal = std::move(literal)](std::string_view piece, Effort& effort,
                                          const MatchSink& sink) {
      return for_each_literal(piece, literal, effort, sink);
    };
  }

  /// Each character of a class is a match.
  static Finder characters(bool (*is_match)(std::uint32_t)) {
    return [is_match](std::string_view piece, Effort& effort, const MatchSink& sink) {
      for (std::size_t at = 0; at < piece.size();) {
        const auto [code_point, size] = unicode::first_character(piece.substr(at));
        if (is_match(code_point)) {
          effort.step();
          if (!sink(at, at + size)) return false;
        }
        at += size;
      }
      return true;
    };
  }

  static void require_one_character(const char* what, const std::string& text) {
    gptq::detail::require<FormatError>(
        !text.empty() && unicode::first_character(text).size == text.size(), "the ", what, " is \"",
        text, "\", which is not one character");
  }

  static Behavior parse_behavior(const std::string& name) {
    if (name == "Removed") return Behavior::removed;
    if (name == "Isolated") return Behavior::isolated;
    if (name == "MergedWithPrevious") return Behavior::merged_with_previous;
    if (name == "MergedWithNext") return Behavior::merged_with_next;
    if (name == "Contiguous") return Behavior::contiguous;
    unsupported_component("the split behavior " + name);
  }

  void add_write(std::function<void(std::string&, bool)> write) {
    steps_.push_back({nullptr, std::move(write)});
  }

  void add_byte_level(bool add_prefix_space, bool use_regex) {
    if (add_prefix_space)
      add_write([](std::string& piece, bool) {
        if (piece.front() != ' ') piece.insert(0, 1, ' ');
      });
    if (use_regex)
      add_split(matches(Regex("'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| "
                              "?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+")),
                Behavior::isolated);
    add_write([](std::string& piece, bool) { piece = unicode::to_byte_alphabet(piece); });
  }

  void add_metaspace(const std::string& replacement, const std::string& prepend_scheme,
                     bool split) {
    require_one_character("replacement of Metaspace", replacement);
    gptq::detail::require<FormatError>(
        prepend_scheme == "always" || prepend_scheme == "first" || prepend_scheme == "never",
        "the prepend_scheme of Metaspace is \"", prepend_scheme, "\"");
    if (prepend_scheme == "first" && !steps_.empty())
      unsupported_component("Metaspace with the prepend_scheme \"first\" after other steps");
    asks_for_start_ = asks_for_start_ || prepend_scheme == "first";
    add_write([=](std::string& piece, bool first) {
      std::string text;
      for (const char c : piece) c == ' ' ? text += replacement : text += c;
      const bool prepend = prepend_scheme == "always" || (prepend_scheme == "first" && first);
      if (prepend && text.rfind(replacement, 0) != 0) text = replacement + text;
      piece = std::move(text);
    });
    if (split) add_split(literals(replacement), Behavior::merged_with_next);
  }

  /// \param invert  what lies between matches counts as a match
  void add_split(Finder find, Behavior behavior, bool invert = false) {
    const auto cut = [find = std::move(find), behavior, invert](std::string_view piece, bool first,
                                                                Effort& effort,
                                                                const PieceSink& sink) {
      // The last part is held back in case something is merged with it.
      std::size_t waiting_begin = 0, waiting_end = 0;
      bool waiting = false, after_match = false;
      const auto give = [&] {
        return waiting_begin == waiting_end ||
               sink(piece.substr(waiting_begin, waiting_end - waiting_begin),
                    first && waiting_begin == 0);
      };
      const auto take = [&](std::size_t begin, std::size_t end, bool match) {
        const bool with_last =
            waiting && ((behavior == Behavior::contiguous && match == after_match) ||
                        (behavior == Behavior::merged_with_previous && match && !after_match) ||
                        (behavior == Behavior::merged_with_next && !match && after_match));
        after_match = match;
        if (with_last) {
          waiting_end = end;
          return true;
        }
        const bool go_on = !waiting || give();
        waiting = behavior != Behavior::removed || !match;
        waiting_begin = begin;
        waiting_end = end;
        return go_on;
      };
      std::size_t done = 0;
      const auto on_match = [&](std::size_t begin, std::size_t end) {
        const bool go_on = begin == done || take(done, begin, invert);
        done = end;
        return go_on && take(begin, end, !invert);
      };
      return find(piece, effort, MatchSink(on_match)) &&
             (done == piece.size() || take(done, piece.size(), invert)) && (!waiting || give());
    };
    steps_.push_back({cut, nullptr});
  }

  std::vector<Step> steps_;
  std::size_t cuts_ = 0;  // steps up to the last one that splits
  bool asks_for_start_ = false;
};

}  // namespace gptq::model
