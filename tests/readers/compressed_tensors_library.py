# SPDX-License-Identifier: MIT
"""A folder in the compressed-tensors format, decompressed by the compressed-tensors library, has the numbers of the plain format.

    gptq quantize MODEL --format compressed-tensors --method rtn --out PACKED ...
    gptq quantize MODEL --format plain --method rtn --out PLAIN ...
    python compressed_tensors_library.py PACKED PLAIN

Needs torch and compressed-tensors 0.18 or newer (tried with 2.15.0 and 0.20.0); too large for CI.
"""
import json
import sys
from pathlib import Path

import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationConfig
from safetensors.torch import load_file


def main(packed, plain):
    config = json.loads((Path(packed) / "config.json").read_text())["quantization_config"]
    parsed = QuantizationConfig.model_validate({key: value for key, value in config.items() if key not in ("sparsity_config", "transform_config")})
    stored, expected = load_file(Path(packed) / "model.safetensors"), load_file(Path(plain) / "model.safetensors")
    schemes = [(scheme, set(scheme.targets)) for scheme in parsed.config_groups.values()]
    compressor = BaseCompressor.get_value_from_registry(config["format"])
    compared, wrong = 0, []
    for name in sorted(stored):
        if not name.endswith(".weight_scale"):
            continue
        module = name.removesuffix(".weight_scale")
        scheme = next((s for s, targets in schemes if module in targets), schemes[0][0])
        parts = {key.removeprefix(module + "."): value for key, value in stored.items() if key.startswith(module + ".")}
        if scheme.weights.group_size not in (16, 32) or scheme.weights.type == "int":
            parts["weight_scale"] = parts["weight_scale"].float()
        decompressed = compressor.decompress(parts, scheme)["weight"]
        compared += 1
        if not torch.equal(decompressed.to(expected[module + ".weight"].dtype), expected[module + ".weight"]):
            wrong.append(module)
    print(f"{compared} modules compared, {len(wrong)} differ: {wrong[:5]}")
    return bool(wrong) or compared == 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]) if len(sys.argv) == 3 else __doc__)
