"""What this machine has free, and how many examples a dataset trains on, as the tabs show it."""

import time
from functools import lru_cache
from pathlib import Path

from sft_ui.alerts import attempt
from sft_ui.context import Studio
from trainer_backend.data.store import open_dataset
from trainer_backend.hardware import Hardware, hardware
from trainer_backend.recipe import Recipe

SECONDS_MACHINE_IS_KNOWN = 5


def machine_now() -> Hardware:
    """The machine as it was at most five seconds ago: asking a GPU takes time."""
    return _machine_at(int(time.monotonic() // SECONDS_MACHINE_IS_KNOWN))


@lru_cache(maxsize=1)
def _machine_at(moment: int) -> Hardware:
    return hardware()


@lru_cache(maxsize=64)
def split_sizes(home: Path, dataset_id: str, eval_fraction: float, seed: int) -> tuple[int, int]:
    """How many examples are trained on and held out; a dataset with an id never changes."""
    dataset = open_dataset(home, dataset_id)
    if not dataset.num_examples:
        return 0, 0
    train, held_out = dataset.split(eval_fraction, seed)
    return len(train), len(held_out)


def sizes_for(studio: Studio, dataset_id: str, recipe: Recipe | None) -> tuple[int, int]:
    """Split sizes for the form as it stands; nothing without data."""
    if not dataset_id or recipe is None:
        return 0, 0
    sizes, _ = attempt(split_sizes, studio.home, dataset_id, recipe.eval_fraction, recipe.seed)
    return sizes or (0, 0)
