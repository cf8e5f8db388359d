// SPDX-License-Identifier: MIT

#include <gptq/model/architecture/registry.hpp>
#include <gptq/model/format/requirements.hpp>
#include <gptq/model/quantized_folder.hpp>

#include "../support/catch.hpp"

using gptq::InvalidArgument;
using gptq::model::NamePattern;
using gptq::model::Override;
using gptq::model::SettingsTable;

namespace {

gptq::model::Description config(gptq::Index hidden = 128, gptq::Index intermediate = 256) {
  return gptq::model::Description::parse({{"architectures", {"LlamaForCausalLM"}},
                                          {"hidden_size", hidden},
                                          {"intermediate_size", intermediate},
                                          {"num_hidden_layers", 2},
                                          {"num_attention_heads", 4},
                                          {"vocab_size", 80}},
                                         "config.json");
}

}  // namespace

TEST_CASE("patterns are full names or expressions from the name's start", "[settings]") {
  CHECK(NamePattern("model.layers.1.mlp.up_proj").matches("model.layers.1.mlp.up_proj"));
  CHECK_FALSE(NamePattern("model.layers.1.mlp.up_proj").matches("model.layers.1.mlp.up_proj2"));
  CHECK_FALSE(NamePattern("model.layers.1.mlp.up_proj").matches("modelxlayers.1.mlp.up_proj"));
  CHECK(NamePattern("re:.*up_proj").matches("model.layers.1.mlp.up_proj"));
  CHECK_FALSE(NamePattern("re:up_proj").matches("model.layers.1.mlp.up_proj"));
  CHECK_THROWS_AS(NamePattern("re:("), InvalidArgument);
}

TEST_CASE("the first override that matches wins and skips win over all", "[settings]") {
  SettingsTable table{
      {4, true, 128},
      {Override::parse("re:.*down_proj=bits:8,group-size:64"), Override::parse("re:.*proj=bits:3")},
      {NamePattern("re:model\\.layers\\.0\\.")}};
  CHECK_FALSE(table.find("model.layers.0.mlp.down_proj").has_value());
  const auto down = table.find("model.layers.1.mlp.down_proj"),
             up = table.find("model.layers.1.mlp.up_proj");
  CHECK(down->bits == 8);
  CHECK(down->group_size == 64);
  CHECK(down->symmetric);
  CHECK(up->bits == 3);
  CHECK(up->group_size == 128);
}

TEST_CASE("malformed overrides are refused with the wrong part", "[settings]") {
  const auto refusal = [](const std::string& text) {
    return error_of<InvalidArgument>([&] { Override::parse(text); });
  };
  CHECK_THAT(refusal("down_proj"), ContainsSubstring("\"down_proj\" is not PATTERN=KEY:VALUE"));
  CHECK_THAT(refusal("a=bits"), ContainsSubstring("\"bits\" is not KEY:VALUE"));
  CHECK_THAT(refusal("a=bits:four"), ContainsSubstring("\"bits:four\" is none of"));
  CHECK_THAT(refusal("a=sym:true"), ContainsSubstring("would mix symmetric and asymmetric"));
  CHECK_THAT(refusal("re:.*="), ContainsSubstring("changes nothing"));
  CHECK_THAT(refusal("a=bits:8,bits:4"), ContainsSubstring("\"a=bits:8,bits:4\" has bits twice"));
  CHECK_THAT(refusal("a=group-size:8,group_size:8"), ContainsSubstring("has group_size twice"));
  for (const char* text : {"a=bits:8,", "a=,bits:8", "a=bits:8,,group-size:32", "a=,"})
    CHECK_THAT(refusal(text), ContainsSubstring("\"\" is not KEY:VALUE"));
}

TEST_CASE("the format's rules are checked before any work", "[settings]") {
  const gptq::Params params;
  CHECK_NOTHROW(gptq::model::require_quantizable(config(), {{4, true, 128}, {}, {}}, params,
                                                 gptq::model::format::Gptq{}));
  CHECK_THAT(error_of<InvalidArgument>([&] {
               gptq::model::require_quantizable(config(128, 208), {{4, true, -1}, {}, {}}, params,
                                                gptq::model::format::Gptq{});
             }),
             ContainsSubstring("out_features = 208 of model.layers.0.mlp.gate_proj"));
  CHECK_THAT(
      error_of<InvalidArgument>([&] {
        gptq::model::require_quantizable(config(128, 320), {{4, true, 128}, {}, {}}, params,
                                         gptq::model::format::Gptq{});
      }),
      ContainsSubstring(
          "group_size = 128 does not divide in_features = 320 of model.layers.0.mlp.down_proj"));
  CHECK_THAT(error_of<InvalidArgument>([&] {
               gptq::model::require_quantizable(
                   config(), {{4, true, 128}, {Override::parse("re:.*=bits:5")}, {}}, params,
                   gptq::model::format::Gptq{});
             }),
             ContainsSubstring("bits = 5"));
  CHECK_THAT(error_of<InvalidArgument>([&] {
               gptq::model::require_quantizable(config(),
                                                {{4, true, 128}, {}, {NamePattern("re:.*")}},
                                                params, gptq::model::format::Gptq{});
             }),
             ContainsSubstring("every module is skipped"));
}

TEST_CASE("a rule that never applies is refused, overlapping ones are noted", "[settings]") {
  const auto rule = [](const char* text) { return Override::parse(text); };
  SettingsTable table{{4, true, 128},
                      {rule("re:.*down_proj=bits:8"), rule("model.layers.0.mlp.down_proj=bits:2")},
                      {}};
  CHECK_THAT(
      error_of<InvalidArgument>([&] {
        gptq::model::require_quantizable(config(), table, gptq::Params{},
                                         gptq::model::format::Gptq{});
      }),
      ContainsSubstring("--override model.layers.0.mlp.down_proj never applies: for every "
                        "module that it matches, --override re:.*down_proj takes precedence"));
  table.overrides = {rule("model.layers.0.mlp.down_proj=bits:2"), rule("re:.*down_proj=bits:8")};
  CHECK_NOTHROW(gptq::model::require_quantizable(config(), table, gptq::Params{},
                                                 gptq::model::format::Gptq{}));
  const auto notes = gptq::model::rule_notes(config(), table);
  REQUIRE(notes.size() == 2);
  CHECK_THAT(notes[0], ContainsSubstring("applies to 1 module (model.layers.0.mlp.down_proj)"));
  CHECK_THAT(notes[1], ContainsSubstring("applies to 1 module (model.layers.1.mlp.down_proj); for "
                                         "1 others that it matches"));
}

TEST_CASE("the configuration has the keys that loaders look for", "[settings]") {
  const SettingsTable table{{4, false, 64},
                            {Override::parse("re:.*down_proj=bits:8")},
                            {NamePattern("model.layers.0.mlp.up_proj")}};
  const auto json = gptq::model::format::Gptq().config(config(), table, {.damping = 0.02}, true);
  CHECK(json["bits"] == 4);
  CHECK(json["group_size"] == 64);
  CHECK(json["sym"] == false);
  CHECK(json["desc_act"] == false);
  CHECK(json["quant_method"] == "gptq");
  CHECK(json["checkpoint_format"] == "gptq_v2");
  CHECK(json["format"] == "gptq_v2");
  CHECK(json["damp_percent"] == 0.02);
  CHECK(json["dynamic"]["+:.*down_proj"]["bits"] == 8);
  CHECK(json["dynamic"]["-:^model\\.layers\\.0\\.mlp\\.up_proj$"].empty());
  CHECK(gptq::model::format::Gptq().config(config(), {{4, true, 128}, {}, {}}, {},
                                           true)["checkpoint_format"] == "gptq");
}
