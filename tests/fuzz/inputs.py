# SPDX-License-Identifier: MIT
"""Generates the input of the fuzz targets: seeds/TARGET/*, TARGET.dict and regressions/TARGET/*.

    python3 inputs.py SOURCE_FOLDER OUTPUT_FOLDER

Seeds are small files of each kind, from the test fixtures where there are any. Dictionaries are the words that the
readers look for, taken from their source. Regressions are inputs that once crashed, hung or took all memory; those that a
fuzzer found and that are small are in the folder regressions/ as found.
"""
import json
import random
import re
import struct
import sys
from pathlib import Path

SOURCE, OUTPUT = Path(sys.argv[1]), Path(sys.argv[2])
DEMO = SOURCE / "examples/demo_model"
SEPARATOR = b"\x1e"

random.seed(1)


def noise(size):
    return bytes(random.randrange(256) for _ in range(size))


def put(place, name, *parts):
    """Writes the parts with the separator between them."""
    path = OUTPUT / place / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(SEPARATOR.join(part if isinstance(part, bytes) else part.encode() for part in parts))


# --- safetensors -----------------------------------------------------------------------------------------------------------


def safetensors(tensors, metadata=None):
    """tensors: name -> (dtype, shape, bytes)"""
    header, data = {}, b""
    if metadata:
        header["__metadata__"] = metadata
    for name, (dtype, shape, content) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def make_safetensors():
    sizes = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I32": 4, "U8": 1, "BOOL": 1, "I64": 8, "F8_E4M3": 1}
    seed = "seeds/safetensors"
    put(seed, "two", safetensors({"w": ("F32", [2, 3], noise(24)), "b": ("BF16", [3], noise(6))}, {"format": "pt"}))
    put(seed, "types", safetensors({name: (name, [2, 2], noise(4 * size)) for name, size in sizes.items()}))
    put(seed, "narrow", safetensors({"f4": ("F4", [4], noise(2)), "f6": ("F6_E2M3", [4], noise(3)), "none": ("F16", [0, 5], b""), "one": ("F64", [], noise(8))}))
    put(seed, "empty", safetensors({}))
    # Building the error message for a bad shape took time quadratic in its rank.
    put("regressions/safetensors", "rank_20000", safetensors({"x": ("F32", [1] * 20000, noise(4))}))


# --- config.json -----------------------------------------------------------------------------------------------------------

QUANTIZATION = {"bits": 4, "group_size": 128, "desc_act": False, "sym": True, "lm_head": False, "quant_method": "gptq", "checkpoint_format": "gptq", "format": "gptq"}


def make_config():
    demo = json.loads((DEMO / "config.json").read_text())
    variants = {"demo": demo, "quantized": dict(demo, quantization_config=QUANTIZATION)}
    for fixture in sorted((SOURCE / "tests/data/models").iterdir()):
        variants[fixture.name] = json.loads((fixture / "config.json").read_text())
    for name in "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM":
        variants[name] = dict(demo, architectures=[name], sliding_window=128, use_sliding_window=True, max_window_layers=2, layer_types=["sliding_attention", "full_attention"] * 2)
    variants["llama3"] = dict(demo, rope_scaling={"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192})
    variants["parameters"] = dict(demo, rope_parameters={"rope_type": "linear", "factor": 8.0, "rope_theta": 5e5, "partial_rotary_factor": 1.0})
    for name, config in variants.items():
        put("seeds/config", name, json.dumps(config))


# --- tokenizer.json and expressions ----------------------------------------------------------------------------------------


def tokenizer(pre_tokenizer=None, normalizer=None, **parts):
    model = {"type": "BPE", "unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True, "ignore_merges": True,
             "vocab": {"<unk>": 0, "a": 1, "b": 2, "ab": 3, "l": 4, "o": 5, "lo": 6, "<0x41>": 7, "e": 8}, "merges": ["a b", ["l", "o"]]}
    return {"version": "1.0", "added_tokens": [], "normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "post_processor": None, "model": model, **parts}


def sequence(kind, *steps):
    return {"type": "Sequence", kind: list(steps)}


def split(expression, behavior="Isolated"):
    return {"type": "Split", "pattern": {"Regex": expression}, "behavior": behavior, "invert": False}


def byte_level(use_regex):
    return {"type": "ByteLevel", "add_prefix_space": True, "use_regex": use_regex}


# Expressions that caused trouble, and a text for each.
TROUBLE = {
    # Half a character matched, and the next expression read past the end of the text.
    "half_character": ([r".{30}\C", r".\b"], ("a" * 30 + "\U0001f600") * 300),
    # Below every limit for a single match, yet seconds for a line of text.
    "backtracking": ([r"(a+)+$"], ("a" * 22 + "b ") * 1900),
    # More than the stack of JIT-compiled expressions had room for.
    "long_repeat": ([r"(?:a|b)+"], "ab" * 10000),
}


def make_tokenizers():
    sample = "The quick  brown fox, it's 12345 \u00e9\u2581 abab lolo <s> <|a|>\n\n"
    for file in sorted((SOURCE / "tests/data/tokenizers").glob("*.json")):
        if not file.name.endswith(".expected.json"):
            put("seeds/tokenizer", file.stem, file.read_text(), sample)
    tokens = [{"id": 9, "content": "<s>", "lstrip": True, "rstrip": True, "special": True}, {"id": 10, "content": "<|a|>", "single_word": True, "normalized": True}]
    around = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
              "special_tokens": {"<s>": {"id": "<s>", "ids": [9], "tokens": ["<s>"]}}}
    replace = lambda pattern, content: {"type": "Replace", "pattern": pattern, "content": content}
    variants = {
        "everything": tokenizer(sequence("pretokenizers", split(r"\s+(?!\S)|\p{L}+|\p{N}{1,3}"), {"type": "Digits", "individual_digits": True}, byte_level(False)),
                                sequence("normalizers", {"type": "NFC"}, {"type": "Prepend", "prepend": "\u2581"}, replace({"String": " "}, "\u2581"), replace({"Regex": "x+"}, "y")),
                                added_tokens=tokens, post_processor=around),
        "metaspace": tokenizer({"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first", "split": True}),
        "byte_level": tokenizer(byte_level(True), {"type": "NFKD"}),
    }
    for behavior in "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous":
        variants["split_" + behavior] = tokenizer({"type": "Split", "pattern": {"String": "l"}, "behavior": behavior, "invert": True})
    for step in {"type": "Punctuation", "behavior": "Contiguous"}, {"type": "Whitespace"}, {"type": "WhitespaceSplit"}, {"type": "CharDelimiterSplit", "delimiter": "l"}:
        variants[step["type"]] = tokenizer(step, sequence("normalizers", {"type": "Lowercase"}, {"type": "StripAccents"}, {"type": "Strip", "strip_left": True, "strip_right": True}))
    for name, config in variants.items():
        put("seeds/tokenizer", name, json.dumps(config), sample)
    put("seeds/tokenizer", "merges_txt", "{}", sample, json.dumps({"a": 0, "b": 1, "ab": 2, "\u0120": 3, "\u0120ab": 4, "<s>": 5}), "#version: 0.2\na b\n\u0120 ab\n",
        json.dumps({"tokenizer_class": "GPT2Tokenizer", "add_bos_token": True, "bos_token": {"content": "<s>"}, "add_prefix_space": False}))

    for name, (expressions, text) in TROUBLE.items():
        put("regressions/tokenizer", name, json.dumps(tokenizer(sequence("pretokenizers", *map(split, expressions)))), text)
        for expression in expressions:
            put("regressions/expressions", name + str(expressions.index(expression)), expression, text)
    # Doubles the text at each step: exhausts memory, from a file of 3 kB.
    growth = [replace({"String": "a"}, "aa")] * 40
    put("regressions/tokenizer", "growth", json.dumps(tokenizer(None, sequence("normalizers", *growth))), "a")


def make_expressions():
    expressions = [r"'s|'t|'re| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+", r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}", r"model\.layers\.(0|1)\..*",
                   r"(?<=a)b|(?<!a)c", r"(?:ab)*+x?", r"\bword\b", "[[:alpha:]&&[^a-f]]+", r"(a)(b)\2\1", r"x*", r"(?<name>a|b)\k<name>", r"\h+|\R|\X", r"\A.*\z"]
    for number, expression in enumerate(expressions):
        put("seeds/expressions", str(number), expression, "model.layers.0.mlp it's a word, 1234 abba \u00e9\U0001f600\r\n  x")


def make_rules():
    names = "model.layers.0.mlp.down_proj", "model.layers.10.self_attn.q_proj", "lm_head"
    rules = names[0] + "=bits:8,group-size:64,sym:false", r"re:model\.layers\.\d+\.mlp\..*=bits:3", r"re:.*(q|k)_proj$=group_size:-1"
    for number, (rule, name) in enumerate(zip(rules, names)):
        put("seeds/rules", str(number), rule, names[number - 1], name)
        put("seeds/rules", "skip" + str(number), rule, "re:.*layers.(0|1)[.].*", name)


# --- GGUF ------------------------------------------------------------------------------------------------------------------

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
FORMATS = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "B", U64: "Q", I64: "q", F64: "d"}
BLOCKS = {0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 10: (256, 84), 11: (256, 110), 12: (256, 144),
          13: (256, 176), 14: (256, 210), 16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82),
          23: (256, 136), 29: (256, 56), 30: (1, 2), 34: (256, 54), 35: (256, 66), 39: (32, 17), 40: (64, 36), 42: (64, 18)}  # ggml type -> elements and bytes of a block


def string(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def gguf_value(kind, value):
    if kind == STRING:
        return string(value)
    if kind == ARRAY:
        element, values = value
        return struct.pack("<IQ", element, len(values)) + b"".join(gguf_value(element, v) for v in values)
    return struct.pack("<" + FORMATS[kind], value)


def gguf(metadata, tensors=(), alignment=32):
    """metadata: key -> (kind, value); tensors: name -> (ggml type, shape outermost first, bytes)"""
    tensors = dict(tensors)
    out = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    for key, (kind, value) in metadata.items():
        out += string(key) + struct.pack("<I", kind) + gguf_value(kind, value)
    data = b""
    for name, (kind, shape, content) in tensors.items():
        out += string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *reversed(shape), kind, len(data))
        data += content + b"\0" * (-len(content) % alignment)
    return out + b"\0" * (-len(out) % alignment) + data


def gguf_model(arch, **changes):
    hidden, intermediate, vocabulary, heads, kv_heads, head_dim = 32, 32, 16, 2, 1, 16
    metadata = {"general.architecture": (STRING, arch)}
    for key, value in {"attention.head_count": heads, "attention.head_count_kv": kv_heads, "embedding_length": hidden, "feed_forward_length": intermediate,
                       "block_count": 1, "context_length": 64, "attention.key_length": head_dim}.items():
        metadata[f"{arch}.{key}"] = (U32, value)
    metadata[f"{arch}.attention.layer_norm_rms_epsilon"] = (F32, 1e-5)
    metadata.update({f"{arch}.{key}": value for key, value in changes.items()})

    def tensor(kind, *shape):
        elements, size = BLOCKS[kind]
        count = 1
        for extent in shape:
            count *= extent
        small = b"".join(struct.pack("<e", random.uniform(-1, 1)) for _ in range(count)) if kind == 1 else noise(count // elements * size)
        return kind, list(shape), small

    tensors = {"token_embd.weight": tensor(1, vocabulary, hidden), "output_norm.weight": tensor(1, hidden)}
    for name, value in {"attn_norm": tensor(1, hidden), "ffn_norm": tensor(1, hidden), "attn_q": tensor(1, heads * head_dim, hidden),
                        "attn_k": tensor(1, kv_heads * head_dim, hidden), "attn_v": tensor(1, kv_heads * head_dim, hidden), "attn_output": tensor(1, hidden, heads * head_dim),
                        "ffn_gate": tensor(2, intermediate, hidden), "ffn_up": tensor(8, intermediate, hidden), "ffn_down": tensor(6, hidden, intermediate)}.items():
        tensors[f"blk.0.{name}.weight"] = value
    if arch == "qwen2":
        for name, size in (("q", heads * head_dim), ("k", kv_heads * head_dim), ("v", kv_heads * head_dim)):
            tensors[f"blk.0.attn_{name}.bias"] = tensor(1, size)
    if arch == "qwen3":
        for name in "q", "k":
            tensors[f"blk.0.attn_{name}_norm.weight"] = tensor(1, head_dim)
    return metadata, tensors


TOKENS = ["<unk>", "<s>", "</s>", "\u2581", "a", "b", "ab", "\u2581ab", "abc", "c", "<0x41>", "H", "e", "l", "o"]
VOCABULARY = {"tokenizer.ggml.model": (STRING, "llama"), "tokenizer.ggml.tokens": (ARRAY, (STRING, TOKENS)),
              "tokenizer.ggml.scores": (ARRAY, (F32, [-float(i) for i in range(len(TOKENS))])), "tokenizer.ggml.token_type": (ARRAY, (I32, [2, 3, 3] + [1] * 7 + [6] + [1] * 4)),
              "tokenizer.ggml.bos_token_id": (U32, 1), "tokenizer.ggml.eos_token_id": (U32, 2), "tokenizer.ggml.unknown_token_id": (U32, 0),
              "tokenizer.ggml.add_bos_token": (BOOL, 1), "tokenizer.ggml.add_space_prefix": (BOOL, 1), "tokenizer.chat_template": (STRING, "{{x}}")}


def make_gguf():
    seed = "seeds/gguf"
    for kind, (elements, size) in BLOCKS.items():
        put(seed, f"type{kind}", gguf({"general.alignment": (U32, 32), "x": (ARRAY, (U8, [1, 2]))}, {"t": (kind, [2, elements], noise(2 * size))}))
    every = {f"a{kind}": (kind, 1) for kind in FORMATS} | {f"r{kind}": (ARRAY, (kind, [1, 0])) for kind in FORMATS}
    put(seed, "metadata", gguf(every | {"s": (STRING, "xy"), "rs": (ARRAY, (STRING, ["q", "w"]))}))
    for arch in "llama", "qwen2", "qwen3":
        put(seed, "model_" + arch, gguf(*gguf_model(arch)))
    metadata, tensors = gguf_model("llama")
    put(seed, "llama3", gguf(metadata, tensors | {"rope_freqs.weight": (0, [8], struct.pack("<8f", *[1] * 8))}))
    put(seed, "linear", gguf(*gguf_model("llama", **{"rope.scaling.type": (STRING, "linear"), "rope.scaling.factor": (F32, 2.0)})))
    put(seed, "vocabulary", gguf(metadata | VOCABULARY, tensors))

    bad = "regressions/gguf"
    # Numbers that no integer can hold but that were converted to one.
    put(bad, "block_count_1e300", gguf(*gguf_model("llama", block_count=(F64, 1e300))))
    # A loop over nonexistent heads: minutes.
    put(bad, "head_count_1e8", gguf(*gguf_model("llama", **{"attention.head_count": (U32, 10**8), "attention.head_count_kv": (U32, 10**8)})))
    # A type of unknown size may claim any shape, and memory was allocated for it.
    put(bad, "unknown_type", gguf(metadata, tensors | {"blk.0.ffn_up.weight": (20, [2**40, 2**10], b"\0" * 32)}))


def make_gguf_tokenizer():
    put("seeds/gguf_tokenizer", "llama", gguf(VOCABULARY))
    for pre in "gpt-2", "smollm", "llama-bpe", "qwen2", "default", "falcon", "gpt-4o", "deepseek-llm", "deepseek-v3", "kimi-k2":
        tokens = ["a", "b", "ab", "\u0120", "\u0120a", "H", "e", "l", "o", "<s>"]
        put("seeds/gguf_tokenizer", pre, gguf({
            "tokenizer.ggml.model": (STRING, "gpt2"), "tokenizer.ggml.pre": (STRING, pre), "tokenizer.ggml.tokens": (ARRAY, (STRING, tokens)),
            "tokenizer.ggml.token_type": (ARRAY, (I32, [1] * 9 + [3])), "tokenizer.ggml.merges": (ARRAY, (STRING, ["a b", "\u0120 a"])),
            "tokenizer.ggml.bos_token_id": (U32, 9), "tokenizer.ggml.add_bos_token": (BOOL, 1)}))
    # Every split of a token was looked up as a separate string: minutes for a megabyte.
    long = dict(VOCABULARY, **{"tokenizer.ggml.tokens": (ARRAY, (STRING, TOKENS[:-1] + ["ab" * 500000]))})
    put("regressions/gguf_tokenizer", "long_token", gguf(long))


# --- the rest --------------------------------------------------------------------------------------------------------------


def make_quantized():
    """config.json, the header of model.safetensors without places, bytes that fill the tensors."""

    def folder(tensors, architecture="LlamaForCausalLM", key="quantization_config", **quantization):
        config = json.loads((DEMO / "config.json").read_text())
        config.update(hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, head_dim=16, vocab_size=16,
                      architectures=[architecture], tie_word_embeddings=True, **{key: quantization})
        header = {"model.embed_tokens.weight": {"dtype": "BF16", "shape": [16, 32]}, "model.norm.weight": {"dtype": "BF16", "shape": [32]}}
        prefix = "model.layers.0."
        for norm in "input_layernorm", "post_attention_layernorm":
            header[prefix + norm + ".weight"] = {"dtype": "F16", "shape": [32]}
        for name, rows, cols in (("self_attn.q_proj", 32, 32), ("self_attn.k_proj", 16, 32), ("self_attn.v_proj", 16, 32), ("self_attn.o_proj", 32, 32),
                                 ("mlp.gate_proj", 64, 32), ("mlp.up_proj", 64, 32), ("mlp.down_proj", 32, 64)):
            for part, (dtype, *shape) in tensors(rows, cols).items():
                header[f"{prefix}{name}.{part}"] = {"dtype": dtype, "shape": shape}
        if architecture.startswith("Qwen2"):
            for name, rows in ("q", 32), ("k", 16), ("v", 16):
                header[f"{prefix}self_attn.{name}_proj.bias"] = {"dtype": "F32", "shape": [rows]}
        return json.dumps(config), json.dumps(header)

    def words(count, bits):
        return -(-count * bits // 32)

    def gptq(bits, group_size, architecture="LlamaForCausalLM", layout="gptq"):
        def tensors(rows, cols):
            groups = 1 if group_size == -1 else -(-cols // group_size)
            parts = {"qweight": ("I32", words(cols, bits), rows), "qzeros": ("I32", groups, words(rows, bits)), "scales": ("F16", groups, rows)}
            return parts if bits == 3 else dict(parts, g_idx=("I32", cols))  # the group index may be left out

        return folder(tensors, architecture, **dict(QUANTIZATION, bits=bits, group_size=group_size, checkpoint_format=layout, format=layout))

    def compressed(layout, args, tensors):
        return folder(tensors, quant_method="compressed-tensors", format=layout, config_groups={"group_0": {"targets": ["Linear"], "weights": args}})

    for bits, group_size in (4, 32), (4, -1), (2, 16), (3, 32), (8, 32):
        put("seeds/quantized", f"{bits}_{group_size}", *gptq(bits, group_size), b"\0\0\0\0")
    put("seeds/quantized", "filled", *gptq(4, 32), b"\1\0\0\0\0\0")
    put("seeds/quantized", "qwen2", *gptq(4, 32, "Qwen2ForCausalLM", "gptq_v2"), b"\0\0")
    integers, floats = {"num_bits": 4, "type": "int", "symmetric": False, "group_size": 16}, {"num_bits": 4, "type": "float", "group_size": 16}
    others = {
        "awq": folder(lambda n, k: {"qweight": ("I32", k, n // 8), "qzeros": ("I32", k // 16, n // 8), "scales": ("F16", k // 16, n)},
                      quant_method="awq", bits=4, group_size=16, zero_point=True, version="gemm"),
        "mlx": folder(lambda n, k: {"weight": ("U32", n, k // 8), "scales": ("F16", n, k // 32), "biases": ("F16", n, k // 32)}, key="quantization", bits=4, group_size=32),
        "bitsandbytes": folder(lambda n, k: {"weight": ("U8", n * k // 2, 1), "weight.absmax": ("F32", n * k // 32), "weight.quant_map": ("F32", 16),
                                             "weight.quant_state.bitsandbytes__nf4": ("U8", 70)},
                               quant_method="bitsandbytes", load_in_4bit=True, bnb_4bit_quant_type="nf4"),
        "pack_quantized": compressed("pack-quantized", integers, lambda n, k: {"weight_packed": ("I32", n, k // 8), "weight_scale": ("F16", n, k // 16), "weight_shape": ("I64", 2),
                                                                               "weight_zero_point": ("I32", n // 8, k // 16), "weight_g_idx": ("I32", k)}),
        "int_quantized": compressed("int-quantized", integers, lambda n, k: {"weight": ("I8", n, k), "weight_scale": ("BF16", n, k // 16), "weight_zero_point": ("I8", n, k // 16)}),
        "float_quantized": compressed("float-quantized", floats, lambda n, k: {"weight": ("F8_E4M3", n, k), "weight_scale": ("BF16", n, 1)}),
        "nvfp4": compressed("nvfp4-pack-quantized", floats, lambda n, k: {"weight_packed": ("U8", n, k // 2), "weight_scale": ("F8_E4M3", n, k // 16), "weight_global_scale": ("F32", 1)}),
        "mxfp4": compressed("mxfp4-pack-quantized", floats, lambda n, k: {"weight_packed": ("U8", n, k // 2), "weight_scale": ("U8", n, k // 32)}),
    }
    for name, files in others.items():
        for filling in b"\0", b"\0\0\x80\x3f", b"\xff\x12\x7f":
            put("seeds/quantized", f"{name}_{len(filling)}", *files, filling)


def make_hessian():
    def hessian(n, scalar, tokens=10.0, sequences=2.0, largest=3.0):
        rows = [b"".join(struct.pack("<f" if scalar == 4 else "<d", 2.0 + i if i == j else 0.25) for j in range(i, n)) for i in range(n)]
        counts = struct.pack("<ddd", tokens, sequences, largest)
        checksum = 0xCBF29CE484222325
        for block in [counts] + rows:
            for at in range(0, len(block), 8):
                word = int.from_bytes(block[at : at + 8].ljust(8, b"\0"), "little")
                checksum = (checksum ^ word) * 0x100000001B3 % 2**64
        return struct.pack("<8sIIQ", b"GPTQHESS", 3, scalar, n) + counts + struct.pack("<QQ", checksum, 0) + b"".join(rows)

    for n in 1, 2, 3, 8:
        for scalar in 4, 8:
            put("seeds/hessian", f"{n}_{scalar}", hessian(n, scalar))


def make_calibration():
    texts = b"\0The quick ab abab\n", b'\1{"text":"abab a"}\n\n{"text":"b\\u00e9"}\n', b'\0{"text":"a"}\n{"text":"b"}', b"\0[1, 2, 3]\n4 5\n", b'\1{"a":[[[1]]],"text":"x"}\r\n'
    for number, text in enumerate(texts):
        put("seeds/calibration", str(number), text)


# --- dictionaries ----------------------------------------------------------------------------------------------------------

JSON_WORDS = ["{", "}", "[", "]", ":", ",", "null", "true", "false", "-1", "0", "0.5", "1e9", "1e308", "-1e300", "2147483647", "2147483648", "4294967296",
              "9223372036854775807", "18446744073709551615", '""', '"a"', r"\u0000", r"\ud800"]
EXPRESSION_WORDS = ["(?i:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?R)", r"\g<0>", "(a+)+$", ".*", "{1,3}", "{0,100000}", "++", "*?", "|", "$", "^", r"\s+(?!\S)", r"\p{L}+", r"\p{N}", r"\K", r"\C", r"\X",
                    r"\R", r"\b", r"\B", r"\A", r"\z", r"\Q", r"\E", r"\1", r"\k<n>", "(?<n>", "[^", "&&", "[[:alpha:]]", r"\x{10ffff}", "\u2581", "\u0120", "re:"]


def make_dictionaries():
    def strings(*headers):
        found = set()
        for header in headers:
            for path in (SOURCE / "include/gptq").glob(header):
                found |= {word for word in re.findall(r'"((?:[^"\\\n]|\\.)*)"', path.read_text()) if 0 < len(word) <= 48 and " " not in word.strip()}
        return found

    config, tokens = strings("model/config.hpp", "model/model_files.hpp"), strings("model/tokenizer.hpp", "model/tokenizer/*.hpp")
    vocabulary = strings("model/gguf_tokenizer.hpp", "model/gguf_pre_tokenizer.hpp")
    words = {
        "calibration": JSON_WORDS + ["text", "\u0120"],
        "config": config | set(JSON_WORDS),
        "expressions": EXPRESSION_WORDS,
        "gguf": strings("model/gguf_model.hpp", "model/model_files.hpp", "io/gguf.hpp") | vocabulary,
        "gguf_tokenizer": vocabulary | strings("model/model_files.hpp"),
        "hessian": ["GPTQHESS"],
        "quantized": config | strings("model/layer_weights.hpp", "model/format/*.hpp", "model/format/*/*.hpp", "io/dtype.hpp") | set(JSON_WORDS),
        "rules": EXPRESSION_WORDS + ["=", "bits:", "group-size:", "group_size:", "sym:", "true", "false", "model.layers.0.", "mlp.down_proj", "\x1e"],
        "safetensors": strings("io/dtype.hpp", "io/safetensors.hpp") | set(JSON_WORDS),
        "tokenizer": tokens | set(JSON_WORDS) | set(EXPRESSION_WORDS),
    }
    quoted = lambda word: '"' + "".join(chr(b) if 32 <= b < 127 and b not in b'"\\' else f"\\x{b:02x}" for b in word.encode()) + '"\n'
    for target, list_of_words in words.items():
        put(".", target + ".dict", "".join(map(quoted, sorted(set(list_of_words)))))


for make in (make_safetensors, make_config, make_tokenizers, make_expressions, make_rules, make_gguf, make_gguf_tokenizer, make_quantized, make_hessian, make_calibration,
             make_dictionaries):
    make()
