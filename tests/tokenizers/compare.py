#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compares the tokenizer with the tokenizers library, and rules with Python's re, on random input.

compare.py ENCODE [--expressions N] [--tokens N] [--components N] [--kinds N] [--pre N] [--folders N] [--rules N] [--seed S]
compare.py ENCODE --files FILE.gguf|TOKENIZER.json... [--kinds N]   the same texts as --kinds, with vocabularies of models
compare.py ENCODE --characters            every code point under every property that tokenizers use
compare.py ENCODE --speed FILE TOKENIZER.json...

ENCODE is the program gptq_encode (ninja gptq_encode); pip install tokenizers. Ends with 1 if anything differs.
What the library refuses or fails on, and what gptq refuses with a message, is counted but is not a difference."""

import argparse
import json
import os
import random
import re
import resource
import subprocess
import sys
import time
import unicodedata
import warnings

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RUST_BACKTRACE"] = "0"
import tokenizers  # noqa: E402

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../data"))

warnings.simplefilter("ignore")


class Ours:
    def __init__(self, program):
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="ascii")

    def ask(self, question):
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.process.args} died on {json.dumps(question)[:2000]}")
        return json.loads(line)


class Count:
    def __init__(self, name):
        self.name, self.same, self.different, self.ours_refused, self.theirs_refused = name, 0, 0, 0, 0
        self.reasons = {}

    def report(self):
        print(f"{self.name}: {self.same} the same, {self.different} different; refused by gptq alone: {self.ours_refused}, "
              f"refused or failed in the library: {self.theirs_refused}")
        for reason, n in sorted(self.reasons.items(), key=lambda x: -x[1])[:12]:
            print(f"    {n} x {reason}")


def library(config):
    try:
        return tokenizers.Tokenizer.from_str(json.dumps(config))
    except BaseException:
        return None


def encode(tokenizer, text):
    try:
        return tokenizer.encode(text).ids
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return None


def compare(ours, config, texts, count):
    answer = ours.ask({"tokenizer": config})
    if isinstance(answer, dict) and "leaves nothing" in answer["error"]:
        count.ours_refused += len(texts)  # the library may never end
        return
    theirs = library(config)
    for text in texts:
        expected = encode(theirs, text) if theirs else None
        got = ours.ask({"text": text}) if answer == "ready" else answer
        if expected is None:
            count.theirs_refused += 1
        elif isinstance(got, dict):
            count.ours_refused += 1
            reason = re.sub(r'(regular expression ).*?( is wrong| fails| takes| finds| cuts)', r'\1...\2', got["error"], flags=re.S)
            reason = re.sub(r'at ".*?"', "at ...", reason, flags=re.S)[:150]
            count.reasons[reason] = count.reasons.get(reason, 0) + 1
        elif got == expected:
            count.same += 1
        else:
            count.different += 1
            if count.different <= 12:
                print("DIFFERENT", json.dumps({"tokenizer": config | {"model": "..."}, "text": text, "library": expected, "gptq": got}))


# A vocabulary of bytes. With a space put before every piece, ids show all splits; a space in the
# text merges with what precedes it.
def byte_alphabet():
    printable = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    table, n = {}, 0
    for b in range(256):
        table[b] = chr(b) if b in printable else chr(256 + n)
        n += b not in printable
    return table


def byte_model():
    alphabet = byte_alphabet()
    vocabulary = {c: i for i, c in enumerate(sorted(alphabet.values()))}
    merges = []
    for c in list(vocabulary):
        if c != alphabet[32]:
            merges.append([c, alphabet[32]])
    for pair in merges + [["a", "b"], ["b", "c"], ["ab", "c"], ["1", "2"]]:
        vocabulary.setdefault("".join(pair), len(vocabulary))
    return {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
            "fuse_unk": False, "byte_fallback": False, "vocab": vocabulary,
            "merges": merges + [["a", "b"], ["b", "c"], ["ab", "c"], ["1", "2"]]}


def tokenizer_json(model, **parts):
    config = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None, "pre_tokenizer": None,
              "post_processor": None, "decoder": None, "model": model}
    config.update(parts)
    return config


SHOW_CUTS = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": False}
ALPHABET = list("aabbcABC012 _-'.,!?[]{}()^$|\\/&~#<>\"\t") + ["\n", "\r\n", "\r", "\v", "\f", "é", "e\u0301", "ß", "ſ", "K", "İ", "ı", "Σσς",
            "ﬀ", "ǆ", "\u00a0", "\u3000", "\u0085", "\u2028", "\u200b", "\u200d", "\u200c", "\u1680", "日本", "ひら", "カタ", "한국", "\u1112\u1161\u11ab",
            "٣", "Ⅻ", "½", "²", "१", "👍", "👨\u200d👩", "🇩🇪", "\u0483", "\u093f", "क\u094d", "−", "€", "𝒳", "\U0001d7d9", "\ufb01", "aa", "ab", "  ",
            "12", "\u00ad", "\ufeff", "\u0000", "\x1c", "\x1f", "'s", "'RE", "don't", "abc", "Å", "\u212b", "\u1e9b\u0323"]


def random_text(rng, most=24):
    return "".join(rng.choice(ALPHABET) for _ in range(rng.randint(0, most)))


PROPERTIES = ["L", "Lu", "Ll", "Lt", "Lm", "Lo", "N", "Nd", "Nl", "No", "M", "Mn", "Mc", "P", "Pd", "Ps", "Po", "S", "Sm", "Sc", "So", "Z", "Zs",
              "Zl", "C", "Cc", "Cf", "Han", "Hiragana", "Katakana", "Latin", "Greek", "Cyrillic", "Hangul", "Devanagari", "Alphabetic",
              "Alpha", "Alnum", "Digit", "Space", "White_Space", "Upper", "Lower", "Punct", "Word", "XDigit", "Emoji", "Any", "ASCII",
              "Letter", "Uppercase_Letter", "IDStart", "Extended_Pictographic"]
POSIX = ["alpha", "alnum", "digit", "space", "upper", "lower", "punct", "word", "xdigit", "blank", "cntrl", "graph", "print"]
ESCAPES = ["\\d", "\\D", "\\w", "\\W", "\\s", "\\S", "\\h", "\\H"]


def literal(rng):
    c = rng.choice(["a", "b", "c", "A", "B", "0", "1", "2", " ", " ", "é", "ß", "日", "\\n", "\\r", "\\t", "\\.", "\\-", "\\$", "'", "_", "-", "\\\\",
                    "\\x{3042}", "\\u3042", "K", "ſ", "#", "<", "\\x41", "\\101", "\\f", "\\v", "\\e", "\\/", "\\~", ",", ":", "=", "!", "İ",
                    "ﬀ", "\\p{^L}", "\\P{N}", "&", "~"])
    return c


def class_item(rng, depth):
    k = rng.random()
    if k < 0.3:
        return rng.choice(["a", "b", "A", "0", "1", "é", "ß", "日", " ", "\\n", "\\r", "\\]", "\\[", "\\-", "\\\\", "_", "'", ".", "$", "^", "?", "\\&"])
    if k < 0.45:
        return rng.choice(["a-c", "A-Z", "0-9", "0-2", "à-ÿ", "一-龥", "\\x{300}-\\x{36f}", "!-/", "\\t-\\r", "ぁ-ん", "a-b"])
    if k < 0.65:
        return rng.choice(ESCAPES)
    if k < 0.8:
        return f"\\{rng.choice('pP')}{{{rng.choice(['', '', '^'])}{rng.choice(PROPERTIES)}}}"
    if k < 0.88:
        return f"[:{rng.choice(['', '', '^'])}{rng.choice(POSIX)}:]"
    if depth > 0:
        return char_class(rng, depth - 1)
    return rng.choice(["-", "b"])


def char_class(rng, depth=2):
    items = "".join(class_item(rng, depth) for _ in range(rng.randint(1, 4)))
    if rng.random() < 0.25:
        items += "&&" + "".join(class_item(rng, depth) for _ in range(rng.randint(1, 3)))
    return "[" + rng.choice(["", "", "^"]) + items + "]"


def atom(rng, depth):
    k = rng.random()
    if k < 0.33:
        return "".join(literal(rng) for _ in range(rng.choice([1, 1, 1, 2])))
    if k < 0.5:
        return char_class(rng)
    if k < 0.6:
        return rng.choice(ESCAPES + ["."])
    if k < 0.68:
        return f"\\{rng.choice('pP')}{{{rng.choice(['', '', '^'])}{rng.choice(PROPERTIES)}}}"
    if k < 0.75:
        return rng.choice(["\\b", "\\B", "^", "$", "\\A", "\\z", "\\Z", "\\G", "\\R", "\\X", "\\O", "\\N", "\\K", "\\y", "\\Y"])
    if depth == 0:
        return literal(rng)
    inner = expression(rng, depth - 1)
    return rng.choice(["({})", "(?:{})", "(?:{})", "(?i:{})", "(?i:{})", "(?={})", "(?!{})", "(?<={})", "(?<!{})", "(?>{})", "(?m:{})", "(?x:{})", "(?-i:{})",
                       "(?<n>{})", "(?im:{})", "(?W:{})", "(?S:{})", "(?D:{})", "(?P:{})", "(?~{})"]).format(inner)


def quantifier(rng):
    return rng.choice(["", "", "", "", "*", "+", "?", "*?", "+?", "??", "++", "*+", "?+", "{2}", "{1,3}", "{2,}", "{,2}", "{1,2}?", "{2}?", "{1,3}+", "{0}",
                       "{2,}?", "{3,1}", "{,}", "{2}{2}", "**"])


def branch(rng, depth):
    return "".join(atom(rng, depth) + quantifier(rng) for _ in range(rng.choice([1, 1, 2, 2, 3])))


KNOWN = [r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
         r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
         r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?"
         r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|"
         r"\s*[\r\n]+|\s+(?!\S)|\s+",
         r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}&&[^\p{Han}]]+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+", r"(?=(\d{3})+(?!\d))", r" ?[^(\s|[.,!?…。，、।۔،])]+",
         r"[一-龥぀-ゟ゠-ヿ]+", r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|"
         r"\s+(?!\S)|\s+", r"$", r"^", r"\b", r"(?<=[a-z])(?=[A-Z])", r"\d", r"[0-9][0-9][0-9]", ""]


def expression(rng, depth=2):
    if depth == 2 and rng.random() < 0.05:
        return rng.choice(KNOWN)
    return "|".join(branch(rng, depth) for _ in range(rng.choice([1, 1, 2, 3])))


BEHAVIORS = ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]


def split(rng, pattern=None):
    if pattern is None:
        pattern = {"String": random_text(rng, 2)} if rng.random() < 0.15 else {"Regex": expression(rng)}
    return {"type": "Split", "pattern": pattern, "behavior": rng.choice(BEHAVIORS), "invert": rng.random() < 0.25}


def fuzz_expressions(ours, n, seed):
    rng, count, model = random.Random(seed), Count("expressions x behaviours x texts"), byte_model()
    while count.same + count.different < n:
        steps = [split(rng)]
        if rng.random() < 0.2:
            steps.append(split(rng))
        config = tokenizer_json(model, pre_tokenizer={"type": "Sequence", "pretokenizers": steps + [SHOW_CUTS]})
        compare(ours, config, [random_text(rng) for _ in range(4)], count)
    count.report()
    return count


NORMALIZERS = [None, None, {"type": "NFC"}, {"type": "NFD"}, {"type": "NFKC"}, {"type": "NFKD"}, {"type": "Prepend", "prepend": "▁"},
               {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
               {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
               {"type": "Replace", "pattern": {"Regex": "(?=b)"}, "content": "x"},
               {"type": "Replace", "pattern": {"String": "a"}, "content": ""},
               {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
               {"type": "Sequence", "normalizers": [{"type": "NFKC"}, {"type": "Replace", "pattern": {"Regex": "\\s"}, "content": "_"}]},
               {"type": "Lowercase"}, {"type": "StripAccents"}, {"type": "ByteLevel"},
               {"type": "Strip", "strip_left": True, "strip_right": True}, {"type": "Strip", "strip_left": False, "strip_right": True},
               {"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "StripAccents"}, {"type": "Lowercase"}]}]


def added_tokens(rng):
    contents = ["<a>", "<a>b", "<", " b", "ab", "a b", "é", "e\u0301", "日", "  ", "\n", "<s>", "</s>", "ß", "_", "12", "1", "'s", "▁", "▁a", "Å", "ﬀ", "\u00a0", " ", "b"]
    tokens, used = [], []
    for content in rng.sample(contents, rng.randint(1, 5)):
        token = {"id": 0, "content": content, "single_word": rng.random() < 0.4, "lstrip": rng.random() < 0.4, "rstrip": rng.random() < 0.4,
                 "normalized": rng.random() < 0.5, "special": rng.random() < 0.5}
        tokens.append(token)
        used.append(content)
    return tokens, used


def small_model(rng):
    characters = sorted(set("".join(ALPHABET)) | set("▁x"))
    known = [c for c in characters if rng.random() < 0.8]
    vocabulary = {c: i for i, c in enumerate(known)}
    def add(token):
        vocabulary.setdefault(token, len(vocabulary))
    if rng.random() < 0.5:
        add("<unk>")
    if rng.random() < 0.6:
        for b in range(256):
            if rng.random() < rng.choice([1, 1, 0.9]):
                add(f"<0x{b:02X}>")
    merges = []
    for _ in range(rng.randint(0, 60)):
        tokens = list(vocabulary)
        pair = [rng.choice(tokens), rng.choice(tokens)] if rng.random() < 0.5 else rng.choice([["a", "b"], ["b", "c"], ["a", "a"], ["▁", "a"], ["ab", "c"],
                                                                                                ["a", "bc"], ["▁", "▁"], ["1", "2"], ["日", "本"]])
        if all(p in vocabulary for p in pair) and len("".join(pair)) < 8 and not any(p.startswith("<") for p in pair):
            add("".join(pair))
            merges.append(pair)
    if rng.random() < 0.3:
        merges += rng.sample(merges, min(2, len(merges)))
    return {"type": "BPE", "dropout": None, "unk_token": "<unk>" if "<unk>" in vocabulary and rng.random() < 0.8 else None,
            "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": rng.random() < 0.5, "byte_fallback": rng.random() < 0.6,
            "ignore_merges": rng.random() < 0.3, "vocab": vocabulary, "merges": merges}


def unigram_model(rng):
    characters = sorted(set("".join(ALPHABET)) | set("▁x"))
    tokens = [c for c in characters if rng.random() < 0.7] + ["<unk>"]
    if rng.random() < 0.5:
        tokens += [f"<0x{b:02X}>" for b in range(256) if rng.random() < rng.choice([1, 1, 0.95])]
    for _ in range(rng.randint(0, 80)):
        tokens.append("".join(rng.choice(["a", "b", "c", "ab", "▁", "▁a", "1", "日", "é", " ", rng.choice(tokens)]) for _ in range(rng.randint(1, 4)))[:8])
    if rng.random() < 0.1:
        tokens += rng.sample(tokens, 3)
    rng.shuffle(tokens)
    if rng.random() < 0.9:
        tokens = list(dict.fromkeys(tokens))
    score = rng.choice([lambda: -rng.random() * 12, lambda: -float(rng.randint(0, 5)), lambda: rng.random() * 40])
    return {"type": "Unigram", "unk_id": rng.choice([None, tokens.index("<unk>"), tokens.index("<unk>"), rng.randrange(len(tokens))]),
            "byte_fallback": rng.random() < 0.5, "vocab": [[token, score()] for token in tokens]}


def vocabulary(model):
    """Ids by token."""
    return model["vocab"] if model["type"] == "BPE" else {token: id for id, (token, _) in enumerate(model["vocab"])}


def number_tokens(tokens, vocabulary, following):
    """Gives tokens the same ids as the library does."""
    for token in tokens:
        if token["content"] in vocabulary:
            token["id"] = vocabulary[token["content"]]
        else:
            token["id"] = following
            following += 1


def pre_tokenizers(rng):
    def one():
        return rng.choice([
            {"type": "ByteLevel", "add_prefix_space": rng.random() < 0.5, "trim_offsets": True, "use_regex": rng.random() < 0.7},
            {"type": "Digits", "individual_digits": rng.random() < 0.5},
            {"type": "Punctuation", "behavior": rng.choice(BEHAVIORS)}, {"type": "Whitespace"}, {"type": "WhitespaceSplit"},
            {"type": "CharDelimiterSplit", "delimiter": rng.choice(" a日▁")},
            {"type": "Metaspace", "replacement": rng.choice("▁_"), "prepend_scheme": rng.choice(["always", "never", "first"]), "split": rng.random() < 0.6},
            split(rng, {"Regex": rng.choice(KNOWN)}), split(rng, {"String": rng.choice([" ", "a", "\\E", "a.b", "日", "", "\n\n", "[", "#"])})])
    k = rng.random()
    if k < 0.25:
        return None
    if k < 0.6:
        return one()
    return {"type": "Sequence", "pretokenizers": [one() for _ in range(rng.randint(1, 3))]}


def fuzz_tokens(ours, n, seed, name, parts):
    rng, count = random.Random(seed), Count(name)
    while count.same + count.different < n:
        model = small_model(rng) if rng.random() < 0.6 else unigram_model(rng) if parts and rng.random() < 0.5 else byte_model()
        tokens, used = added_tokens(rng)
        number_tokens(tokens, vocabulary(model), len(model["vocab"]))
        config = tokenizer_json(model, added_tokens=tokens, normalizer=rng.choice(NORMALIZERS),
                                pre_tokenizer=pre_tokenizers(rng) if parts else rng.choice([None, SHOW_CUTS]))
        texts = []
        for _ in range(12):
            text = ""
            for _ in range(rng.randint(0, 12)):
                text += rng.choice(used) if rng.random() < 0.35 else rng.choice(ALPHABET + [" ", " ", "a", "▁"])
            texts.append(text)
        if parts and rng.random() < 0.2:  # long words: parts of them, and the queue
            texts.append("".join(rng.choice(["a", "b", "c", "▁", "1", "日", "é", " a"]) for _ in range(rng.randint(60, 400))))
        compare(ours, config, texts, count)
    count.report()
    return count


MANY_LANGUAGES = ["日本語のテキストと漢字、そして「かな」。カタカナも！", "これは 12,345 円です（税込）。", "한국어 텍스트는 띄어쓰기를 합니다.", "Привет, мир! Ёлка в лесу №7.", "Ελληνικά κείμενα· ΟΔΟΣ οδός ΆΛΦΑ.",
                  "नमस्ते दुनिया, क्या हाल है?", "สวัสดีชาวโลก ๑๒๓", "مرحبا بالعالم، كيف الحال؟ ۱۲۳۴", "שלום עולם", "Füße, Größe, ÆØÅ, naïve café, Ǆǅǆ İstanbul ıssız", "中文文本没有空格，标点“这样”。1234万",
                  "HTTPServer getURL parseJSONDocument XMLHttpRequest's iPhone's McDONALD'S WE'LL", "x += y[0]->z; // ok?\n\tif (a && !b) {\r\n\t}\n", "https://example.org/a_b-c?d=1&e=%20#f", "1.000.000,00 € − 3×10⁻⁵ ≈ ½ Ⅷ ²",
                  "👍🏽 👨‍👩‍👧 🇩🇪 ✈️", "a\u0301e\u0300 \u1e9b\u0323 ﬁﬂ ㎏ ＡＢＣ", "line\n\n\n\nbreaks   and\u00a0spaces\u3000wide \t\t tabs", "═══════ ------ ====== ......", "<s> </s> <mask> <|end|> [gMASK]<sop> <table>\n\n"]


def kinds_text(rng, stories):
    """A text of a model's user: made up stories, languages, code, and what breaks tokenizers."""
    text = ""
    for _ in range(rng.choice([1, 1, 2, 3, 6, rng.choice([1, 40])])):
        k = rng.random()
        if k < 0.4:
            at = rng.randrange(len(stories) - 400)
            text += stories[at:at + rng.randint(1, 200)]
        elif k < 0.7:
            line = rng.choice(MANY_LANGUAGES)
            at = rng.randrange(len(line))
            text += line[at:at + rng.randint(1, 40)]
        elif k < 0.9:
            text += random_text(rng, 12)
        else:
            text += rng.choice([" ", "\n", "a", "=", "1", "\t", "é", "日"]) * rng.choice([2, 3, 5, 16, 70])
        text += rng.choice(["", "", " ", "\n"])
    return text


def fuzz_kinds(ours, n, seed):
    import tokenizer_kinds

    rng, count = random.Random(seed), Count("kinds of tokenizers x texts")
    stories = tokenizer_kinds.generated_text(200000)
    # Each size of vocabulary merges other parts of words.
    training = stories + "\n".join(MANY_LANGUAGES * 20)
    sizes = [420, 700, 1500]
    for size in sizes:
        for name, kind in tokenizer_kinds.KINDS.items():
            config = json.loads(tokenizer_kinds.train(kind, training, size).to_str())
            before = count.different
            compare(ours, config, [kinds_text(rng, stories) for _ in range(-(-n // (len(sizes) * len(tokenizer_kinds.KINDS))))], count)
            if count.different > before:
                print(f"    {name}, {size}: {count.different - before} different")
    count.report()
    return count


PRE = """gpt-2 phi-2 mpt olmo default falcon starcoder refact codeshell exaone command-r smollm llama-bpe falcon3 dbrx smaug-bpe glm4 chatglm-bpe minicpm5 qwen2 deepseek-r1-qwen qwen35
stablelm2 hunyuan seed-coder gpt-4o cohere2moe tekken kimi-k2 deepseek-llm deepseek-coder deepseek-v3 hunyuan-dense bloom viking superbpe bailingmoe exaone-moe exaone4 granite-docling
minimax-m2 llama4""".split()


def fuzz_pre(ours, n, seed):
    """What each tokenizer.ggml.pre stands for, as the library reads it."""
    rng, count = random.Random(seed), Count("tokenizer.ggml.pre x texts")
    for name in PRE:
        pre = ours.ask({"pre": name})
        if "error" in pre:
            sys.exit(f"{name}: {pre['error']}")
        # Spaces written as bytes do not show the cuts; a space before each piece would change what later steps see.
        model = byte_model() | {"ignore_merges": pre["ignore_merges"]}
        config = tokenizer_json(model, normalizer={"type": "NFC"} if pre["nfc"] else None,
                                pre_tokenizer={"type": "Sequence", "pretokenizers": [s for s in pre["steps"] if s["type"] != "ByteLevel" or s["use_regex"]] + [SHOW_CUTS]})
        texts = [rng.choice(MANY_LANGUAGES)[rng.randrange(10):] + random_text(rng, 12) for _ in range(-(-n // len(PRE)))]
        compare(ours, config, texts, count)
    count.report()
    return count


def fuzz_folders(ours, n, seed):
    """Folders with vocab.json and merges.txt but no tokenizer.json, as transformers reads them."""
    import tempfile
    import tokenizer_kinds
    import transformers

    transformers.logging.set_verbosity_error()
    rng, count = random.Random(seed), Count("vocab.json and merges.txt x texts")
    stories = tokenizer_kinds.generated_text(100000)
    trained = json.loads(tokenizer_kinds.train(dict(pre=tokenizer_kinds.WORDS), stories + "\n".join(MANY_LANGUAGES * 20), 800).to_str())["model"]
    while count.same + count.different < n:
        vocabulary = dict(trained["vocab"])
        for token in ["<|endoftext|>", "</s>", "<pad>", "<unk>", "<|im_start|>"]:
            if rng.random() < 0.8:
                vocabulary.setdefault(token, len(vocabulary))
        model_type, kind = rng.choice([("opt", "GPT2Tokenizer"), ("gpt2", "GPT2Tokenizer"), ("qwen2", "Qwen2Tokenizer"), ("opt", None), ("gpt2", None), ("qwen2", None), ("phi", "CodeGenTokenizer")])
        config = {"tokenizer_class": kind} if kind else {}
        special, objects = {}, {}  # a token is described the same way wherever it is named
        for name in ["bos_token", "eos_token", "unk_token", "pad_token"]:
            if rng.random() < 0.6:
                content = rng.choice([t for t in ["<|endoftext|>", "</s>", "<pad>", "<unk>"] if t in vocabulary] or ["a"])
                token = objects.setdefault(content, content if model_type == "qwen2" else rng.choice([content, {"__type": "AddedToken", "content": content, "lstrip": rng.random() < 0.3 and content != "<|endoftext|>", "rstrip": False,
                                                                          "normalized": rng.random() < 0.3, "single_word": False}]))
                rng.choice([config, special])[name] = token
        known = lambda name: (lambda t: t["content"] if isinstance(t, dict) else t)(config.get(name, special.get(name, "<|endoftext|>"))) in vocabulary
        if rng.random() < 0.5:
            config["add_prefix_space"] = rng.random() < 0.5
        for flag, name in [("add_bos_token", "bos_token"), ("add_eos_token", "eos_token")]:
            if rng.random() < 0.5 and known(name):
                config[flag] = rng.random() < 0.6
        files = {"vocab.json": json.dumps(vocabulary), "tokenizer_config.json": json.dumps(config),
                 "merges.txt": "#version: 0.2\n" + "".join(" ".join(m) + "\n" for m in trained["merges"])}
        if special:
            files["special_tokens_map.json"] = json.dumps(special)
        if rng.random() < 0.4:
            files["added_tokens.json"] = json.dumps({"<|im_start|>": vocabulary.get("<|im_start|>", len(vocabulary))})
        with tempfile.TemporaryDirectory() as folder:
            for name, content in (files | {"config.json": json.dumps({"model_type": model_type})}).items():
                with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
                    file.write(content)
            theirs = transformers.AutoTokenizer.from_pretrained(folder)
        answer = ours.ask({"files": files, "model_type": model_type})
        # transformers gives a default token that no file has an id beyond the vocabulary.
        ends = ["</s>", "<pad>x", "<|im_start|>user"] + (["<|endoftext|> ", " <|endoftext|>"] if "<|endoftext|>" in vocabulary else [])
        for _ in range(40):
            text = kinds_text(rng, stories) + rng.choice(ends) + random_text(rng, 3)
            expected, got = theirs(text)["input_ids"], ours.ask({"text": text}) if answer == "ready" else answer
            if isinstance(got, dict):
                count.ours_refused += 1
                count.reasons[got["error"][:150]] = count.reasons.get(got["error"][:150], 0) + 1
            elif got == expected:
                count.same += 1
            else:
                count.different += 1
                if count.different <= 12:
                    print("DIFFERENT", json.dumps({k: v for k, v in files.items() if k not in ["vocab.json", "merges.txt"]} | {"type": type(theirs).__name__, "text": text, "library": expected, "gptq": got}))
    count.report()
    return count


def compare_files(ours, names, n, seed):
    import tokenizer_kinds

    stories, counts = tokenizer_kinds.generated_text(200000), []
    for name in names:
        rng, count = random.Random(seed), Count(os.path.basename(name) + " x texts")
        if name.endswith(".gguf"):
            config = ours.ask({"gguf": os.path.abspath(name)})
            if "error" in config:
                sys.exit(f"{name}: {config['error']}")
        else:
            with open(name, encoding="utf-8") as file:
                config = json.load(file)
        compare(ours, config, [kinds_text(rng, stories) for _ in range(n)], count)
        count.report()
        counts.append(count)
    return counts


def rule(rng, depth=2):
    def item():
        k = rng.random()
        if k < 0.35:
            return rng.choice(["a", "b", "q", "_proj", "\\.", ".", "[qkv]", "[^a]", "\\d", "\\d+", "[0-9]", "1", "2", "layers", "\\w", "\\W", "\\S", "-", "[a-z]", "[\\d.]",
                               "[_a-c-]", "\\-", "\\_", "A", "B"])
        if k < 0.45:
            return rng.choice(["\\b", "\\B", "^", "$", "\\A", "\\Z", "\\z", "\\h", "\\p{L}", "\\K", "\\R", "\\Q", "\\x41", "\\x{41}", "\\1", "\\0", "\\e", "\\a", "\\n", "é",
                               "[[:alpha:]]", "[a&&b]", "[a[b]]", "[]a]", "[^]a]", "[a--b]", "[a-\\d]", "[\\w-]", "{", "}", "]", "a{1", "{2}", "\\G", "\\X", "[a||b]", "[-a]", "[--a]", "\\u0041",
                               "[", "(", ")", "\\", "[b-a]", "(?i)", "(?s)", "(?x)", "(?m)", "\\N", "\\c", "\\C-a", "\\M-a", "#", "(?#c)"])
        if depth == 0:
            return "a"
        return rng.choice(["({})", "(?:{})", "(?i:{})", "(?={})", "(?!{})", "(?<={})", "(?<!{})", "(?>{})", "(?P<n>{})", "(?<n>{})", "(?P=n)", "(?|{})", "(?~{})", "(?s:{})", "(?-i:{})",
                           "(?P>n)", "(?a:{})", "(?m:{})", "(?x:{})", "(?(1)a|b)", "(*FAIL)"]).format(rule(rng, depth - 1))
    text = "|".join("".join(item() + rng.choice([""] * 8 + ["*", "+", "?", "*?", "+?", "??", "{2}", "{1,2}", "{,2}", "{2,}", "{1,2}?", "{2}?", "++", "{1,2}+", "**", "{2}{2}", "*+"])
                            for _ in range(rng.randint(1, 3))) for _ in range(rng.choice([1, 1, 1, 2])))
    return text


def fuzz_rules(ours, n, seed):
    """Python 3.11 and later take possessive quantifiers and atomic groups; before, they are errors; gptq never accepts them."""
    rng, count = random.Random(seed), Count("rules against Python's re")
    pieces = ["a", "b", "q", "q_proj", "model", ".", "layers", "1", "12", "mlp", "_", "A", "B", "-", "model.layers.1.self_attn.q_proj", "é", "ab", "aa", "qkv", "é1"]
    while count.same + count.different < n:
        pattern = rule(rng)
        try:
            compiled = re.compile(pattern)
        except Exception:
            compiled = None
        for _ in range(4):
            text = "".join(rng.choice(pieces) for _ in range(rng.randint(0, 4)))
            got = ours.ask({"pattern": pattern, "text": text})
            if isinstance(got, dict):
                if compiled is None:
                    count.theirs_refused += 1
                else:
                    count.ours_refused += 1
                    reason = re.sub(r"^the regular expression .*?: ", "", got["error"], flags=re.S)
                    reason = re.sub(r" at position \d+", "", reason)[:110]
                    count.reasons[reason] = count.reasons.get(reason, 0) + 1
            elif compiled is not None and got == (compiled.match(text) is not None):
                count.same += 1
            else:
                count.different += 1
                if count.different <= 12:
                    print("DIFFERENT", json.dumps({"pattern": pattern, "text": text, "gptq": got, "python": compiled and compiled.match(text) is not None}))
    count.report()
    return count


def all_characters(ours):
    """Every code point: properties in expressions, normal forms, digits, white space and words around added tokens."""
    model = byte_model()
    ranges = [c for c in range(1, 0x110000) if not 0xd800 <= c <= 0xdfff]
    blocks = [ranges[i:i + 64] for i in range(0, len(ranges), 64)]
    different = {}

    def check(name, config, wrap):
        theirs = library(config)
        if ours.ask({"tokenizer": config}) != "ready":
            sys.exit(f"{name} is refused")
        bad = []
        for block in blocks:
            text = "".join(wrap(chr(c)) for c in block)
            if theirs.encode(text).ids != ours.ask({"text": text}):
                bad += [c for c in block if theirs.encode(wrap(chr(c))).ids != ours.ask({"text": wrap(chr(c))})]
        different[name] = bad
        old = [c for c in bad if unicodedata.category(chr(c)) != "Cn"]
        print(f"{name}: {len(bad)} code points differ, {len(old)} of them in Unicode {unicodedata.unidata_version}: "
              + " ".join(f"U+{c:04X}" for c in old[:20]), flush=True)

    cuts = lambda step: tokenizer_json(model, pre_tokenizer={"type": "Sequence", "pretokenizers": [step, SHOW_CUTS]})
    for pattern in ["\\p{L}", "\\p{N}", "\\p{M}", "\\p{P}", "\\p{S}", "\\p{Z}", "\\p{Lu}", "\\p{Ll}", "\\p{Lt}", "\\p{Lm}", "\\p{Lo}", "\\p{Han}", "\\p{Alnum}", "\\p{Alphabetic}", "\\p{Punct}",
                    "\\p{Space}", "\\p{Graph}", "\\p{Print}", "\\p{Digit}", "[[:word:]]", "[[:alnum:]]", "[[:punct:]]", "[[:graph:]]", "[[:print:]]", "\\s", "\\w", "\\d", "\\h", "(?i:[a-z])"]:
        check(pattern, cuts({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}), lambda c: "." + c)
    check("Digits", cuts({"type": "Digits", "individual_digits": True}), lambda c: "." + c)
    check("Punctuation", cuts({"type": "Punctuation", "behavior": "Isolated"}), lambda c: "a" + c)
    check("Whitespace", cuts({"type": "Whitespace"}), lambda c: "a" + c + ".")
    check("WhitespaceSplit", cuts({"type": "WhitespaceSplit"}), lambda c: "." + c)
    for form in ["NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "ByteLevel"]:
        check(form, tokenizer_json(model, normalizer={"type": form}, pre_tokenizer=SHOW_CUTS), lambda c: "\n" + c)
    token = {"id": len(model["vocab"]), "content": "<a>", "single_word": False, "lstrip": True, "rstrip": False, "normalized": False, "special": True}
    check("lstrip", tokenizer_json(model, added_tokens=[token], pre_tokenizer=SHOW_CUTS), lambda c: "." + c + "<a>")
    check("single_word", tokenizer_json(model, added_tokens=[token | {"lstrip": False, "single_word": True}], pre_tokenizer=SHOW_CUTS), lambda c: "." + c + "<a>.")
    return different


def speed(program, file, names):
    text = open(file, encoding="utf-8", newline="").read()
    for name in names:
        theirs = tokenizers.Tokenizer.from_file(name)
        ratios = []
        for _ in range(5):
            begin = time.perf_counter()
            ids = theirs.encode(text).ids
            library_time = time.perf_counter() - begin
            seconds, number = subprocess.run([program, name, file, "2"], check=True, capture_output=True, text=True).stdout.splitlines()[-1].split()
            if int(number) != len(ids):
                print(f"DIFFERENT: {number} and {len(ids)} ids")
            ratios.append((library_time / float(seconds), library_time, float(seconds)))
        ratio, library_time, ours = sorted(ratios)[2]
        print(f"{os.path.basename(name)}: library {library_time:.3f} s, gptq {ours:.3f} s: {ratio:.1f} times as fast ({len(text.encode())} bytes)", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    for name in ["expressions", "tokens", "components", "kinds", "pre", "folders", "rules"]:
        parser.add_argument("--" + name, type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--characters", action="store_true")
    parser.add_argument("--files", nargs="+")
    parser.add_argument("--speed", nargs="+")
    options = parser.parse_args()
    print(f"tokenizers {tokenizers.__version__}, Python {sys.version.split()[0]}, Unicode {unicodedata.unidata_version}")
    if options.speed:
        return speed(options.program, options.speed[0], options.speed[1:])
    resource.setrlimit(resource.RLIMIT_AS, (10 << 30, 10 << 30))
    sys.stderr.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the library's panics
    ours, counts = Ours(options.program), []
    if options.characters:
        all_characters(ours)
    if options.expressions:
        counts.append(fuzz_expressions(ours, options.expressions, options.seed))
    if options.tokens:
        counts.append(fuzz_tokens(ours, options.tokens, options.seed, "added tokens x texts", False))
    if options.components:
        counts.append(fuzz_tokens(ours, options.components, options.seed, "components x texts", True))
    if options.files:
        counts += compare_files(ours, options.files, options.kinds or 2000, options.seed)
    elif options.kinds:
        counts.append(fuzz_kinds(ours, options.kinds, options.seed))
    if options.pre:
        counts.append(fuzz_pre(ours, options.pre, options.seed))
    if options.folders:
        counts.append(fuzz_folders(ours, options.folders, options.seed))
    if options.rules:
        counts.append(fuzz_rules(ours, options.rules, options.seed))
    return 1 if any(count.different for count in counts) else 0


if __name__ == "__main__":
    sys.exit(main())
