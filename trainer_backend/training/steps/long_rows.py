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
    """How activations are kept, and a sentence on what of it was not asked for ("": nothing).

    `added` is what this way has beyond the one before it, in words.
    """

    checkpointing: bool
    tiles: bool
    offloading: bool
    sentence: str = ""
    added: str = ""


def asked_way(args: Any) -> Way:
    """The way that the arguments of a training ask for."""
    checkpointing = bool(args.gradient_checkpointing)
    return Way(checkpointing, args.long_rows == "tiles", bool(args.activation_offloading))


class LongRows:
    """How one training keeps its activations; `trainer` is asked when its training starts."""

    def __init__(self, trainer: Any):
        self._trainer = trainer
        self._offloader: Offloader | None = None
        self.offloads = False
        self._shared: SharedRows | None = None
        self._held: ExitStack | None = None
        self.way = self.begun = Way(False, False, False)
        self.added: list[str] = []  # after memory ran out, in words
        self._following: tuple[Way, Way | None] | None = None  # a way, and what comes after it

    @contextmanager
    def ready(self) -> Iterator[None]:
        """Choose, and hold what was chosen until the training is over."""
        trainer = self._trainer
        if trainer.args.context_parallel:
            self._shared = SharedRows(trainer)
        self.added, self._following = [], None
        with ExitStack() as held:
            self._held = held
            self.way = Way(False, False, False)
            self._switch(trainer._way(), held)
            self.begun = self.way
            try:
                yield
            finally:
                self._offloader = self._shared = self._held = None

    def next_way(self) -> Way | None:
        """What keeps less than the way that is taken; None if nothing does, or nothing may."""
        if self._held is None:
            return None
        if self._following is None or self._following[0] != self.way:
            self._following = self.way, self._trainer._next_way(self.way)
        return self._following[1]

    def step_up(self) -> bool:
        """Keep less from now on, after memory has run out; False: there is no other way."""
        way = self.next_way()
        if way is None or self._held is None:
            return False
        computed_again = self.way.checkpointing
        self._switch(way, self._held)
        self.added.append(way.added)
        if way.checkpointing and not computed_again:
            _checkpoint_now(self._trainer.model, self._trainer.args)
        return True

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
        if way.tiles and not self.way.tiles:
            held.enter_context(tiled_layers(causal_lm(trainer.model)))
        self.offloads = way.offloading
        if way.offloading:
            self._offloader = offloader_for(args.device)
        self.way = way
        if way.sentence:
            trainer.paths.say(way.sentence)


def _checkpoint_now(model: Any, args: Any) -> None:
    """Let the layers of a model that trains already be computed again, as the Trainer begins."""
    more = dict(args.activation_checkpointing_kwargs or {})
    every, offload = more.pop("every_n_layers", 1), more.pop("offload", False)
    model.activation_checkpointing_enable(
        activation_checkpointing_kwargs=more or None, every_n_layers=every, offload=offload
    )
