"""What a run was asked to do, read from its folder once and handed down.

What changes while it trains (state, events, checkpoints, a stop) is asked of the run itself.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainer_backend.data.store import StoredDataset
from trainer_backend.recipe import Recipe
from trainer_backend.runs import Run
from trainer_backend.runs.files import START


@dataclass(frozen=True)
class RunFacts:
    """A run with its settings, its data, and the ascending indices (int64) of its two splits."""

    run: Run
    spec: dict
    recipe: Recipe
    dataset: StoredDataset
    train_at: np.ndarray
    held_out_at: np.ndarray

    @classmethod
    def load(cls, run: Run) -> "RunFacts":
        """Read a run. Raises UserError when a file of it is damaged or its dataset is gone."""
        spec, recipe, dataset = run.spec(), run.recipe(), run.dataset()
        split = dataset.split(recipe.eval_fraction, recipe.seed)
        # arrays: they stay in memory while the run trains, and a list takes five times as much
        return cls(run, spec, recipe, dataset, *(np.asarray(at, np.int64) for at in split))

    @property
    def start(self) -> Path | None:
        """The folder of the weights it starts from, copied from another run; None without any."""
        return self.run.dir / START if self.spec["start"] else None

    @property
    def revision(self) -> str | None:
        """The commit of the base model on the Hub, as pinned by an earlier start of the run."""
        return self.spec["base"]["revision"]
