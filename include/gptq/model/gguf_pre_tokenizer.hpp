// SPDX-License-Identifier: MIT
#pragma once

// How the byte-level vocabularies of GGUF files split text: tokenizer.ggml.pre names a list of
// components of a tokenizer.json. The expressions are those of the models' own tokenizers.

#include <gptq/model/tokenizer/components.hpp>
#include <gptq/model/tokenizer/unsupported.hpp>

#include <nlohmann/json.hpp>

#include <string>
#include <string_view>
#include <utility>  // std::move
#include <vector>

namespace gptq::model {

/// What a tokenizer.ggml.pre stands for.
struct GgufPreTokenizer {
  std::string_view names;             ///< separated by spaces
  std::vector<nlohmann::json> steps;  ///< pre-tokenizers
  bool nfc = false;                   ///< text is normalized first
  bool ignore_merges = false;         ///< words that are tokens are not merged
  bool bos = false;                   ///< a BOS token comes first, unless the file says otherwise
};

namespace detail {

inline std::string replaced(std::string text, std::string_view from, std::string_view to) {
  return text.replace(text.find(from), from.size(), to);
}

inline std::vector<GgufPreTokenizer> gguf_pre_tokenizers() {
  const std::string contractions = "(?i:'s|'t|'re|'ve|'m|'ll|'d)",
                    rest = R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
  const std::string gpt2 =
      R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
  const std::string llama3 =
      contractions + R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)" + rest;
  const std::string qwen2 = replaced(llama3, R"(\p{N}{1,3})", R"(\p{N})");
  const std::string tekken =
      R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|)"
      R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|)"
      R"(\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*)" +
      rest;
  const std::string o200k =
      R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)" +
      contractions +
      R"(?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)" +
      contractions + R"(?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*)" + rest;
  const std::string kimi =
      R"([\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*)"
      R"([\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+)" +
      contractions +
      R"(?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+)"
      R"([\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*)" +
      contractions + R"(?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)" + rest;
  const std::string deepseek3 =
      R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|)"
      R"( ?[\p{P}\p{S}]+[\r\n]*)" +
      rest;
  const std::string bloom = " ?[^(\\s|[.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c])]+",
                    kana = "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
                    asian = R"([\x{4e00}-\x{9fa5}\x{800}-\x{4e00}\x{ac00}-\x{d7ff}]+)";
  // Letters with case, as of the day when DeepSeek listed them.
  const std::string cased =
      R"(A-Za-z\x{b5}\x{c0}-\x{d6}\x{d8}-\x{f6}\x{f8}-\x{1ba}\x{1bc}-\x{1bf}\x{1c4}-\x{293})"
      R"(\x{295}-\x{2af}\x{370}-\x{373}\x{376}\x{377}\x{37b}-\x{37d}\x{37f}\x{386})"
      R"(\x{388}-\x{38a}\x{38c}\x{38e}-\x{3a1}\x{3a3}-\x{3f5}\x{3f7}-\x{481}\x{48a}-\x{52f})"
      R"(\x{531}-\x{556}\x{10a0}-\x{10c5}\x{13a0}-\x{13f5}\x{13f8}-\x{13fd})"
      R"(\x{1c90}-\x{1cba}\x{1cbd}-\x{1cbf}\x{1d00}-\x{1d2b}\x{1d6b}-\x{1d77})"
      R"(\x{1d79}-\x{1d9a}\x{1e00}-\x{1f15}\x{1f18}-\x{1f1d}\x{1f20}-\x{1f45})"
      R"(\x{1f48}-\x{1f4d}\x{1f50}-\x{1f57}\x{1f59}\x{1f5b}\x{1f5d}\x{1f5f}-\x{1f7d})"
      R"(\x{1f80}-\x{1fb4}\x{1fb6}-\x{1fbc}\x{1fbe}\x{1fc2}-\x{1fc4}\x{1fc6}-\x{1fcc})"
      R"(\x{1fd0}-\x{1fd3}\x{1fd6}-\x{1fdb}\x{1fe0}-\x{1fec}\x{1ff2}-\x{1ff4})"
      R"(\x{1ff6}-\x{1ffc}\x{2102}\x{2107}\x{210a}-\x{2113}\x{2115}\x{2119}-\x{211d})"
      R"(\x{2124}\x{2126}\x{2128}\x{212a}-\x{212d}\x{212f}-\x{2134}\x{2139})"
      R"(\x{213c}-\x{213f}\x{2145}-\x{2149}\x{214e}\x{2183}\x{2184}\x{2c00}-\x{2c7b})"
      R"(\x{2c7e}-\x{2ce4}\x{2ceb}-\x{2cee}\x{2cf2}\x{2cf3}\x{a640}-\x{a66d})"
      R"(\x{a680}-\x{a69b}\x{a722}-\x{a76f}\x{a771}-\x{a787}\x{a78b}-\x{a78e})"
      R"(\x{ab70}-\x{abbf}\x{fb00}-\x{fb06}\x{fb13}-\x{fb17}\x{ff21}-\x{ff3a})"
      R"(\x{ff41}-\x{ff5a}\x{10400}-\x{1044f}\x{104b0}-\x{104d3}\x{104d8}-\x{104fb})"
      R"(\x{10c80}-\x{10cb2}\x{10cc0}-\x{10cf2}\x{118a0}-\x{118df}\x{1e900}-\x{1e943})";
  const auto digits = [](bool individual) {
    return nlohmann::json{{"type", "Digits"}, {"individual_digits", individual}};
  };
  const nlohmann::json bytes = byte_level(false), words = byte_level(true), digit = digits(true),
                       punctuation{{"type", "Punctuation"}, {"behavior", "Contiguous"}};
  const auto cut = split_isolated;

  return {
      {"gpt-2 phi-2 gigachat a.x-4.0 mellum jais trillion exaone4 granite-docling", {words}},
      {.names = "mpt olmo", .steps = {words}, .nfc = true},  // as in GPT-NeoX
      {"default",
       {cut(R"([\p{P}\$\+<=>\^~\|]+)"), cut(gpt2), cut(R"(\p{N}+)"), cut("[0-9][0-9][0-9]"),
        bytes}},
      {"falcon", {punctuation, words, digits(false), cut("[0-9][0-9][0-9]")}},
      {"starcoder refact codeshell exaone minerva-7b mellum2", {digit, words}},
      {.names = "command-r", .steps = {digit, words}, .nfc = true},
      // Text is split into words before digits, as transformers does for such a file: of several
      // spaces before a number, the last one becomes a piece of its own.
      {"smollm", {cut(gpt2), digit, bytes}},
      {.names = "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2",
       .steps = {cut(llama3), bytes},
       .ignore_merges = true,
       .bos = true},
      {"dbrx smaug-bpe glm4 chatglm-bpe", {cut(llama3), bytes}},
      {.names = "minicpm5",
       .steps = {cut(R"(\p{N}{1,3})"), cut(replaced(llama3, R"(\p{N}{1,3})", R"(\p{N}+)")), bytes},
       .ignore_merges = true},
      {.names = "qwen2 deepseek-r1-qwen megrez kormo", .steps = {cut(qwen2), bytes}, .nfc = true},
      {.names = "qwen35",
       .steps = {cut(replaced(replaced(qwen2, R"(?\p{L}+)", R"(?[\p{L}\p{M}]+)"),
                              R"([^\s\p{L}\p{N}])", R"([^\s\p{L}\p{M}\p{N}])")),
                 bytes},
       .nfc = true},
      {"stablelm2 hunyuan solar-open grok-2", {cut(qwen2), bytes}},
      {"seed-coder",
       {cut(replaced(replaced(qwen2, R"(|\p{N}|)", R"(|\p{N}{1}|)"), R"([^\s\p{L}\p{N}]+[\r\n]*)",
                     R"([^\s\p{L}\p{N}\r\n]+)")),
        bytes}},
      {"gpt-4o llama4 kanana2 minimax-m2", {cut(o200k), bytes}},
      {"cohere2moe tiny_aya", {cut(R"(\d{1,3}(?=(?:\d{3})*\b))"), cut(o200k), bytes}},
      {.names = "tekken", .steps = {cut(tekken), bytes}, .ignore_merges = true, .bos = true},
      {"kimi-k2", {cut(kimi), bytes}},
      {"deepseek-llm",
       {cut("[\\r\\n]"), cut("\\s?[" + cased + "]+"),
        cut("\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+"), cut("\\s+$"),
        cut(asian), cut(R"(\p{N}+)"), bytes}},
      {"deepseek-coder",
       {cut("[\\r\\n]"), cut(R"(\s?\p{L}+)"), cut(R"(\s?\p{P}+)"), cut(asian), digit, bytes}},
      {"deepseek-v3 hunyuan-dense joyai-llm",
       {cut(R"(\p{N}{1,3})"), cut(kana), cut(deepseek3), bytes}},
      {"bloom poro-chat gpt3-finnish", {cut(bloom), bytes}},
      {"viking", {cut(bloom), cut(R"(\p{N})"), bytes}},
      {"superbpe", {cut(R"(\p{N}+)"), cut(R"((?=(\d{3})+(?!\d)))"), bytes}},
      {"bailingmoe bailingmoe2 llada-moe",
       {cut(R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|)"
            R"(\s*[\r\n]|\s+(?!\S)|\s+)"),
        bytes}},
      {"exaone-moe",
       {cut(contractions +
            R"(|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|)"
            R"(\s*[\r\n]|\s+(?!\S)|\s+)"),
        bytes}},
  };
}

}  // namespace detail

/// \throws FormatError  an unknown name
inline GgufPreTokenizer gguf_pre_tokenizer(const std::string& name) {
  for (GgufPreTokenizer& known : detail::gguf_pre_tokenizers())
    if (!name.empty() &&
        (" " + std::string(known.names) + " ").find(" " + name + " ") != std::string::npos)
      return std::move(known);
  unsupported_component("the GGUF pre-tokenizer \"" + name + "\"");
}

}  // namespace gptq::model
