// SPDX-License-Identifier: MIT

// Kinds of tokenizers: those that models have against the tokenizers library, each component and
// its errors, unigram models, folders without tokenizer.json, tokenizer.ggml.pre, tokens around a
// text.

#include <gptq/core/stopwatch.hpp>
#include <gptq/io/checkpoint.hpp>
#include <gptq/model/gguf_tokenizer.hpp>
#include <gptq/model/model_files.hpp>
#include <gptq/model/tokenizer.hpp>
#include <gptq/model/tokenizer/merges_txt.hpp>

#include "../support/catch.hpp"
#include "../support/files.hpp"
#include "../support/gguf_builder.hpp"

#include <map>

using gptq::FormatError;
using gptq::model::TokenId;
using gptq::model::Tokenizer;
using gptq::model::tokenizer_from_merges;
using Ids = std::vector<TokenId>;
using Files = std::map<std::string, std::string>;
using nlohmann::json;

namespace {

json fixture(const std::string& name) {
  return gptq::io::read_json(test::data_folder() / "tokenizers" / (name + ".json"));
}

template <class F>
std::string refused_with(const F& f) {
  return error_of<FormatError>(f);
}

const json byte_level{{"type", "ByteLevel"}, {"use_regex", false}};

/// A tokenizer with one token for each byte, whose id it is.
Tokenizer bytes_tokenizer(const json& step, const json& normalizer = nullptr) {
  json vocabulary;
  const auto& alphabet = gptq::model::unicode::byte_alphabet();
  for (std::size_t byte = 0; byte < 256; ++byte) vocabulary[alphabet[byte]] = byte;
  return Tokenizer(
      json{{"model", {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", json::array()}}},
           {"normalizer", normalizer},
           {"pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", {step, byte_level}}}}});
}

/// The text that the ids stand for. Each piece has got a space in front, which is shown as "|".
std::string pieces(const json& step, const std::string& text) {
  std::string out;
  for (const TokenId id : bytes_tokenizer(step).encode(text))
    out += id == ' ' ? '|' : static_cast<char>(id);
  return out;
}

/// What a normalizer makes of a text.
std::string normalized(const json& normalizer, const std::string& text) {
  const json whole{
      {"type", "Split"}, {"pattern", {{"Regex", "(?m:.)+"}}}, {"behavior", "Isolated"}};
  std::string out;
  for (const TokenId id : bytes_tokenizer(whole, normalizer).encode(text))
    out += static_cast<char>(id);
  return out.empty() ? out : out.substr(1);
}

json unigram(const json& changes = json::object()) {
  json model = json::parse(R"({"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0], ["a", -1],
      ["b", -2], ["ab", -2.5], ["abc", -9], ["<0xC3>", -1], ["<0xA9>", -1]]})");
  model.update(changes);
  return {{"model", model}};
}

/// Files of a folder without tokenizer.json.
Files files(const json& config = json::object()) {
  return {
      {"vocab.json",
       R"({"a": 0, "b": 1, "ab": 2, "\u0120": 3, "</s>": 4, "<|endoftext|>": 5, "\u0120ab": 6})"},
      {"merges.txt", "#version: 0.2\r\na b\n\u0120 ab\n"},
      {"tokenizer_config.json", config.dump()}};
}

Tokenizer read(const Files& files, const std::string& model_type = "opt") {
  return Tokenizer(tokenizer_from_merges(files, model_type).value(),
                   gptq::model::listed_tokens(files));
}

}  // namespace

TEST_CASE("kinds of tokenizers give the ids of the tokenizers library", "[tokenizer]") {
  for (const char* name :
       {"bloom", "command_r", "deepseek_v2", "deepseek_v3", "falcon", "gemma", "glm4", "mistral_v3",
        "o200k", "qwen35", "tekken", "unigram", "unigram_bytes"}) {
    const Tokenizer tokenizer(fixture(name));
    const auto cases = fixture(name + std::string(".expected"));
    CHECK(cases.size() > 20);
    for (const auto& c : cases) {
      INFO(name << ": " << c["text"]);
      CHECK(tokenizer.encode(c["text"].get<std::string>()) == c["ids"].get<Ids>());
    }
  }
}

TEST_CASE("a document that is one word takes time in proportion to its length", "[tokenizer]") {
  // Gemma does not cut text. Every character joins every other here, so nothing splits the word.
  json vocabulary, merges = json::array();
  const std::string letters = "abcdefgh";
  for (const char c : letters) vocabulary[std::string(1, c)] = vocabulary.size();
  for (const char a : letters)
    for (const char b : letters) {
      vocabulary[std::string{a, b}] = vocabulary.size();
      merges.push_back({std::string(1, a), std::string(1, b)});
    }
  const Tokenizer tokenizer(
      json{{"model", {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", merges}}}});
  std::string text;
  for (unsigned i = 0, x = 1; i < 1u << 20; ++i)
    text += letters[(x = x * 1664525 + 1013904223) >> 29];
  gptq::Stopwatch watch;
  CHECK(tokenizer.encode(text).size() < text.size());
  CHECK(watch.lap() < 30);  // about 1 s; quadratic, it would take hours
}

TEST_CASE("Punctuation, white space and delimiters cut as in the tokenizers library",
          "[tokenizer]") {
  const auto punctuation = [](const char* behavior) {
    return json{{"type", "Punctuation"}, {"behavior", behavior}};
  };
  CHECK(pieces(punctuation("Isolated"), "a,.b") == "|a|,|.|b");
  CHECK(pieces(punctuation("Removed"), "a,.b") == "|a|b");
  CHECK(pieces(punctuation("MergedWithPrevious"), "a,.b") == "|a,|.|b");
  CHECK(pieces(punctuation("MergedWithNext"), "a,.b") == "|a|,|.b");
  CHECK(pieces(punctuation("Contiguous"), "a,.b") == "|a|,.|b");
  CHECK(pieces({{"type", "Punctuation"}}, "a$`~+b") == "|a|$|`|~|+|b");
  CHECK(pieces(punctuation("Isolated"), "a\u2014b\u20ac") == "|a|\u2014|b\u20ac");
  // Punctuation in Unicode 9 but not in 8, and the reverse: the library goes by Unicode 8.
  CHECK(pieces(punctuation("Isolated"), "a\u2e43b\u166d") == "|a\u2e43b|\u166d");
  CHECK(pieces({{"type", "Whitespace"}}, "ab, c_1\u00e9-!\n") == "|ab|,|c_1\u00e9|-!");
  CHECK(pieces({{"type", "WhitespaceSplit"}}, " ab,\u3000c\n\nd") == "|ab,|c|d");
  CHECK(pieces({{"type", "CharDelimiterSplit"}, {"delimiter", "x"}}, "axxbx") == "|a|b");
  CHECK(pieces({{"type", "Digits"}}, "a12b") == "|a|12|b");
  CHECK(pieces({{"type", "Digits"}, {"individual_digits", true}}, "a12\u00b2") == "|a|1|2|\u00b2");
  CHECK_THAT(refused_with([] {
               pieces({{"type", "CharDelimiterSplit"}, {"delimiter", "ab"}}, "a");
             }),
             ContainsSubstring("the delimiter of CharDelimiterSplit is \"ab\""));
  CHECK_THAT(refused_with([&] { pieces(punctuation("Lost"), "a"); }),
             ContainsSubstring("the split behavior Lost"));
}

TEST_CASE("Split has five behaviours, each with its inverse", "[tokenizer]") {
  const auto cut = [](const char* behavior, bool invert) {
    return pieces({{"type", "Split"},
                   {"pattern", {{"String", "x"}}},
                   {"behavior", behavior},
                   {"invert", invert}},
                  "axxbx");
  };
  CHECK(cut("Removed", false) == "|a|b");
  CHECK(cut("Isolated", false) == "|a|x|x|b|x");
  CHECK(cut("MergedWithPrevious", false) == "|ax|x|bx");
  CHECK(cut("MergedWithNext", false) == "|a|x|xb|x");
  CHECK(cut("Contiguous", false) == "|a|xx|b|x");
  CHECK(cut("Removed", true) == "|x|x|x");
  CHECK(cut("Isolated", true) == "|a|x|x|b|x");
  CHECK(cut("MergedWithPrevious", true) == "|a|x|xb|x");
  CHECK(cut("MergedWithNext", true) == "|ax|x|bx");
  CHECK(cut("Contiguous", true) == "|a|xx|b|x");
}

TEST_CASE("normalizers change case, accents and ends of a text", "[tokenizer]") {
  CHECK(normalized({{"type", "Lowercase"}}, "ABC \u00c4\u0130\u03a3\u1e9e") ==
        "abc \u00e4i\u0307\u03c3\u00df");
  CHECK(normalized({{"type", "Lowercase"}}, "\ua7cb\U00010d50") ==
        "\u0264\U00010d70");  // Unicode 16
  CHECK(normalized({{"type", "StripAccents"}}, "e\u0301\u0903\u20dd\u00e9") == "e\u00e9");
  CHECK(normalized({{"type", "StripAccents"}}, "a\u0898") == "a\u0898");  // newer than Unicode 8
  CHECK(normalized({{"type", "Strip"}, {"strip_left", true}, {"strip_right", true}},
                   "\u3000 a b\n\n") == "a b");
  CHECK(normalized({{"type", "Strip"}, {"strip_left", true}, {"strip_right", false}}, " a ") ==
        "a ");
  CHECK(normalized({{"type", "Strip"}, {"strip_left", true}, {"strip_right", true}}, " \n") == "");
  CHECK(normalized({{"type", "ByteLevel"}}, "a \u00e9") == "a\u0120\u00c3\u00a9");
  CHECK_THAT(refused_with([] {
               normalized({{"type", "Precompiled"}, {"precompiled_charsmap", "AAAA"}}, "a");
             }),
             ContainsSubstring("the normalizer Precompiled") && ContainsSubstring("--tokens FILE"));
  json config = fixture("unigram_bytes");
  config["added_tokens"].push_back({{"id", 600}, {"content", " "}, {"normalized", true}});
  CHECK_THAT(refused_with([&] { Tokenizer{config}; }),
             ContainsSubstring("the added token \" \", of which the normalizer leaves nothing"));
}

TEST_CASE("a unigram model takes the pieces with the best sum of scores", "[tokenizer][unigram]") {
  const Tokenizer tokenizer(unigram());
  CHECK(tokenizer.size() == 7);
  CHECK(tokenizer.encode("").empty());
  CHECK(tokenizer.encode("ab") == Ids{3});
  CHECK(tokenizer.encode("ba") == Ids{2, 1});
  CHECK(tokenizer.encode("abc") == Ids{4});
  // The unknown token costs 10 more than the worst one; adjacent ones are one.
  CHECK(tokenizer.encode("xy") == Ids{0});
  CHECK(tokenizer.encode("axyb") == Ids{1, 0, 2});
  CHECK(tokenizer.encode("<unk>x") == Ids{0});
  CHECK(tokenizer.encode("\u00e9") == Ids{0});
  const Tokenizer bytes(unigram({{"byte_fallback", true}}));
  CHECK(bytes.encode("a\u00e9x") == Ids{1, 0});  // x has no byte token: both are unknown
  CHECK(bytes.encode("a\u00e9") == Ids{1, 5, 6});
  // Of tokens with the same text, the last one counts.
  CHECK(Tokenizer(unigram({{"vocab", json::parse(R"([["<unk>", 0], ["a", -1], ["a", -2]])")}}))
            .encode("aa") == Ids{2, 2});
}

TEST_CASE("malformed unigram models are refused with the entry", "[tokenizer][unigram]") {
  const auto refused = [](const json& changes, const std::string& text = "a") {
    return refused_with([&] { Tokenizer(unigram(changes)).encode(text); });
  };
  CHECK_THAT(refused({{"unk_id", nullptr}}, "x"), ContainsSubstring("no unknown token (unk_id)"));
  CHECK_THAT(refused({{"unk_id", 7}}),
             ContainsSubstring("unk_id = 7") && ContainsSubstring("which has 7"));
  CHECK_THAT(refused({{"unk_id", -1}}), ContainsSubstring("unk_id = -1"));
  CHECK_THAT(refused({{"vocab", json::parse(R"([["a", 0], ["b"]])")}}),
             ContainsSubstring("the vocabulary entry 1 is [\"b\"], not [token, score]"));
  CHECK_THAT(refused({{"vocab", json::parse(R"([["a", "b"], ["b", 0]])")}}),
             ContainsSubstring("the vocabulary entry 0 is"));
  CHECK_THAT(refused({{"vocab", json::object()}}),
             ContainsSubstring("not a list of [token, score]"));
  CHECK_THAT(refused({{"alpha", 0.1}}), ContainsSubstring("Unigram with alpha"));
}

TEST_CASE("vocab.json and merges.txt are a tokenizer", "[tokenizer][merges_txt]") {
  CHECK_FALSE(tokenizer_from_merges({}, "opt").has_value());
  CHECK_FALSE(tokenizer_from_merges({{"vocab.json", "{}"}}, "opt").has_value());
  CHECK(read(files()).encode("ab ab") == Ids{2, 6});
  CHECK(read(files({{"add_prefix_space", true}})).encode("ab ab") == Ids{6, 6});
  CHECK(read(files()).encode("a<|endoftext|>b</s>") == Ids{0, 5, 1});  // "</s>" is no token
  // OPT puts </s> before each text.
  const json opt{{"tokenizer_class", "GPT2Tokenizer"},
                 {"add_bos_token", true},
                 {"bos_token", {{"__type", "AddedToken"}, {"content", "</s>"}}},
                 {"eos_token", "</s>"},
                 {"unk_token", "</s>"}};
  const Tokenizer tokenizer = read(files(opt));
  CHECK(tokenizer.encode("ab</s>") == Ids{4, 2, 4});
  CHECK(tokenizer.bos() == 4);
  CHECK(read(files({{"add_eos_token", true}})).encode("a") == Ids{0, 5});
  const json map{{"bos_token", "</s>"}};
  Files with_map = files({{"add_bos_token", true}});
  with_map["special_tokens_map.json"] = map.dump();
  CHECK(read(with_map).encode("a") == Ids{4, 0});
  // Qwen2 composes accents and cuts before digits.
  const json qwen = tokenizer_from_merges(files(), "qwen2").value();
  CHECK(qwen["normalizer"]["type"] == "NFC");
  CHECK(qwen["pre_tokenizer"]["pretokenizers"][1]["use_regex"] == false);
}

TEST_CASE("malformed vocab.json and merges.txt are refused with the place",
          "[tokenizer][merges_txt]") {
  const auto refused = [](const std::string& name, const std::string& content) {
    Files changed = files({{"add_bos_token", true}});
    changed[name] = content;
    return refused_with([&] { read(changed); });
  };
  CHECK_THAT(refused("vocab.json", "[]"), ContainsSubstring("vocab.json: is not a JSON object"));
  CHECK_THAT(refused("vocab.json", R"({"a": 0})"),
             ContainsSubstring("not a byte-level vocabulary"));
  CHECK_THAT(
      refused("vocab.json", R"({"\u0120": -1, "a": 0, "b": 1, "ab": 2, "\u0120ab": 3})"),
      ContainsSubstring("\"add_bos_token\" is true, but vocab.json has no \"<|endoftext|>\""));
  CHECK_THAT(refused("merges.txt", "#version: 0.2\na b\nabc\n"),
             ContainsSubstring("merges.txt: line 3, \"abc\", is not two tokens"));
  CHECK_THAT(refused("merges.txt", "a b c"), ContainsSubstring("merges.txt: line 1, \"a b c\""));
  CHECK_THAT(refused("merges.txt", "a c"),
             ContainsSubstring("merge of \"a\" and \"c\" is not in the vocabulary"));
  CHECK_THAT(refused("tokenizer_config.json", "{"),
             ContainsSubstring("tokenizer_config.json: is not a JSON object"));
  CHECK_THAT(refused("tokenizer_config.json", R"({"tokenizer_class": "RobertaTokenizerFast"})"),
             ContainsSubstring("vocab.json and merges.txt for a RobertaTokenizer"));
}

TEST_CASE("a folder without tokenizer.json is opened with vocab.json and merges.txt",
          "[tokenizer][merges_txt]") {
  const test::TemporaryFolder folder;
  const auto model = folder / "model";
  std::filesystem::copy(test::data_folder() / "models" / "llama", model);
  CHECK_THAT(refused_with([&] { load_tokenizer(gptq::model::open_model(model)); }),
             ContainsSubstring("has no tokenizer.json"));
  for (const auto& [name, content] : files({{"add_bos_token", true}}))
    gptq::io::write_file(model / name, content);
  CHECK(load_tokenizer(gptq::model::open_model(model)).encode("ab") == Ids{5, 2});
  gptq::io::write_file(model / "merges.txt", "abc");
  CHECK_THAT(refused_with([&] { load_tokenizer(gptq::model::open_model(model)); }),
             ContainsSubstring("merges.txt: line 1"));
}

TEST_CASE("a tokenizer tells which tokens it puts before a text", "[tokenizer]") {
  CHECK_FALSE(Tokenizer(fixture("gpt2")).bos().has_value());
  CHECK(Tokenizer(fixture("llama3")).bos() == 0);
  CHECK(Tokenizer(fixture("gemma")).bos() == 1);
  Tokenizer glm(fixture("glm4"));
  REQUIRE(glm.prefix().size() == 2);  // [gMASK]<sop>
  CHECK(glm.bos() == glm.prefix()[0]);
  const Ids whole = glm.encode("ab");
  glm.leave_out_surrounding_tokens();
  CHECK_FALSE(glm.bos().has_value());
  CHECK(glm.encode("ab") == Ids(whole.begin() + 2, whole.end()));
}

TEST_CASE("names of GGUF pre-tokenizers stand for the cuts of the models' own tokenizers",
          "[tokenizer][gguf]") {
  using gptq::model::gguf_pre_tokenizer;
  struct Kind {
    const char *name, *file;
  };
  for (const auto& [name, file] : {Kind{"falcon", "falcon"},
                                   {"gpt-4o", "o200k"},
                                   {"llama4", "o200k"},
                                   {"tekken", "tekken"},
                                   {"deepseek-v3", "deepseek_v3"},
                                   {"bloom", "bloom"},
                                   {"qwen35", "qwen35"},
                                   {"glm4", "glm4"},
                                   {"chatglm-bpe", "glm4"},
                                   {"command-r", "command_r"},
                                   {"qwen2", "qwen"},
                                   {"llama-bpe", "llama3"},
                                   {"starcoder", "command_r"}}) {
    INFO(name);
    const auto pre = gguf_pre_tokenizer(name);
    const json config = fixture(file);
    auto steps = config["pre_tokenizer"].value("pretokenizers", json::array());
    for (json& step : steps) step.erase("trim_offsets");
    std::vector<json> ours(pre.steps.begin(), pre.steps.end());
    for (json& step : ours) step.erase("trim_offsets");
    CHECK(json(ours) == steps);
    CHECK(pre.ignore_merges == config["model"]["ignore_merges"].get<bool>());
    if (std::string_view(name) != "starcoder") CHECK(pre.nfc == !config["normalizer"].is_null());
  }
  for (const char* name :
       {"gpt-2",         "phi-2",           "mpt",        "olmo",       "dbrx",
        "smaug-bpe",     "falcon3",         "refact",     "smollm",     "stablelm2",
        "deepseek-llm",  "deepseek-coder",  "exaone",     "exaone4",    "exaone-moe",
        "seed-coder",    "granite-docling", "minimax-m2", "kimi-k2",    "hunyuan",
        "hunyuan-dense", "viking",          "superbpe",   "bailingmoe", "minicpm5",
        "cohere2moe",    "default"}) {
    INFO(name);
    CHECK_NOTHROW(Tokenizer(
        json{{"model", {{"type", "BPE"}, {"vocab", json::object()}, {"merges", json::array()}}},
             {"pre_tokenizer",
              {{"type", "Sequence"}, {"pretokenizers", gguf_pre_tokenizer(name).steps}}}}));
  }
  for (const char* unknown : {"", "moon", "gpt", "phi-2 mpt", " "})
    CHECK_THAT(refused_with([&] { gguf_pre_tokenizer(unknown); }),
               ContainsSubstring("the GGUF pre-tokenizer \"" + std::string(unknown) + "\""));
}

TEST_CASE("a Gemma 4 vocabulary has marks for spaces and lists its merges", "[tokenizer][gguf]") {
  const test::TemporaryFolder folder;
  const auto parsed = [&](const char* kind, const char* pre) {
    test::GgufBuilder builder;
    builder.text("tokenizer.ggml.model", kind)
        .text("tokenizer.ggml.pre", pre)
        .texts("tokenizer.ggml.tokens", {"<bos>", "\u2581", "a", "\u2581a", "\n", "\n\n", "<0x62>"})
        .texts("tokenizer.ggml.merges", {"\u2581 a", "\n \n"})
        .numbers<std::int32_t>("tokenizer.ggml.token_type", {3, 1, 1, 1, 1, 1, 6})
        .number<std::uint32_t>("tokenizer.ggml.bos_token_id", 0)
        .flag("tokenizer.ggml.add_bos_token", true)
        .flag("tokenizer.ggml.add_space_prefix", false);
    gptq::io::write_file(folder / "t.gguf", builder.bytes());
    return Tokenizer(gptq::model::gguf_tokenizer_json(gptq::io::Gguf(folder / "t.gguf")));
  };
  for (const Tokenizer& tokenizer : {parsed("gemma4", "gemma4"), parsed("gpt2", "gemma4")}) {
    CHECK(tokenizer.encode("a a\n\nb") == Ids{0, 2, 3, 5, 6});
    CHECK(tokenizer.bos() == 0);
  }
  CHECK_THAT(refused_with([&] { parsed("t5", "default"); }),
             ContainsSubstring("of the kind \"t5\""));
}
