# SPDX-License-Identifier: MIT
"""The layouts of quantized folders, decoded by formulas written down anew, yield the numbers of the plain format.

    python3 layouts.py PROGRAM DEMO_MODEL        needs numpy; prints SKIPPED without it
"""
import json
import os
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

try:
    import numpy as np
except ImportError:
    if sys.executable != "/usr/bin/python3" and Path("/usr/bin/python3").exists():  # where packages of the system are
        os.execv("/usr/bin/python3", ["/usr/bin/python3", *sys.argv])
    sys.exit(print("SKIPPED: numpy is not installed"))

TYPES = {"I32": "<u4", "I64": "<i8", "F16": "<f2", "BF16": "<u2", "F32": "<f4"}


def tensors(folder):
    """All tensors of a folder; bfloat16 as 16 bits."""
    raw = (folder / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    header.pop("__metadata__")
    found = {}
    for name, entry in header.items():
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        found[name] = np.frombuffer(raw[begin:end], TYPES[entry["dtype"]]).reshape(entry["shape"])
    return found


def bits_of(words, bits, axis):
    """Codes of a bit stream along an axis: code i begins at bit i * bits."""
    words = np.moveaxis(words, axis, -1)
    stream = np.unpackbits(np.ascontiguousarray(words).view(np.uint8), axis=-1, bitorder="little")
    count = stream.shape[-1] // bits
    codes = stream[..., : count * bits].reshape(*stream.shape[:-1], count, bits)
    return np.moveaxis((codes.astype(np.int64) << np.arange(bits)).sum(-1), -1, axis)


def affine(codes, scales, zeros, group):
    """[out, in] from codes [out, in] and [out, groups]."""
    return scales[:, group].astype(np.float32) * (codes - zeros[:, group]).astype(np.float32)


def gptq(parts, config):
    bits = config["bits"]
    zeros = bits_of(parts["qzeros"], bits, 1) + (config["checkpoint_format"] == "gptq")
    return affine(bits_of(parts["qweight"], bits, 0).T, parts["scales"].T, zeros.T, parts["g_idx"])


def awq(parts, config):
    def outputs(words):  # [rows, out/8] -> [rows, out]
        order = [0, 4, 1, 5, 2, 6, 3, 7]  # the nibble of output 0, 1, ...
        nibbles = (words[..., None] >> (4 * np.arange(8, dtype=np.uint32))) & 15
        return nibbles[..., order].reshape(len(words), -1).astype(np.int64)

    codes, scales = outputs(parts["qweight"]).T, parts["scales"].T
    group = np.arange(codes.shape[1]) // (codes.shape[1] // scales.shape[1])
    return affine(codes, scales, outputs(parts["qzeros"]).T, group)


def compressed_tensors(parts, config):
    args = config["config_groups"]["group_0"]["weights"]
    bits, (rows, cols), scales = args["num_bits"], parts["weight_shape"], parts["weight_scale"]
    zeros = np.full(scales.shape, 1 << (bits - 1))
    if not args["symmetric"]:
        zeros = bits_of(parts["weight_zero_point"], bits, 0)[:rows]
    group = np.arange(cols) // (cols // scales.shape[1])
    return affine(bits_of(parts["weight_packed"], bits, 1)[:, :cols], scales, zeros, group)


FORMATS = {"gptq": (gptq, "qweight"), "awq": (awq, "qweight"), "compressed-tensors": (compressed_tensors, "weight_packed")}


def as_bfloat16(numbers):
    """The upper halves, rounded to the nearest even one."""
    bits = np.ascontiguousarray(numbers, np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def main(program, demo):
    compared, wrong = 0, []
    with tempfile.TemporaryDirectory() as scratch:
        for bits, group, kind in (4, 32, "--sym"), (4, 128, "--asym"), (3, 64, "--sym"), (8, -1, "--sym"), (2, 32, "--asym"):
            def write(form):
                out = Path(scratch) / form
                command = ["quantize", demo, "--method", "rtn", "--bits", str(bits), "--group-size", str(group), kind]
                subprocess.run([program, *command, "--format", form, "--out", str(out), "--quiet", "--overwrite"], check=True, stdout=subprocess.DEVNULL)
                return out

            plain = tensors(write("plain"))
            for form, (decode, word) in FORMATS.items():
                if form == "awq" and bits != 4:
                    continue
                folder = write(form)
                config = json.loads((folder / "config.json").read_text())["quantization_config"]
                packed = tensors(folder)
                for name in sorted(packed):
                    if not name.endswith("." + word):
                        continue
                    module = name[: -len(word)]
                    parts = {key[len(module) :]: value for key, value in packed.items() if key.startswith(module)}
                    compared += 1
                    if not np.array_equal(as_bfloat16(decode(parts, config)), plain[module + "weight"]):
                        wrong.append(f"{form}, {bits} bits, groups of {group}, {kind}: {module}weight")
    if wrong or compared == 0:
        sys.exit("\n".join(wrong) or "nothing was compared")
    print(f"{compared} modules decoded")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
