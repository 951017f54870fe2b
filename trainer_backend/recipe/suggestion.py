"""Settings that follow from the data: epochs, batch size and maximum length, each with its reason.

Numbers come in and settings go out: no dataset is opened here, and no form is known.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from trainer_backend.recipe.labels import label
from trainer_backend.recipe.recipe import Recipe
from trainer_backend.recipe.resolve import effective_batch_size, total_steps

FEW_EXAMPLES, MOST_EPOCHS = 400, 10  # examples seen in all; epochs over a few rows
MANY_EXAMPLES = 25_000
ENOUGH_STEPS = 30
LENGTH_STEP = 64
NEARLY_ALL = 99  # percent of the rows that a shorter length must hold
LITTLE_LONGER = 1.25  # how much longer a length may be to hold every row


@dataclass(frozen=True)
class Data:
    """What is known of the training rows: how many, and their lengths in tokens, if counted.

    `reads` are the tokens that the model reads at most (None: not known), `fits` those that this
    machine has memory for (None: not known, or no limit).
    """

    rows: int
    lengths: Sequence[int] | np.ndarray = field(default=())
    reads: int | None = None
    fits: int | None = None


def suggested(
    preset: Recipe, data: Data, num_devices: int = 1
) -> tuple[dict[str, Any], dict[str, str]]:
    """({field: value}, {field: reason}) where the data asks for other settings than the preset's.

    Epochs follow the rule that OpenAI gives for its own default (cookbook, “Data preparation and
    analysis for chat model fine-tuning”): three, but more where fewer than a minimum of examples
    would be seen in all, fewer where more than 25,000 would be. There the minimum is 100 and the
    epochs end at 25; here they are 400 and 10: an adapter of a small model needs more steps, and
    more than ten passes over the same rows are learned by heart (LIMA, arXiv 2305.11206, trains
    1,000 rows for 15 epochs and picks an earlier checkpoint). Batches are halved, accumulation
    first, until there are 30 steps: small batches cost a LoRA no quality (“LoRA Without Regret”,
    Thinking Machines 2025), and with a few steps the schedule has no room to warm up and fall.
    The maximum length is the shortest multiple of 64 that holds every row, or 99 % of them where
    the longest rows stand out. Settings that limit the steps are left alone.
    """
    if data.rows <= 0:
        return {}, {}
    settings: dict[str, Any] = {}
    reasons: dict[str, str] = {}
    recipe = preset
    rules = [_length] if preset.max_steps > 0 else [_epochs, _batch, _length]
    for rule in rules:
        changes, reason = rule(recipe, data, num_devices)
        recipe = replace(recipe, **changes)
        settings |= changes
        reasons |= {name: reason for name in list(changes)[:1]}
    return settings, reasons


def _epochs(recipe: Recipe, data: Data, num_devices: int) -> tuple[dict[str, Any], str]:
    usual, rows = recipe.num_train_epochs, data.rows
    epochs = usual
    if rows * usual < FEW_EXAMPLES:
        epochs = max(usual, min(MOST_EPOCHS, round(FEW_EXAMPLES / rows)))
    elif rows * usual > MANY_EXAMPLES:
        epochs = max(1, MANY_EXAMPLES // rows)
    if epochs == usual:
        return {}, ""
    counted = "1 row" if rows == 1 else f"{rows:,} rows"
    why = f"you have only {counted}" if epochs > usual else f"{counted} need fewer passes"
    return {"num_train_epochs": float(epochs)}, f"{label('num_train_epochs')} {epochs:g}: {why}."


def _batch(recipe: Recipe, data: Data, num_devices: int) -> tuple[dict[str, Any], str]:
    smaller = recipe
    while total_steps(smaller, data.rows, num_devices) < ENOUGH_STEPS:
        size, times = smaller.per_device_train_batch_size, smaller.gradient_accumulation_steps
        if times > 1:
            smaller = replace(smaller, gradient_accumulation_steps=times // 2)
        elif size > 1:
            smaller = replace(smaller, per_device_train_batch_size=size // 2)
        else:
            break
    names = ("per_device_train_batch_size", "gradient_accumulation_steps")
    changes = {n: getattr(smaller, n) for n in names if getattr(smaller, n) != getattr(recipe, n)}
    before, after = effective_batch_size(recipe), effective_batch_size(smaller)
    steps = total_steps(recipe, data.rows, num_devices)
    made = "1 step" if steps == 1 else f"{steps:,} steps"
    said = " and ".join(f"{label(name)} {value}" for name, value in changes.items())
    return changes, f"{said}: {after} rows a step, as {before} would make only {made}."


def _length(recipe: Recipe, data: Data, num_devices: int) -> tuple[dict[str, Any], str]:
    lengths = np.asarray(data.lengths)
    lengths = lengths[lengths > 0]
    if not len(lengths):
        return {}, ""
    longest = int(lengths.max())
    whole = _rounded(longest)
    most = _rounded(int(np.percentile(lengths, NEARLY_ALL, method="higher")))
    wanted = whole if whole <= LITTLE_LONGER * most else most
    limits = {"the model reads no more": data.reads, "more does not fit into memory": data.fits}
    why = ""
    for words, limit in limits.items():
        if limit and wanted > limit:
            wanted, why = limit, words
    if wanted == recipe.max_length:
        return {}, ""
    cut = int((lengths > wanted).sum())
    rows = "1 longer row is" if cut == 1 else f"{cut:,} longer rows are"
    held = f"the longest row has {longest:,} tokens" if not cut else f"{rows} cut"
    why = "; ".join(filter(None, (why, held)))
    return {"max_length": wanted}, f"{label('max_length')} {wanted:,}: {why}."


def _rounded(tokens: int) -> int:
    return math.ceil(tokens / LENGTH_STEP) * LENGTH_STEP
