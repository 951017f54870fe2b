"""A row and its gradients in tensors that stay where they are while their contents change.

So the same work can be queued again for another row of the same shape. Which rows are alike, and
who queues the work, is decided here for the former and elsewhere for the latter.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from trainer_backend.tokens.tokenise import IGNORED
from trainer_backend.training.kernels.attention import FixedLayout
from trainer_backend.training.steps.filling import Row

SHARES = 8  # in which the trained tokens of a row are counted


class Shape(NamedTuple):
    """The sizes of a joined row; all but `tokens` are upper bounds."""

    tokens: int
    documents: int
    longest: int  # tokens of a document
    trained: int  # tokens


def shape_of(lengths: Sequence[int], trained: int | None) -> Shape:
    """The shape that holds a row of these documents with so many `trained` tokens (None: any).

    Documents and the longest of them are rounded up to a power of two, trained tokens to an eighth
    of the row: attention skips an empty document, and the loss computes what is left out for
    nothing, so few shapes cost little.
    """
    tokens = sum(lengths)
    most, share = max(tokens - 1, 1), -(-tokens // SHARES)  # the first label is never trained
    places = most if trained is None else min(most, max(1, -(-trained // share)) * share)
    return Shape(tokens, _power(len(lengths)), min(tokens, _power(max(lengths))), places)


def _power(count: int) -> int:
    return 1 << (count - 1).bit_length()


class StaticRow:
    """The tensors of one shape on a device, to be filled with a row and the tokens of its step."""

    def __init__(self, shape: Shape, device: torch.device):
        def zeros(*sizes: int, dtype: torch.dtype = torch.int64) -> Tensor:
            return torch.zeros(sizes, dtype=dtype, device=device)

        self.shape = shape
        self.ids, self.positions = zeros(1, shape.tokens), zeros(1, shape.tokens)
        self.labels = zeros(1, shape.tokens)
        self.places = zeros(shape.trained)  # among all labels but the first
        self.borders = zeros(shape.documents + 1, dtype=torch.int32)
        self.items = zeros(dtype=torch.float32)  # trained tokens of the optimizer step

    @property
    def layout(self) -> FixedLayout:
        """The documents, as attention reads them."""
        return FixedLayout(self.borders, self.shape.tokens, self.shape.longest)

    @torch.no_grad()
    def load(self, row: Row, items: Tensor) -> None:
        """Take a filled row [1, tokens] of this shape over. Waits for no device."""
        assert isinstance(row.lengths, Sequence)
        self.ids.copy_(row.inputs["input_ids"])
        self.positions.copy_(row.inputs["position_ids"])
        self.labels.copy_(row.labels)
        # trained places first, in their order; those after them are of labels that are ignored
        ignored = (row.labels[0, 1:] == IGNORED).int()
        self.places.copy_(torch.argsort(ignored, stable=True)[: len(self.places)])
        self.borders.copy_(self._borders_of(row.lengths), non_blocking=True)
        self.items.copy_(items)

    def _borders_of(self, lengths: Sequence[int]) -> Tensor:
        empty = [0] * (self.shape.documents - len(lengths))
        ends = torch.tensor([0, *lengths, *empty], dtype=torch.int32).cumsum(0, dtype=torch.int32)
        return ends.pin_memory() if self.borders.is_cuda else ends


class StaticGradients:
    """One buffer for the gradient of each weight, into which every replay adds."""

    def __init__(self, weights: Sequence[torch.nn.Parameter]):
        self._weights = weights
        self._held = [torch.zeros_like(one) for one in weights]

    @torch.no_grad()
    def attach(self) -> None:
        """Let the weights have these gradients: what they had of this step before, else zeros."""
        older = [one.grad for one in self._weights]
        fresh = [held for held, old in zip(self._held, older, strict=True) if old is None]
        if fresh:
            torch._foreach_zero_(fresh)
        for weight, held, old in zip(self._weights, self._held, older, strict=True):
            if old is not None and old is not held:
                held.copy_(old)
            weight.grad = held
