"""Attention over packed documents on a CPU, as one autograd function for the whole row.

Slices in autograd would zero a copy of the whole row per document in the backward pass.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
LONGEST_DENSE = 1024  # tokens: in half precision matrix products beat the flash kernel up to here
BLOCK = 512  # queries at a time of a document that is longer than its window
Three = tuple[Tensor, Tensor, Tensor]


class PackedAttention(torch.autograd.Function):
    """Causal attention within each document.

    `query`, `key`, `value` are [1, heads, tokens, width], keys and values with as many or fewer
    heads; `lengths` are the documents' tokens, `window` (0: none) how many of them a token sees.
    Returns [1, tokens, heads, width].
    """

    @staticmethod
    def forward(  # noqa: PLR0913 - autograd's way
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        lengths: tuple[int, ...],
        window: int,
        scale: float,
    ) -> Tensor:
        rows = query.shape[2]
        out = query.new_empty(1, rows, query.shape[1], value.shape[3])
        sums = []
        for part, length in _documents(lengths):
            q, k, v = _grouped(query, key, value, part)
            if window and length > window + BLOCK:
                result, lse = _banded(q, k, v, window, scale), None
            elif _is_dense(query, length, window):
                result, lse = _dense(q, k, v, window, scale), None
            else:
                heads = q.shape[1] // length
                result, lse = _flash(
                    *_as_flash(q, k, v, heads), 0.0, True, attn_mask=None, scale=scale
                )
            _write(out, part, result, length)
            sums.append(lse)
        kept = [lse for lse in sums if lse is not None]
        ctx.save_for_backward(query, key, value, out if kept else None, *kept)
        ctx.settings = lengths, window, scale
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        lengths, window, scale = ctx.settings
        query, key, value, out, *sums = ctx.saved_tensors
        grads = [torch.empty_like(t) for t in (query, key, value)]
        waiting = iter(sums)
        for part, length in _documents(lengths):
            q, k, v = _grouped(query, key, value, part)
            g = _heads_first(grad, part, k.shape[0])
            if window and length > window + BLOCK:
                found = _banded_backward(g, q, k, v, window, scale)
            elif _is_dense(query, length, window):
                found = _dense_backward(g, q, k, v, window, scale)
            else:
                o = _heads_first(out, part, k.shape[0])
                found = _flash_grads(g, q, k, v, o, next(waiting), scale)
            for whole, piece in zip(grads, found, strict=True):
                whole[0, :, part].copy_(piece.reshape(whole.shape[1], length, -1))
        return *grads, None, None, None


def _documents(lengths: tuple[int, ...]) -> Iterator[tuple[slice, int]]:
    start = 0
    for length in lengths:
        yield slice(start, start + length), length
        start += length


def _is_dense(query: Tensor, length: int, window: int) -> bool:
    half = query.dtype in (torch.bfloat16, torch.float16)
    return (half and length <= LONGEST_DENSE) or bool(window and length > window)


def _grouped(query: Tensor, key: Tensor, value: Tensor, part: slice) -> Three:
    """One document as [key heads, query heads per key head * tokens, width]."""
    k, v = key[0, :, part], value[0, :, part]
    return query[0, :, part].reshape(k.shape[0], -1, query.shape[3]), k, v


def _heads_first(rows: Tensor, part: slice, key_heads: int) -> Tensor:
    """[1, tokens, heads, width] to the grouped shape."""
    return rows[0, part].transpose(0, 1).reshape(key_heads, -1, rows.shape[3])


def _write(out: Tensor, part: slice, result: Tensor, length: int) -> None:
    out[0, part].copy_(result.reshape(out.shape[2], length, out.shape[3]).transpose(0, 1))


def _wide(t: Tensor) -> Tensor:
    """Pad with zero rows to a multiple of 32: softmax and products are slow over odd widths."""
    return torch.nn.functional.pad(t, (0, 0, 0, -t.shape[1] % 32))


def _probabilities(q: Tensor, k: Tensor, length: int, window: int, scale: float) -> Tensor:
    mask = _mask(length, k.shape[1], window, q.dtype)
    mask = mask.repeat(q.shape[1] // length, 1).expand(len(q), -1, -1)
    return torch.softmax(torch.baddbmm(mask, q, k.transpose(1, 2), alpha=scale), dim=-1)


def _dense(q: Tensor, k: Tensor, v: Tensor, window: int, scale: float) -> Tensor:
    p = _probabilities(q, _wide(k), k.shape[1], window, scale)
    return torch.bmm(p, _wide(v))


def _dense_backward(g: Tensor, q: Tensor, k: Tensor, v: Tensor, window: int, scale: float) -> Three:
    length = k.shape[1]
    k, v = _wide(k), _wide(v)
    p = _probabilities(q, k, length, window, scale)
    for_p = torch.bmm(g, v.transpose(1, 2))
    slope = torch._softmax_backward_data(for_p, p, -1, p.dtype).mul_(scale)
    for_k, for_v = torch.bmm(slope.transpose(1, 2), q), torch.bmm(p.transpose(1, 2), g)
    return torch.bmm(slope, k), for_k[:, :length], for_v[:, :length]


# A window over a long document: memory grows with its length, not with its square


def _banded(q: Tensor, k: Tensor, v: Tensor, window: int, scale: float) -> Tensor:
    out = q.new_empty(q.shape[0], q.shape[1] // k.shape[1], k.shape[1], v.shape[2])
    for at, seen in _bands(k.shape[1], window):
        p = _band_probabilities(q, k, at, seen, window, scale)
        out[:, :, at] = torch.bmm(p, v[:, seen]).unflatten(1, (out.shape[1], -1))
    return out.flatten(1, 2)


def _banded_backward(
    g: Tensor, q: Tensor, k: Tensor, v: Tensor, window: int, scale: float
) -> Three:
    for_q, for_k, for_v = (torch.zeros_like(t, dtype=torch.float32) for t in (q, k, v))
    for at, seen in _bands(k.shape[1], window):
        p = _band_probabilities(q, k, at, seen, window, scale)
        rows, grads = (_rows_of(t, k.shape[1], at) for t in (q, g))
        for_p = torch.bmm(grads, v[:, seen].transpose(1, 2))
        slope = torch._softmax_backward_data(for_p, p, -1, p.dtype).mul_(scale)
        for_v[:, seen] += torch.bmm(p.transpose(1, 2), grads)
        for_k[:, seen] += torch.bmm(slope.transpose(1, 2), rows)
        own = for_q.unflatten(1, (-1, k.shape[1]))[:, :, at]
        own += torch.bmm(slope, k[:, seen]).view_as(own)
    return for_q.to(q.dtype), for_k.to(k.dtype), for_v.to(v.dtype)


def _bands(length: int, window: int) -> Iterator[tuple[slice, slice]]:
    """(queries, the keys that any of them sees)."""
    for start in range(0, length, BLOCK):
        end = min(start + BLOCK, length)
        yield slice(start, end), slice(max(0, start - window + 1), end)


def _rows_of(t: Tensor, length: int, at: slice) -> Tensor:
    return t.unflatten(1, (-1, length))[:, :, at].flatten(1, 2)


def _band_probabilities(
    q: Tensor, k: Tensor, at: slice, seen: slice, window: int, scale: float
) -> Tensor:
    own = torch.arange(at.start, at.stop)[:, None]
    places = torch.arange(seen.start, seen.stop)
    hidden = (places > own) | (places <= own - window)
    scores = torch.bmm(_rows_of(q, k.shape[1], at), k[:, seen].transpose(1, 2)).mul_(scale)
    scores.unflatten(1, (-1, len(own))).masked_fill_(hidden, float("-inf"))
    return torch.softmax(scores, dim=-1)


def _as_flash(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Three:
    """Views with as many key heads as query heads, as the kernel requires; nothing is copied."""
    shape = (k.shape[0], heads, *k.shape[1:])
    return (
        q.unflatten(1, (heads, -1)),
        k[:, None].expand(shape),
        v[:, None].expand(*shape[:3], v.shape[2]),
    )


def _flash_grads(  # noqa: PLR0913 - the kernel's own arguments
    g: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, scale: float
) -> Three:
    heads = q.shape[1] // k.shape[1]
    views = _as_flash(q, k, v, heads)
    g, out = (t.unflatten(1, (heads, -1)) for t in (g, out))
    dq, dk, dv = _flash_backward(g, *views, out, lse, 0.0, True, attn_mask=None, scale=scale)
    return dq, dk.sum(1), dv.sum(1)


@lru_cache(maxsize=64)
def _mask(length: int, width: int, window: int, dtype: torch.dtype) -> Tensor:
    """Minus infinity for later tokens and for those before the window."""
    seen = torch.ones(length, width, dtype=torch.bool).tril()
    if window:
        seen &= ~seen.tril(-window)
    return torch.zeros(length, width, dtype=dtype).masked_fill_(~seen, float("-inf"))
