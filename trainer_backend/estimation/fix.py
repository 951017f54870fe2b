"""Settings that make a run fit: the fewest changes that do, the least harmful kind first.

What a changed recipe takes is asked of the caller; no formula is here.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from trainer_backend.hardware import Hardware
from trainer_backend.recipe import Recipe
from trainer_backend.recipe.resolve import QUANTIZED, best_precision

ROOM = 0.95  # of the free memory, that a fix may use
SHORTEST, LENGTH_STEP = 64, 64  # tokens of the maximum length
MOST_ACCUMULATED = 1024


@dataclass(frozen=True)
class Way:
    """A recipe and the likely gigabytes it takes."""

    recipe: Recipe
    gigabytes: float


Ask = Callable[[Recipe], Way | None]  # None: this machine refuses the recipe


def fitting_changes(
    recipe: Recipe, machine: Hardware, ask: Ask, free: float
) -> dict[str, Any] | None:
    """The changed fields of the recipe with which it fits into `free` GiB; None if nothing helps.

    Method and precision are tried first, then a smaller batch with as many examples a step,
    gradient checkpointing, an 8-bit optimizer, offloading and last a shorter length; what turns out
    not to be needed is taken back.
    """
    room, best = ROOM * free, recipe
    for changed in _steps(recipe, machine):
        way = ask(changed)
        if way is None:
            continue
        best = changed
        if way.gigabytes <= room:
            return _changes(recipe, _without_needless(recipe, changed, ask, room))
    shorter = _shorter(best, ask, room)
    if shorter is None:
        return None
    return _changes(recipe, _without_needless(recipe, shorter, ask, room))


def tightest(recipe: Recipe, machine: Hardware, ask: Ask) -> Way | None:
    """The recipe with every change at once: the least that this model takes."""
    best = None
    for changed in _steps(recipe, machine):
        best = ask(replace(changed, max_length=min(changed.max_length, SHORTEST))) or best
    return best


def _steps(recipe: Recipe, machine: Hardware) -> Iterator[Recipe]:
    """The recipe with one change more each time."""
    for change in (_lighter_method, _smaller_batch, _less_kept):
        for changed in change(recipe, machine):
            recipe = changed
            yield recipe


def _lighter_method(recipe: Recipe, machine: Hardware) -> Iterator[Recipe]:
    if recipe.adapter == "full":
        recipe = replace(recipe, adapter="lora")
        if recipe.learning_rate != "auto":
            recipe = replace(recipe, learning_rate="auto")  # LoRA wants a higher one
        yield recipe
    if recipe.precision == "fp32" and best_precision(machine) != "fp32":
        recipe = replace(recipe, precision="auto")
        yield recipe
    if recipe.adapter == "lora" and machine.kind != "mps" and recipe.precision not in QUANTIZED:
        yield replace(recipe, adapter="qlora", precision="auto")


def _smaller_batch(recipe: Recipe, machine: Hardware) -> Iterator[Recipe]:
    size, micro = recipe.per_device_train_batch_size, recipe.gradient_accumulation_steps
    while size > 1 and micro * 2 <= MOST_ACCUMULATED:
        size, micro = -(-size // 2), micro * 2
        recipe = replace(
            recipe, per_device_train_batch_size=size, gradient_accumulation_steps=micro
        )
        yield recipe


def _less_kept(recipe: Recipe, machine: Hardware) -> Iterator[Recipe]:
    if not recipe.gradient_checkpointing:
        recipe = replace(recipe, gradient_checkpointing=True)
        yield recipe
    if recipe.optim == "adamw_torch" and machine.kind != "mps":
        recipe = replace(recipe, optim="adamw_bnb_8bit")
        yield recipe
    if machine.kind == "cuda" and not recipe.activation_offloading:
        yield replace(recipe, activation_offloading=True)


def _shorter(recipe: Recipe, ask: Ask, room: float) -> Recipe | None:
    """The recipe with the longest maximum length that fits, by bisection."""
    low, high = SHORTEST // LENGTH_STEP, (recipe.max_length - 1) // LENGTH_STEP
    found = None
    while low <= high:
        middle = (low + high) // 2
        changed = replace(recipe, max_length=middle * LENGTH_STEP)
        way = ask(changed)
        if way is not None and way.gigabytes <= room:
            found, low = changed, middle + 1
        else:
            high = middle - 1
    return found


def _without_needless(recipe: Recipe, changed: Recipe, ask: Ask, room: float) -> Recipe:
    """The changed recipe without changes that are not needed, the most harmful taken back first."""
    groups = (
        ("max_length",),
        ("activation_offloading",),
        ("optim",),
        ("gradient_checkpointing",),
        ("per_device_train_batch_size", "gradient_accumulation_steps"),
        ("adapter", "precision", "learning_rate"),
    )
    for names in groups:
        back = replace(changed, **{name: getattr(recipe, name) for name in names})
        way = ask(back) if back != changed else None
        if way is not None and way.gigabytes <= room:
            changed = back
    return _larger_batch(recipe, changed, ask, room)


def _larger_batch(recipe: Recipe, changed: Recipe, ask: Ask, room: float) -> Recipe:
    """The changed recipe with the largest batch that fits, of those halved from the first."""
    fields = ("per_device_train_batch_size", "gradient_accumulation_steps")
    sizes = [tuple(getattr(recipe, name) for name in fields)]
    while sizes[-1][0] > changed.per_device_train_batch_size:
        sizes.append((-(-sizes[-1][0] // 2), sizes[-1][1] * 2))
    for size in sizes[:-1]:
        larger = replace(changed, **dict(zip(fields, size, strict=True)))
        way = ask(larger)
        if way is not None and way.gigabytes <= room:
            return larger
    return changed


def _changes(recipe: Recipe, changed: Recipe) -> dict[str, Any] | None:
    before, after = recipe.to_dict(), changed.to_dict()
    return {name: after[name] for name in after if after[name] != before[name]} or None
