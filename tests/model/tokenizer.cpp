// SPDX-License-Identifier: MIT

#include <gptq/io/checkpoint.hpp>
#include <gptq/model/calibration_text.hpp>
#include <gptq/model/gguf_tokenizer.hpp>
#include <gptq/model/tokenizer.hpp>

#include "../support/catch.hpp"
#include "../support/files.hpp"
#include "../support/gguf_builder.hpp"

#include <functional>

using gptq::FormatError;
using gptq::model::TokenId;
using gptq::model::Tokenizer;
using Ids = std::vector<TokenId>;

namespace {

void check_against_tokenizers(const std::string& name) {
  const auto folder = test::data_folder() / "tokenizers";
  const Tokenizer tokenizer(gptq::io::read_json(folder / (name + ".json")));
  const auto cases = gptq::io::read_json(folder / (name + ".expected.json"));
  CHECK(cases.size() > 20);
  for (const auto& c : cases) {
    INFO(c["text"]);
    CHECK(tokenizer.encode(c["text"].get<std::string>()) == c["ids"].get<Ids>());
  }
}

nlohmann::json tiny(const std::string& changes = "{}") {
  auto json = nlohmann::json::parse(
      R"({"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}})");
  json.merge_patch(nlohmann::json::parse(changes));
  return json;
}

}  // namespace

TEST_CASE("GPT-2 style tokenizers give the ids of the reference implementation", "[tokenizer]") {
  check_against_tokenizers("gpt2");
}
TEST_CASE("SmolLM style tokenizers give the ids of the reference implementation", "[tokenizer]") {
  check_against_tokenizers("smollm");
}
TEST_CASE("Llama 3 style tokenizers give the ids of the reference implementation", "[tokenizer]") {
  check_against_tokenizers("llama3");
}
TEST_CASE("Qwen style tokenizers give the ids of the reference implementation", "[tokenizer]") {
  check_against_tokenizers("qwen");
}
TEST_CASE("Llama 2 style tokenizers give the ids of the reference implementation", "[tokenizer]") {
  check_against_tokenizers("llama2");
}
TEST_CASE("Mistral style tokenizers give the ids of the reference implementation", "[tokenizer]") {
  check_against_tokenizers("mistral");
}

TEST_CASE("merges are read in both spellings", "[tokenizer]") {
  CHECK(Tokenizer(tiny()).encode("abb") == Ids{2, 1});
  CHECK(Tokenizer(tiny(R"({"model": {"merges": [["a", "b"]]}})")).encode("abb") == Ids{2, 1});
}

TEST_CASE("unsupported components are named, with a workaround", "[tokenizer]") {
  const auto refusal = [](const std::string& changes) {
    return error_of<FormatError>([&] { Tokenizer{tiny(changes)}; });
  };
  CHECK_THAT(refusal(R"({"model": {"type": "WordPiece"}})"),
             ContainsSubstring("the model WordPiece") && ContainsSubstring("--tokens FILE"));
  CHECK_THAT(refusal(R"({"pre_tokenizer": {"type": "BertPreTokenizer"}})"),
             ContainsSubstring("the pre-tokenizer BertPreTokenizer"));
  CHECK_THAT(refusal(R"({"normalizer": {"type": "Nmt"}})"),
             ContainsSubstring("the normalizer Nmt"));
  CHECK_THAT(refusal(R"({"post_processor": {"type": "BertProcessing"}})"),
             ContainsSubstring("the post-processor BertProcessing"));
  CHECK_THAT(refusal(R"({"model": {"continuing_subword_prefix": "##"}})"),
             ContainsSubstring("continuing_subword_prefix"));
  CHECK_THAT(refusal(R"({"model": {"merges": ["a c"]}})"),
             ContainsSubstring("merge of \"a\" and \"c\" is not in the vocabulary"));
  CHECK_THAT(refusal(R"({"model": {"merges": ["ab"]}})"),
             ContainsSubstring("\"ab\" is not a pair"));
  CHECK_THAT(error_of<FormatError>([] { Tokenizer{nlohmann::json::parse("{}")}; }),
             ContainsSubstring("tokenizer.json is malformed"));
}

TEST_CASE("text that is not UTF-8 is refused with the place", "[tokenizer]") {
  CHECK_THAT(error_of<FormatError>([] { Tokenizer(tiny()).encode("ab\xff"); }),
             ContainsSubstring("byte 2 is 0xff"));
}

TEST_CASE("a GGUF byte-level vocabulary becomes the tokenizer it was made from",
          "[tokenizer][gguf]") {
  const auto folder = test::data_folder() / "tokenizers";
  struct Kind {
    const char *file, *pre;
    bool bos;
  };
  for (const auto& [file, pre, bos] :
       {Kind{"gpt2", "gpt-2", false}, Kind{"llama3", "llama-bpe", true},
        Kind{"qwen", "qwen2", false}}) {
    const auto json = gptq::io::read_json(folder / (std::string(file) + ".json"));
    std::vector<std::string> tokens(json["model"]["vocab"].size() + 1);
    std::vector<std::int32_t> types(tokens.size(), 1);
    for (const auto& [token, id] : json["model"]["vocab"].items())
      tokens[id.get<std::size_t>()] = token;
    for (const auto& t : json["added_tokens"]) {
      tokens[t["id"].get<std::size_t>()] = t["content"];
      types[t["id"].get<std::size_t>()] = 3;
    }
    std::vector<std::string> merges;
    for (const auto& m : json["model"]["merges"])
      merges.push_back(m.is_array() ? m[0].get<std::string>() + " " + m[1].get<std::string>()
                                    : m.get<std::string>());
    test::GgufBuilder builder;
    builder.text("tokenizer.ggml.model", "gpt2")
        .text("tokenizer.ggml.pre", pre)
        .texts("tokenizer.ggml.tokens", tokens)
        .texts("tokenizer.ggml.merges", merges);
    builder.numbers<std::int32_t>("tokenizer.ggml.token_type", types)
        .number<std::uint32_t>("tokenizer.ggml.bos_token_id", 0);
    const test::TemporaryFolder temporary;
    gptq::io::write_file(temporary / "t.gguf", builder.bytes());
    const Tokenizer tokenizer(
        gptq::model::gguf_tokenizer_json(gptq::io::Gguf(temporary / "t.gguf")));
    for (const auto& c : gptq::io::read_json(folder / (std::string(file) + ".expected.json"))) {
      const auto text = c["text"].get<std::string>();
      if (text.find("<mask>") != std::string::npos)
        continue;  // GGUF does not record how added tokens strip white space
      auto expected = c["ids"].get<Ids>();
      INFO(file << ": " << text);
      CHECK(tokenizer.encode(text) == expected);
      if (bos && !expected.empty()) CHECK(expected[0] == 0);
    }
  }
}

TEST_CASE("a GGUF SentencePiece vocabulary merges the best-scoring piece first",
          "[tokenizer][gguf]") {
  test::GgufBuilder builder;
  std::vector<std::string> tokens{"<unk>", "<s>", "</s>"};
  std::vector<std::int32_t> types{2, 3, 3};
  std::vector<float> scores{0, 0, 0};
  for (int b = 0; b < 256; ++b) {
    char text[8];
    std::snprintf(text, sizeof text, "<0x%02X>", static_cast<unsigned>(b));
    tokens.emplace_back(text), types.push_back(6), scores.push_back(0);
  }
  const auto piece = [&](const char* text, float score) {
    tokens.emplace_back(text), types.push_back(1), scores.push_back(score);
    return static_cast<TokenId>(tokens.size()) - 1;
  };
  const TokenId mark = piece("\u2581", -20), a = piece("a", -21), b = piece("b", -22),
                ab = piece("ab", -1), ba = piece("ba", -2), mark_ab = piece("\u2581ab", -3);
  builder.text("tokenizer.ggml.model", "llama")
      .texts("tokenizer.ggml.tokens", tokens)
      .numbers<float>("tokenizer.ggml.scores", scores);
  builder.numbers<std::int32_t>("tokenizer.ggml.token_type", types)
      .number<std::uint32_t>("tokenizer.ggml.bos_token_id", 1)
      .number<std::uint32_t>("tokenizer.ggml.unknown_token_id", 0);
  const test::TemporaryFolder temporary;
  gptq::io::write_file(temporary / "t.gguf", builder.bytes());
  const Tokenizer tokenizer(gptq::model::gguf_tokenizer_json(gptq::io::Gguf(temporary / "t.gguf")));
  CHECK(tokenizer.encode("aba") == Ids{1, mark_ab, a});
  CHECK(tokenizer.encode("ba b") == Ids{1, mark, ba, mark, b});
  CHECK(tokenizer.encode("bab") == Ids{1, mark, b, ab});
  CHECK(tokenizer.encode("a\u00e9") == Ids{1, mark, a, 3 + 0xc3, 3 + 0xa9});
}

TEST_CASE("GGUF tokenizer keys are read, or refused if they change something",
          "[tokenizer][gguf]") {
  const test::TemporaryFolder temporary;
  const auto parsed = [&](const std::string& kind,
                          const std::function<void(test::GgufBuilder&)>& f) {
    test::GgufBuilder builder;
    builder.text("tokenizer.ggml.model", kind)
        .texts("tokenizer.ggml.tokens", {"<s>", "</s>", "a", "b"})
        .numbers<std::int32_t>("tokenizer.ggml.token_type", {3, 3, 1, 1})
        .number<std::uint32_t>("tokenizer.ggml.bos_token_id", 0);
    if (kind == "gpt2") builder.text("tokenizer.ggml.pre", "gpt-2");
    if (kind == "gpt2") builder.texts("tokenizer.ggml.merges", {});
    else builder.numbers<float>("tokenizer.ggml.scores", {0, 0, 0, 0});
    f(builder);
    gptq::io::write_file(temporary / "t.gguf", builder.bytes());
    return gptq::model::gguf_tokenizer_json(gptq::io::Gguf(temporary / "t.gguf"));
  };
  const auto flag = [](const char* key, bool value) {
    return [=](test::GgufBuilder& b) { b.flag("tokenizer.ggml." + std::string(key), value); };
  };
  const auto eos = [](bool with_id) {
    return [=](test::GgufBuilder& b) {
      b.flag("tokenizer.ggml.add_eos_token", true);
      if (with_id) b.number<std::uint32_t>("tokenizer.ggml.eos_token_id", 1);
    };
  };
  CHECK(Tokenizer(parsed("gpt2", eos(true))).encode("ab") == Ids{2, 3, 1});
  CHECK(Tokenizer(parsed("llama", [&](auto& b) {
          eos(true)(b);
          b.flag("tokenizer.ggml.add_space_prefix", false);
        })).encode("ab") == Ids{0, 2, 3, 1});
  CHECK_THAT(error_of<FormatError>([&] { parsed("gpt2", eos(false)); }),
             ContainsSubstring("tokenizer.ggml.add_eos_token is true, but "
                               "tokenizer.ggml.eos_token_id names no token"));
  CHECK(Tokenizer(parsed("gpt2", flag("add_bos_token", true))).encode("a") == Ids{0, 2});
  CHECK(Tokenizer(parsed("gpt2", flag("add_bos_token", false))).encode("a") == Ids{2});
  struct Flag {
    const char* key;
    bool neutral;
  };
  for (const char* kind : {"gpt2", "llama"}) {
    for (const Flag& key :
         {Flag{"remove_extra_whitespaces", false}, Flag{"escape_whitespaces", true},
          Flag{"treat_whitespace_as_suffix", false}}) {
      CHECK_NOTHROW(parsed(kind, flag(key.key, key.neutral)));
      CHECK_THAT(error_of<FormatError>([&] { parsed(kind, flag(key.key, !key.neutral)); }),
                 ContainsSubstring("tokenizer.ggml." + std::string(key.key) + " = ") &&
                     ContainsSubstring("--tokens FILE"));
    }
    CHECK_THAT(error_of<FormatError>([&] { parsed(kind, flag("split_by_moon", false)); }),
               ContainsSubstring("tokenizer.ggml.split_by_moon = false"));
    const auto charsmap = [](const std::vector<std::uint32_t>& bytes) {
      return [=](test::GgufBuilder& b) {
        b.numbers<std::uint32_t>("tokenizer.ggml.precompiled_charsmap", bytes);
      };
    };
    CHECK_NOTHROW(parsed(kind, charsmap({})));
    CHECK_THAT(error_of<FormatError>([&] {
                 parsed(kind, charsmap({0, 1}));
               }),
               ContainsSubstring("tokenizer.ggml.precompiled_charsmap = [0, 1]"));
    CHECK_NOTHROW(parsed(kind, [](test::GgufBuilder& b) {
      b.number<std::uint32_t>("tokenizer.ggml.eot_token_id", 1)
          .number<std::uint32_t>("tokenizer.ggml.padding_token_id", 1)
          .number<std::uint32_t>("tokenizer.ggml.seperator_token_id", 1)
          .number<std::uint32_t>("tokenizer.ggml.token_type_count", 1)
          .flag("tokenizer.ggml.add_sep_token", false)
          .text("tokenizer.chat_template", "{{ messages }}");
    }));
  }
  CHECK_THAT(error_of<FormatError>([&] { parsed("gpt2", flag("add_space_prefix", true)); }),
             ContainsSubstring("tokenizer.ggml.add_space_prefix = true"));
  CHECK_NOTHROW(parsed("gpt2", flag("add_space_prefix", false)));
}

TEST_CASE("GGUF vocabularies of other kinds are refused by name", "[tokenizer][gguf]") {
  const auto refusal = [](const test::GgufBuilder& builder) {
    const test::TemporaryFolder temporary;
    gptq::io::write_file(temporary / "t.gguf", builder.bytes());
    return error_of<FormatError>(
        [&] { gptq::model::gguf_tokenizer_json(gptq::io::Gguf(temporary / "t.gguf")); });
  };
  CHECK_THAT(refusal(test::GgufBuilder().text("tokenizer.ggml.model", "bert")),
             ContainsSubstring("of the kind \"bert\"") && ContainsSubstring("--tokens FILE"));
  CHECK_THAT(refusal(test::GgufBuilder()
                         .text("tokenizer.ggml.model", "gpt2")
                         .text("tokenizer.ggml.pre", "moon")
                         .texts("tokenizer.ggml.tokens", {"a"})
                         .texts("tokenizer.ggml.merges", {})),
             ContainsSubstring("the GGUF pre-tokenizer \"moon\""));
  CHECK_THAT(refusal(test::GgufBuilder()
                         .text("tokenizer.ggml.model", "gpt2")
                         .texts("tokenizer.ggml.tokens", {"a", "b"})
                         .numbers<std::int32_t>("tokenizer.ggml.token_type", {1})),
             ContainsSubstring("token_type has 1 entries"));
}

TEST_CASE("calibration files: plain text, JSON lines, token ids", "[calibration_text]") {
  const test::TemporaryFolder folder;
  gptq::io::write_file(folder / "plain.txt", "a b\nc");
  gptq::io::write_file(folder / "lines.jsonl",
                       "{\"text\": \"ab\", \"id\": 1}\n\n{\"text\": \"b\"}\n");
  gptq::io::write_file(folder / "guess.txt", "{\"text\": \"ab\"}\n{\"text\": \"b\"}");
  gptq::io::write_file(folder / "code.txt", "{\n  \"text\": 1\n}");
  CHECK(gptq::model::read_texts(folder / "plain.txt") == std::vector<std::string>{"a b\nc"});
  CHECK(gptq::model::read_texts(folder / "lines.jsonl") == std::vector<std::string>{"ab", "b"});
  CHECK(gptq::model::read_texts(folder / "guess.txt") == std::vector<std::string>{"ab", "b"});
  CHECK(gptq::model::read_texts(folder / "code.txt").size() == 1);
  CHECK(gptq::model::tokenize_file(Tokenizer(tiny()), folder / "lines.jsonl") == Ids{2, 1});
  gptq::io::write_file(folder / "bad.jsonl", "{\"text\": \"ab\"}\n{\"txt\": 1}\n");
  CHECK_THAT(error_of<FormatError>([&] { gptq::model::read_texts(folder / "bad.jsonl"); }),
             ContainsSubstring("bad.jsonl: line 2"));
  gptq::io::write_file(folder / "ids.txt", "[1, 2,3]\n4 5\t6");
  CHECK(gptq::model::read_token_ids(folder / "ids.txt") == Ids{1, 2, 3, 4, 5, 6});
  gptq::io::write_file(folder / "no.txt", "1 2 x");
  CHECK_THAT(error_of<FormatError>([&] { gptq::model::read_token_ids(folder / "no.txt"); }),
             ContainsSubstring("byte 4, \"x\", is not a token id"));
  gptq::io::write_file(folder / "negative.txt", "1 -2");
  CHECK_THROWS_AS(gptq::model::read_token_ids(folder / "negative.txt"), FormatError);
  CHECK_THROWS_AS(gptq::model::read_texts(folder / "missing.txt"), gptq::IoError);
}
