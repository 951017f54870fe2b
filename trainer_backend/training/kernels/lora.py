"""A LoRA layer (arXiv 2106.09685) in few passes over memory, with the same results as peft's.

For plain layers only; peft computes variants (DoRA), merged or disabled adapters and quantised
bases.
"""

from types import MethodType
from typing import Any

import torch
from peft.tuners.lora.layer import Linear as LoraLinear
from torch import Tensor
from torch.nn.functional import linear


class _AdaptedLinear(torch.autograd.Function):
    """x W' + bias + scale (d A') B', the last part added inside the product; W is frozen.

    `x` and `d` (x after dropout) are [..., in], W [out, in], A [rank, in], B [out, rank].
    """

    @staticmethod
    def forward(  # noqa: PLR0913 - autograd's way
        ctx: Any,
        x: Tensor,
        dropped: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        a: Tensor,
        b: Tensor,
        scale: float,
    ) -> Tensor:
        rows, source = x.flatten(0, -2), dropped.flatten(0, -2)
        low = source @ a.t()
        out = linear(rows, weight, bias)
        out.addmm_(low, b.t(), alpha=scale)
        ctx.save_for_backward(source, low, weight, a, b)
        ctx.scale, ctx.shared = scale, x is dropped
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        source, low, weight, a, b = ctx.saved_tensors
        g = grad.flatten(0, -2)
        for_low = g @ b
        for_x = g @ weight if ctx.needs_input_grad[0] else None
        for_dropped = None
        if ctx.shared and for_x is not None:
            for_x.addmm_(for_low, a, alpha=ctx.scale)
        elif ctx.needs_input_grad[1]:
            for_dropped = (for_low @ a).mul_(ctx.scale)
        for_a = (for_low.t() @ source).mul_(ctx.scale)
        for_b = (g.t() @ low).mul_(ctx.scale)
        shape = (*grad.shape[:-1], -1)
        for_x, for_dropped = (None if t is None else t.view(shape) for t in (for_x, for_dropped))
        return for_x, for_dropped, None, None, for_a, for_b, None


def quicken_lora(model: torch.nn.Module) -> int:
    """Use the fused product in all plain LoRA layers while training; returns how many there are."""
    chosen = [module for module in model.modules() if _is_plain(module)]
    for module in chosen:
        # A method is replaced on the instance: peft creates these layers, also when it loads an
        # adapter, and accepts no other class for them.
        module.forward = MethodType(_forward, module)
    return len(chosen)


def _is_plain(module: torch.nn.Module) -> bool:
    if type(module) is not LoraLinear or module.lora_variant or module.fan_in_fan_out:
        return False
    base = module.get_base_layer()
    trained = base.weight.requires_grad or any(module.lora_bias.values())
    return type(base) is torch.nn.Linear and not trained and not base._forward_hooks


def _forward(self: LoraLinear, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    name = self.active_adapters[0] if len(self.active_adapters) == 1 else ""
    ready = self.training and torch.is_grad_enabled() and not (self.disable_adapters or self.merged)
    if args or kwargs or not ready or name not in self.lora_A or x.dim() < 2:
        return type(self).forward(self, x, *args, **kwargs)
    base, a, b = self.get_base_layer(), self.lora_A[name].weight, self.lora_B[name].weight
    device = x.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
    if dtype != torch.get_autocast_dtype(device) and not (base.weight.dtype == a.dtype == dtype):
        return type(self).forward(self, x)  # mixed formats without autocast are left to peft
    x = x.to(dtype)
    dropped = self.lora_dropout[name](x)
    bias = None if base.bias is None else base.bias.to(dtype)
    with torch.autocast(device, enabled=False):
        tensors = (x, dropped, base.weight.to(dtype), bias, a.to(dtype), b.to(dtype))
        return _AdaptedLinear.apply(*tensors, self.scaling[name])
