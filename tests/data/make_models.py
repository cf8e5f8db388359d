#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes models/: a small random model of every architecture, with the loss that transformers computes for each token.

    pip install torch transformers safetensors
    python3 make_models.py [NAME ...]     (every model if none is named)

A folder holds config.json, model.safetensors and expected.json: two sequences of 24 token ids and, for each token but
the first, the negative log-likelihood in nats. It is computed in float32 from the weights as stored; a factor that
transformers rounds to the type of the model (the embedding scale of Gemma) is therefore not rounded.

The sizes are chosen so that a mistake shows: head_dim is not hidden_size / heads, windows are shorter than a sequence,
the epsilon of the norms is large. Linear modules have multiples of 32 inputs and outputs, which the GPTQ format needs;
where heads that are no power of two do not allow it, another model of the same architecture has them.
"""

import contextlib
import itertools
import json
import pathlib
import sys
import tempfile
from dataclasses import dataclass
from typing import Callable

import torch
import transformers
from safetensors.torch import load_file, save_file

FOLDER = pathlib.Path(__file__).parent / "models"
BF16, F16, F32 = torch.bfloat16, torch.float16, torch.float32
LENGTH = 24

SIZES = dict(vocab_size=80, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=64)
EPSILONS = ["rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_epsilon", "norm_eps"]
TOKENS = dict(bos_token_id=1, eos_token_id=2, pad_token_id=0)
SLIDING, FULL, LINEAR = "sliding_attention", "full_attention", "linear_attention"


@dataclass
class Model:
    architecture: str
    dtype: torch.dtype
    config: dict
    edit: Callable | None  # changes the saved config.json
    pack: Callable | None  # puts what is stored in place of the tensors, and returns those that transformers is to read
    attention: str  # the implementation that computes the expected numbers
    fused: bool  # experts as transformers holds them in memory, not as the files of the architecture name them


def model(architecture, dtype, *, edit=None, pack=None, attention="eager", fused=False, **config):
    return Model(architecture, dtype, config, edit, pack, attention, fused)


def rope(kind="default", theta=10000.0, **parameters):
    return {"rope_type": kind, "rope_theta": theta, **parameters}


# --- config.json as transformers 4 wrote it ----------------------------------------------------------------------------


def version_4(config):
    parameters = config.pop("rope_parameters")
    config["rope_theta"] = parameters.pop("rope_theta")
    if "partial_rotary_factor" in parameters:
        config["partial_rotary_factor"] = parameters.pop("partial_rotary_factor")
    if parameters.get("rope_type") != "default":
        config["rope_scaling"] = parameters


def version_4_neox(config):
    version_4(config)
    config["rotary_pct"] = config.pop("partial_rotary_factor")
    config["rotary_emb_base"] = config.pop("rope_theta")


def version_4_minimax(config):
    version_4(config)
    config["rotary_dim"] = int(config["head_dim"] * config.pop("partial_rotary_factor"))


def version_4_longrope(config):
    version_4(config)
    config["rope_scaling"]["type"] = config["rope_scaling"].pop("rope_type")
    del config["rope_scaling"]["original_max_position_embeddings"]  # the key of the model holds it


def granite_hub(config):
    del config["time_step_limit"]
    config["layer_types"] = ["attention"] * 2


def gemma3_hub(config):
    """A configuration that leaves out what is equal to the default of the class, with the old names."""
    text = config["text_config"]
    scaling = text["rope_parameters"][FULL]
    config["text_config"] = {key: text[key] for key in SIZES} | {key: text[key] for key in (
        "model_type", "head_dim", "rms_norm_eps", "query_pre_attn_scalar", "sliding_window")} | {
        "rope_theta": scaling["rope_theta"], "rope_local_base_freq": text["rope_parameters"][SLIDING]["rope_theta"],
        "rope_scaling": {"rope_type": "linear", "factor": scaling["factor"]}, "sliding_window_pattern": 2}


# --- tensors that are not stored as transformers would store them today --------------------------------------------------


def with_prediction_layer(tensors):
    """Adds a layer after the last, for multi-token prediction; a decoder does not use it."""
    plain = dict(tensors)
    tensors["model.layers.2.eh_proj.weight"] = torch.randn(32, 64).to(BF16)
    tensors["model.layers.2.input_layernorm.weight"] = torch.randn(32).to(BF16)
    tensors["model.layers.2.shared_head.norm.weight"] = torch.randn(32).to(BF16)
    return plain


def without_prefix(tensors):
    """Names that do not begin with the name of the base model."""
    plain = dict(tensors)
    for name in plain:
        tensors[name.removeprefix("transformer.")] = tensors.pop(name)
    return plain


def gpt2_hub(tensors):
    """The names of the first checkpoints, with the causal mask stored as well."""
    plain = without_prefix(tensors)
    for layer in range(2):
        tensors[f"h.{layer}.attn.bias"] = torch.ones(1, 1, 32, 32).tril().to(F16)
    return plain


def neox_hub(tensors):
    """With the buffers that the first checkpoints stored."""
    plain = dict(tensors)
    for layer in range(2):
        attention = f"gpt_neox.layers.{layer}.attention."
        tensors[attention + "bias"] = torch.ones(1, 1, 64, 64, dtype=torch.bool).tril()
        tensors[attention + "masked_bias"] = torch.tensor(-1e9)
        tensors[attention + "rotary_emb.inv_freq"] = torch.tensor([1.0, 0.1])
    return plain


def fp8_blocks(tensors, block=128):
    """F8_E4M3 with a float32 scale for each block of 128 x 128 weights, as DeepSeek-V3 was published."""
    plain = dict(tensors)
    for name in [n for n in tensors if n.endswith("_proj.weight") or n.endswith("_mqa.weight")]:
        weight = tensors[name].float()
        scales = torch.empty(-(-weight.shape[0] // block), -(-weight.shape[1] // block))
        stored = torch.empty_like(weight, dtype=torch.float8_e4m3fn)
        values = torch.empty_like(weight)
        for i, j in itertools.product(range(scales.shape[0]), range(scales.shape[1])):
            part = slice(i * block, (i + 1) * block), slice(j * block, (j + 1) * block)
            scales[i, j] = weight[part].abs().max() / 448
            stored[part] = (weight[part] / scales[i, j]).to(torch.float8_e4m3fn)
            values[part] = stored[part].float() * scales[i, j]
        tensors[name], tensors[name + "_scale_inv"], plain[name] = stored, scales, values
    return plain


E2M1 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])


def mxfp4(tensors):
    """Expert matrices as 4-bit floats with a power of two for 32 of them, two in a byte, as gpt-oss was published."""
    plain = dict(tensors)
    for name in [n for n in tensors if n.endswith(("experts.gate_up_proj", "experts.down_proj"))]:
        weight = tensors.pop(name).float().transpose(1, 2)  # experts, out, in
        groups = weight.reshape(*weight.shape[:2], -1, 32)
        exponent = torch.ceil(torch.log2(groups.abs().amax(-1) / 6))
        codes = (groups / 2 ** exponent[..., None]).unsqueeze(-1).sub(E2M1).abs().argmin(-1)
        plain[name] = (E2M1[codes] * 2 ** exponent[..., None]).reshape(weight.shape).transpose(1, 2).contiguous()
        tensors[name + "_blocks"] = (codes[..., 0::2] | codes[..., 1::2] << 4).to(torch.uint8)
        tensors[name + "_scales"] = (exponent + 127).to(torch.uint8)
    return plain


def fp8_config(config):
    config["quantization_config"] = {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8", "weight_block_size": [128, 128]}


def mxfp4_config(config):
    others = ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]
    config["quantization_config"] = {"modules_to_not_convert": others, "quant_method": "mxfp4"}


# --- the models --------------------------------------------------------------------------------------------------------

LLAMA3 = rope("llama3", 500.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=16)
YARN = rope("yarn", 100.0, factor=4.0, beta_fast=8.0, beta_slow=0.25, original_max_position_embeddings=200)
MSCALE_YARN = YARN | dict(mscale=1.0, mscale_all_dim=0.6)
GRANITE = dict(embedding_multiplier=3.0, attention_multiplier=0.2, residual_multiplier=0.4, logits_scaling=1.7, tie_word_embeddings=True)
GPT_OSS = dict(head_dim=16, num_local_experts=5, num_experts_per_tok=2, intermediate_size=32, swiglu_limit=2.0, sliding_window=6,
               layer_types=[SLIDING, FULL], rope_parameters=YARN | dict(truncate=False))
DEEPSEEK = dict(num_key_value_heads=4, kv_lora_rank=32, qk_nope_head_dim=8, qk_rope_head_dim=32, v_head_dim=16, moe_intermediate_size=32,
                n_shared_experts=2, first_k_dense_replace=1)
DELTA = dict(head_dim=16, layer_types=[LINEAR, FULL], linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=8,
             linear_value_head_dim=16, rope_parameters=rope(theta=100.0, partial_rotary_factor=0.25))

MODELS = {
    # Llama and its nearest kin
    "llama": model("LlamaForCausalLM", BF16, rms_norm_eps=1e-5, tie_word_embeddings=False),
    "llama3_rope": model("LlamaForCausalLM", F32, rms_norm_eps=1e-5, tie_word_embeddings=True, rope_parameters=LLAMA3, edit=version_4),
    "llama_linear": model("LlamaForCausalLM", F16, rms_norm_eps=1e-5, tie_word_embeddings=True, attention_bias=True, mlp_bias=True,
                          rope_parameters=rope("linear", factor=4.0)),
    "mistral": model("MistralForCausalLM", F16, rms_norm_eps=1e-5, head_dim=8, sliding_window=8, tie_word_embeddings=False),
    "qwen2": model("Qwen2ForCausalLM", BF16, rms_norm_eps=1e-5, use_sliding_window=True, sliding_window=6, max_window_layers=1,
                   tie_word_embeddings=True),
    "qwen3": model("Qwen3ForCausalLM", BF16, rms_norm_eps=1e-5, head_dim=16, tie_word_embeddings=False),
    # Gemma
    "gemma": model("GemmaForCausalLM", BF16, vocab_size=77, head_dim=16, num_key_value_heads=1),
    "gemma2": model("Gemma2ForCausalLM", BF16, head_dim=16, sliding_window=6, query_pre_attn_scalar=24, attn_logit_softcapping=2.0,
                    final_logit_softcapping=3.0, rope_parameters=rope(theta=100.0)),
    "gemma3": model("Gemma3ForCausalLM", BF16, head_dim=16, sliding_window=5, layer_types=[SLIDING, FULL], query_pre_attn_scalar=24,
                    rope_parameters={SLIDING: rope(theta=50.0), FULL: rope("linear", 1000.0, factor=8.0)}),
    "gemma3_multimodal": model("Gemma3ForConditionalGeneration", BF16, edit=gemma3_hub, image_token_id=79, mm_tokens_per_image=1,
                               vision_config=dict(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1,
                                                  image_size=4, patch_size=4),
                               text_config=SIZES | TOKENS | dict(
                                   head_dim=16, sliding_window=5, num_hidden_layers=3, rms_norm_eps=0.01, query_pre_attn_scalar=24,
                                   layer_types=[SLIDING, FULL, SLIDING],
                                   rope_parameters={SLIDING: rope(theta=50.0), FULL: rope("linear", 1000.0, factor=8.0)})),
    # Phi
    "phi": model("PhiForCausalLM", F16, num_key_value_heads=4, edit=version_4,
                 rope_parameters=rope(theta=100.0, partial_rotary_factor=0.5)),
    "phi3": model("Phi3ForCausalLM", BF16, sliding_window=7, rope_parameters=rope(theta=100.0)),
    "phi3_longrope": model("Phi3ForCausalLM", F16, vocab_size=77, original_max_position_embeddings=16, edit=version_4_longrope,
                           rope_parameters=rope("longrope", 100.0, short_factor=[1.0, 1.1, 1.3, 1.5], long_factor=[1.5, 2.0, 3.0, 4.0])),
    "phi4_mini": model("Phi3ForCausalLM", BF16, tie_word_embeddings=True, original_max_position_embeddings=32,
                       rope_parameters=rope("longrope", 100.0, partial_rotary_factor=0.75, short_factor=[1.0, 1.2, 1.5],
                                            long_factor=[2.0, 3.0, 4.0])),
    # the generation of GPT-2
    "gpt2": model("GPT2LMHeadModel", F16, pack=gpt2_hub, max_position_embeddings=32, n_inner=64),
    "opt": model("OPTForCausalLM", F16, vocab_size=77, ffn_dim=64),
    "opt_350m": model("OPTForCausalLM", BF16, ffn_dim=64, do_layer_norm_before=False, word_embed_proj_dim=16),
    "bloom": model("BloomForCausalLM", F16, pack=without_prefix),
    "bloom_12_heads": model("BloomForCausalLM", BF16, pack=without_prefix, hidden_size=36, num_attention_heads=12),
    "gpt_neox": model("GPTNeoXForCausalLM", F16, pack=neox_hub, edit=version_4_neox,
                      rope_parameters=rope(theta=100.0, partial_rotary_factor=0.5)),
    "gpt_neox_serial": model("GPTNeoXForCausalLM", BF16, use_parallel_residual=False, attention_bias=False, hidden_act="gelu_new",
                             rope_parameters=rope(theta=100.0, partial_rotary_factor=0.75)),
    "gptj": model("GPTJForCausalLM", F16, vocab_size=77, rotary_dim=4, n_inner=64),
    "mpt": model("MptForCausalLM", F16, max_seq_len=64, attn_config=dict(clip_qkv=1.5)),
    "mpt_6_heads": model("MptForCausalLM", BF16, hidden_size=36, num_attention_heads=6, max_seq_len=64, attn_config=dict(clip_qkv=1.5)),
    "falcon7": model("FalconForCausalLM", BF16, hidden_size=64, ffn_hidden_size=64, rope_parameters=rope(theta=100.0)),
    "falcon40": model("FalconForCausalLM", F16, num_kv_heads=2, new_decoder_architecture=True, rope_parameters=rope(theta=100.0)),
    "falcon11": model("FalconForCausalLM", BF16, num_kv_heads=2, new_decoder_architecture=True, num_ln_in_parallel_attn=1,
                      ffn_hidden_size=64, tie_word_embeddings=False),
    # Eager attention of transformers adds the ALiBi bias twice.
    "falcon_rw": model("FalconForCausalLM", BF16, multi_query=False, parallel_attn=False, alibi=True, bias=True, attention="sdpa"),
    "falcon_rw_12_heads": model("FalconForCausalLM", F16, hidden_size=36, num_attention_heads=12, multi_query=False, parallel_attn=False,
                                alibi=True, bias=True, attention="sdpa"),
    # OLMo
    "olmo": model("OlmoForCausalLM", BF16, clip_qkv=1.0, rope_parameters=rope(theta=100.0)),
    "olmo2": model("Olmo2ForCausalLM", F16, vocab_size=77, rope_parameters=rope(theta=100.0)),
    "olmo3": model("Olmo3ForCausalLM", BF16, sliding_window=6, layer_types=[SLIDING, FULL],
                   rope_parameters={SLIDING: rope(theta=500.0), FULL: YARN}),
    # dense models since 2024
    "granite": model("GraniteForCausalLM", BF16, **GRANITE),
    "smollm3": model("SmolLM3ForCausalLM", BF16, no_rope_layers=[1, 0], rope_parameters=rope(theta=100.0)),
    "cohere": model("CohereForCausalLM", BF16, logit_scale=0.4, rope_parameters=rope(theta=100.0)),
    "cohere_qk_norm": model("CohereForCausalLM", F16, vocab_size=77, logit_scale=0.4, use_qk_norm=True, rope_parameters=rope(theta=100.0)),
    "cohere2": model("Cohere2ForCausalLM", BF16, head_dim=16, logit_scale=0.4, sliding_window=6, layer_types=[SLIDING, FULL],
                     rope_parameters=rope(theta=100.0)),
    "stablelm": model("StableLmForCausalLM", F16, use_qkv_bias=True, edit=version_4,
                      rope_parameters=rope(theta=100.0, partial_rotary_factor=0.5)),
    "stablelm_parallel": model("StableLmForCausalLM", BF16, use_parallel_residual=True, qk_layernorm=True,
                               rope_parameters=rope(theta=100.0, partial_rotary_factor=0.5)),
    "starcoder2": model("Starcoder2ForCausalLM", F16, vocab_size=77, sliding_window=6, rope_parameters=rope(theta=100.0)),
    "glm": model("GlmForCausalLM", BF16, head_dim=16, rope_parameters=rope(theta=100.0, partial_rotary_factor=0.5)),
    "glm4": model("Glm4ForCausalLM", BF16, head_dim=16, edit=version_4, rope_parameters=rope(theta=100.0, partial_rotary_factor=0.5)),
    "seed_oss": model("SeedOssForCausalLM", BF16, head_dim=16, rope_parameters=rope(theta=100.0)),
    "exaone4": model("Exaone4ForCausalLM", BF16, head_dim=16, sliding_window=6, layer_types=[SLIDING, FULL], tie_word_embeddings=True,
                     rope_parameters=LLAMA3),
    "exaone4_full": model("Exaone4ForCausalLM", F16, sliding_window=None, layer_types=[FULL, FULL], rope_parameters=rope(theta=100.0)),
    "ernie4_5": model("Ernie4_5ForCausalLM", BF16, head_dim=16, use_bias=True, rope_parameters=rope(theta=100.0)),
    "ministral": model("MinistralForCausalLM", BF16, head_dim=16, sliding_window=6, layer_types=[SLIDING, FULL],
                       rope_parameters=rope(theta=100.0)),
    "ministral3": model("Ministral3ForCausalLM", BF16, head_dim=16, rope_parameters=YARN | dict(
        original_max_position_embeddings=8, mscale=1.0, mscale_all_dim=1.0, llama_4_scaling_beta=0.3)),
    "arcee": model("ArceeForCausalLM", F16, head_dim=16, rope_parameters=YARN | dict(attention_factor=1.25)),
    "llama_yarn": model("LlamaForCausalLM", BF16, head_dim=16, rope_parameters=YARN | dict(truncate=False), edit=version_4),
    "llama_dynamic": model("LlamaForCausalLM", F16, max_position_embeddings=16, rope_parameters=rope("dynamic", 100.0, factor=3.0)),
    "hunyuan_v1_dense": model("HunYuanDenseV1ForCausalLM", BF16, head_dim=16,
                              rope_parameters=rope("dynamic", 100.0, alpha=5.0, factor=1.0)),
    "nemotron": model("NemotronForCausalLM", BF16, head_dim=16, rope_parameters=rope(theta=100.0, partial_rotary_factor=0.5)),
    # mixtures of experts
    "mixtral": model("MixtralForCausalLM", BF16, intermediate_size=64, num_local_experts=3, rope_parameters=rope(theta=100.0)),
    "qwen2_moe": model("Qwen2MoeForCausalLM", BF16, num_hidden_layers=4, num_experts=5, num_experts_per_tok=2, moe_intermediate_size=32,
                       shared_expert_intermediate_size=64, decoder_sparse_step=2, mlp_only_layers=[1]),
    "qwen3_moe": model("Qwen3MoeForCausalLM", F16, head_dim=16, num_experts=7, num_experts_per_tok=3, moe_intermediate_size=32,
                       norm_topk_prob=True),
    "qwen3_moe_fused": model("Qwen3MoeForCausalLM", BF16, fused=True, num_experts=5, num_experts_per_tok=2, moe_intermediate_size=32),
    "olmoe": model("OlmoeForCausalLM", BF16, num_experts=7, num_experts_per_tok=3, intermediate_size=32, clip_qkv=1.0),
    "granitemoe": model("GraniteMoeForCausalLM", F16, num_local_experts=5, intermediate_size=32, **GRANITE),
    "granitemoeshared": model("GraniteMoeSharedForCausalLM", BF16, num_local_experts=5, intermediate_size=32, shared_intermediate_size=64,
                              **GRANITE),
    # transformers checks the sizes of state-space layers though there are none.
    "granitemoehybrid": model("GraniteMoeHybridForCausalLM", BF16, edit=granite_hub, num_local_experts=0, num_experts_per_tok=0,
                              shared_intermediate_size=64, layer_types=[FULL, FULL], position_embedding_type="rope", mamba_n_heads=4,
                              mamba_d_head=16, **GRANITE),
    "granitemoehybrid_experts": model("GraniteMoeHybridForCausalLM", BF16, num_local_experts=5, intermediate_size=32,
                                      shared_intermediate_size=64, layer_types=[FULL, FULL], position_embedding_type="nope",
                                      mamba_n_heads=4, mamba_d_head=16, **GRANITE),
    "glm4_moe": model("Glm4MoeForCausalLM", BF16, pack=with_prediction_layer, head_dim=16, attention_bias=True, use_qk_norm=True,
                      n_routed_experts=7, num_experts_per_tok=3, moe_intermediate_size=32, n_shared_experts=2, routed_scaling_factor=1.5,
                      first_k_dense_replace=1, rope_parameters=rope(theta=100.0, partial_rotary_factor=0.5)),
    "ernie4_5_moe": model("Ernie4_5_MoeForCausalLM", BF16, moe_num_experts=5, moe_k=2, moe_intermediate_size=32, moe_num_shared_experts=2,
                          moe_layer_start_index=1, moe_layer_end_index=1),
    "gpt_oss": model("GptOssForCausalLM", BF16, **GPT_OSS),
    "gpt_oss_mxfp4": model("GptOssForCausalLM", BF16, pack=mxfp4, edit=mxfp4_config, **GPT_OSS),
    "minimax_m2": model("MiniMaxM2ForCausalLM", BF16, edit=version_4_minimax, head_dim=16, num_local_experts=5, num_experts_per_tok=2,
                        intermediate_size=32, rope_parameters=rope(theta=100.0, partial_rotary_factor=0.5)),
    "hunyuan_v1_moe": model("HunYuanMoEV1ForCausalLM", BF16, head_dim=16, num_experts=5, moe_topk=2, intermediate_size=32),
    # latent attention
    "deepseek_v2": model("DeepseekV2ForCausalLM", F16, q_lora_rank=None, n_routed_experts=5, num_experts_per_tok=2,
                         routed_scaling_factor=1.5, rope_parameters=rope(theta=100.0), **DEEPSEEK),
    "deepseek_v2_groups": model("DeepseekV2ForCausalLM", BF16, q_lora_rank=32, topk_method="group_limited_greedy", n_group=4, topk_group=2,
                                n_routed_experts=8, num_experts_per_tok=3, routed_scaling_factor=2.0,
                                rope_parameters=MSCALE_YARN, edit=version_4, **DEEPSEEK),
    "deepseek_v3": model("DeepseekV3ForCausalLM", BF16, q_lora_rank=32, n_group=4, topk_group=2, n_routed_experts=8, num_experts_per_tok=3,
                         rope_parameters=MSCALE_YARN, **DEEPSEEK),
    "deepseek_v3_fp8": model("DeepseekV3ForCausalLM", BF16, pack=fp8_blocks, edit=fp8_config, q_lora_rank=64, n_group=1, topk_group=1,
                             n_routed_experts=5, num_experts_per_tok=2, rope_parameters=rope(theta=100.0),
                             **(DEEPSEEK | dict(intermediate_size=160))),
    "mistral4": model("Mistral4ForCausalLM", BF16, q_lora_rank=64, n_routed_experts=5, num_experts_per_tok=2,
                      rope_parameters=MSCALE_YARN | dict(original_max_position_embeddings=8, llama_4_scaling_beta=0.3),
                      **(DEEPSEEK | dict(n_shared_experts=1))),
    # gated delta rule
    "qwen3_next": model("Qwen3NextForCausalLM", BF16, num_experts=5, num_experts_per_tok=2, moe_intermediate_size=32,
                        shared_expert_intermediate_size=64, **DELTA),
    "qwen3_5": model("Qwen3_5ForCausalLM", BF16, tie_word_embeddings=True, **DELTA),
    "qwen3_5_moe": model("Qwen3_5MoeForCausalLM", BF16, fused=True, num_experts=5, num_experts_per_tok=2, moe_intermediate_size=32,
                         shared_expert_intermediate_size=64, **DELTA),
    "qwen3_5_multimodal": model("Qwen3_5ForConditionalGeneration", BF16, tie_word_embeddings=True, image_token_id=76, video_token_id=77,
                                vision_start_token_id=78, vision_end_token_id=79,
                                vision_config=dict(depth=1, hidden_size=8, intermediate_size=8, num_heads=1, out_hidden_size=32,
                                                   patch_size=2, temporal_patch_size=1, spatial_merge_size=1, num_position_embeddings=4),
                                text_config=SIZES | dict(rms_norm_eps=0.01, tie_word_embeddings=True) | DELTA),
}


def special_tokens(config):
    """Token ids inside the small vocabulary, for a class whose own are not."""
    return {key: value for key, value in TOKENS.items() if getattr(config, key, None) is not None}


def make_config(cls, given):
    default = cls.config_class()
    common = {key: value for key, value in (SIZES | dict.fromkeys(EPSILONS, 0.01)).items() if hasattr(default, key)}
    return cls.config_class(**(common | special_tokens(default) | given))


def fill(network):
    """Random values on the scale that the kind of each tensor calls for."""
    for key, p in network.named_parameters():
        owner = type(network.get_submodule(key.rpartition(".")[0])).__name__
        if key.endswith("bias"):
            p.copy_(0.3 * torch.randn_like(p))
        elif "Norm" in owner:  # a new weight is 0 where the norm multiplies by 1 + weight (but not LayerNorm1P), else 1
            p.copy_((0 if "1P" in owner else p.mean()) + 0.2 * torch.randn_like(p))
        elif p.dim() == 1:
            p.copy_(torch.randn_like(p))
        else:
            inputs = p.shape[-2 if owner in ("Conv1D", "GptOssExperts") else -1]
            p.copy_(torch.randn_like(p) * (1.5 / inputs**0.5))
    for key, b in network.named_buffers():
        if key.endswith("e_score_correction_bias"):
            b.copy_(0.3 * torch.randn_like(b))


def token_nll(network, ids):
    logits = network(ids).logits
    nll = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    return [round(x, 6) for x in nll.tolist()]


@torch.no_grad()
def make(name):
    spec, folder = MODELS[name], FOLDER / name
    cls = getattr(transformers, spec.architecture)
    torch.manual_seed(len(name))
    network = cls(make_config(cls, spec.config)).eval()
    fill(network)
    for p in network.parameters():
        p.data = p.data.to(spec.dtype)
    network.save_pretrained(folder, save_original_format=not spec.fused)
    (folder / "generation_config.json").unlink(missing_ok=True)
    if spec.edit:
        config = json.loads((folder / "config.json").read_text())
        spec.edit(config)
        (folder / "config.json").write_text(json.dumps(config, indent=2))

    # Read again: the expected numbers are those of the files.
    with plain_copy(folder, spec.pack) as source:
        network, info = cls.from_pretrained(source, dtype=torch.float32, attn_implementation=spec.attention, output_loading_info=True)
    assert not info["missing_keys"], f"{name}: the files lack {info['missing_keys']}"
    network.eval()
    vocabulary = network.config.get_text_config().vocab_size
    ids = torch.randint(0, vocabulary, (2, LENGTH), generator=torch.Generator().manual_seed(7))
    expected = {"ids": ids.flatten().tolist(), "length": LENGTH, "token_nll": token_nll(network, ids)}
    (folder / "expected.json").write_text(json.dumps(expected))


@contextlib.contextmanager
def plain_copy(folder, pack):
    """The folder that transformers is to read: where tensors are packed, a copy with the values they stand for."""
    if not pack:
        yield folder
        return
    tensors = load_file(folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    config.pop("quantization_config", None)
    with tempfile.TemporaryDirectory() as plain:
        save_file(pack(tensors), pathlib.Path(plain, "model.safetensors"), {"format": "pt"})
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        pathlib.Path(plain, "config.json").write_text(json.dumps(config))
        yield plain


def make_models(names=()):
    for name in names or MODELS:
        make(name)


if __name__ == "__main__":
    make_models(sys.argv[1:])
