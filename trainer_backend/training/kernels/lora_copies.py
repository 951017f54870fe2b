"""Copies of adapter weights in the number format of the products, made once a forward pass.

The float32 weights stay the parameters that learn. Which layers share a buffer is given.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple
from weakref import ref

import bitsandbytes
import torch
from peft.tuners.lora.layer import Linear as LoraLinear
from torch import Tensor
from torch.nn import Parameter

from trainer_backend.training.kernels.lora_product import Operands, rows_of

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


def adapter_of(layer: LoraLinear) -> Adapter | None:
    """The adapter of a layer that trains with exactly one, neither switched off nor merged."""
    own = layer.__dict__  # attributes of modules are slow, and this is asked of each in every step
    names, parts = own["_active_adapter"], own["_modules"]
    name = names if isinstance(names, str) else names[0] if len(names) == 1 else ""
    low, high = (parts[which]._modules.get(name) for which in ("lora_A", "lora_B"))
    if low is None or high is None or not own["training"]:
        return None
    if own["_disable_adapters"] or own["merged_adapters"]:
        return None
    dropout = parts["lora_dropout"]._modules[name]
    return Adapter(low.weight, high.weight, own["scaling"][name], dropout)


def operands_of(layer: LoraLinear, b: Tensor, scale: float, dtype: torch.dtype) -> Operands:
    """The layer's part in a product in `dtype`, with this B."""
    base: Any = layer.get_base_layer()
    bias = None if base.bias is None else base.bias.to(dtype)
    packed = isinstance(base, bitsandbytes.nn.Linear4bit)
    return Operands(base if packed else base.weight.to(dtype), bias, b, scale)


def computes_in(layer: LoraLinear, dtype: torch.dtype, halved: bool) -> bool:
    """Whether the frozen weight can be used in `dtype`; `halved`: under autocast to it."""
    base: Any = layer.get_base_layer()
    if not isinstance(base, bitsandbytes.nn.Linear4bit):
        return halved or base.weight.dtype == dtype
    state = getattr(base.weight, "quant_state", None)
    if state is None or getattr(state, "packing_format_for_cpu", False):
        return False
    usual = tuple(state.shape) == (base.out_features, base.in_features)
    return usual and base.compute_dtype == dtype


class Ready:
    """A layer's adapter for one pass: `a` [rank, in] are rows of `stack`, all in `dtype`."""

    __slots__ = ("a", "adapter", "b", "dtype", "halved", "layer", "made_of", "stack")

    def __init__(self, layer: LoraLinear, adapter: Adapter, halved: bool, stack: Tensor, a: Tensor):
        self.layer, self.adapter, self.halved = layer, adapter, halved
        self.stack, self.a, self.b = stack, a, adapter.b
        self.dtype = stack.dtype
        self.made_of: tuple = ()

    def note(self) -> None:
        """Remember which weights were copied, and in which state."""
        self.made_of = self._state()

    def holds(self, x: Tensor) -> bool:
        """Whether this still is the way to compute: the very same weights, the same autocast."""
        halved = torch.is_autocast_enabled(x.device.type)
        return (
            halved == self.halved
            and (halved or x.dtype == self.dtype)
            and self.layer.training
            and self._state() == self.made_of
        )

    def _state(self) -> tuple:
        a, b = self.adapter.a, self.adapter.b
        return a._version, a.data_ptr(), b._version, b.data_ptr()

    def operands(self) -> Operands:
        """The layer's part in a product."""
        return operands_of(self.layer, self.b, self.adapter.scale, self.dtype)


class _Owner:
    """Held by the graphs of a pass; their copies stay as they are while it lives."""


class LoraCopies:
    """The copies of one forward pass, by layer.

    They are made anew in every pass, in one call for all layers: optimizers may write weights in
    ways that leave no trace (bitsandbytes). Within the pass, and when a checkpointed part computes
    again, a copy is used only while its weights are the very same tensors, unchanged.
    """

    def __init__(self) -> None:
        self.ready: dict[LoraLinear, Ready] = {}
        self.owner: object = _Owner()
        self._key: list = []
        self._room: _Room | None = None

    def clear(self) -> None:
        """Forget all copies."""
        self.ready, self._key, self._room = {}, [], None

    def refresh(
        self, sets: Iterable[Sequence[LoraLinear]], dtype: torch.dtype, halved: bool
    ) -> None:
        """Copy the adapters of these layers into `dtype`; each set's A become one matrix.

        Sharded weights and layers that peft has to compute are left out. The buffer of the last
        pass is used again unless a graph still needs it.
        """
        found = [[(layer, adapter_of(layer)) for layer in layers] for layers in sets]
        key: list = [dtype, halved]
        for part in found:
            key += [
                (id(one.a), id(one.b), one.scale, one.drops) if one else None for _, one in part
            ]
            key.append(len(part))
        last = ref(self.owner)
        self.owner = None
        with torch.no_grad():
            if key != self._key or last() is not None:
                self._lay_out(found, dtype, halved)
                self._key = key
            if self._room is not None:
                self._room.copy()
        self.owner = _Owner()
        for ready in self.ready.values():
            ready.note()

    def _lay_out(
        self, found: list[list[tuple[LoraLinear, Adapter | None]]], dtype: torch.dtype, halved: bool
    ) -> None:
        usable = [part for layers in found for part in _together(layers, dtype, halved)]
        self.ready, self._room = {}, None
        if not usable:
            return
        device = usable[0][0][1].a.device
        usable = [part for part in usable if all(one.a.device == device for _, one in part)]
        self._room = room = _Room(sum(_size(part, dtype) for part in usable), dtype, device)
        for part in usable:
            stack = self._stack(part, room)
            rows = rows_of(stack, [len(one.a) for _, one in part]) if len(part) > 1 else [stack]
            for (layer, one), a in zip(part, rows, strict=True):
                ready = self.ready[layer] = Ready(layer, one, halved, stack, a)
                if stack is not one.a:
                    room.fill(a, one.a)
                if one.b.dtype != dtype:
                    ready.b = room.fill(room.take(*one.b.shape), one.b)

    def _stack(self, part: list[tuple[LoraLinear, Adapter]], room: "_Room") -> Tensor:
        first = part[0][1].a
        if len(part) == 1 and first.dtype == room.dtype:
            return first
        return room.take(sum(len(one.a) for _, one in part), first.shape[1])


class _Room:
    """One buffer for all copies, and what has to be copied where."""

    def __init__(self, size: int, dtype: torch.dtype, device: torch.device):
        self.dtype = dtype
        self._buffer = torch.empty(size, dtype=dtype, device=device)
        self._used = 0
        self._copies: list[Tensor] = []
        self._sources: list[Tensor] = []

    def take(self, rows: int, columns: int) -> Tensor:
        part = self._buffer.as_strided((rows, columns), (columns, 1), self._used)
        self._used += _padded(rows * columns)
        return part

    def fill(self, copy: Tensor, source: Tensor) -> Tensor:
        self._copies.append(copy)
        self._sources.append(source)
        return copy

    def copy(self) -> None:
        if self._copies:
            torch._foreach_copy_(self._copies, self._sources)


def _together(
    layers: list[tuple[LoraLinear, Adapter | None]], dtype: torch.dtype, halved: bool
) -> list[list[tuple[LoraLinear, Adapter]]]:
    """The usable layers as one set if all can compute as one, else one by one."""
    usable = [
        (layer, one)
        for layer, one in layers
        if one is not None and _is_whole(one) and computes_in(layer, dtype, halved)
    ]
    if len(usable) == len(layers) and not any(one.drops for _, one in usable):
        alike = {(one.a.dtype, one.a.shape[1], one.a.device) for _, one in usable}
        if len(alike) == 1:
            return [usable]
    return [[one] for one in usable]


def _is_whole(adapter: Adapter) -> bool:
    """Whether the weights are ordinary ones, not parts of sharded ones."""
    pair = (adapter.a, adapter.b)
    return all(type(w) is Parameter and w.dim() == 2 and not hasattr(w, "ds_id") for w in pair)


def _padded(count: int) -> int:
    return -(-count // _ALIGNED) * _ALIGNED


def _size(part: list[tuple[LoraLinear, Adapter]], dtype: torch.dtype) -> int:
    stack = _padded(sum(one.a.numel() for _, one in part))
    return stack + sum(_padded(one.b.numel()) for _, one in part if one.b.dtype != dtype)
