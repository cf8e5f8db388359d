# SPDX-License-Identifier: MIT
"""A folder in the bitsandbytes format, dequantized by the bitsandbytes library, has the numbers of the plain format.

    gptq quantize MODEL --type nf4 --format bitsandbytes --method rtn --out PACKED ...
    gptq quantize MODEL --type nf4 --format plain --method rtn --out PLAIN ...
    python bitsandbytes_library.py PACKED PLAIN

Needs torch and bitsandbytes (tried with 2.15.0 and 0.50.2, on a CPU); too large for CI.
"""
import sys
from pathlib import Path

import torch
from bitsandbytes.functional import QuantState, dequantize_4bit
from safetensors.torch import load_file


def main(packed, plain):
    stored, expected = load_file(Path(packed) / "model.safetensors"), load_file(Path(plain) / "model.safetensors")
    compared, wrong = 0, []
    for name in sorted(stored):
        if not name.endswith(".weight.absmax"):
            continue
        weight = name.removesuffix(".absmax")
        parts = {key: value for key, value in stored.items() if key.startswith(weight + ".")}
        state = QuantState.from_dict(parts, device="cpu")
        state.dtype = torch.float32  # the numbers before they are rounded to the type of the run
        numbers = dequantize_4bit(stored[weight], state)
        compared += 1
        if not torch.equal(numbers.to(expected[weight].dtype), expected[weight]):
            wrong.append(weight)
    print(f"{compared} modules compared, {len(wrong)} differ: {wrong[:5]}")
    return bool(wrong) or compared == 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]) if len(sys.argv) == 3 else __doc__)
