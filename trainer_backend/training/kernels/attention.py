"""Variable-length attention: documents packed into one row attend only within themselves.

What flash-attn's varlen functions do (FlashAttention-2, arXiv 2307.08691), on any device: a
variable-length kernel on CUDA, one product per document elsewhere. Registered with transformers'
AttentionInterface as PER_DOCUMENT. Which models use it, and which kernel, is not decided here.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import dropout as drop
from torch.nn.functional import scaled_dot_product_attention, softmax
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from trainer_backend.training.kernels.cpu_attention import PackedAttention
from trainer_backend.training.kernels.shared_attention import (
    current_share,
    in_blocks,
    shared_attention,
)
from trainer_backend.training.kernels.varlen import VarlenKernel, kernel_for

PER_DOCUMENT = "per_document"
_NO_WINDOW = 0
_UNREAD = -1  # in the place of lengths that change
LONGEST_WHOLE = 2048  # tokens of a document whose attention weights are written out at once
_current: list["Layout"] = []  # of the row in the forward pass


class Layout:
    """The documents of a row, made once a step: `lengths` in tokens, `window` (0: none)."""

    def __init__(self, lengths: tuple[int, ...], window: int):
        self._lengths, self.window = lengths, window
        self.tokens, self.longest = sum(lengths), max(lengths)
        self._starts: dict[torch.device, Tensor] = {}

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens of each document."""
        return self._lengths

    def windowed(self, window: int) -> "Layout":
        """The same documents seen through a window."""
        return _layout(self._lengths, window)

    def numbers(self) -> list[int]:
        """What a copied mask still tells: the window, then the lengths."""
        return [self.window, *self._lengths]

    def starts(self, device: torch.device) -> Tensor:
        """int32 [documents + 1]: where each document starts, and where the last one ends."""
        if device not in self._starts:
            ends = torch.tensor([0, *self.lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32)
            if device.type == "cuda":  # from pinned memory: a usual copy waits for the GPU
                ends = ends.pin_memory().to(device, non_blocking=True)
            self._starts[device] = ends.to(device)
        return self._starts[device]


class FixedLayout(Layout):
    """Documents in a row of fixed size whose borders stand in a tensor and may change.

    `starts` is int32 [documents + 1]; documents at its end may be empty. `longest` is an upper
    bound. So the work that is queued for a device is the same for all contents.
    """

    def __init__(self, starts: Tensor, tokens: int, longest: int, window: int = 0):
        super().__init__((longest,), window)
        self.tokens, self._borders = tokens, starts

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens of each document that has any. Waits for the device."""
        return tuple(one for one in self._borders.diff().tolist() if one)

    def windowed(self, window: int) -> Layout:
        """The same documents seen through a window."""
        return FixedLayout(self._borders, self.tokens, self.longest, window)

    def numbers(self) -> list[int]:
        """Nothing: lengths that were read once would be those of another row later."""
        return [self.window, _UNREAD]

    def starts(self, device: torch.device) -> Tensor:
        """The borders themselves."""
        assert device == self._borders.device
        return self._borders


@lru_cache(maxsize=8)
def _layout(lengths: tuple[int, ...], window: int) -> Layout:
    return Layout(lengths, window)


@contextmanager
def document_layout(lengths: Sequence[int] | Layout | None) -> Iterator[None]:
    """Set the document lengths (in tokens) of the row for the forward passes inside the block.

    None or an empty list: attention is that of `sdpa`.
    """
    if not lengths:
        yield
        return
    _current.append(lengths if isinstance(lengths, Layout) else _layout(tuple(lengths), _NO_WINDOW))
    try:
        yield
    finally:
        _current.pop()


def per_document_mask(
    batch_size: int,
    q_length: int,
    attention_mask: Tensor | None = None,
    local_size: int | None = None,
    **kwargs: Any,
) -> Tensor | None:
    """The layout as an int32 tensor [window, length, length, ...]; without one, the `sdpa` mask.

    The model passes it to every layer like any mask, so layers recomputed by checkpointing get it.
    """
    custom = kwargs.get("use_vmap")  # a mask function of the model needs a full mask
    if _current and batch_size == 1 and q_length == _current[-1].tokens and not custom:
        layout = _current[-1].windowed(local_size or _NO_WINDOW)
        mask = torch.tensor(layout.numbers(), dtype=torch.int32)
        mask.documents = layout  # type: ignore[attr-defined]  # see _layout_of
        return mask
    if local_size is not None:
        kwargs["local_size"] = local_size
    return sdpa_mask(batch_size, q_length, attention_mask=attention_mask, **kwargs)


def per_document_attention(  # noqa: PLR0913 - the interface's signature
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attend within each document if the mask is a layout, else as `sdpa` does.

    `query`, `key`, `value` are [1, heads, tokens, width], keys and values with as many or fewer
    heads; returns ([1, tokens, heads, width], None). Raises ValueError for attention sinks.
    """
    softcap = kwargs.get("softcap")
    if kwargs.get("s_aux") is not None:
        raise ValueError("per-document attention has no attention sinks")
    if attention_mask is None or attention_mask.dim() != 1:
        if softcap is None:
            return sdpa_attention_forward(
                module,
                query,
                key,
                value,
                attention_mask,
                dropout=dropout,
                scaling=scaling,
                **kwargs,
            )
        return _capped(query, key, value, attention_mask, scaling, softcap, dropout).transpose(
            1, 2
        ), None
    layout = _layout_of(attention_mask)
    window = layout.window
    if torch.is_autocast_enabled(query.device.type):  # as autocast does for sdpa itself
        dtype = torch.get_autocast_dtype(query.device.type)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    share = current_share()
    if share is not None:
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        return shared_attention(share, query, key, value, window, scale), None
    kernel = None if dropout else _cuda_kernel(query, value, softcap)
    if kernel is not None:
        q, k, v = (x[0].transpose(0, 1).contiguous() for x in (query, key, value))
        starts = layout.starts(q.device)
        return kernel(q, k, v, starts, layout.longest, window, scaling, softcap)[None], None
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if query.device.type == "cpu" and softcap is None and not dropout and _same_width(query, value):
        return PackedAttention.apply(query, key, value, layout.lengths, window, scale), None
    parts, start = [], 0
    for length in layout.lengths:
        rows = slice(start, start + length)
        q, k, v = query[:, :, rows], key[:, :, rows], value[:, :, rows]
        parts.append(_one_document(q, k, v, window, scaling, softcap, dropout).transpose(1, 2))
        start += length
    return torch.cat(parts, dim=1), None


def _cuda_kernel(query: Tensor, value: Tensor, softcap: float | None) -> VarlenKernel | None:
    if not query.is_cuda or not _same_width(query, value):
        return None
    return kernel_for(query.device, query.dtype, query.shape[-1], softcap)


def _layout_of(mask: Tensor) -> Layout:
    """The layout that the mask carries; read from its numbers where a model has copied the mask."""
    layout = getattr(mask, "documents", None)
    if layout is not None:
        return layout
    window, *lengths = mask.tolist()
    if _UNREAD in lengths:
        raise ValueError("the model copies the mask that carries the layout of a row")
    return _layout(tuple(lengths), window)


def _one_document(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    window: int,
    scaling: float | None,
    softcap: float | None,
    dropout: float,
) -> Tensor:
    length = query.shape[2]
    if length > LONGEST_WHOLE and (softcap is not None or window) and not dropout:
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        return in_blocks(query, key, value, window, scale, softcap)
    mask = _band(length, window, query.device) if window and length > window else None
    if softcap is not None:
        return _capped(query, key, value, mask, scaling, softcap, dropout)
    return scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        dropout_p=dropout,
        scale=scaling,
        is_causal=mask is None,
        enable_gqa=query.shape[1] != key.shape[1],
    )


def _capped(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scaling: float | None,
    softcap: float,
    dropout: float,
) -> Tensor:
    """Soft-capped attention (Gemma 2, arXiv 2408.00118); no fused kernel has it on every device."""
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = torch.tanh(query @ key.transpose(2, 3) * (scale / softcap)) * softcap
    if mask is None and query.shape[2] > 1:
        mask = _band(query.shape[2], query.shape[2], query.device)
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    weights = softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    return drop(weights, dropout) @ value


@lru_cache(maxsize=64)
def _band(length: int, window: int, device: torch.device) -> Tensor:
    """Causal mask in which a token sees itself and the window - 1 tokens before it."""
    ones = torch.ones(length, length, dtype=torch.bool, device=device)
    return ones.tril() & ~ones.tril(-window)


def _same_width(query: Tensor, value: Tensor) -> bool:
    return query.shape[-1] == value.shape[-1]


AttentionInterface.register(PER_DOCUMENT, per_document_attention)
AttentionMaskInterface.register(PER_DOCUMENT, per_document_mask)
