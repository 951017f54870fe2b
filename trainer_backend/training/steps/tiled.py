"""Long rows in tiles: what works token by token keeps its input alone, and is computed in pieces.

Of a multi-layer perceptron over 100,000 tokens gate, up and their product would take more memory
than all else in a layer. Each tile is computed again in the backward pass, with exact gradients
(arXiv 2506.13996, section 3). Which rows are long enough is told from outside.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import MethodType
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

TILE = 4096  # tokens; rows of less than two tiles are computed at once
_PROBED, _BORDER = 24, 7  # tokens of the probe, and where it is cut
_REFUSALS = (
    *(RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError),
    NotImplementedError,
)
_ROUTED = ("expert", "router")  # in names of modules that hand tokens to each other's places


class _Held(torch.autograd.Function):
    """Keeps the input of the tiles, for the backward pass.

    It is kept before the tiles are computed: a layer that is computed again by checkpointing stops
    as soon as it has all that it kept, so it does not compute its last tiles twice.
    """

    @staticmethod
    def forward(ctx: Any, marker: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        return marker.new_empty(0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        raise AssertionError("nothing depends on the marker")


class _Tiles(torch.autograd.Function):
    """part(rows) tile by tile; `weights` are those of `part` that learn."""

    @staticmethod
    def forward(  # noqa: PLR0913 - autograd's way
        ctx: Any,
        part: Callable[[Tensor], Tensor],
        held: Any,
        size: int,
        draws: bool,
        rows: Tensor,
        *weights: Tensor,
    ) -> Tensor:
        ctx.part, ctx.held, ctx.size, ctx.weights = part, held, size, weights
        ctx.drawn = _random_state(rows.device) if draws else None
        ctx.precision = _precision(rows.device.type)
        whole: Tensor | None = None
        for at in range(0, rows.shape[1], size):
            piece = rows[:, at : at + size].detach().requires_grad_(rows.requires_grad)
            with torch.enable_grad(), _kept_as_it_is():  # the operations of the backward pass
                out = part(piece).detach()
            if whole is None:
                whole = out.new_empty(*rows.shape[:2], *out.shape[2:])
            whole[:, at : at + size] = out
        assert whole is not None  # a row has tokens
        return whole

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        (rows,) = ctx.held.saved_tensors
        ctx.held = None
        for_rows = torch.empty_like(rows) if ctx.needs_input_grad[4] else None
        sums: list[Tensor | None] = [None] * len(ctx.weights)
        with _drawn_again(ctx.drawn, rows.device), _as_before(ctx.precision, rows.device.type):
            for at in range(0, rows.shape[1], ctx.size):
                tile = slice(at, at + ctx.size)
                piece = rows[:, tile].detach().requires_grad_(for_rows is not None)
                with torch.enable_grad(), _kept_as_it_is():
                    out = ctx.part(piece)
                wanted = [piece, *ctx.weights] if for_rows is not None else [*ctx.weights]
                found = [*torch.autograd.grad(out, wanted, grad[:, tile], allow_unused=True)]
                if for_rows is not None:
                    own = found.pop(0)
                    for_rows[:, tile] = 0 if own is None else own
                sums = [_plus(a, b) for a, b in zip(sums, found, strict=True)]
        given = (s if s is None else s.to(w.dtype) for s, w in zip(sums, ctx.weights, strict=True))
        return None, None, None, None, for_rows, *given


def _kept_as_it_is() -> AbstractContextManager:
    """What a tile keeps lives for that tile: checkpointing and offloading do not see it."""
    return torch.autograd.graph.saved_tensors_hooks(_alone, lambda kept: kept)


def _alone(kept: Tensor) -> Tensor:
    """Without its history: an output that is kept with it would hold itself for ever."""
    return kept.detach()


def _plus(total: Tensor | None, more: Tensor | None) -> Tensor | None:
    """Sums of many tiles, in float32: bf16 would lose what a single tile adds."""
    if more is None:
        return total
    return more.float() if total is None else total.add_(more)


def _precision(device: str) -> torch.dtype | None:
    """The number format of autocast; None where it is off."""
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None


def _as_before(precision: torch.dtype | None, device: str) -> AbstractContextManager:
    return torch.autocast(device, dtype=precision, enabled=precision is not None)


def _random_state(device: torch.device) -> list[Tensor]:
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states


@contextmanager
def _drawn_again(states: list[Tensor] | None, device: torch.device) -> Iterator[None]:
    """Draw the dropout of the forward pass once more; the states go on as if nothing had been."""
    if states is None:
        yield
        return
    on_gpu = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=on_gpu):
        torch.set_rng_state(states[0])
        for one in states[1:]:
            torch.cuda.set_rng_state(one, device)
        yield


def in_tiles(part: Callable[[Tensor], Tensor], rows: Tensor, size: int, learns: Any) -> Tensor:
    """part(rows) for `rows` [batch, tokens, width], with at most `size` tokens of each at a time.

    `part` maps every token by itself; `learns` are its modules, for their weights and dropout. The
    result and its gradients are those of part(rows), but for the order in which sums are rounded.
    """
    weights = [one for one in learns.parameters() if one.requires_grad]
    if not torch.is_grad_enabled() or not (rows.requires_grad or weights):
        return torch.cat([part(piece) for piece in rows.split(size, dim=1)], dim=1)
    draws = any(isinstance(one, torch.nn.Dropout) and one.p for one in learns.modules())
    marker = torch.empty(0, requires_grad=True)
    held = _Held.apply(marker, rows).grad_fn
    return _Tiles.apply(part, held, size, draws and learns.training, rows, *weights)


# In a model


@contextmanager
def tiled_layers(model: PreTrainedModel, size: int = TILE) -> Iterator[tuple[str, ...]]:
    """Compute what works token by token in tiles while inside; gives the names of these modules.

    They are the children of the decoder and of its layers for which a probe shows that a row in two
    pieces gives the same: multi-layer perceptrons and norms.
    """
    chosen = token_wise(model)
    before = [one.__dict__.get("forward") for _, one in chosen]
    for _, module in chosen:
        # A method is replaced on the instance: these classes are hundreds in transformers, and a
        # module around each would rename its weights in checkpoints.
        module.forward = MethodType(_tiled_forward(module.forward, size), module)
    try:
        yield tuple(dict.fromkeys(name for name, _ in chosen))
    finally:
        for (_, module), forward in zip(chosen, before, strict=True):
            del module.forward
            if forward is not None:
                module.forward = forward


def _tiled_forward(inner: Callable[..., Any], size: int) -> Callable[..., Any]:
    def forward(self: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        rows = args[0] if len(args) == 1 and not kwargs else None
        if not isinstance(rows, Tensor) or rows.dim() != 3:
            return inner(*args, **kwargs)
        tile = max(1, size // max(1, rows.shape[0]))
        return inner(rows) if rows.shape[1] < 2 * tile else in_tiles(inner, rows, tile, self)

    return forward


def token_wise(model: PreTrainedModel) -> list[tuple[str, torch.nn.Module]]:
    """(name, module) of what may be computed in tiles; each kind of module is probed once."""
    decoder = model.get_decoder()
    layers = [one for one in decoder.modules() if isinstance(one, GradientCheckpointingLayer)]
    width = model.config.get_text_config().hidden_size
    known: dict[tuple[type, str, type], bool] = {}
    found = []
    for parent in (decoder, *layers):
        for name, child in parent.named_children():
            kind = (type(parent), name, type(child))
            if kind not in known:
                known[kind] = _is_token_wise(child, width)
            if known[kind]:
                found.append((name, child))
    return found


def _is_token_wise(module: torch.nn.Module, width: int) -> bool:
    names = [name for name, _ in module.named_modules()]
    first = next(module.parameters(), None)
    if first is None or any(word in name for name in names for word in _ROUTED):
        return False
    floats = first.dtype if first.dtype.is_floating_point else torch.float32
    drawn = torch.randn(1, _PROBED, width, generator=torch.Generator().manual_seed(0))
    rows = drawn.to(first.device, floats)
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            whole = module(rows)
            apart = torch.cat([module(rows[:, :_BORDER]), module(rows[:, _BORDER:])], dim=1)
    except _REFUSALS:
        return False
    finally:
        module.train(was_training)
    if not isinstance(whole, Tensor) or whole.shape != rows.shape:
        return False
    near = 1e-4 if whole.dtype == torch.float32 else 2e-2
    return bool((whole - apart).abs().max() <= near * whole.abs().max())


def no_tiles() -> AbstractContextManager[tuple[str, ...]]:
    """In the place of tiled_layers() where rows are short."""
    return nullcontext(())
