"""Cross-entropy in one Triton kernel: logits are read twice, and their gradient written over them.

Loss, hits and entropy come from the first reading (online softmax, arXiv 1805.02867), the gradient
from the second. Numbers are those of the PyTorch loss. liger-kernel's cross-entropy, which works
alike, has neither entropy nor DFT and waits for the GPU to count tokens. Importing this needs
Triton; which device uses it is not decided here.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

LARGEST_BLOCK = 16384  # logits that a program holds at a time


@triton.jit
def _bend(
    raw: tl.tensor, scale: tl.tensor, softcap: tl.tensor, CAPPED: tl.constexpr
) -> tuple[tl.tensor, tl.tensor]:
    """Float32 logits as the softmax sees them, and tanh(logits / softcap) (0 without a cap)."""
    x = raw.to(tl.float32) * scale
    bent = x * 0.0
    if CAPPED:
        # tanh by exp: the interpreter has no tanh. exp overflows to infinity, which gives 1
        bent = 1.0 - 2.0 / (tl.exp(2.0 * x / softcap) + 1.0)
        x = bent * softcap
    return x, bent


@triton.jit
def _cross_entropy(  # noqa: PLR0913, PLR0915 - a kernel is called with all it reads, in one piece
    logits: tl.tensor,
    row_stride: tl.tensor,
    targets: tl.tensor,
    terms: tl.tensor,
    term_stride: tl.tensor,
    columns: tl.tensor,
    scale: tl.tensor,
    softcap: tl.tensor,
    smoothing: tl.tensor,
    CAPPED: tl.constexpr,
    SMOOTHED: tl.constexpr,
    WEIGHTED: tl.constexpr,
    WRITES: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    row = tl.program_id(0).to(tl.int64)
    logits += row * row_stride
    target = tl.load(targets + row)
    inside = tl.arange(0, BLOCK)

    highest = -3.4e38  # not minus infinity, of which a difference is no number
    total = 0.0  # sum of exp(x - highest)
    turned = 0.0  # sum of exp(x - highest) * (x - highest), for the entropy
    own = 0.0
    summed = 0.0
    for start in range(0, columns, BLOCK):
        place = start + inside
        there = place < columns
        x, _ = _bend(tl.load(logits + place, mask=there, other=0.0), scale, softcap, CAPPED)
        own += tl.sum(tl.where(place == target, x, 0.0), axis=0)
        if SMOOTHED:
            summed += tl.sum(tl.where(there, x, 0.0), axis=0)
        x = tl.where(there, x, float("-inf"))
        top = tl.maximum(highest, tl.max(x, axis=0))
        step = highest - top
        powers = tl.exp(x - top)
        shrink = tl.exp(step)
        turned = shrink * (turned + step * total)
        turned += tl.sum(powers * tl.where(powers == 0.0, 0.0, x - top), axis=0)
        total = shrink * total + tl.sum(powers, axis=0)
        highest = top

    log_total = tl.log(total)
    normaliser = highest + log_total
    own = tl.where((target >= 0) & (target < columns), own, float("nan"))  # no such token
    loss = normaliser - own
    if SMOOTHED:
        loss = (1.0 - smoothing) * loss + smoothing * (normaliser - summed / columns)
    weight = 1.0
    if WEIGHTED:
        weight = tl.exp(own - normaliser)
        loss = loss * weight
    tl.store(terms + row, loss)
    tl.store(terms + term_stride + row, tl.where(own >= highest, 1.0, 0.0))
    tl.store(terms + 2 * term_stride + row, log_total - turned / total)

    if WRITES:
        for start in range(0, columns, BLOCK):
            place = start + inside
            there = place < columns
            raw = tl.load(logits + place, mask=there, other=0.0)
            x, bent = _bend(raw, scale, softcap, CAPPED)
            slope = tl.exp(x - normaliser)
            if SMOOTHED:
                slope -= smoothing / columns
                slope -= tl.where(place == target, 1.0 - smoothing, 0.0)
            else:
                slope -= tl.where(place == target, 1.0, 0.0)
            if WEIGHTED:
                slope *= weight
            if CAPPED:
                slope *= 1.0 - bent * bent
            slope *= scale
            tl.store(logits + place, slope.to(raw.dtype), mask=there)


def cross_entropy_(  # noqa: PLR0913 - the loss's settings
    logits: Tensor,
    targets: Tensor,
    terms: Tensor,
    *,
    logit_scale: float = 1.0,
    softcap: float | None = None,
    label_smoothing: float = 0.0,
    weighted: bool = False,
    writes: bool = True,
) -> None:
    """Write loss, hits and entropy of each row into `terms`; with `writes`, gradients into logits.

    `logits` [rows, vocabulary] in any float format, dense along the vocabulary; `targets` int64
    [rows]; `terms` float32 [3, rows], in nats. The gradient is that of the summed loss by the raw
    logits. `weighted` is DFT: the loss times the token's own probability, which gets no gradient.
    A target outside the vocabulary gives NaN.
    """
    rows, columns = logits.shape
    if rows == 0:
        return
    block = min(LARGEST_BLOCK, triton.next_power_of_2(columns))
    with torch.cuda.device(logits.device) if logits.is_cuda else torch.no_grad():
        _cross_entropy[(rows,)](
            logits,
            logits.stride(0),
            targets,
            terms,
            terms.stride(0),
            columns,
            logit_scale,
            1.0 if softcap is None else softcap,
            label_smoothing,
            CAPPED=softcap is not None,
            SMOOTHED=label_smoothing != 0.0,
            WEIGHTED=weighted,
            WRITES=writes,
            BLOCK=block,
            num_warps=16 if block >= 8192 else 8 if block >= 2048 else 4,
        )
