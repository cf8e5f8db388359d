#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Trains the demo model: a Llama of 3.1 million parameters on text of generate_text.py. Run once; the result is in this
folder and no build needs it again.

    pip install torch tokenizers safetensors
    python3 generate_text.py --seed 1 --bytes 60000000 > train.txt
    python3 train.py train.txt --out . --steps 4500
"""

import argparse
import json
import math
import time

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 256, "intermediate_size": 640,
    "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64,
    "max_position_embeddings": 512, "vocab_size": 1536, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu",
    "tie_word_embeddings": True, "attention_bias": False, "mlp_bias": False, "torch_dtype": "bfloat16",
    "bos_token_id": 0, "eos_token_id": 0,
}


def train_tokenizer(path):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=CONFIG["vocab_size"], special_tokens=["<|endoftext|>"],
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    with open(path, encoding="utf-8") as file:
        tokenizer.train_from_iterator([file.read(6_000_000)], trainer)
    return tokenizer


def parameters(generator):
    c = CONFIG
    kv = c["num_key_value_heads"] * c["head_dim"]
    shapes = {"model.embed_tokens.weight": (c["vocab_size"], c["hidden_size"]), "model.norm.weight": (c["hidden_size"],)}
    for i in range(c["num_hidden_layers"]):
        p = f"model.layers.{i}."
        shapes |= {
            p + "input_layernorm.weight": (c["hidden_size"],), p + "post_attention_layernorm.weight": (c["hidden_size"],),
            p + "self_attn.q_proj.weight": (c["hidden_size"], c["hidden_size"]), p + "self_attn.k_proj.weight": (kv, c["hidden_size"]),
            p + "self_attn.v_proj.weight": (kv, c["hidden_size"]), p + "self_attn.o_proj.weight": (c["hidden_size"], c["hidden_size"]),
            p + "mlp.gate_proj.weight": (c["intermediate_size"], c["hidden_size"]),
            p + "mlp.up_proj.weight": (c["intermediate_size"], c["hidden_size"]),
            p + "mlp.down_proj.weight": (c["hidden_size"], c["intermediate_size"]),
        }
    out = {}
    for name, shape in shapes.items():
        if len(shape) == 1:
            out[name] = torch.ones(shape)
        else:
            scale = 0.02 if "embed" in name else 1 / math.sqrt(shape[1])
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                scale /= math.sqrt(2 * c["num_hidden_layers"])
            out[name] = torch.randn(shape, generator=generator) * scale
        out[name].requires_grad_(True)
    return out


def forward(w, ids):
    c = CONFIG
    heads, kv_heads, dim = c["num_attention_heads"], c["num_key_value_heads"], c["head_dim"]
    batch, length = ids.shape
    angle = torch.arange(length)[:, None] * c["rope_theta"] ** (-torch.arange(0, dim, 2) / dim)[None]
    cos, sin = torch.cat([angle.cos()] * 2, -1), torch.cat([angle.sin()] * 2, -1)

    def norm(x, weight):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + c["rms_norm_eps"]) * weight

    def rotate(x):
        first, second = x.chunk(2, -1)
        return x * cos + torch.cat([-second, first], -1) * sin

    x = F.embedding(ids, w["model.embed_tokens.weight"])
    for i in range(c["num_hidden_layers"]):
        p = f"model.layers.{i}."
        h = norm(x, w[p + "input_layernorm.weight"])
        q = rotate(F.linear(h, w[p + "self_attn.q_proj.weight"]).view(batch, length, heads, dim).transpose(1, 2))
        k = rotate(F.linear(h, w[p + "self_attn.k_proj.weight"]).view(batch, length, kv_heads, dim).transpose(1, 2))
        v = F.linear(h, w[p + "self_attn.v_proj.weight"]).view(batch, length, kv_heads, dim).transpose(1, 2)
        k, v = (t.repeat_interleave(heads // kv_heads, 1) for t in (k, v))
        h = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(batch, length, heads * dim)
        x = x + F.linear(h, w[p + "self_attn.o_proj.weight"])
        h = norm(x, w[p + "post_attention_layernorm.weight"])
        h = F.silu(F.linear(h, w[p + "mlp.gate_proj.weight"])) * F.linear(h, w[p + "mlp.up_proj.weight"])
        x = x + F.linear(h, w[p + "mlp.down_proj.weight"])
    return F.linear(norm(x, w["model.norm.weight"]), w["model.embed_tokens.weight"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text")
    parser.add_argument("--out", default=".")
    parser.add_argument("--steps", type=int, default=4500)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--length", type=int, default=256)
    options = parser.parse_args()

    tokenizer = train_tokenizer(options.text)
    with open(options.text, encoding="utf-8") as file:
        ids = torch.tensor(tokenizer.encode(file.read()).ids)
    print(f"{len(ids)} tokens, vocabulary {tokenizer.get_vocab_size()}", flush=True)

    generator = torch.Generator().manual_seed(1)
    w = parameters(generator)
    print(f"{sum(t.numel() for t in w.values())} parameters", flush=True)
    decay = [t for t in w.values() if t.dim() == 2]
    rest = [t for t in w.values() if t.dim() == 1]
    optimizer = torch.optim.AdamW([{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}], betas=(0.9, 0.95))
    start = time.time()
    for step in range(options.steps):
        progress = step / options.steps
        rate = 3e-3 * min(1, (step + 1) / 200) * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * progress)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        # Long windows at the end, so that the whole context is used.
        length = options.length if progress < 0.9 else CONFIG["max_position_embeddings"]
        batch = options.batch * options.length // length
        at = torch.randint(len(ids) - length - 1, (batch,), generator=generator)
        x = torch.stack([ids[i:i + length] for i in at])
        y = torch.stack([ids[i + 1:i + length + 1] for i in at])
        with torch.autocast("cpu", torch.bfloat16):
            logits = forward(w, x)
        loss = F.cross_entropy(logits.float().flatten(0, 1), y.flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(w.values(), 1.0)
        optimizer.step()
        if step % 100 == 0 or step == options.steps - 1:
            print(f"step {step} loss {loss.item():.4f} {time.time() - start:.0f} s", flush=True)

    save_file({name: t.detach().to(torch.bfloat16).contiguous() for name, t in w.items()}, f"{options.out}/model.safetensors", {"format": "pt"})
    tokenizer.save(f"{options.out}/tokenizer.json", pretty=False)
    with open(f"{options.out}/config.json", "w") as file:
        json.dump(CONFIG, file, indent=2)
    with open(f"{options.out}/tokenizer_config.json", "w") as file:
        json.dump({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>", "bos_token": "<|endoftext|>",
                   "model_max_length": CONFIG["max_position_embeddings"]}, file, indent=2)


if __name__ == "__main__":
    main()
