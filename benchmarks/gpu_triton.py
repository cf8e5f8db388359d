# SPDX-License-Identifier: MIT
"""The rival of benchmarks/gpu.sh: the paper's algorithm with PyTorch, its inner loop fused into one Triton kernel per block.

Factor and loop of a 4096 x 4096 weight, 4 bits, groups of 128, min-max scales, natural order. The best of several tile
sizes counts. For information, also the same loop in eager PyTorch. Prints milliseconds, one figure per line.
"""
import time

import torch
import triton
import triton.language as tl

ROWS, COLUMNS, BLOCK, DEVICE = 4096, 4096, 128, "cuda"


@triton.jit
def round_block(weight, quantized, errors, upper, scales, columns, first, TILE: tl.constexpr, WIDTH: tl.constexpr):
    """A tile of rows through a block of columns; the tile stays in registers."""
    row = tl.program_id(0) * TILE + tl.arange(0, TILE)
    col = tl.arange(0, WIDTH)
    place = row[:, None] * columns + first + col[None, :]
    w = tl.load(weight + place)
    scale = tl.load(scales + row)
    q = tl.zeros([TILE, WIDTH], tl.float32)
    e = tl.zeros([TILE, WIDTH], tl.float32)
    for i in range(WIDTH):
        here = col == i
        u = tl.load(upper + (first + i) * columns + first + col)
        pivot = tl.sum(tl.where(here, u, 0.0), 0)
        x = tl.sum(tl.where(here[None, :], w, 0.0), 1)
        code = tl.minimum(tl.maximum(tl.floor(x / scale + 0.5) + 8.0, 0.0), 15.0)
        rounded = scale * (code - 8.0)
        error = (x - rounded) / pivot
        w -= error[:, None] * tl.where(col > i, u, 0.0)[None, :]
        q = tl.where(here[None, :], rounded[:, None], q)
        e = tl.where(here[None, :], error[:, None], e)
    tl.store(quantized + place, q)
    tl.store(errors + row[:, None] * WIDTH + col[None, :], e)


def scales_of(block):
    return block.abs().amax(1).clamp_min(1e-8) * (2.0 / 15.0)


def factor(hessian):
    h = hessian + 0.01 * hessian.diagonal().mean() * torch.eye(COLUMNS, device=DEVICE)
    return torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(h)), upper=True).contiguous()


def fused(weight, upper, tile, warps):
    w, q = weight.clone(), torch.empty_like(weight)
    errors = torch.empty(ROWS, BLOCK, device=DEVICE)
    for first in range(0, COLUMNS, BLOCK):
        last = first + BLOCK
        scales = scales_of(w[:, first:last])
        round_block[(ROWS // tile,)](w, q, errors, upper, scales, COLUMNS, first, TILE=tile, WIDTH=BLOCK, num_warps=warps)
        if last < COLUMNS:
            w[:, last:].addmm_(errors, upper[first:last, last:], alpha=-1)
    return q


def eager(weight, upper):
    w, q = weight.clone(), torch.empty_like(weight)
    for first in range(0, COLUMNS, BLOCK):
        last = first + BLOCK
        block, u = w[:, first:last].clone(), upper[first:last, first:last]
        scales, errors = scales_of(block), torch.zeros(ROWS, BLOCK, device=DEVICE)
        for i in range(BLOCK):
            x = block[:, i]
            rounded = scales * (torch.clamp(torch.floor(x / scales + 0.5) + 8, 0, 15) - 8)
            error = (x - rounded) / u[i, i]
            block[:, i:] -= error.unsqueeze(1) * u[i, i:].unsqueeze(0)
            errors[:, i], q[:, first + i] = error, rounded
        w[:, last:] -= errors @ upper[first:last, last:]
    return q


def best(runs, call):
    call()
    least = float("inf")
    for _ in range(runs):
        torch.cuda.synchronize()
        start = time.perf_counter()
        call()
        torch.cuda.synchronize()
        least = min(least, time.perf_counter() - start)
    return 1e3 * least


def main():
    torch.manual_seed(1)
    torch.backends.cuda.matmul.allow_tf32 = False
    x = torch.randn(2 * COLUMNS, COLUMNS, device=DEVICE)
    x[:, 1:] += 0.7 * x[:, :-1].clone()
    hessian, weight = x.T @ x / x.shape[0], torch.randn(ROWS, COLUMNS, device=DEVICE)
    upper = factor(hessian)
    losses = [(((weight - q) @ hessian) * (weight - q)).sum().item() for q in (fused(weight, upper, 16, 4), eager(weight, upper))]
    if not 0.98 < losses[0] / losses[1] < 1.02:
        raise SystemExit(f"the fused loop does not do what the eager one does: losses {losses}")
    factor_ms = best(5, lambda: factor(hessian))
    loop_ms, tile, warps = min((best(5, lambda: fused(weight, upper, tile, warps)), tile, warps)
                               for tile in (8, 16, 32, 64) for warps in (2, 4, 8))
    eager_ms = best(1, lambda: eager(weight, upper))
    print(f"Triton {triton.__version__}, PyTorch {torch.__version__}: tiles of {tile} rows, {warps} warps")
    print(f"rival factor      {factor_ms:9.3f} ms")
    print(f"rival loop        {loop_ms:9.3f} ms")
    print(f"rival eager loop  {eager_ms:9.3f} ms (for information)")
    print(f"rival factor+loop {factor_ms + loop_ms:9.3f} ms")


main()
