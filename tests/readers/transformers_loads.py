# SPDX-License-Identifier: MIT
"""transformers loads a quantized folder, and has its perplexity.

    python transformers_loads.py PROGRAM FOLDER TEXT

PROGRAM is gptq, whose figure on the same windows of the text is printed beside. Needs torch, transformers, accelerate and what transformers
needs for the format (compressed-tensors, gptqmodel; tried with 2.15.0, 5.24.0, 1.15.0 and compressed-tensors 0.20.0); too large for CI.
"""
import math
import re
import subprocess
import sys
import tempfile

import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

WINDOWS, LENGTH = 4, 512


def main(program, folder, text):
    ids = Tokenizer.from_file(folder + "/tokenizer.json").encode(open(text, encoding="utf-8").read(), add_special_tokens=False).ids
    windows = torch.tensor(ids[: WINDOWS * LENGTH]).reshape(WINDOWS, LENGTH)
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(" ".join(str(token) for token in windows.flatten().tolist()))
        file.flush()
        command = [program, "eval", folder, "--tokens", file.name, "--windows", str(WINDOWS), "--sequence-length", str(LENGTH), "--quiet"]
        ours = re.search(r"perplexity: ([0-9.]+)", subprocess.run(command, check=True, capture_output=True, text=True).stdout)[1]

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        losses = [model(window[None], labels=window[None]).loss.item() for window in windows]
    print(f"transformers: perplexity {math.exp(sum(losses) / len(losses)):.4f}, ours {ours}")


if __name__ == "__main__":
    main(*sys.argv[1:]) if len(sys.argv) == 4 else sys.exit(__doc__)
