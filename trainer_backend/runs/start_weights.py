"""The weights a run begins with when they are another run's: chosen, checked, copied.

Loading them is model.py; a run that goes on with its own weights resumes instead.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from trainer_backend.errors import UserError
from trainer_backend.recipe.recipe import LORA_FIELDS, Recipe, named
from trainer_backend.runs.files import START
from trainer_backend.runs.run import Run
from trainer_backend.runs.spec import file_facts

WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "adapter_config.json", "config.json")


@dataclass(frozen=True)
class StartWeights:
    """A committed checkpoint of another run."""

    run: Run
    step: int
    folder: Path


def start_weights(run: Run, recipe: Recipe) -> StartWeights:
    """The result of a run as a beginning. Raises UserError when it does not fit the recipe."""
    chosen = run.result()
    if chosen is None:
        raise UserError(
            "This run has no checkpoint to start from.",
            run.name(),
            "Start again from the base model with the same settings.",
            code="checkpoints_bad",
            offer={"retry": {}},
        )
    same = ("base_model", *([] if recipe.adapter == "full" else LORA_FIELDS))
    before = run.recipe()
    fixed = [name for name in same if getattr(recipe, name) != getattr(before, name)]
    if (recipe.adapter == "full") != (before.adapter == "full"):
        fixed.append("adapter")
    if fixed:
        raise UserError(
            f"{named(fixed)} must be those of the weights to start from.",
            f"run {run.name()}, step {chosen.step}",
            "Leave them as they were in that run, or start from the base model.",
        )
    return StartWeights(run, chosen.step, chosen.path)


def copy_start_weights(start: StartWeights, folder: Path) -> dict:
    """Put the weights into a new run's folder; returns what its spec says about them.

    Linked where the disk allows it: the same bytes, and either run may be deleted.
    """
    target = folder / START
    target.mkdir()
    names = sorted({path.name for kind in WEIGHTS for path in start.folder.glob(kind)})
    for name in names:
        try:
            os.link(start.folder / name, target / name)
        except OSError:
            shutil.copy2(start.folder / name, target / name)
    if not names:
        raise UserError("The checkpoint holds no weights.", str(start.folder), "Choose another.")
    files = {name: file_facts(target / name) for name in names}
    return {"run": start.run.id, "step": start.step, "files": files}


def same_start(run: Run) -> StartWeights | None:
    """The weights `run` itself began with, for a run that repeats it; None for the base model's."""
    begun = run.spec()["start"]
    if begun is None:
        return None
    return StartWeights(Run(run.dir.with_name(begun["run"])), begun["step"], run.dir / START)
