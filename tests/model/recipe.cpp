// SPDX-License-Identifier: MIT

// Recipes: every key is translated, noted or refused.

#include <gptq/model/recipe/gptq_config.hpp>

#include "../support/catch.hpp"

using gptq::model::Recipe;

namespace {

Recipe recipe_of(const std::string& json) {
  return gptq::model::read_gptq_config(nlohmann::ordered_json::parse(json), "recipe.json");
}

/// "bits=4 asym=true"
std::string words_of(const std::string& json) {
  std::string text;
  for (const auto& [name, value] : recipe_of(json).options)
    text += (text.empty() ? "" : " ") + name + "=" + value;
  return text;
}

std::string recipe_refusal(const std::string& json) {
  return error_of<gptq::FormatError>([&] { recipe_of(json); });
}

/// The only note, for a key that sets nothing.
std::string note_on(const std::string& json) {
  const auto recipe = recipe_of(json);
  CHECK(recipe.options.empty());
  REQUIRE(recipe.notes.size() == 1);
  return recipe.notes[0];
}

}  // namespace

TEST_CASE("GPTQConfig: keys that are options here", "[recipe]") {
  CHECK(words_of(R"({"bits": 3})") == "bits=3");
  CHECK(words_of(R"({"group_size": -1})") == "group-size=-1");
  CHECK(words_of(R"({"damp_percent": 0.05})") == "damping=0.05");
  CHECK(words_of(R"({"sym": true})") == "asym=false");
  CHECK(words_of(R"({"sym": false})") == "asym=true");
  CHECK(words_of(R"({"desc_act": false})") == "order=natural");
  CHECK(words_of(R"({"desc_act": true})") == "order=act");
  CHECK(recipe_of(R"({"desc_act": true})").notes.size() == 1);
  CHECK(words_of(R"({"desc_act": false, "act_group_aware": true})").empty());
  CHECK(words_of(R"({"true_sequential": true})") == "sequential=sublayer");
  CHECK(words_of(R"({"true_sequential": false})") == "sequential=layer");
  CHECK(words_of(R"({"model_seqlen": 512})") == "sequence-length=512");
  CHECK(recipe_of(R"({"block_name_to_quantize": "model.layers"})").layers == "model.layers.");
  CHECK(words_of(R"({"bits": 4, "tokenizer": null, "dataset": null})") == "bits=4");
}

TEST_CASE("GPTQConfig: which modules are quantized, and how", "[recipe]") {
  CHECK(words_of(R"({"modules_in_block_to_quantize": [["self_attn.q_proj"], ["mlp.up_proj"]]})") ==
        R"(skip=re:(?!.*\.(?:self_attn\.q_proj|mlp\.up_proj)$))");
  CHECK(words_of(R"({"dynamic": {"-:.*down": {}, "+:.*up": {"bits": 8, "group_size": 32}}})") ==
        "skip=re:.*down override=re:.*up=bits:8,group-size:32");
  CHECK(words_of(R"({"dynamic": {".*up": {"bits": 8}}})") == "override=re:.*up=bits:8");
  CHECK_THAT(recipe_refusal(R"({"dynamic": {"+:a": {"bits": 8}, "-:a": {}}})"),
             ContainsSubstring("comes after a rule with settings"));
  CHECK_THAT(recipe_refusal(R"({"dynamic": {"+:a": {"sym": false}}})"),
             ContainsSubstring("\"sym\" is not supported for single modules"));
  CHECK_THAT(recipe_refusal(R"({"modules_in_block_to_quantize": []})"),
             ContainsSubstring("is empty"));
}

TEST_CASE("GPTQConfig: keys that change nothing are noted", "[recipe]") {
  for (const char* key : {"tokenizer", "backend", "model_name_or_path", "model_file_base_name"})
    CHECK_THAT(note_on(std::string("{\"") + key + "\": \"x\"}"), ContainsSubstring(key));
  for (const char* key : {"batch_size", "pad_token_id", "max_input_length"})
    CHECK_THAT(note_on(std::string("{\"") + key + "\": 1}"), ContainsSubstring(key));
  for (const char* key : {"cache_block_outputs", "use_cuda_fp16", "use_exllama", "static_groups"})
    CHECK_THAT(note_on(std::string("{\"") + key + "\": true}"), ContainsSubstring(key));
  for (const char* key : {"exllama_config", "meta"})
    CHECK_THAT(note_on(std::string("{\"") + key + "\": {\"version\": 2}}"), ContainsSubstring(key));
  CHECK_THAT(note_on(R"({"module_name_preceding_first_block": ["model.embed_tokens"]})"),
             ContainsSubstring("follows from the model"));
  CHECK_THAT(note_on(R"({"checkpoint_format": "gptq_v2"})"),
             ContainsSubstring("symmetric grids are stored in gptq"));
  CHECK(words_of(R"({"checkpoint_format": "gptq", "format": "gptq"})").empty());
}

TEST_CASE("GPTQConfig: what cannot be done is refused", "[recipe]") {
  CHECK_THAT(recipe_refusal(R"({"dataset": "wikitext2"})"),
             ContainsSubstring("recipe.json") && ContainsSubstring("nothing is downloaded"));
  CHECK_THAT(recipe_refusal(R"({"dataset": ["a text"]})"),
             ContainsSubstring("one {\"text\": ...}"));
  CHECK_THAT(recipe_refusal(R"({"checkpoint_format": "marlin"})"),
             ContainsSubstring("\"marlin\" is not supported (gptq and gptq_v2 are)"));
  CHECK_THAT(recipe_refusal(R"({"quant_method": "awq"})"),
             ContainsSubstring("recipes of gptq are supported"));
  CHECK_THAT(recipe_refusal(R"({"method": "qqq"})"), ContainsSubstring("recipes of gptq"));
  CHECK_THAT(recipe_refusal(R"({"lm_head": true})"), ContainsSubstring("heads are not quantized"));
  CHECK_THAT(recipe_refusal(R"({"pack_dtype": "int16"})"), ContainsSubstring("int32"));
  CHECK_THAT(recipe_refusal(R"({"damp_percnt": 0.01})"),
             ContainsSubstring("\"damp_percnt\" is unknown (the nearest known one is "
                               "\"damp_percent\")"));
  CHECK_THAT(recipe_refusal(R"({"bits": "four"})"), ContainsSubstring("\"bits\""));
  CHECK_THAT(recipe_refusal(R"({"damp_percent": "much"})"), ContainsSubstring("\"damp_percent\""));
}

TEST_CASE("recipes in our own words", "[recipe]") {
  const auto read = [](const char* json) {
    return gptq::model::read_own_recipe(nlohmann::ordered_json::parse(json), "recipe.json").options;
  };
  using Options = decltype(Recipe::options);
  CHECK(
      read(R"({"bits": 3, "asym": true, "method": "rtn", "override": ["a=bits:8", "b=bits:2"]})") ==
      Options{{"bits", "3"},
              {"asym", "true"},
              {"method", "rtn"},
              {"override", "a=bits:8"},
              {"override", "b=bits:2"}});
  CHECK(read(R"({"bits": null})").empty());
  CHECK_THAT(error_of<gptq::FormatError>([&] { read(R"({"bits": {"a": 1}})"); }),
             ContainsSubstring("recipe.json: \"bits\" = {\"a\":1} is not a word"));
  CHECK(gptq::model::is_gptq_config(
      nlohmann::ordered_json::parse(R"({"bits": 4, "desc_act": false})")));
  CHECK_FALSE(gptq::model::is_gptq_config(
      nlohmann::ordered_json::parse(R"({"bits": 4, "group-size": 8})")));
  CHECK(gptq::model::nearest_word("grup-size", {"bits", "group-size", "order"}) == "group-size");
}
