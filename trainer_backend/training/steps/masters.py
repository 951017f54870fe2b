"""Full training over a bf16 working copy: the optimizer keeps float32 masters and writes the copy.

Forward and backward pass read bf16 weights, so nothing is cast in them; what is learned is kept in
float32, as small updates would be rounded away in bf16. Mixed precision training (arXiv 1710.03740)
with the copy kept instead of made in each pass.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from typing import Any, TypeVar, cast

import torch
from transformers import (
    PreTrainedModel,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from trainer_backend.models.loaded.pretrained import AnyModel
from trainer_backend.training.sft_config import SFTConfig

_UPDATES = ("adamw_torch", "adamw_torch_fused", "adafactor", "sgd")  # take the masters as they are
_M = TypeVar("_M", bound=Callable[..., Any])


class MasterWeights:
    """Float32 masters of a model's weights beside the bf16 copies that it computes with.

    The model's parameters stay the same objects; only what they hold is exchanged. Without weights
    (`model` is None) every method leaves things as they are.
    """

    def __init__(self, model: PreTrainedModel | None):
        held = (
            [] if model is None else [one for one in model.parameters() if one.is_floating_point()]
        )
        self._weights = held
        self._masters = [torch.nn.Parameter(one.data, one.requires_grad) for one in held]
        self._copies: list[torch.Tensor] = []  # only while training

    @property
    def holds_copies(self) -> bool:
        """Whether the model computes with copies now."""
        return bool(self._copies)

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """The masters that learn; their gradients are float32 sums over all micro-batches."""
        return (one for one in self._masters if one.requires_grad)

    @contextmanager
    def copied(self) -> Iterator[None]:
        """Let the model compute with bf16 copies; afterwards it holds its masters again."""
        for weight, master in zip(self._weights, self._masters, strict=True):
            master.data = weight.data  # read again: a checkpoint may have been loaded
        self._copies = [one.data.to(torch.bfloat16) for one in self._masters]
        self._put(self._copies)
        hooks = [
            weight.register_post_accumulate_grad_hook(partial(_hand_over, master))
            for weight, master in zip(self._weights, self._masters, strict=True)
            if weight.requires_grad
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
            self._put(self._masters)
            self._copies = []
            self.forget()

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Put the masters into the model: to save, to load, to evaluate. Copies are made anew."""
        if not self._copies:
            yield
            return
        self._put(self._masters)
        try:
            yield
        finally:
            self._write()
            self._put(self._copies)

    def take_over(self, optimizer: torch.optim.Optimizer) -> None:
        """Let a new optimizer update the masters, and write the copies after each of its steps."""
        known = dict(zip(self._weights, self._masters, strict=True))
        for group in optimizer.param_groups:
            group["params"] = [known.get(one, one) for one in group["params"]]
        if known:
            optimizer.register_step_post_hook(lambda *_: self._finish_step())

    def updated(self, model: torch.nn.Module) -> Any:
        """What has the gradients of a step: these masters, or without any the model."""
        return self if self._copies else model

    def forget(self) -> None:
        """Drop the gradients: those of a trial before the first step are not part of it."""
        for master in self._masters:
            master.grad = None

    def _finish_step(self) -> None:
        self._write()
        self.forget()

    @torch.no_grad()
    def _write(self) -> None:
        if self._copies:
            torch._foreach_copy_(self._copies, [one.data for one in self._masters])

    def _put(self, tensors: list[Any]) -> None:
        for weight, tensor in zip(self._weights, tensors, strict=True):
            weight.grad = None
            weight.data = tensor.data


def _hand_over(master: torch.nn.Parameter, weight: torch.Tensor) -> None:
    """Add a finished bf16 gradient to the float32 sum of its master."""
    assert weight.grad is not None
    if master.grad is None:
        master.grad = weight.grad.float()
    else:
        master.grad += weight.grad
    weight.grad = None


class ForgetTrials(TrainerCallback):
    """Begins each optimizer step without gradients of what ran before it."""

    def __init__(self, masters: MasterWeights):
        self._masters = masters

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._masters.forget()


def with_masters(method: _M) -> _M:
    """A method of a trainer during which its model holds the float32 masters."""

    @wraps(method)
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        with self._masters.whole():
            return method(self, *args, **kwargs)

    return cast(_M, wrapped)


def masters_of(
    model: AnyModel, args: SFTConfig, given: object, say: Callable[[str], None]
) -> MasterWeights:
    """The masters of a model if a bf16 working copy is asked for and can be kept, else none.

    `given` is the optimizer that a script passed, or None. Which it is is said in words.
    """
    if not args.bf16_working_copy:
        return MasterWeights(None)
    why = why_not_copied(model, args, given)
    if why:
        say(f"Weights are computed with as they are stored, without a bf16 working copy: {why}.")
        return MasterWeights(None)
    assert isinstance(model, PreTrainedModel)
    say("The model computes with a bf16 copy of its weights; the optimizer updates float32 ones.")
    return MasterWeights(model)


def why_not_copied(model: AnyModel, args: SFTConfig, given: object) -> str:
    """Why a model is trained without a working copy; "" where it can have one."""
    weights = {one.dtype for one in model.parameters()}
    kept = [getattr(model, f"_keep_in_fp32_modules{end}", None) for end in ("", "_strict")]
    sharded = args.fsdp or args.deepspeed or getattr(args, "deepspeed_plugin", None)
    reasons = {
        "training does not run in bf16": not args.bf16,
        "only full training has weights that need one": not isinstance(model, PreTrainedModel),
        "not all of its weights are float32": weights != {torch.float32},
        "the model keeps some weights in float32": any(kept),
        "it reads images": getattr(model.config, "vision_config", None) is not None,
        "the model is trained by several processes": args.world_size > 1 or bool(sharded),
        f"the optimizer {args.optim} keeps its own": args.optim not in _UPDATES,
        "the optimizer was made by the script": given is not None,
        "the model is compiled": args.torch_compile,
        "the model is moved after it is evaluated": args.bf16_full_eval or args.fp16_full_eval,
        "the batch size is searched for": args.auto_find_batch_size,
    }
    return next((words for words, is_so in reasons.items() if is_so), "")
