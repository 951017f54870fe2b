"""LoRA layers (arXiv 2106.09685) in few passes over memory, with the same results as peft's.

For plain layers and those in four bits; peft computes variants (DoRA), merged or disabled adapters,
and everything that is not training.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import bitsandbytes
import torch
from peft.tuners.lora.layer import Linear as LoraLinear
from peft.tuners.lora.layer import LoraLayer
from torch import Tensor

from trainer_backend.training.kernels.lora_copies import Adapter, Cast, LoraCopies, adapter_of
from trainer_backend.training.kernels.lora_groups import LoraGroups
from trainer_backend.training.kernels.lora_product import AdaptedLinears, Operands


class QuickLora:
    """The quick layers of a model, and what they share during a forward pass of its decoder.

    `layers` are all of them, `decoder` the module they are in; adapters of the head, outside, are
    cast where they are used. With `spares` a dtype, autocast to it is left inside the decoder.
    """

    def __init__(self, model: torch.nn.Module, layers: list[LoraLayer]):
        self.layers = layers
        self.decoder = _decoder(model)
        inside = set(self.decoder.modules()) if self.decoder is not None else set()
        self.groups = LoraGroups(model, [layer for layer in layers if layer in inside])
        self.copies = LoraCopies()
        self.spares: torch.dtype | None = None
        self._left: torch.dtype | None = None
        self._outside: torch.autocast | None = None
        for layer in layers:
            # A method is replaced on the instance: peft creates these layers, also when it loads
            # an adapter, and accepts no other class for them.
            layer.forward = partial(self.forward, layer)
        if layers and self.decoder is not None:
            self.decoder.register_forward_pre_hook(self._begin, with_kwargs=True)
            self.decoder.register_forward_hook(self._end, always_call=True)

    # A forward pass of the decoder

    def _begin(self, decoder: torch.nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        self._left = None
        if not (decoder.training and torch.is_grad_enabled()):
            return
        self.groups.reset()
        device = self.layers[0].get_base_layer().weight.device.type
        cast = torch.is_autocast_enabled(device)
        first = adapter_of(self.layers[0])
        dtype = torch.get_autocast_dtype(device) if cast else first and first.a.dtype
        if dtype is None:
            self.copies.clear()
            return
        self.copies.refresh(self.groups.sets(), dtype)
        if cast and dtype == self.spares and _fit((*args, *kwargs.values()), dtype):
            self._left = dtype
            self._outside = torch.autocast(device, enabled=False)
            self._outside.__enter__()

    def _end(self, *_: Any) -> None:
        if self._outside is not None:
            self._outside.__exit__(None, None, None)
            self._outside = None

    # A layer

    def forward(self, layer: LoraLayer, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """What `layer` gives for `x` [..., in]: [..., out]."""
        alone = not (args or kwargs) and x.dim() > 1
        adapter = adapter_of(layer) if alone and torch.is_grad_enabled() else None
        halved = torch.is_autocast_enabled(x.device.type)
        dtype = None if adapter is None else self._format(layer, adapter, x, halved)
        if adapter is None or dtype is None:
            self.groups.watch(layer, x)
            return type(layer).forward(layer, x, *args, **kwargs)
        with torch.autocast(x.device.type, enabled=False):
            group = self.groups.of(layer)
            if group is None or adapter.drops:
                return self._single(layer, adapter, x.to(dtype))
            ready = group.take(layer, x)
            if ready is not None:
                return ready
            results = self._together(group.members, x, dtype, halved)
            if results is None:
                return self._single(layer, adapter, x.to(dtype))
            own = results.pop(layer)
            group.keep(x, results)
            return own

    def _format(
        self, layer: LoraLayer, adapter: Adapter, x: Tensor, halved: bool
    ) -> torch.dtype | None:
        """That of the products; None where peft has to compute: formats mixed without autocast."""
        dtype = torch.get_autocast_dtype(x.device.type) if halved else x.dtype
        cast = halved or dtype == self._left
        if not cast and not adapter.a.dtype == adapter.b.dtype == dtype:
            return None
        base = layer.get_base_layer()
        if isinstance(base, bitsandbytes.nn.Linear4bit):
            return dtype if _unpacks(base, dtype) else None
        return dtype if halved or base.weight.dtype == dtype else None

    def _single(self, layer: LoraLayer, adapter: Adapter, x: Tensor) -> Tensor:
        cast = self.copies.of(layer, adapter, x.dtype)
        a, b = (adapter.a, adapter.b) if cast is None else (cast.a, cast.b)
        dropped = adapter.dropout(x) if adapter.drops else None
        a, b = (w.detach().to(x.dtype) for w in (a, b))
        layers = (_operands(layer, b, adapter.scale, x.dtype),)
        (out,) = AdaptedLinears.apply(x, dropped, layers, a, adapter.a, adapter.b)
        return out

    def _together(
        self, members: tuple[LoraLayer, ...], x: Tensor, dtype: torch.dtype, halved: bool
    ) -> dict[LoraLayer, Tensor] | None:
        """The results of all members; None unless their copies are one matrix."""
        adapters = [adapter_of(layer) for layer in members]
        found: list[tuple[Adapter, Cast]] = []
        for layer, adapter in zip(members, adapters, strict=True):
            cast = None if adapter is None else self.copies.of(layer, adapter, dtype)
            if adapter is None or cast is None or self._format(layer, adapter, x, halved) != dtype:
                return None
            found.append((adapter, cast))
        stack = found[0][1].stack
        if any(cast.stack is not stack for _, cast in found):
            return None
        layers = tuple(
            _operands(layer, cast.b, adapter.scale, dtype)
            for layer, (adapter, cast) in zip(members, found, strict=True)
        )
        masters = (*(adapter.a for adapter, _ in found), *(adapter.b for adapter, _ in found))
        outs = AdaptedLinears.apply(x.to(dtype), None, layers, stack, *masters)
        return dict(zip(members, outs, strict=True))


def quicken_lora(model: torch.nn.Module) -> QuickLora:
    """Use the fused product in all LoRA layers that it can compute, while they train."""
    return QuickLora(model, [module for module in model.modules() if _is_plain(module)])


def _decoder(model: torch.nn.Module) -> torch.nn.Module | None:
    """The module that maps ids to last hidden states, if the model has one inside."""
    whole: Any = model.get_base_model() if hasattr(model, "get_base_model") else model
    find: Callable | None = getattr(whole, "get_decoder", None)
    found = None if find is None else find()
    return None if found is whole else found


def _is_plain(module: torch.nn.Module) -> bool:
    if not isinstance(module, LoraLayer) or not hasattr(module, "fan_in_fan_out"):
        return False
    if module.lora_variant or module.fan_in_fan_out or any(module.lora_bias.values()):
        return False
    base = module.get_base_layer()
    if base._forward_hooks or base._forward_pre_hooks or _learns(base):
        return False
    if type(base) is torch.nn.Linear:
        return type(module) is LoraLinear
    return type(base) is bitsandbytes.nn.Linear4bit and type(module).__name__ == "Linear4bit"


def _learns(base: torch.nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in base.parameters())


def _operands(layer: LoraLayer, b: Tensor, scale: float, dtype: torch.dtype) -> Operands:
    base = layer.get_base_layer()
    bias = None if base.bias is None else base.bias.to(dtype)
    packed = isinstance(base, bitsandbytes.nn.Linear4bit)
    return Operands(base if packed else base.weight.to(dtype), bias, b, scale)


def _unpacks(base: Any, dtype: torch.dtype) -> bool:
    """Whether a 4-bit layer computes in `dtype` and its weight is stored to be unpacked."""
    state = getattr(base.weight, "quant_state", None)
    if state is None or getattr(state, "packing_format_for_cpu", False):
        return False
    return base.compute_dtype == dtype and tuple(state.shape) == (
        base.out_features,
        base.in_features,
    )


def _fit(inputs: tuple, dtype: torch.dtype) -> bool:
    """Whether no input is in a number format that products with `dtype` weights refuse."""
    return all(
        one.dtype == dtype
        for one in inputs
        if isinstance(one, Tensor) and one.is_floating_point() and one.dim() > 2
    )
