// SPDX-License-Identifier: MIT

// Tokenizers and texts that once crashed, hung, took all memory or gave other ids than the
// tokenizers library; files of text that are not what their name says.

#include <gptq/core/stopwatch.hpp>
#include <gptq/io/checkpoint.hpp>
#include <gptq/model/calibration_text.hpp>
#include <gptq/model/gguf_tokenizer.hpp>
#include <gptq/model/tokenizer.hpp>

#include "../support/catch.hpp"
#include "../support/files.hpp"
#include "../support/gguf_builder.hpp"

using gptq::FormatError;
using gptq::InvalidArgument;
using gptq::model::Regex;
using gptq::model::TokenId;
using gptq::model::Tokenizer;
using Ids = std::vector<TokenId>;
using Spans = std::vector<Regex::Span>;
using nlohmann::json;

namespace {

/// Letters a to e are 0 to 4, "ab" is 5; other characters are dropped.
json letters(const json& parts = json::object()) {
  auto config = json::parse(R"({"model": {"type": "BPE", "vocab":
      {"a": 0, "b": 1, "c": 2, "d": 3, "e": 4, "ab": 5}, "merges": ["a b"]}})");
  config.update(parts, true);
  return config;
}

json split(const std::string& kind, const std::string& pattern,
           const std::string& behavior = "Isolated") {
  return {
      {"type", "Split"}, {"pattern", {{kind, pattern}}}, {"behavior", behavior}, {"invert", false}};
}

Tokenizer cut_by(const std::string& pattern) {
  return Tokenizer(letters({{"pre_tokenizer", split("Regex", pattern)}}));
}

json added(int id, const std::string& content, const json& flags = json::object()) {
  json token{{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
             {"rstrip", false}, {"normalized", false}, {"special", true}};
  token.update(flags);
  return token;
}

std::string times(const std::string& text, int count) {
  std::string all;
  for (int i = 0; i < count; ++i) all += text;
  return all;
}

template <class F>
std::string refusal(const F& f) {
  return error_of<FormatError>(f);
}

}  // namespace

TEST_CASE("an expression cannot match half a character", "[tokenizer][fault2]") {
  CHECK_THAT(refusal([] { cut_by(".{30}\\C"); }),
             ContainsSubstring("regular expression") && ContainsSubstring("--tokens FILE"));
  for (const char* pattern : {"\\xf0", "[\\xf0-\\xff]", "\\x80", "a|\\xf0."}) {
    INFO(pattern);
    try {
      cut_by(pattern).encode(times("a\U0001f600", 100));
    } catch (const FormatError&) {
      SUCCEED("refused");
    }
  }
  CHECK_THROWS_AS(Regex("a").find_all("a\xf0"), FormatError);
  CHECK_THROWS_AS(Regex("a").matches_start("\xf0"), FormatError);
  CHECK_THROWS_AS(Regex("\xf0"), InvalidArgument);
}

TEST_CASE("an expression that backtracks exhaustively ends with a message",
          "[tokenizer][fault10]") {
  gptq::Stopwatch watch;
  CHECK_THAT(refusal([] { cut_by("(a+)+$").encode(times(std::string(40, 'a') + "b ", 10)); }),
             ContainsSubstring("(a+)+$") && ContainsSubstring("--tokens FILE"));
  CHECK_THAT(refusal([] { cut_by("(a+)+$").encode(times(std::string(20, 'a') + "b ", 2000)); }),
             ContainsSubstring("takes more than 54000000 steps"));
  CHECK(watch.lap() < 60);
}

TEST_CASE("matching stops when the caller wants to", "[tokenizer][fault10]") {
  int asked = 0;
  const auto stop = [&] { return ++asked > 3; };
  CHECK_THROWS_AS(
      cut_by("(a+)+$").encode(times(std::string(20, 'a') + "b ", 2000), Tokenizer::all, stop),
      gptq::Cancelled);
  asked = 0;  // many steps, but no retries
  CHECK_THROWS_AS(cut_by("(?>a+)b").encode(std::string(1 << 20, 'a'), Tokenizer::all, stop),
                  gptq::Cancelled);
  asked = 0;
  CHECK_THROWS_AS(Tokenizer(letters()).encode(std::string(1 << 20, 'a'), Tokenizer::all, stop),
                  gptq::Cancelled);
  CHECK_THROWS_AS(Tokenizer(letters()).encode("a", Tokenizer::all, [] { return true; }),
                  gptq::Cancelled);
}

TEST_CASE("long texts without a break are split", "[tokenizer][fault11]") {
  CHECK(cut_by("(?:a|b)+").encode(std::string(20000, 'a')) == Ids(20000, 0));
  CHECK_THAT(refusal([] { cut_by("(?:a|b)+").encode(std::string(8 << 20, 'a')); }),
             ContainsSubstring("stack") && ContainsSubstring("--tokens FILE"));
}

TEST_CASE("a search in parts finds the same as a whole search", "[tokenizer]") {
  const std::string text = std::string(300000, 'a') + "\u00e9b" + std::string(100000, 'a') + "b";
  const std::size_t b = 300002;
  CHECK(Regex("b").find_all(text) == Spans{{b, b + 1}, {b + 100001, b + 100002}});
  CHECK(Regex("(?<=\u00e9)b").find_all(text) == Spans{{b, b + 1}});
  CHECK(Regex("a{3}\u00e9b").find_all(text) == Spans{{b - 5, b + 1}});
  CHECK(Regex("a+\u00e9b").find_all(text.substr(280000, 20010)) == Spans{{0, 20003}});
  // More retries than a call has for free.
  CHECK(Regex("(?:a|a){1,12}b").find_all(std::string(500, 'a') + "b") == Spans{{488, 501}});
  CHECK(Regex("\\Ga").find_all("aab" + std::string(30000, 'a')) == Spans{{0, 1}, {1, 2}});
}

TEST_CASE("a token of a megabyte does not take minutes", "[tokenizer][gguf][fault16]") {
  const test::TemporaryFolder folder;
  gptq::io::write_file(folder / "t.gguf",
                       test::GgufBuilder()
                           .text("tokenizer.ggml.model", "llama")
                           .texts("tokenizer.ggml.tokens", {"a", std::string(1 << 20, 'a')})
                           .numbers<float>("tokenizer.ggml.scores", {0, 0})
                           .bytes());
  CHECK_THAT(refusal([&] { gptq::model::gguf_tokenizer_json(gptq::io::Gguf(folder / "t.gguf")); }),
             ContainsSubstring("a token of 1048576 bytes (number 1)"));
}

TEST_CASE("invalid token types are refused", "[tokenizer][gguf][fault19]") {
  const auto refused = [](const test::GgufBuilder& builder) {
    const test::TemporaryFolder folder;
    gptq::io::write_file(folder / "t.gguf", builder.bytes());
    return refusal([&] { gptq::model::gguf_tokenizer_json(gptq::io::Gguf(folder / "t.gguf")); });
  };
  const auto tokens = [] {
    return test::GgufBuilder()
        .text("tokenizer.ggml.model", "gpt2")
        .texts("tokenizer.ggml.tokens", {"a"});
  };
  CHECK_THAT(refused(tokens().numbers<float>("tokenizer.ggml.token_type", {1e30F})),
             ContainsSubstring("tokenizer.ggml.token_type"));
  CHECK_THAT(refused(tokens().numbers<std::int32_t>("tokenizer.ggml.token_type", {-1})),
             ContainsSubstring("token_type has the entry -1"));
}

TEST_CASE("Metaspace without exactly one character is refused", "[tokenizer][fault21]") {
  for (const char* replacement : {"", "ab"})
    CHECK_THAT(refusal([&] {
                 Tokenizer{letters(
                     {{"pre_tokenizer", {{"type", "Metaspace"}, {"replacement", replacement}}}})};
               }),
               ContainsSubstring("not one character"));
  const Tokenizer kept(letters(
      {{"pre_tokenizer",
        {{"type", "Sequence"},
         {"pretokenizers",
          {split("Regex", "a", "Removed"), {{"type", "ByteLevel"}, {"use_regex", false}}}}}}}));
  CHECK(kept.encode("aaa").empty());
}

TEST_CASE("Metaspace depends on where a piece was in the original text", "[tokenizer]") {
  const auto tokenizer = [](const std::string& pattern, const std::string& content) {
    return Tokenizer(
        letters({{"normalizer",
                  {{"type", "Replace"}, {"pattern", {{"Regex", pattern}}}, {"content", content}}},
                 {"pre_tokenizer",
                  {{"type", "Metaspace"}, {"replacement", "e"}, {"prepend_scheme", "first"}}},
                 {"added_tokens", {added(2, "c", {{"normalized", true}})}}}));
  };
  // Its first character is gone: nothing is prepended.
  CHECK(tokenizer("b", "").encode("bd") == Ids{3});
  CHECK(tokenizer("b", "").encode("db") == Ids{4, 3});
  // The first character became two, and the first of those is an added token.
  CHECK(tokenizer("b", "cd").encode("b") == Ids{2, 4, 3});
  CHECK(tokenizer("a", "d").encode("ad") == Ids{4, 3, 3});
  CHECK_THAT(refusal([&] { tokenizer("bd", "a").encode("bd"); }),
             ContainsSubstring("combines the first characters of a text"));
}

TEST_CASE("a text that grows without bound is refused", "[tokenizer][fault25]") {
  auto steps = json::array();
  for (int i = 0; i < 40; ++i)
    steps.push_back({{"type", "Replace"}, {"pattern", {{"String", "a"}}}, {"content", "aa"}});
  const Tokenizer tokenizer(
      letters({{"normalizer", {{"type", "Sequence"}, {"normalizers", steps}}}}));
  CHECK_THAT(refusal([&] { tokenizer.encode("aaaa"); }),
             ContainsSubstring("more than 1048832 bytes") && ContainsSubstring("--tokens FILE"));
  auto alphabets = json::array();
  for (int i = 0; i < 40; ++i)
    alphabets.push_back({{"type", "ByteLevel"}, {"use_regex", false}, {"add_prefix_space", false}});
  const Tokenizer bytes(
      letters({{"pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", alphabets}}}}));
  CHECK_THROWS_AS(bytes.encode("\u00e9"), FormatError);
}

TEST_CASE("endlessly nested components are refused", "[tokenizer]") {
  json pre = nullptr, normal = nullptr, post = nullptr;
  for (int i = 0; i < 200; ++i) {
    pre = json{{"type", "Sequence"}, {"pretokenizers", json::array({pre})}};
    normal = json{{"type", "Sequence"}, {"normalizers", json::array({normal})}};
    post = json{{"type", "Sequence"}, {"processors", json::array({post})}};
  }
  for (const auto& [name, part] :
       {std::pair("pre_tokenizer", pre), {"normalizer", normal}, {"post_processor", post}})
    CHECK_THAT(refusal([&] {
                 Tokenizer{letters({{name, part}})};
               }),
               ContainsSubstring("nested deeper than 16 levels"));
}

TEST_CASE("a String is never an expression", "[tokenizer][fault29]") {
  const Tokenizer tokenizer(letters({{"pre_tokenizer", split("String", "b\\E.")}}));
  CHECK(tokenizer.encode("abcd") == Ids{5, 2, 3});
  CHECK(tokenizer.encode("ab\\E.ab") == Ids{0, 1, 5});
}

TEST_CASE("expressions mean what they mean to the tokenizers library", "[tokenizer]") {
  CHECK(cut_by("(?=b)").encode("abab") == Ids{0, 1, 0, 1});  // empty matches split
  CHECK(cut_by("a$").encode("ab\na\nb") == Ids{5, 0, 1});
  CHECK(Regex("b$").find_all("ab\nab") == Spans{{1, 2}, {4, 5}});
  CHECK(Regex("^a").find_all("ab\nab") == Spans{{0, 1}, {3, 4}});
  CHECK(Regex("\\h").find_all("a g") == Spans{{0, 1}});
  CHECK(Regex("[a-z&&[^b]]").find_all("abc") == Spans{{0, 1}, {2, 3}});
  CHECK(Regex("a{1,2}+").find_all("aaaa") == Spans{{0, 4}});
  CHECK(Regex("").find_all("\u00e9a") == Spans{{0, 0}, {2, 2}, {3, 3}});
  CHECK(Regex("\\w+").find_all("e\u0301a") == Spans{{0, 4}});
  const auto whole = [](const std::string& pattern) {
    return Regex(gptq::model::for_every_oniguruma(pattern));
  };
  CHECK(whole("\\R+").find_all("a\r\n\n\u2028b") == Spans{{1, 7}});
  CHECK(whole("[[:punct:]]+").find_all("a-+^b") == Spans{{1, 4}});
  CHECK(whole("[^[:^punct:]]+").find_all("a-+^b") == Spans{{1, 4}});
  CHECK(gptq::model::for_every_oniguruma("[]\\R[:punct:]][\\]]\\\\R") ==
        "[]\\R\\p{P}\\p{S}][\\]]\\\\R");
  CHECK_THAT(refusal([] { cut_by("(?~a)"); }), ContainsSubstring("(?~...)"));
  CHECK_THAT(refusal([] { cut_by("\\p{^wo_rd}"); }), ContainsSubstring("\\p{Word}"));
  for (const char* ascii : {"(?P:[[:punct:]])", "(?i-P)[[:^punct:]]", "[[:punct:]](?WP:a)"})
    CHECK_THAT(refusal([&] { cut_by(ascii); }), ContainsSubstring("(?P) and [:punct:]"));
  for (const char* other : {"(?P:[[:alpha:]])", "(?W:[[:punct:]])", "(?<P>[[:punct:]])"})
    CHECK_NOTHROW(cut_by(other));
}

TEST_CASE("rules for engines are limited to what Python reads the same way", "[tokenizer]") {
  const auto python = [](const std::string& pattern) {
    return Regex(pattern, Regex::Syntax::python);
  };
  CHECK(python("model\\.layers\\.\\d+\\.(mlp|attn)").matches_start("model.layers.12.mlp.up"));
  CHECK_FALSE(python("[qkv]_proj").matches_start("model.q_proj"));
  CHECK(python("(?i)MODEL").matches_start("model"));
  CHECK(python("(?P<n>a)[^b-]{2,3}?$").matches_start("axx"));
  for (const char* pattern :
       {"\\Qa\\E",    "(?<n>a)",     "a++",     "(?>a)",  "a{1,2}+", "\\h",     "\\p{L}",
        "\\K",        "[[:alpha:]]", "[a&&b]",  "[a[b]]", "\\z",     "\\Z",     "(?m)a",
        "a(?i)",      "(?i:\u00e9)", "a**",     "*a",     "a{,2}",   "a{2}?",   "(?#c)",
        "(?a)",       "\\1",         "(?P=n)",  "(",      ")",       "[a",      "\\",
        "(?<=a|b)c",  "\\xff",       "\\u0041", "[]a]",   "[\\d-z]", "(*FAIL)", "a{2,1}",
        "(ab){10,9}", "x{1,0}?"}) {
    INFO(pattern);
    CHECK_THROWS_AS(python(pattern), InvalidArgument);
  }
  CHECK_NOTHROW(python("a{1,1}b{0,2}?c{3,}d{09,10}"));
  CHECK_THAT(error_of<InvalidArgument>([&] { python("a{2,1}"); }),
             ContainsSubstring("an interval whose upper limit is less than its lower one"));
  CHECK_THAT(error_of<InvalidArgument>([&] { python("ab\\Qc"); }),
             ContainsSubstring("\\Q at position 2") && ContainsSubstring("Python"));
}

TEST_CASE("added tokens absorb white space as defined by Unicode", "[tokenizer]") {
  const auto tokenizer = [](const json& flags) {
    return Tokenizer(letters(
        {{"pre_tokenizer", {{"type", "ByteLevel"}, {"use_regex", false}}},
         {"model",
          {{"vocab", {{"\u0120", 6}, {"\u00c2", 7}, {"\u0142", 8}}}, {"merges", json::array()}}},
         {"added_tokens", {added(9, "<x>", flags)}}}));
  };
  CHECK(tokenizer({{"lstrip", true}}).encode("a\u3000\u0085 <x>") == Ids{6, 0, 9});
  CHECK(tokenizer({{"rstrip", true}}).encode("<x>\u00a0\u2003a") == Ids{9, 6, 0});
  CHECK(tokenizer({{"single_word", true}}).encode("\u2014<x>\u2014") == Ids{6, 9, 6});
  CHECK(tokenizer({{"single_word", true}}).encode("a<x>") == Ids{6, 0});
}

TEST_CASE("a token listed only in other files is a token", "[tokenizer]") {
  using gptq::model::listed_tokens;
  const std::string config = R"({"bos_token": "<s>", "added_tokens_decoder": {
      "6": {"content": "<x>", "lstrip": false, "rstrip": true, "normalized": false,
            "single_word": false, "special": true}}})";
  const auto with = [](const std::map<std::string, std::string>& files) {
    return Tokenizer(letters(), listed_tokens(files));
  };
  CHECK(with({{"tokenizer_config.json", config}}).encode("a<x> b<s>a") == Ids{0, 6, 1, 7, 0});
  CHECK(with({{"added_tokens.json", R"({"<y>": 6})"}}).encode("a<y>b") == Ids{0, 6, 1});
  CHECK(
      with({{"special_tokens_map.json", R"({"eos_token": {"content": "<z>"}})"}}).encode("a<z>b") ==
      Ids{0, 6, 1});
  // Which of two files is right matters once a text contains the token.
  const auto contested = with({{"added_tokens.json", R"({"<y>": 9})"}});
  CHECK(contested.encode("ab") == Ids{5});
  CHECK_THAT(refusal([&] { contested.encode("a<y>"); }),
             ContainsSubstring("\"<y>\"") && ContainsSubstring("has the id 9 in added_tokens") &&
                 ContainsSubstring("--tokens FILE"));
  CHECK_THROWS_AS(listed_tokens({{"added_tokens.json", R"({"<y>": "x"})"}}), FormatError);
}

TEST_CASE("a token without an embedding matters only if a text contains it", "[tokenizer]") {
  Tokenizer tokenizer(letters({{"added_tokens", {added(6, "[PAD]")}}}));
  tokenizer.set_limit(6);
  CHECK(tokenizer.encode("ab") == Ids{5});
  CHECK_THAT(refusal([&] { tokenizer.encode("ab[PAD]"); }),
             ContainsSubstring("\"[PAD]\" with the id 6") &&
                 ContainsSubstring("embeddings for 6 tokens") &&
                 ContainsSubstring("--tokens FILE"));
}

TEST_CASE("no token in a GGUF file: -1, 4294967295 and invalid ids", "[tokenizer][gguf]") {
  const auto tokenizer = [](auto bos, const std::string& pre = "llama-bpe") {
    const test::TemporaryFolder folder;
    test::GgufBuilder builder;
    builder.text("tokenizer.ggml.model", "gpt2")
        .text("tokenizer.ggml.pre", pre)
        .texts("tokenizer.ggml.tokens", {"a", "b"})
        .texts("tokenizer.ggml.merges", {})
        .number("tokenizer.ggml.bos_token_id", bos);
    gptq::io::write_file(folder / "t.gguf", builder.bytes());
    const gptq::io::Gguf gguf(folder / "t.gguf");
    auto config = gptq::model::gguf_tokenizer_json(gguf);
    return config["post_processor"];
  };
  CHECK(tokenizer(std::int32_t{-1}).is_null());
  CHECK(tokenizer(std::uint32_t{0xffffffff}).is_null());
  CHECK(tokenizer(std::uint32_t{2}).is_null());
  CHECK_FALSE(tokenizer(std::uint32_t{1}).is_null());
  CHECK(tokenizer(std::int32_t{-1}, "deepseek-r1-qwen").is_null());
}

TEST_CASE("the first ids are those of the whole text", "[tokenizer]") {
  const Tokenizer words = cut_by("[^e]*e"), marks{letters()};
  const std::string text = times("abcabdababe", 3000);
  for (const Tokenizer* tokenizer : {&words, &marks}) {
    const Ids all = tokenizer->encode(text);
    for (const std::size_t enough : {std::size_t{0}, std::size_t{1}, std::size_t{7},
                                     std::size_t{1000}, all.size(), all.size() + 5}) {
      INFO(enough);
      const Ids first = tokenizer->encode(text, enough);
      CHECK(first == Ids(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(
                                                        (std::min)(enough, all.size()))));
    }
  }
}

TEST_CASE("long words are split where no merge joins the parts", "[tokenizer]") {
  // Merged in parts and as a whole: the same, even with unknown characters in between.
  const auto config = json::parse(R"({"model": {"vocab": {"a": 0, "b": 1, "c": 2, "ab": 3, "abc": 4,
      "ca": 5, "?": 6}, "merges": ["a b", "ab c", "c a"], "unk_token": "?", "fuse_unk": true}})");
  const Tokenizer tokenizer(config);
  const std::string word = "abcab\u00e9\u00e9cacab";
  const Ids once = tokenizer.encode(word);
  Ids expected;
  for (int i = 0; i < 20; ++i) expected.insert(expected.end(), once.begin(), once.end());
  CHECK(once == Ids{4, 3, 6, 5, 2, 3});
  CHECK(tokenizer.encode(times(word + "\u00e9", 20)).size() == 20 * (once.size() + 1));
  CHECK(tokenizer.encode(std::string(100, 'b')) == Ids(100, 1));
}

TEST_CASE("files that are not text are refused with what they are", "[calibration_text]") {
  const test::TemporaryFolder folder;
  const auto refused = [&](const std::string& name, const std::string& content) {
    gptq::io::write_file(folder / name, content);
    return refusal([&] { gptq::model::read_texts(folder / name); });
  };
  CHECK_THAT(refused("t.txt", "\x1f\x8b\x08"), ContainsSubstring("t.txt: is a gzip file"));
  CHECK_THAT(refused("t.parquet", "PAR1xx"), ContainsSubstring("is a Parquet file"));
  CHECK_THAT(refused("u.txt", "\xff\xfe"),
             ContainsSubstring("UTF-16") && ContainsSubstring("iconv"));
  CHECK_THAT(refused("a.json", "[{\"text\": \"a\"}]"), ContainsSubstring("is a JSON array"));
  CHECK_THAT(refused("b.jsonl", "{\"text\": \"a\"}\n{\"text\" \"b\"}"),
             ContainsSubstring("line 2 is not valid JSON: column 11"));
  CHECK_THAT(refused("c.jsonl", R"({"messages": []})"),
             ContainsSubstring("(it has: messages)") && ContainsSubstring("chat template"));
  CHECK_THAT(refused("d.jsonl", R"({"text": null})"), ContainsSubstring("\"text\" is null"));
  CHECK_THAT(refused("e.jsonl", R"({"text": "\ud800"})"),
             ContainsSubstring("an unpaired surrogate"));
  CHECK_THAT(refused("f.jsonl", "7"), ContainsSubstring("line 1 is number"));
}

TEST_CASE("JSON as Python writes it is read", "[calibration_text]") {
  const test::TemporaryFolder folder;
  gptq::io::write_file(folder / "nan.jsonl",
                       "{\"score\": NaN, \"x\": [-Infinity, Infinity], \"text\": \"NaN \\\" b\"}\n"
                       "{\"other\": \"\\ud83d\", \"text\": \"\\ud83d\\ude00\"}\n");
  CHECK(gptq::model::read_texts(folder / "nan.jsonl") ==
        std::vector<std::string>{"NaN \" b", "\U0001f600"});
}

TEST_CASE("choices about a text are reported", "[calibration_text]") {
  const test::TemporaryFolder folder;
  const auto notes = [&](const std::string& name, const std::string& content) {
    gptq::io::write_file(folder / name, content);
    std::vector<std::string> list;
    gptq::model::tokenize_file(Tokenizer(letters()), folder / name, Tokenizer::all, {}, &list);
    CHECK(list.size() <= 1);
    return list.empty() ? std::string() : list[0];
  };
  CHECK_THAT(notes("chat.txt", "{\"messages\": [{\"role\": \"user\"}]}\n"),
             ContainsSubstring("chat.txt: its first line is JSON without a \"text\"") &&
                 ContainsSubstring("plain text"));
  CHECK_THAT(notes("lines.txt", "\n\n{\"text\": \"ab\"}\n"),
             ContainsSubstring("their \"text\" is used"));
  CHECK_THAT(notes("t.csv", "a b c"), ContainsSubstring("CSV"));
  CHECK_THAT(notes("t.txt", "id,\"text\",label\n1,\"a\",2\n"), ContainsSubstring("CSV"));
  CHECK_THAT(notes("new.txt", "a\U0003134fb\U0007ffff"), ContainsSubstring("not known to"));
  CHECK(notes("plain.txt", "text, as people write it\n{}").empty());
  CHECK(notes("lines.jsonl", "{\"text\": \"ab\"}\n").empty());
  CHECK(notes("old.txt", "\u65e5\u672c \U0001f600").empty());
}

TEST_CASE("ids from another tokenizer are refused with file and position", "[calibration_text]") {
  const Ids ids{0, 5, 6};
  CHECK_THAT(refusal([&] { gptq::model::require_token_ids(ids, 6, "ids.txt"); }),
             ContainsSubstring("ids.txt: token 2 has the id 6") &&
                 ContainsSubstring("embeddings for 6 tokens"));
  gptq::model::require_token_ids(ids, 7, "ids.txt");
}
