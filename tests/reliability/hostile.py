# SPDX-License-Identifier: MIT
"""Model folders and files that lie, nest, grow or point elsewhere: each is refused with a message, or read if that is harmless, in
seconds and in memory bounded by its size."""
import json
import os
import shutil
import struct
import subprocess

from promises import DEMO, DONE, PROGRAM, REFUSED, Bench, leftovers

SECONDS = 10
MEMORY = 300 << 20  # bytes, and eight times the size of the file
OPTIONS = ["--calibration", DEMO + "/calibration.txt", "--samples", "1", "--sequence-length", "16", "--threads", "1"]

bench = Bench()
config = json.load(open(DEMO + "/config.json"))
tokenizer = json.load(open(DEMO + "/tokenizer.json"))
with open(DEMO + "/model.safetensors", "rb") as file:
    header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    data = file.read()
tensors = [name for name in header if name != "__metadata__"]
out = bench.folder / "out"


def run(what, arguments, codes, size):
    """Runs the program and checks code, message, time and memory."""
    log = bench.folder / "log"
    with open(log, "wb") as output:
        process = subprocess.Popen(["timeout", "-k", "2", str(SECONDS), PROGRAM, *map(str, arguments)], stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = code = os.waitstatus_to_exitcode(status)
    text = log.read_text(errors="replace")
    bench.check(code in codes, what, "ended with", code, text[-200:])
    bench.check(code == DONE or "gptq: " in text, what, "said nothing")
    bench.check(usage.ru_maxrss * 1024 < MEMORY + 8 * size, what, "took", usage.ru_maxrss >> 10, "MB for a file of", size >> 20)
    return code


def model(what, codes=(REFUSED,), change=None, **texts):
    """The demo model with other files, quantized. `change` is called with its folder."""
    folder = bench.folder / "model"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(DEMO, folder)
    for name, text in texts.items():
        (folder / (name + ".json")).write_text(text if isinstance(text, str) else json.dumps(text))
    if change:
        change(folder)
    shutil.rmtree(out, ignore_errors=True)
    size = sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
    code = run(what, ["quantize", folder, *OPTIONS, "--out", out], codes, size)
    bench.check(not leftovers(out) and (code == DONE or not out.exists()), what, "left", leftovers(out) or "a folder")


def safetensors(path, header, data):
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


EITHER = (DONE, REFUSED)

# JSON
deep = 100000
plain = json.dumps(config)[:-1]
model("config.json with arrays in arrays", config=plain + ',"x":' + "[" * deep + "]" * deep + "}")
model("config.json with objects in objects", config=plain + ',"x":' + '{"a":' * deep + "1" + "}" * deep + "}")
model("config.json that never closes", config="[" * 5000000)
model("tokenizer.json with arrays in arrays", tokenizer="[" * deep + "]" * deep)
model("config.json that is empty", config="")

# Tokenizers


def token(number):
    return dict(tokenizer, added_tokens=tokenizer["added_tokens"] + [{"id": number, "content": "<zz>", "special": True}])


for number in 2**31, -1, 1.5, 1e300:
    model(f"a token of the id {number}", tokenizer=token(number))
model("a token beyond the embeddings, which no text has", EITHER, tokenizer=token(2**31 - 2))
for name, merges in ("empty", [""]), ("a space", [" "]), ("an empty pair", [["", ""]]):
    model(f"a merge that is {name}", EITHER, tokenizer=dict(tokenizer, model=dict(tokenizer["model"], merges=merges)))
model("a tokenizer without tokens", tokenizer=dict(tokenizer, added_tokens=[], model=dict(tokenizer["model"], vocab={}, merges=[])))
replace = {"type": "Replace", "pattern": {"String": "e"}, "content": "ee"}
model("a text that doubles forty times", tokenizer=dict(tokenizer, normalizer={"type": "Sequence", "normalizers": [replace] * 40}))


def split(expression):
    steps = [{"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}, {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}]
    return dict(tokenizer, pre_tokenizer={"type": "Sequence", "pretokenizers": steps})


for expression in "(a+)+$", "(x+x+)+y", "a+b", "(?:a|b)+", "(?R)?a", r"(?:.|\n)*?zzz", "(a|aa){24}c", r"(?<!a)b\Kc", r"(?=a\K)", r"\C", "(?:(?:a?){100}){100}", "x*":
    model(f"the expression {expression}", EITHER, tokenizer=split(expression))

# Shards


def shards(places, contents):
    def change(folder):
        (folder / "model.safetensors").unlink()
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
        for name, held in contents.items():
            part, body = {}, b""
            for tensor in held:
                begin, end = header[tensor]["data_offsets"]
                part[tensor] = dict(header[tensor], data_offsets=[len(body), len(body) + end - begin])
                body += data[begin:end]
            safetensors(folder / name, part, body)

    return change


first, second = tensors[:20], tensors[20:]
for place in "/etc/passwd", "../../etc/passwd", ".", "..", "a\0b", "":
    model(f"an index that names {place!r}", change=shards({name: place for name in tensors}, {}))
halves = {name: "a.safetensors" for name in first} | {name: "b.safetensors" for name in second}
model("two shards", (DONE,), change=shards(halves, {"a.safetensors": first, "b.safetensors": second}))
model("a tensor in two shards", change=shards(halves, {"a.safetensors": first, "b.safetensors": tensors[19:]}))
model("a shard that is missing", change=shards(halves, {"a.safetensors": first}))
model("a tensor in another shard than the index says", EITHER, change=shards(dict(halves, **{second[0]: "a.safetensors"}), {"a.safetensors": first, "b.safetensors": second}))

# Shapes
for what, shape in (("overflows", [2**62, 4]), ("overflows too", [2**63, 2]), ("is no number", [2**64, 2]), ("is empty and huge", [0, 2**62]), ("is negative", [-1, -1]),
                    ("has a hundred thousand dimensions", [1] * 100000)):
    entry = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data)]}
    model(f"a shape that {what}", EITHER if 0 in shape else (REFUSED,), change=lambda folder: safetensors(folder / "model.safetensors", header | {"x": entry}, data))
wide = dict(header["model.embed_tokens.weight"], shape=[2**20, 2**20])
model("embeddings of a million by a million", change=lambda folder: safetensors(folder / "model.safetensors", header | {"model.embed_tokens.weight": wide}, data))

# What is not a file, or not the folder's own


def instead(name, make):
    def change(folder):
        (folder / name).unlink(missing_ok=True)
        make(folder / name)

    return change


for name in "model.safetensors", "config.json", "tokenizer.json", "tokenizer.model":
    codes = EITHER if name == "tokenizer.model" else (REFUSED,)  # that one need not be read
    model(f"a pipe as {name}", codes, change=instead(name, os.mkfifo))
    model(f"a folder as {name}", codes, change=instead(name, os.mkdir))
    model(f"{name} that is /dev/zero", codes, change=instead(name, lambda path: os.symlink("/dev/zero", path)))
    model(f"{name} that is /etc/passwd", codes, change=instead(name, lambda path: os.symlink("/etc/passwd", path)))
    bench.check(not (out / name).exists(), f"{name} that is /etc/passwd: its content is passed on")

# Files that are mostly a hole


def string(text):
    return struct.pack("<Q", len(text)) + text.encode()


hole = bench.folder / "hole"
for what, size, begin in (("a safetensors file of 10 TB", 10 << 40, None),
                          ("a GGUF array of 50 MiB", 50 << 20, b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + string("x") + struct.pack("<IIQ", 9, 0, 50 << 20)),
                          ("a header of 2^64 - 1 bytes", 100, b"\xff" * 8)):
    if begin is None:
        text = json.dumps({"x": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
        begin = struct.pack("<Q", len(text)) + text
    path = hole.with_suffix(".gguf" if begin.startswith(b"GGUF") else ".safetensors")
    path.write_bytes(begin)
    os.truncate(path, len(begin) + size)
    run(what + ", inspected", ["inspect", path], EITHER, min(size, 50 << 20))
    path.unlink()
bench.end()
