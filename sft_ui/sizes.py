"""Cached answers that several tabs show: free memory of the machine, sizes of a dataset's split."""

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
    """The machine as of at most five seconds ago; querying a GPU is slow."""
    return _machine_at(int(time.monotonic() // SECONDS_MACHINE_IS_KNOWN))


@lru_cache(maxsize=1)
def _machine_at(moment: int) -> Hardware:  # `moment` is the cache key
    return hardware()


@lru_cache(maxsize=64)
def split_sizes(home: Path, dataset_id: str, eval_fraction: float, seed: int) -> tuple[int, int]:
    """Numbers of (training, held-out) examples; cached, as a stored dataset never changes."""
    dataset = open_dataset(home, dataset_id)
    if not dataset.num_examples:
        return 0, 0
    train, held_out = dataset.split(eval_fraction, seed)
    return len(train), len(held_out)


def sizes_for(studio: Studio, dataset_id: str, recipe: Recipe | None) -> tuple[int, int]:
    """Numbers of (training, held-out) examples for the current form; (0, 0) without data."""
    if not dataset_id or recipe is None:
        return 0, 0
    sizes, _ = attempt(split_sizes, studio.home, dataset_id, recipe.eval_fraction, recipe.seed)
    return sizes or (0, 0)
