"""liger-kernel's fused functions (arXiv 2410.10989), and where they give what a model's own do.

Nothing is replaced here. A function counts as equal when values and gradients are no farther from
float32 than those of the model's own layer, on inputs that the model itself produced.
"""

import copy
import importlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

Function = Callable[..., Any]
_CASTS = (("llama", 0.0), ("gemma", 0.0), ("gemma", 1.0))  # where float32 ends; added to the weight
_MANY_ROWS, _NARROW = 4096 * 8 + 3, 256  # from here on, up to this width, norms take another kernel
_SLACK = 1.25  # of the error that the model's own layer makes


@dataclass(frozen=True)
class Liger:
    """Functions with gradients of their own.

    norm(x, weight, eps, offset, casting); silu(gate, up) and gelu(gate, up), which overwrite their
    inputs in the backward pass; rotate(query, key, cos, sin), which does so in the forward pass.
    """

    norm: Function
    silu: Function
    gelu: Function
    rotate: Function


def load_liger() -> Liger:
    """The functions in Triton; raises ImportError where liger-kernel or Triton is missing."""
    rooms = ("rms_norm", "swiglu", "geglu", "rope")
    norm, swiglu, geglu, rope = (importlib.import_module(f"liger_kernel.ops.{r}") for r in rooms)

    def normed(x: Tensor, weight: Tensor, eps: float, offset: float, casting: str) -> Tensor:
        # not in place: the gradient of a norm's output may be that of a residual as well
        return norm.LigerRMSNormFunction.apply(x, weight, eps, offset, casting, False, None)

    return Liger(
        normed,
        swiglu.LigerSiLUMulFunction.apply,
        geglu.LigerGELUMulFunction.apply,
        rope.LigerRopeFunction.apply,
    )


def norm_for(
    norm: torch.nn.Module, x: Tensor, liger: Liger, autocast: Callable[[], AbstractContextManager]
) -> Function | None:
    """A function (x, weight) for an RMSNorm and others of its kind, or None."""
    eps = getattr(norm, "variance_epsilon", None) or getattr(norm, "eps", None)
    if not isinstance(eps, float):
        return None
    exact_norm = copy.deepcopy(norm).float()
    weight, exact_weight = (one.get_parameter("weight") for one in (norm, exact_norm))
    inputs = [x]
    if x.is_cuda and x.shape[-1] <= _NARROW:
        rows = x.reshape(-1, x.shape[-1])
        inputs.append(rows.repeat(_MANY_ROWS // len(rows) + 1, 1))
    for casting, offset in _CASTS:
        function = partial(_scaled, liger.norm, eps, offset, casting)
        if all(
            no_worse(
                values(partial(_on, function, weight), [rows], [weight], autocast),
                values(norm, [rows], [weight], autocast),
                values(exact_norm, [rows.float()], [exact_weight]),
            )
            for rows in inputs
        ):
            return function
    return None


def _scaled(
    norm: Function, eps: float, offset: float, casting: str, x: Tensor, weight: Tensor
) -> Tensor:
    return norm(x, weight, eps, offset, casting)


def _on(function: Function, weight: Tensor, x: Tensor) -> Tensor:
    return function(x, weight)


def product_for(
    mlp: torch.nn.Module, x: Tensor, liger: Liger, autocast: Callable[[], AbstractContextManager]
) -> Function | None:
    """A function (gate, up) for a gated perceptron whose input is `x`, or None."""
    act: Function = mlp.act_fn  # type: ignore[assignment]  # torch types it as module or tensor
    with torch.no_grad(), autocast():
        gate, up = mlp.gate_proj(x), mlp.up_proj(x)  # type: ignore[operator]  # as above
    for function in (liger.silu, liger.gelu):
        found, own = (values(one, [gate, up], [], autocast) for one in (function, _gated(act)))
        exact = values(_gated(act), [gate.float(), up.float()], [])
        if no_worse(found, own, exact) and _computes(mlp, x, function, autocast):
            return function
    return None


def _gated(act: Function) -> Function:
    return lambda gate, up: act(gate) * up


def _computes(
    mlp: torch.nn.Module,
    x: Tensor,
    function: Function,
    autocast: Callable[[], AbstractContextManager],
) -> bool:
    """Whether down(function(gate(x), up(x))) is all that the perceptron does."""
    learning = [one for one in mlp.parameters() if one.requires_grad]
    found = values(lambda one: gated_output(mlp, one, function), [x], learning, autocast)
    own = values(mlp, [x], learning, autocast)
    close = 4 * torch.finfo(own[0].dtype).eps
    return all(_near(a, b, close) for a, b in zip(found, own, strict=True))


def gated_output(mlp: Any, x: Tensor, function: Function) -> Tensor:
    """What a gated perceptron computes, with `function` as its product."""
    return mlp.down_proj(function(mlp.gate_proj(x), mlp.up_proj(x)))


def rotates(own: Function, call: Sequence[Tensor], liger: Liger) -> bool:
    """Whether liger's rotation is the model's `own`, on a call (query, key, cos, sin) of it."""
    query, key, cos, sin = call

    def both(rotate: Function, cos: Tensor, sin: Tensor) -> Function:
        return lambda q, k: torch.cat([one.flatten() for one in rotate(q, k, cos, sin)])

    found, usual = (
        # a copy: the rotation writes over what it is given
        values(lambda q, k, f=one: both(f, cos, sin)(q.clone(), k.clone()), [query, key], [])
        for one in (liger.rotate, own)
    )
    floats = both(own, cos.float(), sin.float())
    return no_worse(found, usual, values(floats, [query.float(), key.float()], []))


# Values, gradients, distances


def values(
    function: Function,
    inputs: Sequence[Tensor],
    weights: Sequence[Tensor],
    autocast: Callable[[], AbstractContextManager] = torch.enable_grad,
) -> list[Tensor]:
    """Output and gradients of the inputs and of those `weights` that learn, by a fixed slope."""
    leaves = [one.detach().clone().requires_grad_() for one in inputs]
    learning = [one for one in weights if one.requires_grad]
    on_gpu = {one.device for one in leaves if one.is_cuda}
    with torch.random.fork_rng(on_gpu), torch.enable_grad():
        torch.manual_seed(0)  # the same dropout each time
        with autocast():
            out = function(*leaves)
        kept = out.detach().clone()
        count = torch.arange(out.numel(), device=out.device, dtype=torch.float32)
        slope = torch.sin(count).view_as(out).to(out.dtype)
        found = torch.autograd.grad(out, [*leaves, *learning], slope, allow_unused=True)
    return [kept, *(torch.zeros(()) if one is None else one for one in found)]


def no_worse(found: list[Tensor], own: list[Tensor], exact: list[Tensor]) -> bool:
    """Whether each tensor is about as near to the exact one as the model's own is."""
    return all(
        a.dtype == b.dtype and a.shape == b.shape and _error(a, e) <= _allowed(b, e)
        for a, b, e in zip(found, own, exact, strict=True)
    )


def _allowed(own: Tensor, exact: Tensor) -> float:
    one_rounding = max(torch.finfo(own.dtype).eps / 4, 4e-6)
    return _SLACK * _error(own, exact) + one_rounding * exact.norm().item()


def _error(found: Tensor, exact: Tensor) -> float:
    """The distance; infinite for what is not finite."""
    distance = (found.float() - exact.float()).norm().item()
    return distance if distance == distance else float("inf")


def _near(found: Tensor, own: Tensor, close: float) -> bool:
    same = found.dtype == own.dtype and found.shape == own.shape
    return same and _error(found, own) <= max(close, 1e-5) * own.float().norm().item()


def nearly_equal(found: list[Tensor], own: list[Tensor], exact: list[Tensor] | None) -> bool:
    """Whether two ways through several layers differ by the noise of their format alone.

    The first tensor is the output, the others are gradients. Both ways are measured by the way in
    float32 (`exact`); without it they may differ by what bf16 was measured to differ from float32
    twice over (gradients 1.5 to 4 % each).
    """
    if [one.shape for one in found] != [one.shape for one in own]:
        return False
    (states, *slopes), (own_states, *own_slopes) = found, own
    if exact is None:
        whole = _joined(own_slopes)
        far = _error(_joined(slopes), whole) > 0.1 * whole.norm().item()
        return _near(states, own_states, 3e-2) and not far
    exact_states, *exact_slopes = exact
    noise = max(torch.finfo(own_states.dtype).eps / 4, 1e-4)
    pairs = [(states, own_states, exact_states)]
    pairs += [(_joined(slopes), _joined(own_slopes), _joined(exact_slopes))]
    if any(_error(a, e) > 1.5 * _error(b, e) + noise * e.norm().item() for a, b, e in pairs):
        return False
    floor = 1e-2 * _joined(exact_slopes).norm().item()  # a wrong gradient would be far above it
    each = zip(slopes, own_slopes, exact_slopes, strict=True)
    return all(_error(a, e) <= 3 * _error(b, e) + floor for a, b, e in each)


def _joined(tensors: list[Tensor]) -> Tensor:
    return torch.cat([one.float().flatten() for one in tensors])
