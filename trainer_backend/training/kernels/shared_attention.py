"""Attention of a row that several processes share: each has queries of its own and all keys.

Keys and values, few where heads share them, are gathered before every layer's attention; their
gradients are summed over the processes. Documents stay apart and windows hold, as in a row of one
process. Which process has which tokens is told; the row is cut elsewhere.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint

BLOCK = 1024  # queries at a time where a mask is written out


@dataclass(frozen=True)
class Share:
    """One process's part of a row.

    `parts` are the tokens of each process as (begin, end) pieces, `lengths` those of the row's
    documents. After the tokens of its pieces a process has one token more, which sees nothing.
    """

    rank: int
    parts: tuple[tuple[tuple[int, int], ...], ...]
    lengths: tuple[int, ...]
    group: Any = None

    @property
    def own(self) -> tuple[tuple[int, int], ...]:
        return self.parts[self.rank]

    def documents(self) -> Iterator[tuple[int, int]]:
        begin = 0
        for length in self.lengths:
            yield begin, begin + length
            begin += length


_current: list[Share] = []


@contextmanager
def shared_row(share: Share) -> Iterator[None]:
    """Let attention inside (forward and backward) be that of a shared row."""
    _current.append(share)
    try:
        yield
    finally:
        _current.pop()


def current_share() -> Share | None:
    """The share in whose shared_row() the caller is."""
    return _current[-1] if _current else None


def sizes(parts: tuple[tuple[tuple[int, int], ...], ...]) -> list[int]:
    """Tokens of each process."""
    return [sum(end - begin for begin, end in pieces) for pieces in parts]


class _Gathered(torch.autograd.Function):
    """Rows [1, heads, own tokens, width] of all processes, in the order of the row."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, share: Share) -> Tensor:
        ctx.share = share
        counts = sizes(share.parts)
        padded = pad(own, (0, 0, 0, max(counts) - own.shape[2])).contiguous()
        found = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(found, padded, group=share.group)
        whole = own.new_empty(*own.shape[:2], sum(share.lengths), own.shape[3])
        for rows, pieces in zip(found, share.parts, strict=True):
            at = 0
            for begin, end in pieces:
                whole[:, :, begin:end] = rows[:, :, at : at + end - begin]
                at += end - begin
        return whole

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        summed = grad.contiguous().float()
        dist.all_reduce(summed, group=ctx.share.group)
        own = torch.cat([summed[:, :, begin:end] for begin, end in ctx.share.own], dim=2)
        return own.to(grad.dtype), None


def shared_attention(
    share: Share, query: Tensor, key: Tensor, value: Tensor, window: int, scale: float
) -> Tensor:
    """Attention for [1, heads, own tokens + 1, width]; returns [1, own tokens + 1, heads, width].

    `window` (0: none) is how many tokens of its document a token sees, itself included. Keys and
    values have one width.
    """
    query, heads = query[:, :, :-1], key.shape[1]
    whole = _Gathered.apply(torch.cat([key, value], dim=1)[:, :, :-1], share)
    keys, values = whole[:, :heads], whole[:, heads:]
    found, at = [], 0
    for begin, end in share.own:
        for first, last in share.documents():
            start, stop = max(begin, first), min(end, last)
            if start >= stop:
                continue
            rows = slice(at + start - begin, at + stop - begin)
            seen = slice(max(first, start - window + 1) if window else first, stop)
            piece = (query[:, :, rows], keys[:, :, seen], values[:, :, seen])
            found.append(_lower_right(*piece, window, scale))
        at += end - begin
    out = torch.cat(found, dim=2) if found else query
    # a process without tokens still takes part when gradients of keys are summed
    idle = 0 if found else whole.sum() * 0
    return pad(out, (0, 0, 0, 1)).transpose(1, 2) + idle


def _lower_right(query: Tensor, key: Tensor, value: Tensor, window: int, scale: float) -> Tensor:
    """The queries are the last tokens of the keys; each sees those up to itself."""
    count, before = query.shape[2], key.shape[2] - query.shape[2]
    grouped = query.shape[1] != key.shape[1]
    if not before and not (window and count > window):
        return scaled_dot_product_attention(
            query, key, value, is_causal=True, scale=scale, enable_gqa=grouped
        )
    return in_blocks(query, key, value, window, scale)


def in_blocks(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    window: int,
    scale: float,
    softcap: float | None = None,
) -> Tensor:
    """Causal attention of the last tokens, a block of queries at a time; [1, heads, tokens, width].

    The weights of a block are computed again in the backward pass: memory grows with the length and
    not with its square.
    """
    count, before = query.shape[2], key.shape[2] - query.shape[2]
    found = []
    for at in range(0, count, BLOCK):
        rows = query[:, :, at : at + BLOCK]
        last = before + at + rows.shape[2]
        first = max(0, before + at - window + 1) if window else 0
        seen = key[:, :, first:last], value[:, :, first:last]
        found.append(checkpoint(_block, rows, *seen, window, scale, softcap, use_reentrant=False))
    return torch.cat(found, dim=2)


def _block(
    rows: Tensor, key: Tensor, value: Tensor, window: int, scale: float, softcap: float | None
) -> Tensor:
    """Attention of the last rows of the keys."""
    count = key.shape[2]
    places = torch.arange(count, device=rows.device)
    own = places[count - rows.shape[2] :, None]
    seen = (places <= own) & (places > own - (window or count))
    if softcap is None:
        grouped = rows.shape[1] != key.shape[1]
        return scaled_dot_product_attention(
            rows, key, value, attn_mask=seen, scale=scale, enable_gqa=grouped
        )
    groups = rows.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    scores = torch.tanh(rows @ key.transpose(2, 3) * (scale / softcap)) * softcap
    scores = scores.masked_fill(~seen, torch.finfo(scores.dtype).min)
    return torch.softmax(scores, dim=-1, dtype=torch.float32).to(rows.dtype) @ value
