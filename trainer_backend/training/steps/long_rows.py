"""Long rows in little memory: which way a training keeps its activations, and what that switches on.

Chosen once, before the first step, from the longest batch and the memory that is free then. Gradient
checkpointing, tiles and offloading themselves are elsewhere.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pyarrow.compute as pc
import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel
from torch import Tensor

from trainer_backend.estimation.memory import Setup, peak_memory
from trainer_backend.estimation.plan import Plan, unknown_rows
from trainer_backend.estimation.saving.choice import ROOM, said, settle
from trainer_backend.estimation.shape import shape_of
from trainer_backend.hardware import GIB, Hardware, ram
from trainer_backend.models.loaded.pretrained import AnyModel
from trainer_backend.recipe import Recipe
from trainer_backend.training.capabilities import causal_lm
from trainer_backend.training.kernels.tiled import tiled_layers
from trainer_backend.training.steps.context import SharedRows
from trainer_backend.training.steps.offloading import Offloader, in_main_memory, offloader_for

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]  # there is no such limit

if TYPE_CHECKING:
    from trainer_backend.training.sft_trainer import SFTTrainer


class LongRows:
    """How one training keeps its activations; `trainer` is asked when its training starts."""

    def __init__(self, trainer: "SFTTrainer"):
        self._trainer = trainer
        self._offloader: Offloader | None = None
        self._offloads = bool(trainer.args.activation_offloading)
        self._shared: SharedRows | None = None

    @contextmanager
    def ready(self) -> Iterator[None]:
        """Choose, and hold what was chosen until the training is over."""
        if self._trainer.args.context_parallel:
            self._shared = SharedRows(self._trainer)
        asked = self._asked()
        chosen = asked if asked is None else settle(asked, ROOM * self._room(asked))
        with ExitStack() as held:
            if asked is not None and chosen is not None and chosen != asked:
                self._switch(asked, chosen, held)
            if self._offloads:
                self._offloader = offloader_for(self._trainer.args.device)
            try:
                yield
            finally:
                self._offloader = self._shared = None

    def step(self) -> AbstractContextManager[None]:
        """The context of one forward and backward pass."""
        args = self._trainer.args
        device = args.device.type if self._offloads else "cpu"
        checkpointed = args.gradient_checkpointing
        return in_main_memory(self._offloader if checkpointed else None, device)

    def trained(
        self, train: Callable[..., Tensor], model: Any, batch: dict[str, Any], *rest: Any, **more: Any
    ) -> Tensor:
        """train(model, batch, …) as the Trainer's step, or shared with the other processes."""
        if self._shared is None:
            return train(model, batch, *rest, **more)
        return self._shared.step(lambda part: train(model, part, *rest, **more), model, batch)

    def _asked(self) -> Setup | None:
        """What the arguments ask for; None where nothing more is chosen."""
        trainer = self._trainer
        sharded = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
        if trainer.args.long_rows == "off" or sharded or not _is_plain(trainer.model):
            return None
        longest = longest_batch(trainer)
        return None if longest is None else setup_of(trainer, longest)

    def _room(self, setup: Setup) -> float:
        """Bytes for the whole run, with those that its weights have taken already."""
        parts = peak_memory(setup)
        return free_bytes(self._trainer.args.device) + sum(
            parts[name] for name in ("weights", "adapter", "other")
        )

    def _switch(self, asked: Setup, chosen: Setup, held: ExitStack) -> None:
        trainer, args = self._trainer, self._trainer.args
        if chosen.recipe.gradient_checkpointing and not asked.recipe.gradient_checkpointing:
            args.gradient_checkpointing = args.activation_checkpointing = True
            if isinstance(trainer.model, PeftModel):
                trainer.model.enable_input_require_grads()
        self._offloads = chosen.recipe.activation_offloading
        if chosen.tiled and not held.enter_context(tiled_layers(causal_lm(trainer.model))):
            chosen = replace(chosen, tiled=False)
        if sentence := said(asked, chosen):
            trainer.paths.say(sentence)


def _is_plain(model: AnyModel) -> bool:
    """Whether layers of this model can be computed again."""
    if isinstance(model, PeftModel) and model.active_peft_config.is_prompt_learning:
        return False
    return bool(causal_lm(model).supports_gradient_checkpointing)


def longest_batch(trainer: "SFTTrainer") -> tuple[int, int] | None:
    """Tokens of the largest batch and of its longest row; None where lengths are not known."""
    rows = trainer.train_dataset
    if not isinstance(rows, Dataset) or "input_ids" not in rows.column_names:
        return None
    lengths = pc.list_value_length(rows.with_format("arrow")["input_ids"]).to_numpy()
    size = min(trainer.args.per_device_train_batch_size, len(lengths))
    if not size:
        return None
    most = np.partition(lengths, len(lengths) - size)[-size:]
    longest = int(most.max())
    if trainer.args.context_parallel:
        return int(most.sum()) // trainer.args.world_size + 1, longest
    return (int(most.sum()) if trainer._traits.packs else longest * size), longest


def setup_of(trainer: "SFTTrainer", longest: tuple[int, int]) -> Setup | None:
    """The training as the formula of memory knows it; None for a model of unknown sizes."""
    args, model = trainer.args, trainer.model
    counted = sum(one.numel() for one in causal_lm(model).parameters())
    bits = _bits(causal_lm(model))
    shape = shape_of(causal_lm(model).config.to_dict(), None if bits else counted)
    if shape is None:
        return None
    recipe = recipe_of(args, model)
    plan = _plan(recipe, *longest)
    free = free_bytes(args.device) / GIB
    machine = Hardware(args.device.type, "", args.world_size, free, free, 1, True)
    return Setup(shape, recipe, machine, plan, processes=args.world_size, bits=bits)


def _bits(model: torch.nn.Module) -> int | None:
    return next((n for n in (4, 8) if getattr(model, f"is_loaded_in_{n}bit", False)), None)


def recipe_of(args: Any, model: AnyModel) -> Recipe:
    """The settings that decide about memory, as a recipe."""
    own = model.active_peft_config if isinstance(model, PeftModel) else None
    lora = own if isinstance(own, LoraConfig) else None
    targets = getattr(lora, "target_modules", None) or "all-linear"
    return Recipe(
        adapter="full" if own is None else "lora",
        precision="bf16" if args.bf16 else "fp16" if args.fp16 else "fp32",
        lora_r=lora.r if lora else Recipe().lora_r,
        lora_dropout=lora.lora_dropout if lora else 0.0,
        lora_target_modules=targets if isinstance(targets, str) else ", ".join(sorted(targets)),
        use_dora=bool(lora and lora.use_dora),
        per_device_train_batch_size=args.per_device_train_batch_size,
        gradient_accumulation_steps=args.gradient_accumulation_steps,
        gradient_checkpointing=bool(args.gradient_checkpointing),
        activation_offloading=args.activation_offloading,
    )


def _plan(recipe: Recipe, tokens: int, row: int) -> Plan:
    return replace(
        unknown_rows(recipe),
        steps=1,
        longest_batch=tokens,
        drawn_batch=tokens,
        longest_trained=tokens,
        row_tokens=float(row),
        longest_row=row,
    )


def free_bytes(device: torch.device) -> float:
    """Bytes that this process may still take on a device."""
    if device.type != "cuda":
        return min(ram()[1] * GIB, _allowed())
    used = torch.cuda.memory_allocated(device)
    free, total = torch.cuda.mem_get_info(device)
    share = torch.cuda.get_per_process_memory_fraction(device)
    return float(min(free + torch.cuda.memory_reserved(device), share * total) - used)


def _allowed() -> float:
    """Bytes up to the limit that the system sets for the data of this process, if it sets one."""
    if resource is None:
        return float("inf")
    limit = resource.getrlimit(resource.RLIMIT_DATA)[0]
    if limit == resource.RLIM_INFINITY:
        return float("inf")
    return float(limit - psutil.Process().memory_info().data)
