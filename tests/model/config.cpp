// SPDX-License-Identifier: MIT

#include <gptq/model/architecture/registry.hpp>

#include "../support/catch.hpp"

#include <limits>

using gptq::FormatError;
using gptq::model::Description;

namespace {

nlohmann::json config_json(const std::string& changes = "{}") {
  auto json = nlohmann::json::parse(
      R"({"architectures": ["LlamaForCausalLM"], "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
      "num_attention_heads": 4, "vocab_size": 80})");
  json.merge_patch(nlohmann::json::parse(changes));
  return json;
}

std::string refused_config(const std::string& changes) {
  return error_of<FormatError>([&] { Description::parse(config_json(changes), "config.json"); });
}

/// How far the attention of each layer sees.
std::vector<gptq::Index> windows(const Description& model) {
  std::vector<gptq::Index> all;
  for (const auto& layer : model.layers)
    for (const auto& step : layer.steps())
      if (const auto* a = std::get_if<gptq::model::step::Attention>(&step.what))
        all.push_back(a->window);
  return all;
}

/// Whether the modules of that name have biases.
bool has_bias(const Description& model, const std::string& name) {
  bool found = false;
  model.for_each_linear([&](const gptq::model::LinearSpec& linear) {
    if (linear.name.ends_with(name)) found = linear.bias;
  });
  return found;
}

}  // namespace

TEST_CASE("a config.json is read with its defaults", "[config]") {
  const auto model = Description::parse(config_json(), "config.json");
  CHECK(model.sizes.kv_heads == 4);
  CHECK(model.sizes.head_dim == 8);
  CHECK(model.ropes[0].theta == 10000);
  CHECK(windows(model) == std::vector<gptq::Index>{0, 0});
  CHECK_FALSE(model.head.tied);
}

TEST_CASE("sliding windows follow the rules of each architecture", "[config]") {
  const auto windows = [](const std::string& changes) {
    return ::windows(Description::parse(config_json(changes), "config.json"));
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

TEST_CASE("unsupported configurations are refused with file, key and value", "[config]") {
  CHECK_THAT(refused_config(R"({"architectures": ["XlmForCausalLM"]})"),
             ContainsSubstring("config.json: the architecture XlmForCausalLM is not supported"));
  CHECK_THAT(refused_config(R"({"architectures": ["FalconMambaForCausalLM"]})"),
             ContainsSubstring("FalconMambaForCausalLM is not supported: it has state-space"));
  CHECK_THAT(refused_config(R"({"architectures": ["T5ForConditionalGeneration"]})"),
             ContainsSubstring("it has an encoder"));
  CHECK_THAT(refused_config(R"({"hidden_size": null})"),
             ContainsSubstring("has no \"hidden_size\""));
  CHECK_THAT(refused_config(R"({"hidden_size": "many"})"),
             ContainsSubstring("\"hidden_size\" has the value \"many\""));
  CHECK_THAT(refused_config(R"({"num_hidden_layers": -3})"),
             ContainsSubstring("\"num_hidden_layers\" = -3 is not a size"));
  CHECK_THAT(refused_config(R"({"hidden_act": "gelu"})"),
             ContainsSubstring("the activation \"gelu\""));
  CHECK_THAT(refused_config(R"({"rope_scaling": {"rope_type": "spiral", "factor": 2.0}})"),
             ContainsSubstring("the rope type \"spiral\""));
  CHECK_THAT(refused_config(R"({"num_key_value_heads": 3})"),
             ContainsSubstring("num_attention_heads = 4 is not a multiple"));
  CHECK_THAT(refused_config(R"({"rms_norm_eps": 0})"), ContainsSubstring("rms_norm_eps"));
}

TEST_CASE("unsupported keys that change the forward pass are refused with their value",
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
  // Unknown keys with telling names.
  CHECK_THAT(refused("my_attention_scale", "3"), ContainsSubstring("= 3 is unknown"));
  refused("block_norm_type", "\"layernorm\"");
  refused("attn_output_multiplier", "0.5");
}

TEST_CASE("keys with neutral values pass, unknown ones are noted", "[config]") {
  const auto notes = [](const std::string& changes) {
    return Description::parse(config_json(changes), "config.json").notes;
  };
  CHECK(notes(R"({"residual_multiplier": 1.0, "num_experts": 0, "alibi": false, "clip_qkv": null,
      "is_causal": true, "no_rope_layers": [], "final_logit_softcapping": null, "logit_scale": 1,
      "attention_dropout": 0.1, "attn_pdrop": 0.1, "pretraining_tp": 2, "use_cache": true, "bos_token_id": 1,
      "torch_dtype": "bfloat16", "_attn_implementation_autoset": true, "transformers_version": "4",
      "rms_norm_eps": 1e-6, "layer_norm_eps": 1e-6, "qk_norm": false, "max_window_layers": 28})")
            .empty());
  const auto unknown = notes(R"({"my_note": "text", "other": 3})");
  REQUIRE(unknown.size() == 1);
  CHECK_THAT(unknown[0], ContainsSubstring("config.json: unknown, ignored: my_note, other"));
  CHECK(notes(R"({"auto_map": {"AutoModel": "m.M"}})").size() == 1);
  // Words that merely contain a telling one.
  CHECK(
      notes(
          R"({"warmup_steps": 10, "conversation_template": "vicuna", "num_steps": 3, "base_model": "x"})")
          .size() == 1);
}

TEST_CASE("an architecture and a model type that disagree are refused, one of them is enough",
          "[config]") {
  const auto parsed = [](const std::string& changes) {
    return Description::parse(config_json(changes), "config.json").architecture;
  };
  CHECK(parsed(R"({"architectures": null, "model_type": "qwen2"})") == "Qwen2ForCausalLM");
  CHECK(parsed(R"({"architectures": [], "model_type": "llama"})") == "LlamaForCausalLM");
  CHECK_THAT(refused_config(R"({"model_type": "mistral"})"),
             ContainsSubstring("says LlamaForCausalLM and \"model_type\" says mistral"));
  CHECK_THAT(refused_config(R"({"architectures": null})"),
             ContainsSubstring("has no \"architectures\""));
  CHECK_THAT(refused_config(R"({"architectures": null, "model_type": "xlm"})"),
             ContainsSubstring("the model type xlm is not supported"));
}

TEST_CASE("rope in several places is read as in transformers, contradictions are refused",
          "[config]") {
  using gptq::model::Rope;
  const auto parsed = [](const std::string& changes) {
    return Description::parse(config_json(changes), "config.json");
  };
  const auto both = parsed(R"({"rope_theta": 500.0,
      "rope_parameters": {"rope_type": "default", "rope_theta": 500.0},
      "rope_scaling": {"type": "linear", "factor": 4.0}})");
  CHECK(both.ropes[0].kind == Rope::Kind::linear);
  CHECK(both.ropes[0].factor == 4);
  CHECK(both.ropes[0].theta == 500);
  REQUIRE(both.notes.size() == 1);
  CHECK_THAT(both.notes[0], ContainsSubstring("rope_scaling (linear) is used"));
  CHECK(parsed(R"({"rope_parameters": {"rope_type": "linear", "factor": 2.0}, "rope_scaling": {}})")
            .ropes[0]
            .factor == 2);
  CHECK(parsed(R"({"rope_parameters": {"rope_type": "linear", "factor": 2.0},
      "rope_scaling": {"rope_type": "linear", "factor": 2.0}})")
            .ropes[0]
            .factor == 2);
  CHECK(parsed(R"({"original_max_position_embeddings": 64, "rope_scaling": {"rope_type": "llama3",
      "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}})")
            .ropes[0]
            .original_positions == 64);

  CHECK_THAT(refused_config(R"({"rope_parameters": {}, "rope_scaling": {"type": "spiral"}})"),
             ContainsSubstring("the rope type \"spiral\""));
  CHECK_THAT(refused_config(R"({"rope_parameters": {"rope_type": "linear", "factor": 2.0},
      "rope_scaling": {"rope_type": "linear", "factor": 4.0}})"),
             ContainsSubstring("contradict each other"));
  CHECK_THAT(refused_config(R"({"rope_theta": 1e4, "rope_parameters": {"rope_theta": 1e6}})"),
             ContainsSubstring("\"rope_theta\" = 1e+06, and config.json says 10000"));
  CHECK_THAT(refused_config(R"({"rope_parameters": {"rope_theta": 1e6},
      "rope_scaling": {"type": "linear", "factor": 4.0}})"),
             ContainsSubstring("\"rope_theta\" = 1e+06 is in rope_parameters only"));
  CHECK_THAT(refused_config(R"({"rope_scaling": {"type": "linear", "rope_type": "llama3"}})"),
             ContainsSubstring("\"rope_type\" is \"llama3\" and \"type\" is \"linear\""));
  CHECK_THAT(refused_config(R"({"rope_scaling": {"factor": 4.0}})"),
             ContainsSubstring("\"factor\" = 4.0 is not supported for the rope type \"default\""));
  for (const char* key : {"attention_factor", "mscale", "beta_fast", "short_factor"})
    CHECK_THAT(
        refused_config(R"({"rope_scaling": {"type": "linear", "factor": 4.0, ")" +
                       std::string(key) + "\": [2.0]}}"),
        ContainsSubstring("rope_scaling: \"" + std::string(key) + "\" = [2.0] is not supported"));
  for (const char* place : {"rope_scaling", "rope_parameters"})
    CHECK_THAT(refused_config("{\"" + std::string(place) +
                              R"(": {"rope_type": "default", "partial_rotary_factor": 0.5}})"),
               ContainsSubstring("\"partial_rotary_factor\" = 0.5"));
  CHECK_THAT(refused_config(R"({"rope_scaling": "linear"})"), ContainsSubstring("not an object"));
}

TEST_CASE("sliding windows stated twice must agree", "[config]") {
  CHECK_THAT(refused_config(R"({"sliding_window": 7})"),
             ContainsSubstring("\"sliding_window\" = 7: transformers ignores it"));
  CHECK_NOTHROW(Description::parse(
      config_json(R"({"sliding_window": 7, "use_sliding_window": false})"), "config.json"));
  CHECK_NOTHROW(Description::parse(
      config_json(R"({"sliding_window": 64, "max_position_embeddings": 64})"), "config.json"));
  CHECK_THAT(refused_config(R"({"layer_types": ["full_attention", "sliding_attention"]})"),
             ContainsSubstring("layer 1 is of type \"sliding_attention\""));
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
      Description::parse(config_json(R"({"architectures": ["MistralForCausalLM"]})"), "c");
  CHECK(windows(mistral) == std::vector<gptq::Index>{4096, 4096});
  CHECK(mistral.notes.size() == 1);
}

TEST_CASE("numbers in a config.json that are not sizes are refused, never truncated",
          "[config][fault19]") {
  for (const char* value : {"1e300", "1.5", "true", "\"4\"", "-1", "0", "[4]"})
    CHECK_THAT(refused_config(R"({"num_hidden_layers": )" + std::string(value) + "}"),
               ContainsSubstring("\"num_hidden_layers\""));
  CHECK_THAT(refused_config(R"({"tie_word_embeddings": 2})"),
             ContainsSubstring("\"tie_word_embeddings\" has the value 2; expected true or false"));
  CHECK_THAT(refused_config(R"({"num_attention_heads": 5})"),
             ContainsSubstring("hidden_size = 32 is not a multiple of num_attention_heads = 5"));
  auto nan = config_json();
  nan["rope_theta"] = std::numeric_limits<double>::quiet_NaN();
  CHECK_THAT(error_of<FormatError>([&] { Description::parse(nan, "config.json"); }),
             ContainsSubstring("\"rope_theta\" = nan"));
}

TEST_CASE("0 and 1 are flags under every key, other values are refused", "[config]") {
  const auto parsed = [](const std::string& changes) {
    return Description::parse(config_json(changes), "config.json");
  };
  const auto off = parsed(
      R"({"attention_bias": 0, "mlp_bias": 0, "tie_word_embeddings": 0, "use_sliding_window": 0, "use_rope": 1, "qk_norm": 0})");
  CHECK_FALSE(has_bias(off, "q_proj"));
  CHECK_FALSE(has_bias(off, "up_proj"));
  CHECK_FALSE(off.head.tied);
  const auto on = parsed(R"({"attention_bias": 1, "mlp_bias": 1, "tie_word_embeddings": 1})");
  CHECK(has_bias(on, "o_proj"));
  CHECK(has_bias(on, "up_proj"));
  CHECK(on.head.tied);
  for (const char* key : {"attention_bias", "mlp_bias", "tie_word_embeddings", "qk_norm",
                          "use_sliding_window", "tie_embeddings"})
    for (const char* value : {"2", "0.5", "\"false\"", "[]"})
      CHECK_THAT(refused_config("{\"" + std::string(key) + "\": " + value + "}"),
                 ContainsSubstring("\"" + std::string(key) + "\" has the value " + value +
                                   "; expected true or false"));
}

TEST_CASE("names that begin or end like harmless ones are judged by their other words",
          "[config]") {
  for (const char* key :
       {"output_gate", "output_multiplier_scale", "rope_version", "noise_scale", "norm_version",
        "attention_dropout_scale", "residual_dropout_gate", "flash_attention_scale", "loss_softcap",
        "sdpa_scale", "attention_implementation", "gate_token_id", "embedding_scale_version",
        "layer_skip_loss_weight", "ROPE_Scale"})
    CHECK_THAT(refused_config("{\"" + std::string(key) + "\": 0.5}"),
               ContainsSubstring("config.json: \"" + std::string(key) + "\" = 0.5"));
  for (const char* key : {"logit_cap",
                          "position_embeddings",
                          "pos_emb_kind",
                          "yarn",
                          "ntk_factor",
                          "mlp_type",
                          "dual_chunk_attention_config",
                          "skip_layers",
                          "exit_layer",
                          "early_exit",
                          "early_exit_at",
                          "sandwich_norm",
                          "use_bitnet",
                          "n_group",
                          "topk_group",
                          "topk_method",
                          "norm_topk_prob",
                          "per_layer_config",
                          "block_configs",
                          "layer_map",
                          "share_kv",
                          "num_loops",
                          "hadamard_size"})
    CHECK_THAT(refused_config("{\"" + std::string(key) + "\": 3}"),
               ContainsSubstring("config.json: \"" + std::string(key) + "\" = 3"));
  for (const char* key : {"glu", "use_glu", "use_swiglu", "use_rope", "rotary", "is_gated_act",
                          "use_causal_mask", "is_causal", "use_residual", "rms_norm"}) {
    CHECK_THAT(refused_config("{\"" + std::string(key) + "\": false}"),
               ContainsSubstring("\"" + std::string(key) + "\" = false changes"));
    CHECK_NOTHROW(
        Description::parse(config_json("{\"" + std::string(key) + "\": true}"), "config.json"));
  }
}

TEST_CASE("unknown objects are searched", "[config]") {
  CHECK_THAT(refused_config(R"({"extras": {"more": [{"logit_scale": 2.0}]}})"),
             ContainsSubstring("\"extras\" = {\"more\":[{\"logit_scale\":2.0}]} is unknown"));
  std::string deep = "1";
  for (int i = 0; i < 20; ++i) deep = "{\"a\": " + deep + "}";
  CHECK_THAT(refused_config("{\"deep\": " + deep + "}"), ContainsSubstring("\"deep\""));
  const auto model = Description::parse(
      config_json(R"({"history": {"steps": 10, "date": [1, 2], "logit_scale": 1.0}})"), "c");
  REQUIRE(model.notes.size() == 1);
  CHECK_THAT(model.notes[0], ContainsSubstring("history"));
}

TEST_CASE("other names for the same value must agree", "[config]") {
  struct Pair {
    const char *name, *same, *other, *used;
  };
  const Pair pairs[] = {{"n_layer", "2", "3", "\"num_hidden_layers\" is 2"},
                        {"num_layers", "2", "1", "\"num_hidden_layers\" is 2"},
                        {"n_embd", "32", "64", "\"hidden_size\" is 32"},
                        {"d_model", "32.0", "32.5", "\"hidden_size\" is 32"},
                        {"hidden_dim", "32", "33", "\"hidden_size\" is 32"},
                        {"hidden_dim", "64", "65", "\"hidden_size\" is 32"},
                        {"n_heads", "4", "2", "\"num_attention_heads\" is 4"},
                        {"num_attention_groups", "4", "2", "\"num_key_value_heads\" is 4"},
                        {"multi_query_group_num", "4", "2", "\"num_key_value_heads\" is 4"},
                        {"n_kv_heads", "4", "1", "by default"},
                        {"kv_channels", "8", "16", "\"head_dim\" is 8"},
                        {"head_size", "8", "4", "\"head_dim\" is 8"},
                        {"rotary_dim", "8", "4", "\"head_dim\" is 8"},
                        {"n_inner", "64", "128", "\"intermediate_size\" is 64"},
                        {"ffn_hidden_size", "64", "128", "\"intermediate_size\" is 64"},
                        {"padded_vocab_size", "80", "96", "\"vocab_size\" is 80"},
                        {"rms_norm_epsilon", "1e-6", "1e-05", "\"rms_norm_eps\" is 1e-06"},
                        {"layernorm_epsilon", "1e-6", "1e-05", "\"rms_norm_eps\" is 1e-06"},
                        {"rotary_base", "10000", "1000000.0", "\"rope_theta\" is 10000.0"},
                        {"tie_embeddings", "false", "true", "\"tie_word_embeddings\" is false"},
                        {"untie_embeddings_and_output_weights", "true", "false",
                         "\"not tie_word_embeddings\" is true"},
                        {"qkv_bias", "false", "true", "\"biases of q, k and v\" is false"}};
  for (const Pair& pair : pairs) {
    const auto with = [&](const char* value) {
      return "{\"" + std::string(pair.name) + "\": " + value + "}";
    };
    const auto same = Description::parse(config_json(with(pair.same)), "config.json");
    CHECK(same.notes.empty());
    CHECK_THAT(
        refused_config(with(pair.other)),
        ContainsSubstring("config.json: \"" + std::string(pair.name) + "\" = " + pair.other) &&
            ContainsSubstring(pair.used));
  }
  CHECK_THAT(refused_config(R"({"activation_function": "gelu_new"})"),
             ContainsSubstring("the activation \"gelu_new\" (\"activation_function\")"));
  // The context length changes no numbers.
  for (const char* key : {"model_max_length", "seq_length", "max_sequence_length", "max_seq_len",
                          "n_positions", "n_ctx"})
    CHECK(Description::parse(config_json("{\"" + std::string(key) + "\": 7}"), "c").notes.empty());
  // No loader reads it for a Qwen2.
  const auto qwen = Description::parse(
      config_json(R"({"architectures": ["Qwen2ForCausalLM"], "attention_bias": false})"), "c");
  CHECK(has_bias(qwen, "q_proj"));
  REQUIRE(qwen.notes.size() == 1);
  CHECK_THAT(qwen.notes[0], ContainsSubstring("\"attention_bias\" is false but ignored"));
}

TEST_CASE("the keys of real models are read without refusals or notes", "[config]") {
  const auto notes = [](const std::string& changes) {
    return Description::parse(config_json(changes), "config.json").notes;
  };
  // Llama 2 and 3, CodeLlama, TinyLlama, Yi, DeepSeek.
  CHECK(
      notes(
          R"({"_name_or_path": "x", "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": 1,
      "eos_token_id": [128001, 128009], "head_dim": 8, "hidden_act": "silu", "initializer_range": 0.02,
      "max_position_embeddings": 4096, "mlp_bias": false, "model_type": "llama", "num_key_value_heads": 2,
      "pad_token_id": 0, "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_scaling": {"factor": 32.0,
      "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 8192,
      "rope_type": "llama3"}, "rope_theta": 500000.0, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
      "transformers_version": "4.45.0", "unsloth_fixed": true, "unsloth_version": "2025.1", "use_cache": true,
      "max_sequence_length": 2048, "_flash_attn_2_enabled": true, "dtype": "bfloat16"})")
          .empty());
  // SmolLM2, with what its transformers.js export adds.
  CHECK(
      notes(
          R"({"is_llama_config": true, "rope_interleaved": false, "_attn_implementation_autoset": true,
      "transformers.js_config": {"dtype": "q4", "kv_cache_dtype": {"q4f16": "float16"}}})")
          .empty());
  // Mistral, including Phi-3 and Danube converted to it.
  CHECK(
      notes(
          R"({"architectures": ["MistralForCausalLM"], "model_type": "mistral", "sliding_window": 4096,
      "embd_pdrop": 0.0, "resid_pdrop": 0.0, "attention_dropout": 0.0, "attention_bias": false, "head_dim": null,
      "original_max_position_embeddings": 4096, "max_position_embeddings": 4096, "rope_scaling": null,
      "pad_token_id": 32000, "use_flash_attn": false})")
          .empty());
  // Qwen2, Qwen2.5 and distilled models.
  CHECK(
      notes(
          R"({"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "max_window_layers": 28,
      "sliding_window": 32768, "use_sliding_window": false, "use_mrope": false, "attention_dropout": 0.0})")
          .empty());
  // Qwen2 as written by transformers 5.
  CHECK(
      notes(
          R"({"architectures": ["Qwen2ForCausalLM"], "layer_types": ["full_attention", "full_attention"],
      "sliding_window": null, "use_sliding_window": false, "max_window_layers": 28,
      "rope_parameters": {"rope_theta": 1000000.0, "rope_type": "default"}})")
          .empty());
  CHECK(notes(R"({"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "head_dim": 128,
      "attention_bias": false, "sliding_window": null, "use_sliding_window": false, "max_window_layers": 36})")
            .empty());
  // Qwen 1 and InternLM, converted to Llama.
  CHECK(
      notes(R"({"seq_length": 2048, "use_dynamic_ntk": false, "use_logn_attn": false, "fp16": false,
      "bf16": true, "fp32": false, "no_bias": true, "onnx_safe": null, "emb_dropout_prob": 0.0,
      "attn_dropout_prob": 0.0, "kv_channels": 8, "rotary_pct": 1.0, "rotary_emb_base": 10000,
      "scale_attn_weights": true, "use_flash_attn": "auto", "layer_norm_epsilon": 1e-6, "bias": false,
      "attn_implementation": "eager", "attention_softmax_in_fp32": true, "ffn_dim_multiplier": 1.3, "multiple_of": 1024})")
          .empty());
  // Fine-tunes with other heads, and settings of text generation that earlier versions kept
  // here.
  CHECK(
      notes(
          R"({"num_labels": 1, "id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}, "do_sample": true,
      "temperature": 0.7, "top_p": 0.9, "output_attentions": false, "output_hidden_states": false,
      "output_router_logits": true, "router_aux_loss_coef": 0.001, "chunk_size_feed_forward": 0,
      "gradient_checkpointing": true, "quantization_config": null, "_pre_quantization_dtype": "float16",
      "neftune_noise_alpha": 5, "weight_decay": 0.1, "max_grad_norm": 1.0, "label_smoothing_factor": 0.0, "layerdrop": 0.1, "cross_attention_hidden_size": null, "pruned_heads": {}})")
          .empty());
}
