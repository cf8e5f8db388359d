#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes the fixtures in this folder with other people's code, so that the tests compare with something independent:
small random models and their losses (transformers, in make_models.py), tokenizers and their ids (tokenizers), GGUF blocks (gguf).

    pip install torch transformers tokenizers safetensors gguf
    python3 make_fixtures.py
"""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np

from make_models import make_models

HERE = pathlib.Path(__file__).parent


STRINGS = [
    "Hello world", "  two leading spaces", "tabs\tand\nnewlines\n\n\nthree", "don't can't I'LL we've", "1234567890 3.14159 12,345",
    "na\u00efve caf\u00e9 \u00fcber", "e\u0301 decomposed A\u030a", "\u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8", "\U0001f642 emoji \U0001f469\u200d\U0001f469",
    "def f(x):\n    return x**2  # comment", "<|end|>in front<|end|> and  <|end|>", "ALLCAPS mixedCase snake_case", "trailing space ", "", " ",
    "aaaaaaaaaaaaaaaaaaaa", "price: $5.00 (50% off!)", "a  5 b   17", "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440!", "the lamp was in the garden\r\n\r\nand so on",
    "x" * 300, "keep<mask> this <mask>  too",
]


def make_tokenizers():
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    text = subprocess.run([sys.executable, HERE / "../../examples/demo_model/generate_text.py", "--seed", "9", "--bytes", "60000"],
                          capture_output=True, text=True, check=True).stdout
    text += "\u65e5\u672c\u8a9e caf\u00e9 na\u00efve \u00fcber\n" * 5

    llama3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    qwen = llama3.replace(r"\p{N}{1,3}", r"\p{N}")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    raw_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    split = lambda pattern: pre_tokenizers.Split(Regex(pattern), "isolated")
    mark = "\u2581"
    kinds = {
        "gpt2": dict(pre=byte_level),
        "smollm": dict(pre=pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])),
        "llama3": dict(pre=pre_tokenizers.Sequence([split(llama3), raw_bytes]), ignore_merges=True, bos=True),
        "qwen": dict(pre=pre_tokenizers.Sequence([split(qwen), raw_bytes]), normalizer=normalizers.NFC()),
        "llama2": dict(pre=None, normalizer=normalizers.Sequence([normalizers.Prepend(mark), normalizers.Replace(" ", mark)]), fallback=True, bos=True),
        "mistral": dict(pre=pre_tokenizers.Metaspace(replacement=mark, prepend_scheme="first", split=True), fallback=True, bos=True),
    }
    folder = HERE / "tokenizers"
    folder.mkdir(exist_ok=True)
    for name, kind in kinds.items():
        fallback = kind.get("fallback", False)
        bytes_ = [f"<0x{b:02X}>" for b in range(256)] if fallback else []
        model = models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True) if fallback else models.BPE(ignore_merges=kind.get("ignore_merges", False))
        tokenizer = Tokenizer(model)
        if kind.get("normalizer"):
            tokenizer.normalizer = kind["normalizer"]
        if kind["pre"] is not None:
            tokenizer.pre_tokenizer = kind["pre"]
        special = (["<unk>", "<s>"] if fallback else ["<s>"]) + ["<|end|>"] + bytes_
        trainer = trainers.BpeTrainer(vocab_size=700 if fallback else 600, special_tokens=special,
                                      initial_alphabet=[] if fallback else pre_tokenizers.ByteLevel.alphabet(), max_token_length=12)
        tokenizer.train_from_iterator(text.split("\n") if fallback else [text], trainer)
        if fallback:  # byte tokens are not special
            data = json.loads(tokenizer.to_str())
            data["added_tokens"] = [t for t in data["added_tokens"] if not t["content"].startswith("<0x")]
            data["model"]["ignore_merges"] = False
            tokenizer = Tokenizer.from_str(json.dumps(data))
        tokenizer.add_tokens([AddedToken("<mask>", lstrip=True, rstrip=(name == "qwen"), normalized=(name == "gpt2"))])
        if kind.get("bos"):
            tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))])
        if name == "gpt2":
            tokenizer.post_processor = processors.ByteLevel()
        tokenizer.save(str(folder / f"{name}.json"), pretty=False)
        cases = [{"text": s, "ids": tokenizer.encode(s).ids} for s in STRINGS]
        (folder / f"{name}.expected.json").write_text(json.dumps(cases))


def make_more_tokenizers():
    import tokenizer_kinds

    text = tokenizer_kinds.generated_text() + "\u65e5\u672c\u8a9e caf\u00e9 na\u00efve \u00fcber\n" * 5
    folder = HERE / "tokenizers"
    for name, kind in tokenizer_kinds.KINDS.items():
        tokenizer = tokenizer_kinds.train(kind, text)
        tokenizer.save(str(folder / f"{name}.json"), pretty=False)
        strings = STRINGS + ["\u0928\u092e\u0938\u094d\u0924\u0947 \u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35", "HTMLParser ABCdef \u01c5x XMLHttp's", "\u3053\u3093\u306b\u3061\u306f\u3001\u4e16\u754c\u3002",
                             "a,b;c\u2014d \u2018e\u2019 \u00bf?", "12 345\u00b2 \u2167 \u0663", "one\n\n\n\ntwo \n three\t\tfour", "the cat " * 60]
        cases = [{"text": s, "ids": tokenizer.encode(s).ids} for s in strings]
        (folder / f"{name}.expected.json").write_text(json.dumps(cases))


def make_blocks():
    import gguf
    from gguf import GGMLQuantizationType as T
    from gguf.quants import dequantize
    from safetensors.numpy import save_file

    rng = np.random.default_rng(5)
    tensors = {}
    for kind in [T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q8_0, T.Q2_K, T.Q3_K, T.Q4_K, T.Q5_K, T.Q6_K]:
        elements, size = gguf.GGML_QUANT_SIZES[kind]
        blocks = 8
        raw = rng.integers(0, 256, (blocks, size), dtype=np.uint8)
        # the half-precision scales must be ordinary numbers
        places = {T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0], T.Q2_K: [80, 82], T.Q3_K: [108], T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208]}
        for at in places[kind]:
            raw[:, at:at + 2] = rng.normal(size=blocks).astype(np.float16).view(np.uint8).reshape(blocks, 2)
        tensors[f"{kind.name}.raw"] = raw.reshape(-1)
        tensors[f"{kind.name}.values"] = dequantize(raw, kind).astype(np.float32).reshape(-1)

    rng = np.random.default_rng(6)
    places = {T.IQ4_NL: 0, T.IQ4_XS: 0, T.TQ1_0: 52, T.TQ2_0: 64}
    for kind in [T.IQ4_NL, T.IQ4_XS, T.MXFP4, T.NVFP4, T.TQ1_0, T.TQ2_0]:
        elements, size = gguf.GGML_QUANT_SIZES[kind]
        blocks = 4 if elements == 256 else 8
        raw = rng.integers(0, 256, (blocks, size), dtype=np.uint8)
        if kind in places:
            raw[:, places[kind]:places[kind] + 2] = rng.normal(size=blocks).astype(np.float16).view(np.uint8).reshape(blocks, 2)
        if kind == T.MXFP4:
            raw[:, 0] = [2, 100, 120, 126, 127, 128, 135, 252]
        if kind == T.NVFP4:
            raw[0, :4] = [0, 127, 255, 128]  # zero, NaN read as zero, a sign bit that does not count
        tensors[f"{kind.name}.raw"] = raw.reshape(-1)
        tensors[f"{kind.name}.values"] = dequantize(raw, kind).astype(np.float32).reshape(-1)
    # gguf 0.19 does not read Q2_0.
    raw = rng.integers(0, 256, (8, 18), dtype=np.uint8)
    scales = rng.normal(size=8).astype(np.float16)
    raw[:, :2] = scales.view(np.uint8).reshape(8, 2)
    codes = np.unpackbits(raw[:, 2:], axis=1, bitorder="little").reshape(8, 64, 2) @ [1, 2]
    tensors["Q2_0.raw"] = raw.reshape(-1)
    tensors["Q2_0.values"] = (scales[:, None].astype(np.float32) * (codes - 1)).astype(np.float32).reshape(-1)

    rng = np.random.default_rng(7)
    for kind in [T.IQ1_S, T.IQ1_M, T.IQ2_XXS, T.IQ2_XS, T.IQ2_S, T.IQ3_XXS, T.IQ3_S]:
        elements, size = gguf.GGML_QUANT_SIZES[kind]
        raw = rng.integers(0, 256, (4, size), dtype=np.uint8)
        scales = rng.normal(size=4).astype(np.float16).view(np.uint8).reshape(4, 2)
        if kind == T.IQ1_M:  # a nibble of the scale in each of the last four words
            nibbles = np.stack([scales & 15, scales >> 4], axis=-1).reshape(4, 4)
            raw[:, 49::2] = raw[:, 49::2] & 15 | nibbles << 4
        else:
            raw[:, :2] = scales
        tensors[f"{kind.name}.raw"] = raw.reshape(-1)
        tensors[f"{kind.name}.values"] = dequantize(raw, kind).astype(np.float32).reshape(-1)
        if kind != T.IQ1_M:  # it has the grid of IQ1_S
            tensors[f"{kind.name}.grid"] = getattr(gguf.quants, kind.name).grid.astype(np.int8).reshape(-1)
    save_file(tensors, HERE / "ggml_blocks.safetensors")


if __name__ == "__main__":
    os.chdir(HERE)
    make_models()
    make_tokenizers()
    make_more_tokenizers()
    make_blocks()
