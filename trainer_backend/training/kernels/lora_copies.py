"""Copies of adapter weights in the number format of the products, made once a forward pass.

The float32 weights stay the parameters that learn. Which layers share a buffer is given.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from peft.tuners.lora.layer import LoraLayer
from torch import Tensor
from torch.nn import Parameter

_ALIGNED = 64  # elements: matrix products are fastest from aligned addresses


class Adapter(NamedTuple):
    """The one adapter that a layer computes with: A [rank, in], B [out, rank], its scale."""

    a: Tensor
    b: Tensor
    scale: float
    dropout: torch.nn.Module

    @property
    def drops(self) -> bool:
        """Whether the input of A differs from that of the layer."""
        return not isinstance(self.dropout, torch.nn.Identity)


def adapter_of(layer: LoraLayer) -> Adapter | None:
    """The adapter of a layer that trains with exactly one, neither switched off nor merged."""
    names = layer.active_adapters
    if len(names) != 1 or not layer.training or layer.disable_adapters or layer.merged_adapters:
        return None
    name = names[0]
    if name not in layer.lora_A:
        return None
    a, b = layer.lora_A[name].weight, layer.lora_B[name].weight
    return Adapter(a, b, layer.scaling[name], layer.lora_dropout[name])


class Cast(NamedTuple):
    """An adapter's A and B in the number format of the products; A is rows of `stack`."""

    a: Tensor
    b: Tensor
    stack: Tensor
    made_of: tuple


class LoraCopies:
    """The copies of one forward pass.

    They are made anew in every pass, in one call for all layers: optimizers may write weights in
    ways that leave no trace (bitsandbytes). Within the pass, and when a checkpointed part computes
    again, a copy is used only while its weights are the very same tensors, unchanged.
    """

    def __init__(self) -> None:
        self._casts: dict[LoraLayer, Cast] = {}

    def clear(self) -> None:
        """Forget all copies."""
        self._casts = {}

    def of(self, layer: LoraLayer, adapter: Adapter, dtype: torch.dtype) -> Cast | None:
        """The copies of this layer's adapter; None if there are none of its weights as they are."""
        cast = self._casts.get(layer)
        if cast is None or cast.b.dtype != dtype or cast.made_of != _state(adapter):
            return None
        return cast

    def refresh(self, sets: Iterable[Sequence[LoraLayer]], dtype: torch.dtype) -> None:
        """Copy the adapters of these layers into `dtype`; each set's A become one matrix.

        Sharded weights are left out, and so is what is in `dtype` and alone.
        """
        wanted = [part for layers in sets for part in _together(layers)]
        wanted = [part for part in wanted if len(part) > 1 or part[0][1].a.dtype != dtype]
        self._casts = {}
        if not wanted:
            return
        device = wanted[0][0][1].a.device
        wanted = [p for p in wanted if all(adapter.a.device == device for _, adapter in p)]
        room = _Room(sum(_size(part, dtype) for part in wanted), dtype, device)
        with torch.no_grad():
            for part in wanted:
                self._place(part, room)
            torch._foreach_copy_(room.copies, room.sources)

    def _place(self, part: list[tuple[LoraLayer, Adapter]], room: "_Room") -> None:
        ranks = [len(adapter.a) for _, adapter in part]
        stack = room.take(sum(ranks), part[0][1].a.shape[1])
        for (layer, adapter), a in zip(part, stack.split(ranks), strict=True):
            room.fill(a, adapter.a)
            b = adapter.b
            if b.dtype != stack.dtype:
                b = room.fill(room.take(*b.shape), b)
            self._casts[layer] = Cast(a, b, stack, _state(adapter))


class _Room:
    """One buffer for all copies, and what has to be copied where."""

    def __init__(self, size: int, dtype: torch.dtype, device: torch.device):
        self._buffer = torch.empty(size, dtype=dtype, device=device)
        self._used = 0
        self.copies: list[Tensor] = []
        self.sources: list[Tensor] = []

    def take(self, rows: int, columns: int) -> Tensor:
        part = self._buffer.as_strided((rows, columns), (columns, 1), self._used)
        self._used += _padded(rows * columns)
        return part

    def fill(self, copy: Tensor, source: Tensor) -> Tensor:
        self.copies.append(copy)
        self.sources.append(source)
        return copy


def _together(layers: Sequence[LoraLayer]) -> list[list[tuple[LoraLayer, Adapter]]]:
    """Layers with their adapters as one set if all can be copied as one, else one by one."""
    found = [(layer, adapter_of(layer)) for layer in layers]
    usable = [(layer, one) for layer, one in found if one is not None and _is_whole(one)]
    alike = len({one.a.dtype for _, one in usable}) == 1
    if len(usable) == len(layers) and alike and not any(one.drops for _, one in usable):
        return [usable]
    return [[one] for one in usable]


def _is_whole(adapter: Adapter) -> bool:
    """Whether the weights are ordinary ones, not parts of sharded ones."""
    pair = (adapter.a, adapter.b)
    return all(type(w) is Parameter and w.dim() == 2 and not hasattr(w, "ds_id") for w in pair)


def _state(adapter: Adapter) -> tuple:
    """Which tensors these are and how often they were changed."""
    a, b = adapter.a, adapter.b
    return id(a), a._version, a.data_ptr(), id(b), b._version, b.data_ptr()


def _padded(count: int) -> int:
    return -(-count // _ALIGNED) * _ALIGNED


def _size(part: list[tuple[LoraLayer, Adapter]], dtype: torch.dtype) -> int:
    stack = _padded(sum(adapter.a.numel() for _, adapter in part))
    return stack + sum(_padded(one.b.numel()) for _, one in part if one.b.dtype != dtype)
