"""Compares the least memory of a run with the machine's, before and after loading.

A lower bound only, so that nothing is refused that could fit; the likely memory is estimated before
the start, and memory may still run out later.
"""

import os
from dataclasses import replace
from pathlib import Path

import torch
from transformers import Trainer

from trainer_backend.disk import GIB, in_words
from trainer_backend.errors import UserError
from trainer_backend.estimation.estimate import make_case
from trainer_backend.estimation.memory import GRADIENT_BYTES, WEIGHT_BYTES, optimizer_bytes
from trainer_backend.estimation.weights import Stored, stored_weights
from trainer_backend.hardware import Hardware, hardware
from trainer_backend.recipe import Recipe, changed_to
from trainer_backend.training.malloc import give_back
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
    state = optimizer_bytes(trainable, recipe)
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
