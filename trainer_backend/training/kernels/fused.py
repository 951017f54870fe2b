"""Puts fused functions in the place of a model's norms, gated perceptrons and rotary embedding.

While training only: evaluating and generating go the model's own way. What is replaced was tried
on inputs of this very model, one kind after the other and two layers as a whole; at any doubt all
stays as it was. The functions themselves are not here.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from types import MethodType
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from trainer_backend.training.kernels.attention import document_layout
from trainer_backend.training.kernels.liger import (
    Function,
    Liger,
    gated_output,
    nearly_equal,
    norm_for,
    product_for,
    rotates,
)

_LENGTHS = (9, 12, 7)  # tokens of the documents that are tried
_LAYERS = 2  # of the model, for the trial
_ROTARY = "apply_rotary_pos_emb"
_GATED = {"gate_proj", "up_proj", "down_proj", "act_fn"}
Kind = tuple[Any, ...]


@dataclass(frozen=True)
class Conditions:
    """How the run computes: device, format of autocast (None: off), whether rows are packed."""

    device: torch.device
    autocast: torch.dtype | None
    packs: bool

    def precision(self) -> AbstractContextManager:
        """Autocast as in training."""
        if self.autocast is None:
            return nullcontext()
        return torch.autocast(self.device.type, self.autocast)


@dataclass(frozen=True)
class Replacement:
    """`name` of `owner` (a layer's forward, a function of a Python module) is to be `new`."""

    what: str
    owner: Any
    name: str
    new: Any

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The new one while inside; then what was there before, or nothing."""
        before = vars(self.owner).get(self.name)
        setattr(self.owner, self.name, self.new)
        try:
            yield
        finally:
            if before is None:
                delattr(self.owner, self.name)
            else:
                setattr(self.owner, self.name, before)


@dataclass
class Seen:
    """A layer and an input of each kind, and a call of each module's rotary function."""

    layers: dict[Kind, tuple[torch.nn.Module, Tensor]] = field(default_factory=dict)
    calls: dict[str, tuple[Tensor, ...]] = field(default_factory=dict)


@contextmanager
def all_in_place(replacements: list[Replacement]) -> Iterator[None]:
    """All of them, undone in reverse order."""
    with ExitStack() as stack:
        for one in replacements:
            stack.enter_context(one.in_place())
        yield


def find_replacements(
    model: PreTrainedModel, liger: Liger, conditions: Conditions
) -> list[Replacement]:
    """What may be replaced in the text decoder of the model; empty if nothing or in doubt.

    Raises what a model raises that does not take the trial's inputs.
    """
    decoder: Any = model.get_decoder()
    was_training = decoder.training
    decoder.train()
    try:
        with first_layers(decoder):
            seen = _observe(decoder, conditions)
            functions = _functions(seen, liger, conditions)
            rotations = list(_rotations(seen, liger))
            own = _through(decoder, conditions)
            with all_in_place([*_layers(decoder, seen, functions, liger), *rotations]):
                fused = _through(decoder, conditions)
            exact = _exactly(decoder, conditions)
        found = [*_layers(decoder, seen, functions, liger), *rotations]
        return found if nearly_equal(fused, own, exact) else []
    finally:
        decoder.train(was_training)


@contextmanager
def first_layers(decoder: Any) -> Iterator[None]:
    """The decoder with its first two layers only."""
    layers = decoder.layers
    decoder.layers = torch.nn.ModuleList(list(layers)[:_LAYERS])
    try:
        yield
    finally:
        decoder.layers = layers


# What there is


def _kind(module: torch.nn.Module) -> Kind | None:
    """Layers of one kind compute alike; None: nothing that could be replaced."""
    if "forward" in vars(module):  # hooked or replaced by someone else
        return None
    names = set(dict(module.named_children()))
    if names | {"act_fn"} == _GATED and hasattr(module, "act_fn"):
        return (type(module), type(module.act_fn), *_formats(module))
    own = dict(module.named_parameters(recurse=False))
    if type(module).__name__.endswith("RMSNorm") and not names and own.keys() == {"weight"}:
        eps = getattr(module, "variance_epsilon", None) or getattr(module, "eps", None)
        return (type(module), eps, tuple(own["weight"].shape), *_formats(module))
    return None


def _formats(module: torch.nn.Module) -> Iterator[tuple[torch.dtype, bool]]:
    """Formats of the weights, and which of them learn."""
    return ((weight.dtype, weight.requires_grad) for weight in module.parameters())


def _observe(decoder: Any, conditions: Conditions) -> Seen:
    """Note the inputs of one forward pass."""
    seen = Seen()
    with ExitStack() as stack:
        for module in decoder.modules():
            kind = _kind(module)
            if kind is not None:
                hook = module.register_forward_pre_hook(_noting(seen, kind))
                stack.callback(hook.remove)
        for name in {type(one).__module__ for one in decoder.modules()}:
            own = getattr(sys.modules[name], _ROTARY, None)
            if own is not None:
                listening = _listening(own, seen, name)
                room = sys.modules[name]
                stack.enter_context(Replacement("", room, _ROTARY, listening).in_place())
        _through(decoder, conditions)
    return seen


def _noting(seen: Seen, kind: Kind) -> Callable[[torch.nn.Module, tuple[Any, ...]], None]:
    def note(module: torch.nn.Module, args: tuple[Any, ...]) -> None:
        if len(args) == 1 and isinstance(args[0], Tensor):
            seen.layers.setdefault(kind, (module, args[0].detach().clone()))

    return note


def _listening(own: Function, seen: Seen, name: str) -> Function:
    def rotate(*args: Any, **kwargs: Any) -> Any:
        if len(args) == 4 and not kwargs:
            seen.calls.setdefault(name, tuple(one.detach().clone() for one in args))
        return own(*args, **kwargs)

    return rotate


def _through(
    decoder: Any, conditions: Conditions, states_in: torch.dtype | None = None
) -> list[Tensor]:
    """Last hidden states of packed documents; gradients of the embeddings and of what learns."""
    count, device = sum(_LENGTHS), conditions.device
    table = decoder.get_input_embeddings()
    ids = torch.arange(count, device=device)[None] * 37 % len(table.weight)
    places = torch.cat([torch.arange(n, device=device) for n in _LENGTHS])[None]
    with torch.no_grad():
        states = table(ids).detach().to(states_in or table.weight.dtype)
    states.requires_grad_()
    inside = {id(one) for one in table.parameters()}
    learning = [p for p in decoder.parameters() if p.requires_grad and id(p) not in inside]
    on_gpu = [device] if device.type == "cuda" else []
    layout = document_layout(_LENGTHS if conditions.packs else None)
    with torch.random.fork_rng(on_gpu), torch.enable_grad(), layout:
        torch.manual_seed(0)  # the same dropout each time
        with conditions.precision():
            out = decoder(inputs_embeds=states, position_ids=places, use_cache=False)[0]
        slope = torch.sin(torch.arange(out.numel(), device=device, dtype=torch.float32))
        loss = (out.float().flatten() * slope).sum()
        slopes = torch.autograd.grad(loss, [states, *learning], allow_unused=True)
    return [out.detach(), *(one for one in slopes if one is not None)]


def _exactly(decoder: Any, conditions: Conditions) -> list[Tensor] | None:
    """_through() in float32; None where weights are quantised or the layers refuse."""
    weights = list(decoder.parameters())
    if not all(one.is_floating_point() and type(one) is torch.nn.Parameter for one in weights):
        return None
    table = {id(one) for one in decoder.get_input_embeddings().parameters()}
    held = [(one, one.data) for one in weights if id(one) not in table]
    try:
        for weight, data in held:
            weight.data = data.float()
        return _through(decoder, replace(conditions, autocast=None), torch.float32)
    except (RuntimeError, TypeError, ValueError, AttributeError, KeyError):
        return None
    finally:
        for weight, data in held:
            weight.data = data


# What takes its place


def _functions(seen: Seen, liger: Liger, conditions: Conditions) -> dict[Kind, Function]:
    """The function that agrees with each kind of layer; kinds without one are left out."""
    found = {}
    for kind, (layer, x) in seen.layers.items():
        search = norm_for if _is_norm(layer) else product_for
        function = search(layer, x, liger, conditions.precision)
        if function is not None:
            found[kind] = function
    return found


def _is_norm(layer: torch.nn.Module) -> bool:
    return next(layer.children(), None) is None


def _layers(
    decoder: Any, seen: Seen, functions: dict[Kind, Function], liger: Liger
) -> list[Replacement]:
    found = []
    for module in decoder.modules():
        kind = _kind(module)
        if kind is None or kind not in functions:
            continue
        function, (_, x) = functions[kind], seen.layers[kind]
        if _is_norm(module):
            what, forward = "RMSNorm", _norm(function, x, module.weight.dtype)
        else:
            what = "SwiGLU" if function is liger.silu else "GeGLU"
            forward = _perceptron(function, x)
        # A method is replaced on the instance: these classes are hundreds in transformers, and a
        # module around each would rename its weights in checkpoints.
        found.append(Replacement(what, module, "forward", MethodType(forward, module)))
    return found


def _is_ready(module: torch.nn.Module, x: Tensor, tried: Tensor) -> bool:
    learns = module.training and torch.is_grad_enabled()
    return learns and x.device == tried.device and x.dtype == tried.dtype


def _norm(function: Function, tried: Tensor, held: torch.dtype) -> Function:
    like = tried[..., :0].clone()  # device and format, without the memory

    def forward(self: Any, hidden_states: Tensor) -> Tensor:
        if self.weight.dtype != held or not _is_ready(self, hidden_states, like):
            return type(self).forward(self, hidden_states)
        return function(hidden_states, self.weight)

    return forward


def _perceptron(function: Function, tried: Tensor) -> Function:
    like = tried[..., :0].clone()

    def forward(self: Any, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        if args or kwargs or not _is_ready(self, x, like):
            return type(self).forward(self, x, *args, **kwargs)
        return gated_output(self, x, function)

    return forward


def _rotations(seen: Seen, liger: Liger) -> Iterator[Replacement]:
    for name, call in seen.calls.items():
        own = getattr(sys.modules[name], _ROTARY)
        if rotates(own, call, liger):
            new = _rotation(own, liger.rotate, call)
            yield Replacement("rotary embedding", sys.modules[name], _ROTARY, new)


def _rotation(own: Function, rotate: Function, call: tuple[Tensor, ...]) -> Function:
    like = [one[..., :0].clone() for one in call]

    def apply(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, *args: Any, **kwargs: Any) -> Any:
        learns = torch.is_grad_enabled() and q.requires_grad and k.requires_grad
        known = all(
            one.dtype == tried.dtype and one.device == tried.device
            for one, tried in zip((q, k, cos, sin), like, strict=True)
        )
        if args or kwargs or not learns or not known:
            return own(q, k, cos, sin, *args, **kwargs)
        return rotate(q, k, cos, sin)

    return apply
