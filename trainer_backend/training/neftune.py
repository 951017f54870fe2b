"""NEFTune (arXiv 2310.05914): uniform noise on the input embeddings, in training only.

The noise of a document of n tokens and d dimensions is at most alpha / sqrt(n·d), also where
documents are joined or padded to one row.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

# of the batch in the forward pass: the lengths of its joined documents, or its padding mask
_layouts: list[Sequence[int] | Tensor] = []


@contextmanager
def noise_by_length(seq_lengths: Sequence[int] | None, mask: Tensor | None) -> Iterator[None]:
    """Say how long the documents are whose embeddings are made inside the block.

    `seq_lengths`: those of the documents that are joined in one row; else `mask` [rows, tokens] is
    1 at each token of a row. Without either, all of a row is one document.
    """
    if seq_lengths:
        _layouts.append(seq_lengths)
    elif mask is not None and mask.dim() == 2:
        _layouts.append(mask)
    else:
        yield
        return
    try:
        yield
    finally:
        _layouts.pop()


@contextmanager
def noisy_embeddings(embedding: torch.nn.Module, alpha: float | None) -> Iterator[None]:
    """Add the noise to what `embedding` returns in the block, as long as it is in training mode."""
    if not alpha:
        yield
        return

    def add_noise(module: torch.nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        return output + _noise(output, alpha) if module.training else output

    hook = embedding.register_forward_hook(add_noise)
    try:
        yield
    finally:
        hook.remove()


def _noise(output: Tensor, alpha: float) -> Tensor:
    """Noise for embeddings [rows, tokens, width]."""
    rows, tokens, width = output.shape
    counts = _document_lengths(_layouts[-1]) if _layouts else torch.tensor([[tokens]])
    if counts.shape[0] not in (1, rows) or counts.shape[1] not in (1, tokens):
        counts = torch.tensor([[tokens]])  # another batch than that of the trainer
    bound = alpha / (counts.to(output.device) * width).float().sqrt()
    return torch.empty_like(output).uniform_(-1, 1) * bound[..., None].to(output.dtype)


def _document_lengths(layout: Sequence[int] | Tensor) -> Tensor:
    """For each token, or each row, the tokens of its document: [1, tokens] or [rows, 1]."""
    if isinstance(layout, Tensor):
        return layout.sum(dim=1, keepdim=True).clamp(min=1)
    counts = torch.tensor(layout)
    return counts.repeat_interleave(counts)[None]
