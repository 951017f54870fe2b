"""LoRA layers (arXiv 2106.09685) in few passes over memory, with the same results as peft's.

For plain layers and those in four bits; peft computes variants (DoRA), merged or disabled adapters,
and everything that is not training.
"""

from functools import partial
from typing import Any, cast

import bitsandbytes
import torch
from peft import PeftModel
from peft.tuners.lora.layer import Linear as LoraLinear
from peft.tuners.lora.layer import LoraLayer
from torch import Tensor

from trainer_backend.training.kernels.lora_copies import (
    LoraCopies,
    Ready,
    adapter_of,
    computes_in,
    operands_of,
)
from trainer_backend.training.kernels.lora_groups import LoraGroups
from trainer_backend.training.kernels.lora_product import AdaptedLinears, Product


class QuickLora:
    """The quick layers of a model, and what they share during a forward pass of its decoder.

    `layers` are all of them, `decoder` the module they are in; adapters of the head, outside, are
    cast where they are used. With `spares` a dtype, autocast to it is left inside the decoder;
    `off` lets peft compute everything.
    """

    def __init__(self, model: torch.nn.Module, layers: list[LoraLinear]):
        self.layers = layers
        self.decoder = _decoder(model) if layers else None
        inside = set(self.decoder.modules()) if self.decoder is not None else set()
        self.groups = LoraGroups(model, [layer for layer in layers if layer in inside])
        self.copies = LoraCopies()
        self.spares: torch.dtype | None = None
        self.off = False
        self._left: torch.dtype | None = None
        self._outside: torch.autocast | None = None
        self._open = False
        for layer in layers:
            # A method is replaced on the instance: peft creates these layers, also when it loads
            # an adapter, and accepts no other class for them.
            layer.forward = partial(self.forward, layer)  # type: ignore[method-assign]
        if self.decoder is not None:
            self.decoder.register_forward_pre_hook(self._begin, with_kwargs=True)
            self.decoder.register_forward_hook(self._end, always_call=True)

    # A forward pass of the decoder

    def _begin(self, decoder: torch.nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        self._open = decoder.training and torch.is_grad_enabled()
        if not self._open:
            return
        self._left = None
        self.groups.reset()
        device = next(decoder.parameters()).device.type
        halved = torch.is_autocast_enabled(device)
        first = adapter_of(self.layers[0])
        dtype = torch.get_autocast_dtype(device) if halved else first and first.a.dtype
        if dtype is None or self.off:
            self.copies.clear()
            return
        if halved and dtype == self.spares and _fit((*args, *kwargs.values()), dtype):
            self._left, halved = dtype, False
            self._outside = torch.autocast(device, enabled=False)
            self._outside.__enter__()
        self.copies.refresh(self.groups.sets(), dtype, halved)

    def _end(self, *_: Any) -> None:
        self._open = False
        if self._outside is not None:
            self._outside.__exit__(None, None, None)
            self._outside = None

    # A layer

    def forward(self, layer: LoraLinear, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """What `layer` gives for `x` [..., in]: [..., out]."""
        ready = self.copies.ready.get(layer)
        usual = torch.is_grad_enabled() and not (args or kwargs) and x.dim() > 1
        if ready is None or not usual or not self._in_pass() or not ready.holds(x):
            return self._cast_here(layer, x, *args, **kwargs)
        group = self.groups.of(layer)
        if group is None or ready.stack is ready.adapter.a:
            return self._alone(ready, x)
        result = group.take(layer, x)
        if result is not None:
            return result
        members = [self.copies.ready.get(member) for member in group.members]
        parts = [one for one in members if one is not None and one.stack is ready.stack]
        if len(parts) < len(members) or not all(one.holds(x) for one in parts):
            return self._alone(ready, x)
        layers = tuple(one.operands() for one in parts)
        product = Product(layers, ready.stack, self.copies.owner)
        masters = (*(one.adapter.a for one in parts), *(one.adapter.b for one in parts))
        outs = AdaptedLinears.apply(x.to(ready.dtype), None, product, *masters)
        results = dict(zip(group.members, outs, strict=True))
        own = results.pop(layer)
        group.keep(x, results)
        return own

    def _in_pass(self) -> bool:
        """Whether the decoder computes, or a checkpointed part of it anew in the backward pass."""
        return self._open or torch._C._current_graph_task_id() != -1

    def _alone(self, ready: Ready, x: Tensor) -> Tensor:
        adapter, x = ready.adapter, x.to(ready.dtype)
        dropped = adapter.dropout(x) if adapter.drops else None
        product = Product((ready.operands(),), ready.a, self.copies.owner)
        return AdaptedLinears.apply(x, dropped, product, adapter.a, adapter.b)[0]

    def _cast_here(self, layer: LoraLinear, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The same without a pass's copies, or peft's way where the product cannot compute it."""
        usual = torch.is_grad_enabled() and not (args or kwargs) and x.dim() > 1
        adapter = adapter_of(layer) if usual and not self.off else None
        halved = torch.is_autocast_enabled(x.device.type)
        dtype = torch.get_autocast_dtype(x.device.type) if halved else x.dtype
        mixes = halved or dtype == self._left
        if (
            adapter is None
            or not (mixes or adapter.a.dtype == adapter.b.dtype == dtype)
            or not computes_in(layer, dtype, halved)
        ):
            self.groups.watch(layer, x)
            return type(layer).forward(layer, x, *args, **kwargs)
        x = x.to(dtype)
        dropped = adapter.dropout(x) if adapter.drops else None
        layers = (operands_of(layer, adapter.b.to(dtype), adapter.scale, dtype),)
        product = Product(layers, adapter.a.to(dtype), None)
        return AdaptedLinears.apply(x, dropped, product, adapter.a, adapter.b)[0]


def quicken_lora(model: torch.nn.Module) -> QuickLora:
    """Use the fused product in all LoRA layers that it can compute, while they train."""
    layers = [cast(LoraLinear, module) for module in model.modules() if _is_plain(module)]
    return QuickLora(model, layers)


def _decoder(model: torch.nn.Module) -> torch.nn.Module | None:
    """The module that maps ids to last hidden states, if the model has one inside."""
    given: Any = model
    whole: Any = given.get_base_model() if isinstance(given, PeftModel) else given
    found = whole.get_decoder() if hasattr(whole, "get_decoder") else None
    return None if found is whole else found


def _is_plain(module: Any) -> bool:
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


def _fit(inputs: tuple, dtype: torch.dtype) -> bool:
    """Whether no input is in a number format that products with `dtype` weights refuse."""
    return all(
        one.dtype == dtype
        for one in inputs
        if isinstance(one, Tensor) and one.is_floating_point() and one.dim() > 2
    )
