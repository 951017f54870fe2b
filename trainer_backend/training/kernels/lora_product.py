"""The product of adapted layers that read one input (LoRA, arXiv 2106.09685), as one function.

It knows tensors only: which layers belong together and in which number format they compute is
decided by the caller.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import bitsandbytes
import torch
from torch import Tensor
from torch.nn.functional import linear


class Operands(NamedTuple):
    """One layer: the frozen weight [out, in] and bias, B [out, rank], and what B A is scaled by.

    A weight of four bits is given as its layer, and unpacked anew for each product.
    """

    weight: "Tensor | bitsandbytes.nn.Linear4bit"
    bias: Tensor | None
    b: Tensor
    scale: float


class Product(NamedTuple):
    """Layers that read one input, their A as one matrix [sum of ranks, in], and whose copies these
    are: while a graph holds `owner`, they must not be overwritten."""

    layers: tuple[Operands, ...]
    stack: Tensor
    owner: object


class AdaptedLinears(torch.autograd.Function):
    """x W' + bias + scale (d A') B' of one or more layers, all but W, bias and B shared.

    `x` and `d` (x after dropout; None: x itself) are [..., in]. `masters` are the weights that
    learn, all A, then all B: their gradients are made in their own number format. Each sum is made
    inside a product, so that nothing is added afterwards. Returns one [..., out] a layer.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, dropped: Tensor | None, product: Product, *masters: Tensor
    ) -> tuple[Tensor, ...]:
        layers, stack = product.layers, product.stack
        rows = x.flatten(0, -2)
        source = rows if dropped is None else dropped.flatten(0, -2)
        ranks = [layer.b.shape[1] for layer in layers]
        low = _scaled_low(source, stack, layers, ranks)
        outs = []
        for layer, part in zip(layers, _columns(low, ranks), strict=True):
            out = linear(rows, _unpacked(layer.weight, rows.dtype), layer.bias)
            out.addmm_(part, layer.b.t())
            outs.append(out.view(*x.shape[:-1], -1))
        ctx.save_for_backward(source, low, stack, *(layer.b for layer in layers))
        # kept here, a frozen weight is never moved to main memory as an activation would be
        ctx.product, ctx.shared, ctx.ranks = product, dropped is None, ranks
        ctx.formats = [master.dtype for master in masters]
        ctx.set_materialize_grads(False)
        return tuple(outs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        source, low, stack, *bs = ctx.saved_tensors
        layers, ranks = ctx.product.layers, ctx.ranks
        count = len(layers)
        needs_x, needs_dropped, _, *learns = ctx.needs_input_grad
        for_low, for_x = torch.empty_like(low), None
        for_masters: list[Tensor | None] = [None] * (2 * count)
        parts = zip(_columns(for_low, ranks), _columns(low, ranks), strict=True)
        for i, (part, own) in enumerate(parts):
            grad = grads[i]
            if grad is None:
                part.zero_()
                continue
            g = grad.flatten(0, -2)
            part.addmm_(g, bs[i], beta=0, alpha=layers[i].scale)
            if needs_x:
                for_x = _add_product(for_x, g, _unpacked(layers[i].weight, g.dtype))
            if learns[count + i]:
                for_masters[count + i] = _gradient(g.t(), own, ctx.formats[count + i])
        if any(learns[:count]):
            for_stack = _gradient(for_low.t(), source, ctx.formats[0])
            for i, own in enumerate(rows_of(for_stack, ranks)):
                for_masters[i] = None if grads[i] is None else own
        shape, for_dropped = (*next(g for g in grads if g is not None).shape[:-1], -1), None
        if needs_x and ctx.shared:
            for_x = _add_product(for_x, for_low, stack).view(shape)
        elif needs_dropped:
            for_dropped = (for_low @ stack).view(shape)
            for_x = None if for_x is None else for_x.view(shape)
        return for_x, for_dropped, None, *for_masters


def rows_of(stack: Tensor, ranks: list[int]) -> list[Tensor]:
    """The rows of each layer, as views that may be written to."""
    ends = [sum(ranks[: i + 1]) for i in range(len(ranks))]
    return [stack[end - rank : end] for end, rank in zip(ends, ranks, strict=True)]


def _columns(low: Tensor, ranks: list[int]) -> Sequence[Tensor]:
    return low.split(ranks, 1) if len(ranks) > 1 else (low,)


def _scaled_low(
    source: Tensor, stack: Tensor, layers: tuple[Operands, ...], ranks: list[int]
) -> Tensor:
    """scale (d A') for all layers [rows, sum of ranks]; one scale for all costs nothing."""
    scales = [layer.scale for layer in layers]
    if len(set(scales)) == 1:
        low = source.new_empty(len(source), len(stack))
        return low.addmm_(source, stack.t(), beta=0, alpha=scales[0])
    low = source @ stack.t()
    for part, scale in zip(_columns(low, ranks), scales, strict=True):
        part.mul_(scale)
    return low


def _add_product(total: Tensor | None, left: Tensor, right: Tensor) -> Tensor:
    return left @ right if total is None else total.addmm_(left, right)


def _unpacked(weight: "Tensor | bitsandbytes.nn.Linear4bit", dtype: torch.dtype) -> Tensor:
    if isinstance(weight, Tensor):
        return weight
    packed: Any = weight.weight
    return bitsandbytes.functional.dequantize_4bit(packed.data, packed.quant_state).to(dtype)


def _gradient(left: Tensor, right: Tensor, dtype: torch.dtype) -> Tensor:
    """left @ right in `dtype`, straight from the product where the device can write that."""
    if left.dtype == dtype:
        return left @ right
    if dtype == torch.float32 and writes_float32(left.device.type, left.dtype):
        return torch.mm(left, right, out_dtype=dtype)
    return (left @ right).to(dtype)


@lru_cache(maxsize=8)
def writes_float32(device: str, dtype: torch.dtype) -> bool:
    """Whether a product of two `dtype` matrices can be written in float32, unrounded; tried once.

    Then a gradient needs no pass of its own to be cast.
    """
    if device == "cpu":
        return False
    numbers = torch.arange(1, 257, device=device).reshape(16, 16).to(dtype)
    try:
        wide = torch.mm(numbers, numbers.t(), out_dtype=torch.float32)
    except (RuntimeError, NotImplementedError, TypeError):
        return False
    return torch.equal(wide, numbers.float() @ numbers.float().t())
