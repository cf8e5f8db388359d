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

TYPES = {"I32": "<u4", "U32": "<u4", "I64": "<i8", "F16": "<f2", "BF16": "<u2", "F32": "<f4", "U8": "u1", "I8": "i1", "F8_E4M3": "u1"}


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


def pack_quantized(parts, args):
    bits, (rows, cols), scales = args["num_bits"], parts["weight_shape"], parts["weight_scale"]
    zeros = np.full(scales.shape, 1 << (bits - 1))
    if not args["symmetric"]:
        zeros = bits_of(parts["weight_zero_point"], bits, 0)[:rows]
    group = np.arange(cols) // (cols // scales.shape[1])
    return affine(bits_of(parts["weight_packed"], bits, 1)[:, :cols], scales, zeros, group)


def int_quantized(parts, args):
    codes, scales = parts["weight"], parts["weight_scale"]
    zeros = np.zeros(scales.shape) if args["symmetric"] else parts["weight_zero_point"]
    return affine(codes.astype(np.int64), scales, zeros, np.arange(codes.shape[1]) // (codes.shape[1] // scales.shape[1]))


def e4m3(bits):
    exponent, mantissa = (bits >> 3 & 15).astype(np.int32), (bits & 7).astype(np.float32)
    magnitude = np.where(exponent == 0, np.ldexp(mantissa, -9), np.ldexp(mantissa + 8, exponent - 10))
    return np.where(bits & 128, -magnitude, magnitude).astype(np.float32)


def from_bfloat16(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


def float_quantized(parts, args):
    return e4m3(parts["weight"]) * from_bfloat16(parts["weight_scale"])


def halves(bytes_, low_first):
    low, high = bytes_ & 15, bytes_ >> 4
    return np.stack([low, high] if low_first else [high, low], -1).reshape(*bytes_.shape[:-1], -1)


def float4(parts, scales, block):
    codes = halves(parts["weight_packed"], True)
    levels = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)
    numbers = np.where(codes & 8, -1, 1).astype(np.float32) * levels[codes & 7]
    return numbers * np.repeat(scales, block, axis=1)


def nvfp4(parts, args):
    return float4(parts, e4m3(parts["weight_scale"]) / parts["weight_global_scale"], 16)


def mxfp4(parts, args):
    return float4(parts, np.ldexp(np.float32(1), parts["weight_scale"].astype(np.int32) - 127), 32)


LAYOUTS = {"pack-quantized": pack_quantized, "int-quantized": int_quantized, "float-quantized": float_quantized, "nvfp4-pack-quantized": nvfp4, "mxfp4-pack-quantized": mxfp4}


def compressed_tensors(parts, config):
    return LAYOUTS[config["format"]](parts, config["config_groups"]["group_0"]["weights"])


def mlx(parts, config):
    codes, scales = bits_of(parts["weight"], config["bits"], 1), parts["scales"].astype(np.float32)
    group = np.arange(codes.shape[1]) // config["group_size"]
    return scales[:, group] * codes.astype(np.float32) + parts["biases"].astype(np.float32)[:, group]


def bitsandbytes(parts, config):
    state = json.loads(parts["weight.quant_state.bitsandbytes__nf4"].tobytes())
    levels = parts["weight.quant_map"][halves(parts["weight"].reshape(1, -1), False)[0]]
    return (levels.reshape(-1, state["blocksize"]) * parts["weight.absmax"][:, None]).reshape(state["shape"])


FORMATS = {"gptq": gptq, "awq": awq, "compressed-tensors": compressed_tensors, "compressed-tensors:int-quantized": compressed_tensors, "mlx": mlx, "bitsandbytes": bitsandbytes}
# Options, and the formats that hold modules of these settings.
CASES = [
    ("--bits 4 --group-size 32 --sym", "gptq awq compressed-tensors mlx"),
    ("--bits 4 --group-size 128 --asym", "gptq awq compressed-tensors"),
    ("--bits 3 --group-size 64 --sym", "gptq compressed-tensors"),
    ("--bits 8 --group-size -1 --sym", "gptq compressed-tensors compressed-tensors:int-quantized"),
    ("--bits 8 --group-size 64 --asym", "gptq compressed-tensors compressed-tensors:int-quantized"),
    ("--bits 2 --group-size 32 --asym", "gptq compressed-tensors"),
    ("--type nf4", "bitsandbytes"),
    ("--type nvfp4", "compressed-tensors"),
    ("--type mxfp4", "compressed-tensors"),
    ("--type fp8", "compressed-tensors"),
]


def as_bfloat16(numbers):
    """The upper halves, rounded to the nearest even one."""
    bits = np.ascontiguousarray(numbers, np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def main(program, demo):
    compared, wrong = 0, []
    with tempfile.TemporaryDirectory() as scratch:
        for options, formats in CASES:
            def write(form):
                out = Path(scratch) / form.replace(":", "-")
                command = ["quantize", demo, "--method", "rtn", "--format", form, "--out", str(out), "--quiet", "--overwrite"]
                subprocess.run([program, *command, *options.split()], check=True, stdout=subprocess.DEVNULL)
                return out

            plain = tensors(write("plain"))
            modules = [name[: -len("weight")] for name in sorted(plain) if name.endswith("_proj.weight")]
            for form in formats.split():
                folder = write(form)
                config = json.loads((folder / "config.json").read_text())
                config = config.get("quantization") or config["quantization_config"]
                packed = tensors(folder)
                for module in modules:
                    parts = {key[len(module) :]: value for key, value in packed.items() if key.startswith(module)}
                    compared += 1
                    if not np.array_equal(as_bfloat16(FORMATS[form](parts, config)), plain[module + "weight"]):
                        wrong.append(f"{form}, {options}: {module}weight")
    if wrong or compared == 0:
        sys.exit("\n".join(wrong) or "nothing was compared")
    print(f"{compared} modules decoded")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
