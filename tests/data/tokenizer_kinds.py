# SPDX-License-Identifier: MIT
"""The kinds of tokenizers that models have, trained with the tokenizers library on generated text: for make_fixtures.py and
../tokenizers/compare.py."""

import json
import pathlib
import subprocess
import sys

from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

HERE = pathlib.Path(__file__).parent
MARK = "\u2581"

CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
REST = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*" + REST
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
QWEN35 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*" + REST
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
O200K = (rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{CONTRACTIONS}?|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*{CONTRACTIONS}?"
         r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*" + REST)
TEKKEN = rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*" + REST
DEEPSEEK3 = r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*""" + REST
BLOOM = " ?[^(\\s|[.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c])]+"
ASIAN, KANA = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"
# The letters with case of DeepSeek-V2, without the rarer ranges.
CASED = "A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0370-\u0373\u0386\u0388-\u038a\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f"


def generated_text(size=60000):
    return subprocess.run([sys.executable, HERE / "../../examples/demo_model/generate_text.py", "--seed", "9", "--bytes", str(size)],
                          capture_output=True, text=True, check=True).stdout


def cut(pattern, behavior="isolated", invert=False):
    return pre_tokenizers.Split(Regex(pattern), behavior, invert)


def sequence(*steps):
    return pre_tokenizers.Sequence(list(steps))


def replace_spaces():
    return normalizers.Replace(" ", MARK)


WORDS = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
DIGIT = pre_tokenizers.Digits(individual_digits=True)

# Keys: pre and normalizer; bos: put before each text; model: "bytes" (default), "marks" (BPE with byte fallback) or "unigram".
KINDS = {
    "gemma": dict(model="marks", pre=pre_tokenizers.Split(" ", "merged_with_previous"), normalizer=replace_spaces(), bos=True),
    "mistral_v3": dict(model="marks", pre=pre_tokenizers.Metaspace(MARK, "always", False), bos=True),
    "falcon": dict(pre=sequence(pre_tokenizers.Punctuation("contiguous"), WORDS, pre_tokenizers.Digits(individual_digits=False),
                                cut("[0-9][0-9][0-9]"))),
    "o200k": dict(pre=sequence(cut(O200K), BYTES)),
    "tekken": dict(pre=sequence(cut(TEKKEN), BYTES), ignore_merges=True, bos=True),
    "deepseek_v2": dict(pre=sequence(cut("[\r\n]"), cut(f"\\s?[{CASED}]+"), cut("\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+"),
                                     cut("\\s+$"), cut(ASIAN), DIGIT, BYTES), bos=True),
    "deepseek_v3": dict(pre=sequence(cut(r"\p{N}{1,3}"), cut(KANA), cut(DEEPSEEK3), BYTES), bos=True),
    "bloom": dict(pre=sequence(cut(BLOOM), BYTES)),
    "qwen35": dict(pre=sequence(cut(QWEN35), BYTES), normalizer=normalizers.NFC()),
    "glm4": dict(pre=sequence(cut(LLAMA3), BYTES), bos="[gMASK] <sop>"),
    "command_r": dict(pre=sequence(DIGIT, WORDS), normalizer=normalizers.NFC(), bos=True),
    "unigram": dict(model="unigram", pre=pre_tokenizers.Metaspace(MARK, "always", True), normalizer=normalizers.NFKC()),
    "unigram_bytes": dict(model="unigram", byte_fallback=True, pre=sequence(pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(MARK, "always", True)),
                          normalizer=normalizers.Sequence([normalizers.Strip(), normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase()])),
}


def train_unigram(kind, text, size):
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer, tokenizer.pre_tokenizer = kind["normalizer"], kind["pre"]
    special = ["<unk>", "<s>", "<|end|>"] + ([f"<0x{b:02X}>" for b in range(256)] if kind.get("byte_fallback") else [])
    tokenizer.train_from_iterator(text.split("\n"), trainers.UnigramTrainer(vocab_size=size, special_tokens=special, unk_token="<unk>", max_piece_length=10,
                                                                            show_progress=False))
    data = json.loads(tokenizer.to_str())
    data["added_tokens"] = [t for t in data["added_tokens"] if not t["content"].startswith("<0x")]
    data["model"]["byte_fallback"] = kind.get("byte_fallback", False)
    data["model"]["vocab"] = [[token, round(score, 4)] for token, score in data["model"]["vocab"]]
    return Tokenizer.from_str(json.dumps(data))


def train(kind, text, size=500):
    model_kind = kind.get("model", "bytes")
    if model_kind == "unigram":
        tokenizer = train_unigram(kind, text, size)
    else:
        marks = model_kind == "marks"
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True) if marks
                              else models.BPE(ignore_merges=kind.get("ignore_merges", False)))
        if kind.get("normalizer"):
            tokenizer.normalizer = kind["normalizer"]
        tokenizer.pre_tokenizer = kind["pre"]
        # For training alone: a text that is one word would be learned by heart.
        if marks:
            tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(MARK, "never", True)
        special = (["<unk>", "<s>"] if marks else ["<s>"]) + ["<|end|>", "[gMASK]", "<sop>"] + ([f"<0x{b:02X}>" for b in range(256)] if marks else [])
        tokenizer.train_from_iterator(text.split("\n") if marks else [text], trainers.BpeTrainer(
            vocab_size=size + (100 if marks else 0), special_tokens=special, initial_alphabet=[] if marks else pre_tokenizers.ByteLevel.alphabet(),
            max_token_length=12, show_progress=False))
        if marks:
            tokenizer.pre_tokenizer = kind["pre"]
            data = json.loads(tokenizer.to_str())  # byte tokens are not special
            data["added_tokens"] = [t for t in data["added_tokens"] if not t["content"].startswith("<0x")]
            data["model"]["ignore_merges"] = False
            tokenizer = Tokenizer.from_str(json.dumps(data))
            tokenizer.add_tokens([AddedToken(t, normalized=False) for t in ["\n\n", "\n\n\n", MARK * 2, MARK * 4, "<table>"]])
    tokenizer.add_tokens([AddedToken("<mask>", lstrip=True)])
    if kind.get("bos"):
        names = kind["bos"] if isinstance(kind["bos"], str) else "<s>"
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{names} $A", pair=f"{names} $A {names} $B", special_tokens=[(name, tokenizer.token_to_id(name)) for name in names.split()])
    return tokenizer
