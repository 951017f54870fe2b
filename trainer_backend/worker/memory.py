"""The memory of a run against that of the machine, before and after loading.

What is refused is a lower bound only, so that nothing is refused that could fit: memory may still
run out later. How activations are kept follows from the likely memory.
"""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.compute as pc
import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel
from transformers import Trainer

from trainer_backend.disk import GIB, in_words
from trainer_backend.errors import UserError
from trainer_backend.estimation.estimate import make_case
from trainer_backend.estimation.memory import (
    GRADIENT_BYTES,
    TILE,
    WEIGHT_BYTES,
    Setup,
    optimizer_bytes,
    peak_memory,
)
from trainer_backend.estimation.plan import Plan, unknown_rows
from trainer_backend.estimation.saving.choice import ROOM, has_room, said, settle
from trainer_backend.estimation.shape import shape_of
from trainer_backend.estimation.weights import Stored, stored_weights
from trainer_backend.hardware import Hardware, hardware, ram
from trainer_backend.models.loaded.pretrained import AnyModel
from trainer_backend.processes import data_left
from trainer_backend.recipe import Recipe, changed_to, label
from trainer_backend.tokens.packing import filled_length
from trainer_backend.training.capabilities import causal_lm, has_virtual_tokens
from trainer_backend.training.malloc import give_back
from trainer_backend.training.steps.long_rows import Way, asked_way
from trainer_backend.worker.facts import RunFacts
from trainer_backend.worker.fsdp import own_shard


def check_model_fits(folder: Path, recipe: Recipe) -> None:
    """Raises UserError with both sizes if the weights of a model folder exceed the memory.

    Compared with the total memory of a GPU (other processes may end), or the machine's free memory.
    """
    machine, stored = hardware(), stored_weights(folder)
    available = GIB * (machine.memory_total if machine.kind == "cuda" else machine.memory_free)
    needed = least_bytes(stored, recipe, machine)
    if needed > available:
        lighter = _lighter(recipe)
        fitting = (one for one in lighter if least_bytes(stored, one, machine) <= available)
        raise _too_large(recipe, needed, available, next(fitting, None))


def _too_large(
    recipe: Recipe, needed: float, available: float, lighter: Recipe | None
) -> UserError:
    changes, fix = {}, "Choose a smaller model, or a machine with more memory."
    if lighter:
        names = [
            one for one in ("adapter", "precision") if getattr(lighter, one) != getattr(recipe, one)
        ]
        changes = {name: getattr(lighter, name) for name in names}
        fix = f"Choose a smaller model, or set {changed_to(changes)}."
    return UserError(
        "The model does not fit into memory.",
        f"{recipe.base_model}: at least {in_words(int(needed))} needed, "
        f"{in_words(int(available))} available",
        fix,
        code="memory_small",
        offer={"retry": changes} if changes else None,
    )


def least_bytes(stored: Stored, recipe: Recipe, machine: Hardware) -> int:
    """Least bytes of the model on one GPU, or on this machine for all its CPU processes."""
    copies = float(os.environ.get("LOCAL_WORLD_SIZE", "1")) if machine.kind == "cpu" else 1.0
    if recipe.distributed == "fsdp":
        copies /= int(os.environ.get("WORLD_SIZE", "1"))
    if recipe.adapter == "full":
        each = stored.numbers * (WEIGHT_BYTES["fp32"] + GRADIENT_BYTES)
        each += optimizer_bytes(stored.numbers, recipe)
    else:
        each = stored.numbers * WEIGHT_BYTES[recipe.precision]
    return int((each + stored.fixed_bytes) * copies)


def _lighter(recipe: Recipe) -> list[Recipe]:
    """The recipe with an adapter instead of all weights, then in 8 and in 4 bits."""
    adapter = replace(recipe, adapter="lora") if recipe.adapter == "full" else recipe
    return [adapter, *(replace(adapter, precision=one) for one in ("int8", "int4"))]


def check_training_fits(trainer: Trainer, recipe: Recipe) -> None:
    """After the longest batch was tried: check the memory for optimizer state and gradients.

    Raises UserError with both sizes, or torch.OutOfMemoryError where a smaller batch may help. Of a
    GPU counts what is free or held by this process: others may hold a part of it.
    """
    assert trainer.model is not None
    weights = [one for one in trainer.model.parameters() if one.requires_grad]
    trainable = sum(own_shard(one).numel() for one in weights)
    there = bool(getattr(trainer.optimizer, "state", None))  # of a resumed run: counted already
    state = 0 if there else optimizer_bytes(trainable, recipe)
    if torch.cuda.is_available():
        unused, total = torch.cuda.mem_get_info()
        ours = unused + torch.cuda.memory_reserved()
        if missing := shortage(torch.cuda.max_memory_allocated() + state, ours, total):
            raise torch.OutOfMemoryError(f"CUDA out of memory: {missing}.")
        return
    give_back()
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    needed, free = processes * (state + trainable * GRADIENT_BYTES), hardware().memory_free * GIB
    if needed > free:
        adapter = replace(recipe, adapter="lora") if recipe.adapter == "full" else None
        raise _too_large(recipe, needed, free, adapter)


def shortage(needed: int, available: int, total: int) -> str:
    """Both sizes in words, and what other programs hold of a GPU; "" if it is enough."""
    if needed <= available:
        return ""
    numbers = f"about {in_words(needed)} needed, {in_words(available)} available"
    if total - available > GIB:
        numbers += f" (other programs hold {in_words(total - available)} of the GPU)"
    return numbers


def step_parts(facts: RunFacts) -> int:
    """In how many parts a step fits into the memory that is free now, by the estimate.

    Call it before the model is loaded. 1 where parts are not chosen: on other devices than a GPU,
    or where the sizes of the model are not known.
    """
    machine = hardware()
    if machine.kind != "cuda":
        return 1
    case = make_case(facts.run.home, facts.recipe, facts.dataset, machine)
    return 1 if case.shape is None else case.setup(facts.recipe)[0].parts


# How activations are kept


def least_way(trainer: Any) -> Way:
    """The cheapest way with which the longest batch fits into the memory that is free now.

    What the arguments ask for stays. Where nothing is known of the model or the rows, where the
    model is sharded or with long_rows="off", nothing is added to it.
    """
    asked = asked_way(trainer.args)
    if not _may_add(trainer):
        return asked
    longest = longest_batch(trainer)
    setup = None if longest is None else setup_of(trainer, longest)
    if setup is None:
        return asked
    held = sum(peak_memory(setup)[name] for name in ("weights", "adapter", "other"))
    chosen = settle(setup, ROOM * (free_bytes(trainer.args.device) + held))
    recipe = chosen.recipe
    return Way(
        checkpointing=recipe.gradient_checkpointing,
        tiles=chosen.tiled or asked.tiles,
        offloading=recipe.activation_offloading,
        sentence=said(setup, chosen),
    )


def next_way(trainer: Any, way: Way) -> Way | None:
    """The cheapest way that keeps less than `way`, on which memory ran out; None: there is none.

    In the order of least_way(), each at most once; said in words.
    """
    if not _may_add(trainer):
        return None
    args, longest = trainer.args, longest_batch(trainer)
    setup = None if longest is None else setup_of(trainer, longest)
    again, tiles, moves = label("gradient_checkpointing"), "tiles", label("activation_offloading")
    if not way.checkpointing:
        return _told(replace(way, checkpointing=True), f"“{again}”")
    if not way.tiles and longest is not None and longest[0] >= 2 * TILE:
        return _told(replace(way, tiles=True), f"{tiles} for long rows")
    if way.offloading or args.device.type != "cuda" or (setup and not has_room(setup)):
        return None
    return _told(replace(way, offloading=True), f"“{moves}”")


def _told(way: Way, added: str) -> Way:
    verb = "are" if added.startswith("tiles") else "is"
    about = (
        f"The memory of the device ran out, against the estimate. From here on {added} {verb} "
        "used; results are the same."
    )
    return replace(way, sentence=about, added=added)


def _may_add(trainer: Any) -> bool:
    """Whether a run may keep less than its arguments ask for."""
    sharded = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
    return trainer.args.long_rows != "off" and not sharded and _is_plain(trainer.model)


def _is_plain(model: AnyModel) -> bool:
    """Whether layers of this model can be computed again."""
    if has_virtual_tokens(model):
        return False
    return bool(causal_lm(model).supports_gradient_checkpointing)


def longest_batch(trainer: Any) -> tuple[int, int] | None:
    """Tokens of the most that must be computed at once, and of its longest row.

    On a GPU a step can be computed row by row, which costs less than to keep less of more rows.
    None where lengths are not known.
    """
    rows = trainer.train_dataset
    if not isinstance(rows, Dataset) or "input_ids" not in rows.column_names:
        return None
    lengths = pc.list_value_length(rows.with_format("arrow")["input_ids"]).to_numpy()
    row_by_row = trainer.merging.retries and trainer.args.device.type == "cuda"
    at_once = 1 if row_by_row else trainer.args.per_device_train_batch_size
    size = min(at_once, len(lengths))
    if not size:
        return None
    most = np.partition(lengths, len(lengths) - size)[-size:]
    longest = int(most.max())
    if trainer.args.context_parallel:
        return int(most.sum()) // trainer.args.world_size + 1, longest
    return (int(most.sum()) if trainer._traits.packs else longest * size), longest


def setup_of(trainer: Any, longest: tuple[int, int]) -> Setup | None:
    """The training as the formula of memory knows it; None for a model of unknown sizes."""
    args, model = trainer.args, trainer.model
    counted = sum(one.numel() for one in causal_lm(model).parameters())
    bits = _bits(causal_lm(model))
    shape = shape_of(causal_lm(model).config.to_dict(), None if bits else counted)
    if shape is None:
        return None
    recipe = recipe_of(args, model)
    fills = trainer._filling is not None
    plan = _plan(recipe, filled_length(longest[0]) if fills else longest[0], longest[1])
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
        return min(ram()[1] * GIB, data_left())
    used = torch.cuda.memory_allocated(device)
    free, total = torch.cuda.mem_get_info(device)
    share = torch.cuda.get_per_process_memory_fraction(device)
    return float(min(free + torch.cuda.memory_reserved(device), share * total) - used)


def usable_bytes(device: torch.device) -> float:
    """Bytes that this process may take on a device in all: what it has, and what is free."""
    if device.type != "cuda":
        return free_bytes(device) + psutil.Process().memory_info().rss
    return free_bytes(device) + torch.cuda.memory_allocated(device)


def device_name(device: torch.device) -> str:
    """“cpu”, or the name of the card."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
