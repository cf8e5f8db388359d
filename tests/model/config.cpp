// SPDX-License-Identifier: MIT

#include <gptq/model/config.hpp>

#include "../support/catch.hpp"

#include <limits>

using gptq::FormatError;
using gptq::model::ModelConfig;

namespace {

nlohmann::json config_json(const std::string& changes = "{}") {
  auto json = nlohmann::json::parse(
      R"({"architectures": ["LlamaForCausalLM"], "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
      "num_attention_heads": 4, "vocab_size": 80})");
  json.merge_patch(nlohmann::json::parse(changes));
  return json;
}

std::string refused_config(const std::string& changes) {
  return error_of<FormatError>([&] { ModelConfig::parse(config_json(changes), "config.json"); });
}

}  // namespace

TEST_CASE("a config.json is read with its defaults", "[config]") {
  const auto model = ModelConfig::parse(config_json(), "config.json");
  CHECK(model.kv_heads == 4);
  CHECK(model.head_dim == 8);
  CHECK(model.rope.theta == 10000);
  CHECK(model.window == std::vector<gptq::Index>{0, 0});
  CHECK_FALSE(model.tied_embeddings);
}

TEST_CASE("sliding windows follow the rules of each architecture", "[config]") {
  const auto windows = [](const std::string& changes) {
    return ModelConfig::parse(config_json(changes), "config.json").window;
  };
  using W = std::vector<gptq::Index>;
  CHECK(windows(R"({"architectures": ["MistralForCausalLM"], "sliding_window": 7})") == W{7, 7});
  CHECK(windows(R"({"architectures": ["Qwen2ForCausalLM"], "sliding_window": 7})") == W{0, 0});
  CHECK(
      windows(
          R"({"architectures": ["Qwen2ForCausalLM"], "sliding_window": 7, "use_sliding_window": true, "max_window_layers": 1})") ==
      W{0, 7});
  CHECK(
      windows(
          R"({"architectures": ["Qwen3ForCausalLM"], "sliding_window": 7, "use_sliding_window": true, "layer_types": ["sliding_attention", "full_attention"]})") ==
      W{7, 0});
}

TEST_CASE("configurations that are not supported are refused with file, key and value",
          "[config]") {
  CHECK_THAT(refused_config(R"({"architectures": ["GPT2LMHeadModel"]})"),
             ContainsSubstring("config.json: the architecture GPT2LMHeadModel is not supported"));
  CHECK_THAT(refused_config(R"({"hidden_size": null})"),
             ContainsSubstring("has no \"hidden_size\""));
  CHECK_THAT(refused_config(R"({"hidden_size": "many"})"),
             ContainsSubstring("\"hidden_size\" has the value \"many\""));
  CHECK_THAT(refused_config(R"({"num_hidden_layers": -3})"),
             ContainsSubstring("\"num_hidden_layers\" = -3 is not a size"));
  CHECK_THAT(refused_config(R"({"hidden_act": "gelu"})"),
             ContainsSubstring("the activation \"gelu\""));
  CHECK_THAT(refused_config(R"({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}})"),
             ContainsSubstring("the rope type \"yarn\""));
  CHECK_THAT(refused_config(R"({"num_key_value_heads": 3})"),
             ContainsSubstring("num_attention_heads = 4 is not a multiple"));
  CHECK_THAT(refused_config(R"({"rms_norm_eps": 0})"), ContainsSubstring("rms_norm_eps"));
}

TEST_CASE("keys that change the forward pass and are not used are refused with their value",
          "[config]") {
  const auto refused = [](const std::string& key, const std::string& value) {
    const std::string text = refused_config("{\"" + key + "\": " + value + "}");
    CHECK_THAT(text, ContainsSubstring("config.json: \"" + key + "\""));
    return text;
  };
  CHECK_THAT(
      refused("num_local_experts", "8"),
      ContainsSubstring("\"num_local_experts\" = 8 changes what a LlamaForCausalLM computes"));
  for (const char* key :
       {"final_logit_softcapping", "attn_logit_softcapping", "query_pre_attn_scalar", "clip_qkv",
        "residual_multiplier", "embedding_multiplier", "attention_multiplier", "logits_scaling",
        "logit_scale", "scale_emb", "scale_depth", "dim_model_base", "num_experts", "q_lora_rank",
        "kv_lora_rank", "swiglu_limit", "rope_local_base_freq", "rotary_pct",
        "attention_chunk_size"})
    refused(key, "2.5");
  for (const char* key : {"alibi", "use_parallel_residual", "rope_interleave", "use_qk_norm",
                          "qk_layernorm", "attention_sinks", "use_bidirectional_attention"})
    refused(key, "true");
  refused("is_causal", "false");
  refused("no_rope_layers", "[1, 0]");
  refused("quantization", R"({"bits": 4, "group_size": 64})");
  // Nobody knows these, and their names tell.
  CHECK_THAT(refused("my_attention_scale", "3"), ContainsSubstring("= 3 is not known"));
  refused("block_norm_type", "\"layernorm\"");
  refused("attn_output_multiplier", "0.5");
}

TEST_CASE("keys whose values change nothing pass, those that nobody knows are noted", "[config]") {
  const auto notes = [](const std::string& changes) {
    return ModelConfig::parse(config_json(changes), "config.json").notes;
  };
  CHECK(notes(R"({"residual_multiplier": 1.0, "num_experts": 0, "alibi": false, "clip_qkv": null,
      "is_causal": true, "no_rope_layers": [], "final_logit_softcapping": null, "logit_scale": 1,
      "attention_dropout": 0.1, "attn_pdrop": 0.1, "pretraining_tp": 2, "use_cache": true, "bos_token_id": 1,
      "torch_dtype": "bfloat16", "_attn_implementation_autoset": true, "transformers_version": "4",
      "rms_norm_eps": 1e-6, "layer_norm_eps": 1e-6, "qk_norm": false, "max_window_layers": 28})")
            .empty());
  const auto unknown = notes(R"({"my_note": "text", "other": 3})");
  REQUIRE(unknown.size() == 1);
  CHECK_THAT(unknown[0], ContainsSubstring("config.json: not known and not used: my_note, other"));
  CHECK(notes(R"({"auto_map": {"AutoModel": "m.M"}})").size() == 1);
}

TEST_CASE("an architecture and a model type that differ are refused, one of the two is enough",
          "[config]") {
  const auto parsed = [](const std::string& changes) {
    return ModelConfig::parse(config_json(changes), "config.json").architecture;
  };
  CHECK(parsed(R"({"architectures": null, "model_type": "qwen2"})") == "Qwen2ForCausalLM");
  CHECK(parsed(R"({"architectures": [], "model_type": "llama"})") == "LlamaForCausalLM");
  CHECK_THAT(refused_config(R"({"model_type": "mistral"})"),
             ContainsSubstring("says LlamaForCausalLM and \"model_type\" says mistral"));
  CHECK_THAT(refused_config(R"({"architectures": null})"),
             ContainsSubstring("has no \"architectures\""));
  CHECK_THAT(refused_config(R"({"architectures": null, "model_type": "gemma3"})"),
             ContainsSubstring("the model type gemma3 is not supported"));
}

TEST_CASE("rope stated in several places is read as transformers does, contradictions are refused",
          "[config]") {
  using gptq::model::Rope;
  const auto parsed = [](const std::string& changes) {
    return ModelConfig::parse(config_json(changes), "config.json");
  };
  const auto both = parsed(R"({"rope_theta": 500.0,
      "rope_parameters": {"rope_type": "default", "rope_theta": 500.0},
      "rope_scaling": {"type": "linear", "factor": 4.0}})");
  CHECK(both.rope.kind == Rope::Kind::linear);
  CHECK(both.rope.factor == 4);
  CHECK(both.rope.theta == 500);
  REQUIRE(both.notes.size() == 1);
  CHECK_THAT(both.notes[0], ContainsSubstring("rope_scaling (linear) is used"));
  CHECK(parsed(R"({"rope_parameters": {"rope_type": "linear", "factor": 2.0}, "rope_scaling": {}})")
            .rope.factor == 2);
  CHECK(parsed(R"({"rope_parameters": {"rope_type": "linear", "factor": 2.0},
      "rope_scaling": {"rope_type": "linear", "factor": 2.0}})")
            .rope.factor == 2);
  CHECK(parsed(R"({"original_max_position_embeddings": 64, "rope_scaling": {"rope_type": "llama3",
      "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}})")
            .rope.original_positions == 64);

  CHECK_THAT(refused_config(R"({"rope_parameters": {}, "rope_scaling": {"type": "yarn"}})"),
             ContainsSubstring("the rope type \"yarn\""));
  CHECK_THAT(refused_config(R"({"rope_parameters": {"rope_type": "linear", "factor": 2.0},
      "rope_scaling": {"rope_type": "linear", "factor": 4.0}})"),
             ContainsSubstring("contradict each other"));
  CHECK_THAT(refused_config(R"({"rope_theta": 1e4, "rope_parameters": {"rope_theta": 1e6}})"),
             ContainsSubstring("\"rope_theta\" = 1e+06, and config.json says 10000"));
  CHECK_THAT(refused_config(R"({"rope_parameters": {"rope_theta": 1e6},
      "rope_scaling": {"type": "linear", "factor": 4.0}})"),
             ContainsSubstring("\"rope_theta\" = 1e+06 stands in rope_parameters only"));
  CHECK_THAT(refused_config(R"({"rope_scaling": {"type": "linear", "rope_type": "llama3"}})"),
             ContainsSubstring("\"rope_type\" is \"llama3\" and \"type\" is \"linear\""));
  CHECK_THAT(refused_config(R"({"rope_scaling": {"factor": 4.0}})"),
             ContainsSubstring("\"factor\" = 4.0 is not used for the rope type \"default\""));
  for (const char* key : {"attention_factor", "mscale", "beta_fast", "short_factor"})
    CHECK_THAT(refused_config(R"({"rope_scaling": {"type": "linear", "factor": 4.0, ")" +
                              std::string(key) + "\": [2.0]}}"),
               ContainsSubstring("rope_scaling: \"" + std::string(key) + "\" = [2.0] is not used"));
  for (const char* place : {"rope_scaling", "rope_parameters"})
    CHECK_THAT(refused_config("{\"" + std::string(place) +
                              R"(": {"rope_type": "default", "partial_rotary_factor": 0.5}})"),
               ContainsSubstring("\"partial_rotary_factor\" = 0.5"));
  CHECK_THAT(refused_config(R"({"rope_scaling": "linear"})"), ContainsSubstring("not an object"));
}

TEST_CASE("windows that are stated twice must agree", "[config]") {
  CHECK_THAT(refused_config(R"({"sliding_window": 7})"),
             ContainsSubstring("\"sliding_window\" = 7: transformers does not look at it"));
  CHECK_NOTHROW(ModelConfig::parse(
      config_json(R"({"sliding_window": 7, "use_sliding_window": false})"), "config.json"));
  CHECK_NOTHROW(ModelConfig::parse(
      config_json(R"({"sliding_window": 64, "max_position_embeddings": 64})"), "config.json"));
  CHECK_THAT(refused_config(R"({"layer_types": ["full_attention", "sliding_attention"]})"),
             ContainsSubstring("layer 1 is of the type \"sliding_attention\""));
  CHECK_THAT(
      refused_config(
          R"({"architectures": ["Qwen2ForCausalLM"], "sliding_window": 7, "layer_types": ["full_attention", "sliding_attention"]})"),
      ContainsSubstring("contradicts the other keys"));
  CHECK_THAT(
      refused_config(
          R"({"architectures": ["Qwen2ForCausalLM"], "sliding_window": 7, "use_sliding_window": true, "max_window_layers": 1, "layer_types": ["sliding_attention", "full_attention"]})"),
      ContainsSubstring("\"layer_types\" says \"sliding_attention\" for layer 0"));
  CHECK_THAT(
      refused_config(
          R"({"architectures": ["MistralForCausalLM"], "sliding_window": 7, "use_sliding_window": false})"),
      ContainsSubstring("\"use_sliding_window\" is false"));
  const auto mistral =
      ModelConfig::parse(config_json(R"({"architectures": ["MistralForCausalLM"]})"), "c");
  CHECK(mistral.window == std::vector<gptq::Index>{4096, 4096});
  CHECK(mistral.notes.size() == 1);
}

TEST_CASE("numbers of a config.json that are no sizes are refused, never cut",
          "[config][fault19]") {
  for (const char* value : {"1e300", "1.5", "true", "\"4\"", "-1", "0", "[4]"})
    CHECK_THAT(refused_config(R"({"num_hidden_layers": )" + std::string(value) + "}"),
               ContainsSubstring("\"num_hidden_layers\""));
  CHECK_THAT(refused_config(R"({"tie_word_embeddings": 1})"),
             ContainsSubstring("\"tie_word_embeddings\" has the value 1"));
  CHECK_THAT(refused_config(R"({"num_attention_heads": 5})"),
             ContainsSubstring("hidden_size = 32 is not a multiple of num_attention_heads = 5"));
  auto nan = config_json();
  nan["rope_theta"] = std::numeric_limits<double>::quiet_NaN();
  CHECK_THAT(error_of<FormatError>([&] { ModelConfig::parse(nan, "config.json"); }),
             ContainsSubstring("\"rope_theta\" = nan"));
}
