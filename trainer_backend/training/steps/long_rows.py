"""Long rows in little memory: how a training keeps its activations, and what that switches on.

Which way is taken is decided outside, before the first step. Gradient checkpointing, tiles and
offloading themselves are elsewhere.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from peft import PeftModel
from torch import Tensor

from trainer_backend.training.capabilities import causal_lm
from trainer_backend.training.steps.context import SharedRows
from trainer_backend.training.steps.offloading import Offloader, in_main_memory, offloader_for
from trainer_backend.training.steps.tiled import tiled_layers


@dataclass(frozen=True)
class Way:
    """How activations are kept, and a sentence on what of it was not asked for ("": nothing)."""

    checkpointing: bool
    tiles: bool
    offloading: bool
    sentence: str = ""


def asked_way(args: Any) -> Way:
    """The way that the arguments of a training ask for."""
    checkpointing = bool(args.gradient_checkpointing)
    return Way(checkpointing, args.long_rows == "tiles", bool(args.activation_offloading))


class LongRows:
    """How one training keeps its activations; `trainer` is asked when its training starts."""

    def __init__(self, trainer: Any):
        self._trainer = trainer
        self._offloader: Offloader | None = None
        self.offloads = self.tiles = False
        self._shared: SharedRows | None = None

    @contextmanager
    def ready(self) -> Iterator[None]:
        """Choose, and hold what was chosen until the training is over."""
        trainer = self._trainer
        if trainer.args.context_parallel:
            self._shared = SharedRows(trainer)
        with ExitStack() as held:
            self._switch(trainer._way(), held)
            try:
                yield
            finally:
                self._offloader = self._shared = None

    def step(self) -> AbstractContextManager[None]:
        """The context of one forward and backward pass."""
        device = self._trainer.args.device.type if self.offloads else "cpu"
        checkpointed = self._trainer.args.gradient_checkpointing
        return in_main_memory(self._offloader if checkpointed else None, device)

    def trained(
        self, train: Callable[..., Tensor], model: Any, batch: dict[str, Any], *more: Any, **by: Any
    ) -> Tensor:
        """train(model, batch, …) as the Trainer's step, or shared with the other processes."""
        if self._shared is None:
            return train(model, batch, *more, **by)
        return self._shared.step(lambda part: train(model, part, *more, **by), model, batch)

    def _switch(self, way: Way, held: ExitStack) -> None:
        trainer, args = self._trainer, self._trainer.args
        if way.checkpointing and not args.gradient_checkpointing:
            args.gradient_checkpointing = args.activation_checkpointing = True
            if isinstance(trainer.model, PeftModel):
                trainer.model.enable_input_require_grads()
        self.tiles = way.tiles
        if way.tiles:
            held.enter_context(tiled_layers(causal_lm(trainer.model)))
        self.offloads = way.offloading
        if way.offloading:
            self._offloader = offloader_for(args.device)
        if way.sentence:
            trainer.paths.say(way.sentence)
