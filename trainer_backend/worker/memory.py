"""Whether the memory a run needs at the least is there: before loading, and after the first try.

What happens when memory runs out all the same is memory_care.py; disks are preflight.py.
"""

import math
import os
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import safe_open
from transformers import Trainer

from trainer_backend.disk import GIB, in_words
from trainer_backend.errors import UserError
from trainer_backend.hardware import Hardware, hardware
from trainer_backend.recipe import Recipe, changed_to
from trainer_backend.training.malloc import give_back
from trainer_backend.worker.fsdp import own_share

WEIGHT_BYTES = {"fp32": 4.0, "bf16": 2.0, "fp16": 2.0, "int8": 1.0, "int4": 0.5}
GRADIENT_BYTES = 4
# bytes a weight that learns takes for the optimizer's averages
OPTIMIZER_BYTES = {"adamw_torch": 8, "adamw_bnb_8bit": 2, "paged_adamw_8bit": 2, "adafactor": 1}


def optimizer_bytes(weights: int, recipe: Recipe) -> int:
    """What the optimizer keeps for so many weights that learn."""
    return weights * OPTIMIZER_BYTES.get(recipe.optim, 8)


def check_model_fits(folder: Path, recipe: Recipe) -> None:
    """Refuse a model whose weights alone are more than the memory. Raises UserError with numbers.

    On a GPU all of its memory counts, as others may leave it; on a CPU what is free now.
    """
    machine, stored = hardware(), stored_weights(folder)
    there = GIB * (machine.memory_total if machine.kind == "cuda" else machine.memory_free)
    needed = least_bytes(stored, recipe, machine)
    if needed > there:
        lighter = _lighter(recipe)
        fitting = (one for one in lighter if least_bytes(stored, one, machine) <= there)
        raise _too_large(recipe, needed, there, next(fitting, None))


def _too_large(recipe: Recipe, needed: float, there: float, lighter: Recipe | None) -> UserError:
    changes, fix = {}, "Choose a smaller model, or a machine with more memory."
    if lighter:
        names = [
            one for one in ("adapter", "precision") if getattr(lighter, one) != getattr(recipe, one)
        ]
        changes = {name: getattr(lighter, name) for name in names}
        fix = f"Choose a smaller model, or set {changed_to(changes)}."
    return UserError(
        "The model is too large for the memory there is.",
        f"{recipe.base_model}: at least {in_words(needed)} needed, {in_words(there)} there",
        fix,
        code="memory_small",
        offer={"retry": changes} if changes else None,
    )


@dataclass(frozen=True)
class Stored:
    """A model folder's numbers that take the recipe's precision, and bytes that stay as they are.

    The latter are of a base that is stored in 8 or 4 bits.
    """

    numbers: int
    fixed_bytes: int


def stored_weights(folder: Path) -> Stored:
    """Count the weights of a model folder; only the heads of its safetensors files are read."""
    numbers = fixed = 0
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="np") as file:
            for name in file.keys():  # noqa: SIM118 - no dictionary
                part = file.get_slice(name)
                count = math.prod(part.get_shape())
                if part.get_dtype() in ("F64", "F32", "F16", "BF16"):
                    numbers += count
                else:
                    fixed += count
    return Stored(numbers, fixed)


def least_bytes(stored: Stored, recipe: Recipe, machine: Hardware) -> int:
    """What the model takes at the least on one device, or in this machine for its processes."""
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if machine.kind == "cpu" else 1
    if recipe.distributed == "fsdp":
        here /= int(os.environ.get("WORLD_SIZE", "1"))
    if recipe.adapter == "full":
        each = stored.numbers * (WEIGHT_BYTES["fp32"] + GRADIENT_BYTES)
        each += optimizer_bytes(stored.numbers, recipe)
    else:
        each = stored.numbers * WEIGHT_BYTES[recipe.precision]
    return int((each + stored.fixed_bytes) * here)


def _lighter(recipe: Recipe) -> list[Recipe]:
    """The same with an adapter instead of every weight, then in fewer bits."""
    addon = replace(recipe, adapter="lora") if recipe.adapter == "full" else recipe
    return [addon, *(replace(addon, precision=one) for one in ("int8", "int4"))]


def check_training_fits(trainer: Trainer, recipe: Recipe) -> None:
    """After the longest batch: what learning takes beside it must be there.

    Raises UserError with the numbers, or torch.OutOfMemoryError where a smaller batch may help.
    """
    weights = [one for one in trainer.model.parameters() if one.requires_grad]
    learning = sum(own_share(one).numel() for one in weights)
    averages = optimizer_bytes(learning, recipe)
    if torch.cuda.is_available():
        total = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
        needed = torch.cuda.max_memory_allocated() + averages
        if needed > total:
            numbers = f"about {in_words(needed)} needed, {in_words(total)} there"
            raise torch.OutOfMemoryError(f"CUDA out of memory: {numbers}.")
        return
    give_back()
    needed, free = averages + learning * GRADIENT_BYTES, hardware().memory_free * GIB
    needed *= int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if needed > free:
        addon = replace(recipe, adapter="lora") if recipe.adapter == "full" else None
        raise _too_large(recipe, needed, free, addon)
