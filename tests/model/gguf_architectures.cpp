// SPDX-License-Identifier: MIT

// Each architecture that llama.cpp knows: a GGUF file made of a folder holds the folder's tensors
// and gives its losses.

#include "../support/catch.hpp"
#include "../support/gguf_converter.hpp"
#include "../support/losses.hpp"

#include <cmath>  // std::pow
#include <functional>

using gptq::Index;
using gptq::io::element_count;
using gptq::model::TokenId;
using Json = nlohmann::json;
using test::GgufBuilder;
using test::GgufRules;

namespace {

struct Case {
  std::string folder;
  GgufRules rules;
  Json keys = Json::object();         ///< metadata of this architecture
  Json not_in_file = Json::object();  ///< settings of the fixture that no GGUF file can have
  std::string eps = "attention.layer_norm_rms_epsilon";
  std::function<void(GgufBuilder&)> further{};
};

std::filesystem::path models() { return test::data_folder() / "models"; }

void add_keys(GgufBuilder& b, const std::string& arch, const Json& keys) {
  for (const auto& [name, value] : keys.items()) {
    const std::string key = arch + "." + name;
    if (value.is_boolean()) b.flag(key, value);
    else if (value.is_string()) b.text(key, value);
    else if (value.is_number_float()) b.number<float>(key, value);
    else if (value.is_number()) b.number<std::uint32_t>(key, value);
    else b.numbers<std::int32_t>(key, value.get<std::vector<std::int32_t>>());
  }
}

/// The file that llama.cpp's converter would write.
GgufBuilder convert(const gptq::model::ModelFiles& model, const Case& c) {
  const auto& s = model.description.sizes;
  GgufBuilder b;
  b.text("general.architecture", c.rules.arch);
  Json keys{{"context_length", s.context > 0 ? s.context : 64},
            {"embedding_length", s.hidden},
            {"block_count", s.layers},
            {"feed_forward_length", s.intermediate},
            {"attention.head_count", s.heads},
            {"attention.head_count_kv", s.kv_heads},
            {"attention.key_length", s.head_dim},
            {"attention.value_length", s.head_dim},
            {c.eps, 0.01}};
  if (s.intermediate == 0) keys.erase("feed_forward_length");
  keys.update(c.keys);
  add_keys(b, c.rules.arch, keys);
  test::GgufConverter(model, c.rules, b);
  if (c.further) c.further(b);
  return b;
}

void check_tensors(const gptq::model::ModelFiles& gguf, const gptq::model::ModelFiles& folder,
                   double margin) {
  const std::string base = gguf.description.base, folder_base = folder.description.base;
  std::size_t found = 0;
  for (const std::string& name : gguf.tensors->names()) {
    const std::string there =
        name.starts_with(base) ? folder_base + name.substr(base.size()) : name;
    INFO(name);
    REQUIRE(folder.tensors->contains(there));
    REQUIRE(gguf.tensors->shape(name) == folder.tensors->shape(there));
    std::vector<float> a(static_cast<std::size_t>(element_count(gguf.tensors->shape(name)))),
        b(a.size());
    gguf.tensors->read(name, a);
    folder.tensors->read(there, b);
    double worst = 0;
    for (std::size_t i = 0; i < a.size(); ++i)
      worst = (std::max)(worst, std::abs(double(a[i]) - double(b[i])));
    CHECK(worst <= margin);
    ++found;
  }
  CHECK(found == folder.tensors->names().size());
}

void check(const Case& c) {
  DYNAMIC_SECTION(c.folder << " as " << c.rules.arch
                           << (c.rules.single_experts ? ", a tensor for each expert" : "")
                           << (c.rules.joins_gate_up ? ", gates and ups in one" : "")) {
    const auto folder = gptq::model::open_model(models() / c.folder);
    const test::TemporaryFolder temporary;
    gptq::io::write_file(temporary / "m.gguf", convert(folder, c).bytes());
    auto gguf = gptq::model::open_model(temporary / "m.gguf");
    gptq::model::require_decoder_tensors(gguf);
    CHECK(gguf.description.architecture == folder.description.architecture);
    CHECK(gguf.notes.empty());
    check_tensors(gguf, folder, c.rules.plus_one ? 1e-6 : 0);
    if (!c.not_in_file.empty()) {
      gguf.config_json.merge_patch(c.not_in_file);
      gguf.description = gptq::model::Description::parse(gguf.config_json, "patched");
    }
    const Json expected = gptq::io::read_json(models() / c.folder / "expected.json");
    const auto losses = test::losses(gguf, expected["ids"].get<std::vector<TokenId>>(),
                                     expected["length"].get<Index>());
    const auto wanted = expected["token_nll"].get<std::vector<double>>();
    REQUIRE(losses.size() == wanted.size());
    double worst = 0;
    for (std::size_t t = 0; t < wanted.size(); ++t)
      worst = (std::max)(worst, std::abs(losses[t] - wanted[t]));
    CHECK(worst < 1e-4);
  }
}

const std::string layer_norm = "attention.layer_norm_epsilon";

}  // namespace

TEST_CASE("GGUF files of Gemmas give the outputs of their folders", "[gguf_model]") {
  const std::map<std::string, std::string> names{
      {"post_attention_layernorm", "post_attention_norm"}};
  check({"gemma", {.arch = "gemma", .plus_one = true}});
  check({"gemma2",
         {.arch = "gemma2", .names = names, .plus_one = true},
         {{"attn_logit_softcapping", 2.0},
          {"final_logit_softcapping", 3.0},
          {"attention.sliding_window", 6},
          {"rope.freq_base", 100.0}},
         {{"query_pre_attn_scalar", 24}}});
  check({"gemma3",
         {.arch = "gemma3", .names = names, .plus_one = true},
         {{"attention.sliding_window", 5},
          {"attention.sliding_window_pattern", 2},
          {"rope.freq_base", 1000.0},
          {"rope.freq_base_swa", 50.0},
          {"rope.scaling.type", "linear"},
          {"rope.scaling.factor", 8.0}},
         {{"query_pre_attn_scalar", 24}}});
}

TEST_CASE("GGUF files of Llama's relatives give the outputs of their folders", "[gguf_model]") {
  const Json theta{{"rope.freq_base", 100.0}};
  const std::map<std::string, std::string> post{
      {"post_attention_layernorm", "post_attention_norm"}};
  check({"granite",
         {.arch = "granite", .interleaves = true},
         {{"attention.scale", 0.2},
          {"embedding_scale", 3.0},
          {"residual_scale", 0.4},
          {"logit_scale", 1.7}}});
  const Json yarn{{"rope.freq_base", 100.0},
                  {"rope.scaling.type", "yarn"},
                  {"rope.scaling.factor", 4.0},
                  {"rope.scaling.original_context_length", 200},
                  {"rope.scaling.yarn_beta_fast", 8.0},
                  {"rope.scaling.yarn_beta_slow", 0.25}};
  check({"llama_yarn",
         {.arch = "llama", .interleaves = true},
         yarn,
         {{"rope_scaling", {{"truncate", false}}}}});
  Json windows = yarn;
  windows["attention.sliding_window"] = 6;
  windows["attention.sliding_window_pattern"] = {1, 0};
  // Its two kinds of layers have rotations of different bases, unlike those of real models.
  check({"olmo3",
         {.arch = "olmo2", .names = post},
         windows,
         {{"rope_theta", nullptr},
          {"rope_scaling", nullptr},
          {"rope_parameters",
           gptq::io::read_json(models() / "olmo3" / "config.json")["rope_parameters"]}}});
  check({"smollm3", {.arch = "smollm3", .interleaves = true}, theta, {{"no_rope_layers", {1, 0}}}});
  check({"olmo",
         {.arch = "olmo", .interleaves = true},
         {{"rope.freq_base", 100.0}, {"attention.clamp_kqv", 1.0}, {layer_norm, 1e-5}},
         Json::object(),
         layer_norm});
  check({"olmo2", {.arch = "olmo2", .names = post}, theta});
  check({"exaone4_full", {.arch = "exaone4", .names = post}, theta});
  check({"glm4", {.arch = "glm4"}, {{"rope.freq_base", 100.0}, {"rope.dimension_count", 8}}});
  check({"glm", {.arch = "chatglm"}, {{"rope.freq_base", 100.0}, {"rope.dimension_count", 8}}});
  Json sharper = yarn;
  sharper.update({{"rope.scaling.original_context_length", 8},
                  {"rope.scaling.yarn_log_multiplier", 1.0},
                  {"attention.temperature_scale", 0.3}});
  check({"ministral3", {.arch = "mistral3", .interleaves = true}, sharper});
  check({"seed_oss", {.arch = "seed_oss", .names = post}, theta});
  check({"ernie4_5", {.arch = "ernie4_5"}, theta});
  check({"arcee",
         {.arch = "arcee", .interleaves = true},
         yarn,
         {{"rope_scaling", {{"attention_factor", 1.25}}}}});
  check({"hunyuan_v1_dense",
         {.arch = "hunyuan-dense"},
         {{"rope.freq_base", 100 * std::pow(5.0, 16.0 / 14.0)}}});
}

TEST_CASE("GGUF files of Phi-3s give the outputs of their folders", "[gguf_model]") {
  const auto factors = [](std::vector<float> low, std::vector<float> high) {
    return [=](GgufBuilder& b) {
      const auto size = static_cast<std::int64_t>(low.size());
      b.tensor("rope_factors_short.weight", {size}, low)
          .tensor("rope_factors_long.weight", {size}, high);
    };
  };
  const std::string eps = "attention.layer_norm_rms_epsilon";
  check({"phi3",
         {.arch = "phi3"},
         {{"rope.freq_base", 100.0},
          {"rope.dimension_count", 8},
          {"rope.scaling.original_context_length", 4096},
          {"attention.sliding_window", 7}}});
  check({"phi3_longrope",
         {.arch = "phi3"},
         {{"rope.freq_base", 100.0},
          {"rope.dimension_count", 8},
          {"rope.scaling.original_context_length", 16},
          {"rope.scaling.attn_factor", std::sqrt(1 + std::log(4.0) / std::log(16.0))},
          {"attention.sliding_window", 0}},
         Json::object(),
         eps,
         factors({1.0f, 1.1f, 1.3f, 1.5f}, {1.5f, 2.0f, 3.0f, 4.0f})});
  check({"phi4_mini",
         {.arch = "phi3"},
         {{"rope.freq_base", 100.0},
          {"rope.dimension_count", 6},
          {"rope.scaling.original_context_length", 32},
          {"rope.scaling.attn_factor", std::sqrt(1 + std::log(2.0) / std::log(32.0))}},
         Json::object(),
         eps,
         factors({1.0f, 1.2f, 1.5f}, {2.0f, 3.0f, 4.0f})});
}

TEST_CASE("GGUF files of models with LayerNorms give the outputs of their folders",
          "[gguf_model]") {
  const Json none = Json::object();
  const auto with = [](Json keys) {
    keys["rope.freq_base"] = 100.0;
    return keys;
  };
  check({"gpt2", {.arch = "gpt2", .transposes = true}, none, none, layer_norm});
  check({"gpt_neox",
         {.arch = "gptneox", .regroups = true},
         with({{"rope.dimension_count", 4}, {"use_parallel_residual", true}}),
         none,
         layer_norm});
  check({"gpt_neox_serial",
         {.arch = "gptneox", .regroups = true},
         with({{"rope.dimension_count", 6}, {"use_parallel_residual", false}}),
         {{"hidden_act", "gelu_new"}},
         layer_norm});
  check({"bloom", {.arch = "bloom", .regroups = true}, none, none, layer_norm});
  check({"mpt",
         {.arch = "mpt"},
         {{"attention.max_alibi_bias", 8.0}, {"attention.clamp_kqv", 1.5}},
         none,
         layer_norm});
  check({"falcon7", {.arch = "falcon", .regroups = true}, with(none), none, layer_norm});
  check({"falcon11",
         {.arch = "falcon", .regroups = true},
         {{"tensor_data_layout", "jploski"}},
         none,
         layer_norm});
  check({"falcon40", {.arch = "falcon", .regroups = true}, with(none), none, layer_norm});
  check({"phi", {.arch = "phi2"}, with({{"rope.dimension_count", 4}}), none, layer_norm});
  check({"stablelm",
         {.arch = "stablelm"},
         with({{"rope.dimension_count", 4}, {"use_parallel_residual", false}}),
         none,
         layer_norm});
  check({"stablelm_parallel",
         {.arch = "stablelm"},
         with({{"rope.dimension_count", 4}, {"use_parallel_residual", true}}),
         none,
         layer_norm});
  check({"starcoder2",
         {.arch = "starcoder2"},
         with({{"attention.sliding_window", 6}}),
         none,
         layer_norm});
  check({"nemotron",
         {.arch = "nemotron", .plus_one = true},
         with({{"rope.dimension_count", 8}}),
         none,
         layer_norm});
  check({"cohere", {.arch = "command-r"}, with({{"logit_scale", 0.4}}), none, layer_norm});
  check({"cohere_qk_norm", {.arch = "command-r"}, with({{"logit_scale", 0.4}}), none, layer_norm});
  check({"cohere2",
         {.arch = "cohere2"},
         with({{"logit_scale", 0.4},
               {"attention.sliding_window", 6},
               {"attention.sliding_window_pattern", {1, 0}}}),
         none,
         layer_norm});
}

TEST_CASE("GGUF files of mixtures of experts give the outputs of their folders", "[gguf_model]") {
  const auto experts = [](int count, int chosen, Json keys = Json::object()) {
    keys["expert_count"] = count;
    keys["expert_used_count"] = chosen;
    return keys;
  };
  for (const bool single : {false, true})
    check({"mixtral",
           {.arch = "llama", .interleaves = true, .single_experts = single},
           experts(3, 2, {{"rope.freq_base", 100.0}})});
  check({"qwen2_moe",
         {.arch = "qwen2moe"},
         experts(5, 2,
                 {{"expert_feed_forward_length", 32}, {"expert_shared_feed_forward_length", 64}})});
  for (const bool joined : {false, true})
    check({"qwen3_moe",
           {.arch = "qwen3moe", .joins_gate_up = joined},
           experts(7, 3, {{"expert_feed_forward_length", 32}})});
  check({"olmoe", {.arch = "olmoe"}, experts(7, 3), {{"clip_qkv", 1.0}}});
  const Json scales{{"attention.scale", 0.2},
                    {"embedding_scale", 3.0},
                    {"residual_scale", 0.4},
                    {"logit_scale", 1.7}};
  check({"granitemoe", {.arch = "granitemoe", .interleaves = true}, experts(5, 2, scales)});
  Json shared = scales;
  shared["expert_shared_feed_forward_length"] = 64;
  check({"granitemoeshared", {.arch = "granitemoe", .interleaves = true}, experts(5, 2, shared)});
  check({"glm4_moe",
         {.arch = "glm4moe", .names = {{"post_attention_layernorm", "post_attention_norm"}}},
         experts(7, 3,
                 {{"block_count", 3},
                  {"nextn_predict_layers", 1},
                  {"expert_feed_forward_length", 32},
                  {"expert_shared_count", 2},
                  {"leading_dense_block_count", 1},
                  {"expert_weights_scale", 1.5},
                  {"expert_weights_norm", true},
                  {"expert_gating_func", 2},
                  {"rope.dimension_count", 8},
                  {"rope.freq_base", 100.0}}),
         Json::object(),
         "attention.layer_norm_rms_epsilon",
         [](GgufBuilder& b) {
           b.tensor("blk.2.nextn.eh_proj.weight", {2, 32}, std::vector<float>(64));
         }});
  check({"ernie4_5_moe",
         {.arch = "ernie4_5-moe"},
         experts(5, 2,
                 {{"expert_feed_forward_length", 32},
                  {"expert_shared_feed_forward_length", 64},
                  {"expert_shared_count", 2},
                  {"leading_dense_block_count", 1},
                  {"interleave_moe_layer_step", 1},
                  {"rope.freq_base", 500000.0}})});
  check({"hunyuan_v1_moe",
         {.arch = "hunyuan-moe"},
         experts(5, 2,
                 {{"expert_feed_forward_length", 32},
                  {"expert_shared_feed_forward_length", 32},
                  {"expert_shared_count", 1}})});
  check({"minimax_m2",
         {.arch = "minimax-m2"},
         experts(5, 2,
                 {{"expert_gating_func", 2},
                  {"expert_feed_forward_length", 32},
                  {"rope.dimension_count", 8},
                  {"rope.freq_base", 100.0}})});
  check({"gpt_oss",
         {.arch = "gpt-oss", .names = {{"post_attention_layernorm", "post_attention_norm"}}},
         experts(5, 2,
                 {{"expert_feed_forward_length", 32},
                  {"attention.sliding_window", 6},
                  {"rope.freq_base", 100.0},
                  {"rope.scaling.type", "yarn"},
                  {"rope.scaling.factor", 4.0},
                  {"rope.scaling.original_context_length", 200},
                  {"rope.scaling.yarn_beta_fast", 8.0},
                  {"rope.scaling.yarn_beta_slow", 0.25}}),
         {{"swiglu_limit", 2.0}}});
}

TEST_CASE("each of stacked experts has the factor beside the stack", "[gguf_model]") {
  const auto folder = gptq::model::open_model(models() / "qwen3_moe");
  const std::vector<float> factors{1, 2, 3, 4, 5, 6, 7};
  GgufBuilder b = convert(
      folder,
      {"qwen3_moe",
       {.arch = "qwen3moe", .joins_gate_up = true},
       {{"expert_count", 7}, {"expert_used_count", 3}, {"expert_feed_forward_length", 32}}});
  b.tensor("blk.1.ffn_gate_up_exps.scale", {7}, factors);
  const test::TemporaryFolder temporary;
  gptq::io::write_file(temporary / "m.gguf", b.bytes());
  const auto gguf = gptq::model::open_model(temporary / "m.gguf");
  for (int e = 0; e < 7; ++e)
    for (const char* part : {"gate", "up", "down"}) {
      const std::string name =
          "model.layers.1.mlp.experts." + std::to_string(e) + "." + part + "_proj.weight";
      std::vector<float> scaled(32 * 32), plain(32 * 32);
      gguf.tensors->read(name, scaled);
      folder.tensors->read(name, plain);
      if (part != std::string("down"))
        for (float& x : plain) x *= factors[std::size_t(e)];
      CHECK(scaled == plain);
    }
}

TEST_CASE("experts of no size, and sizes that a GGUF file lacks, are refused", "[gguf_model]") {
  const auto written = [](GgufBuilder b) {
    const test::TemporaryFolder temporary;
    gptq::io::write_file(temporary / "m.gguf", b.bytes());
    return error_of<gptq::FormatError>([&] { gptq::model::open_model(temporary / "m.gguf"); });
  };
  const auto folder = gptq::model::open_model(models() / "qwen3_moe");
  GgufBuilder halves = convert(
      folder,
      {"qwen3_moe",
       {.arch = "qwen3moe"},
       {{"expert_count", 7}, {"expert_used_count", 3}, {"expert_feed_forward_length", 32}}});
  halves.tensor("blk.0.ffn_gate_up_exps.bias", {7, 64}, std::vector<float>(448));
  CHECK_THAT(written(halves),
             ContainsSubstring("blk.0.ffn_gate_up_exps.bias has the shape [7, 64]"));
  GgufBuilder mixtral;
  mixtral.text("general.architecture", "llama");
  add_keys(mixtral, "llama",
           {{"context_length", 64},
            {"embedding_length", 32},
            {"block_count", 2},
            {"attention.head_count", 4},
            {"attention.head_count_kv", 2},
            {"attention.layer_norm_rms_epsilon", 0.01},
            {"expert_count", 3},
            {"expert_used_count", 2},
            {"expert_feed_forward_length", 64}});
  const auto experts = gptq::model::open_model(models() / "mixtral");
  test::GgufConverter(experts, {.arch = "llama", .interleaves = true}, mixtral);
  CHECK_THAT(written(mixtral), ContainsSubstring("has no metadata key llama.feed_forward_length"));
}

TEST_CASE("GGUF files of DeepSeeks give the outputs of their folders", "[gguf_model]") {
  const auto keys = [](int experts, int chosen, Json further) {
    Json all{{"attention.head_count_kv", 1},     {"attention.key_length", 64},
             {"attention.value_length", 32},     {"attention.key_length_mla", 40},
             {"attention.value_length_mla", 16}, {"attention.kv_lora_rank", 32},
             {"rope.dimension_count", 32},       {"rope.freq_base", 100.0},
             {"expert_count", experts},          {"expert_used_count", chosen},
             {"expert_shared_count", 2},         {"expert_feed_forward_length", 32},
             {"leading_dense_block_count", 1}};
    all.update(further);
    return all;
  };
  const Json yarn{{"attention.q_lora_rank", 32},
                  {"expert_group_count", 4},
                  {"expert_group_used_count", 2},
                  {"rope.scaling.type", "yarn"},
                  {"rope.scaling.factor", 4.0},
                  {"rope.scaling.original_context_length", 200},
                  {"rope.scaling.yarn_log_multiplier", 0.06},
                  {"rope.scaling.yarn_beta_fast", 8.0},
                  {"rope.scaling.yarn_beta_slow", 0.25}};
  const Json mscale{{"rope_scaling", {{"mscale", 1.0}}}};
  check({"deepseek_v2",
         {.arch = "deepseek2"},
         keys(5, 2, {{"expert_weights_scale", 1.5}, {"expert_gating_func", 1}})});
  Json groups = yarn;
  groups["expert_weights_scale"] = 2.0;
  check({"deepseek_v2_groups", {.arch = "deepseek2"}, keys(8, 3, groups), mscale});
  Json third = yarn;
  third.update(
      {{"expert_weights_scale", 2.5}, {"expert_weights_norm", true}, {"expert_gating_func", 2}});
  check({"deepseek_v3", {.arch = "deepseek2"}, keys(8, 3, third), mscale});
  Json sharper = yarn;
  for (const char* key : {"expert_group_count", "expert_group_used_count"}) sharper.erase(key);
  sharper.update({{"attention.q_lora_rank", 64},
                  {"expert_shared_count", 1},
                  {"expert_weights_norm", true},
                  {"rope.scaling.original_context_length", 8},
                  {"attention.temperature_scale", 0.3}});
  check({"mistral4", {.arch = "mistral4"}, keys(5, 2, sharper), mscale});
}

TEST_CASE("GGUF files with a gated delta rule give the outputs of their folders", "[gguf_model]") {
  const std::map<std::string, std::string> names{
      {"post_attention_layernorm", "post_attention_norm"}};
  const Json delta{{"ssm.conv_kernel", 4},      {"ssm.state_size", 8},
                   {"ssm.group_count", 2},      {"ssm.time_step_rank", 4},
                   {"ssm.inner_size", 64},      {"full_attention_interval", 2},
                   {"rope.dimension_count", 4}, {"rope.freq_base", 100.0}};
  Json mixture = delta;
  mixture.update({{"expert_count", 5},
                  {"expert_used_count", 2},
                  {"expert_feed_forward_length", 32},
                  {"expert_shared_feed_forward_length", 64}});
  check({"qwen3_next", {.arch = "qwen3next", .names = names, .plus_one = true}, mixture});
  Json dense = delta;
  for (Json* keys : {&mixture, &dense})
    (*keys)["rope.dimension_sections"] = Json::array({11, 11, 10, 0});
  dense.update({{"block_count", 3}, {"nextn_predict_layers", 1}});
  check({"qwen3_5",
         {.arch = "qwen35", .names = names, .plus_one = true, .deals = true},
         dense,
         Json::object(),
         "attention.layer_norm_rms_epsilon",
         [](GgufBuilder& b) {
           b.tensor("blk.2.nextn.eh_proj.weight", {32, 64}, std::vector<float>(2048));
         }});
  check({"qwen3_5_moe",
         {.arch = "qwen35moe", .names = names, .plus_one = true, .deals = true},
         mixture});
}

TEST_CASE("what config.json cannot say of a GGUF file's family is refused", "[gguf_model]") {
  const auto refused = [](const Case& c) {
    const auto folder = gptq::model::open_model(models() / c.folder);
    const test::TemporaryFolder temporary;
    gptq::io::write_file(temporary / "m.gguf", convert(folder, c).bytes());
    return error_of<gptq::FormatError>([&] {
      gptq::model::require_decoder_tensors(gptq::model::open_model(temporary / "m.gguf"));
    });
  };
  const Json none = Json::object();
  CHECK_THAT(refused({"granite",
                      {.arch = "granite", .interleaves = true},
                      {{"rope.scaling.finetuned", false}}}),
             ContainsSubstring("granite.rope.scaling.finetuned = false"));
  CHECK_THAT(
      refused(
          {"olmo", {.arch = "olmo", .interleaves = true}, {{layer_norm, 1e-6}}, none, layer_norm}),
      ContainsSubstring("olmo.attention.layer_norm_epsilon = 1e-06"));
  CHECK_THAT(
      refused({"mpt", {.arch = "mpt"}, {{"attention.max_alibi_bias", 4.0}}, none, layer_norm}),
      ContainsSubstring("mpt.attention.max_alibi_bias = 4 is not supported"));
  CHECK_THAT(refused({"mpt", {.arch = "mpt"}, none, none, layer_norm}),
             ContainsSubstring("has no metadata key mpt.attention.max_alibi_bias"));
  const Json experts{
      {"expert_count", 7}, {"expert_used_count", 3}, {"expert_feed_forward_length", 32}};
  Json sigmoid = experts, plain = experts;
  sigmoid["expert_gating_func"] = 2;
  plain["expert_weights_norm"] = false;
  CHECK_THAT(refused({"qwen3_moe", {.arch = "qwen3moe"}, sigmoid}),
             ContainsSubstring("qwen3moe.expert_gating_func = 2 is not supported"));
  CHECK_THAT(refused({"qwen3_moe", {.arch = "qwen3moe"}, plain}),
             ContainsSubstring("qwen3moe.expert_weights_norm"));
  CHECK_THAT(refused({"gpt_neox",
                      {.arch = "gptneox", .regroups = true},
                      {{"tensor_data_layout", "other"}},
                      none,
                      layer_norm,
                      [](GgufBuilder& b) {
                        b.tensor("blk.0.attn_qkv.weight", {90, 32}, std::vector<float>(2880));
                      }}),
             ContainsSubstring("[90, 32]"));
  // An MPT with learned positions, a shared MLP of which one half is missing, an unknown family.
  CHECK_THAT(refused({"mpt",
                      {.arch = "mpt"},
                      {{"attention.max_alibi_bias", 8.0}},
                      none,
                      layer_norm,
                      [](GgufBuilder& b) {
                        b.tensor("position_embd.weight", {64, 32}, std::vector<float>(2048));
                      }}),
             ContainsSubstring("tensor position_embd.weight does not belong in a MptForCausalLM"));
  CHECK_THAT(refused({"granitemoeshared",
                      {.arch = "granitemoe", .interleaves = true},
                      {{"expert_count", 5},
                       {"expert_used_count", 2},
                       {"expert_shared_feed_forward_length", 64}},
                      none,
                      "attention.layer_norm_rms_epsilon",
                      [](GgufBuilder& b) { b.without("blk.1.ffn_up_shexp.weight"); }}),
             ContainsSubstring("blk.1.ffn_gate_shexp.weight, but not the one with the other rows"));
  CHECK_THAT(refused({"gpt2", {.arch = "gpt3"}}),
             ContainsSubstring("the architecture \"gpt3\" is not supported (arcee, bloom, "));
}
