"""The settings and data of a run, read once at the start of its worker.

Whatever changes during training (state, events, checkpoints, a stop) is not kept here.
"""

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from trainer_backend.data.store import StoredDataset
from trainer_backend.recipe import Recipe
from trainer_backend.runs import Run
from trainer_backend.runs.files import START
from trainer_backend.runs.spec import FORMAT_VERSION


@dataclass(frozen=True)
class RunFacts:
    """A run with its settings, its data, and the ascending indices (int64) of its two splits."""

    run: Run
    spec: dict[str, Any]
    recipe: Recipe
    dataset: StoredDataset
    train_at: np.ndarray
    held_out_at: np.ndarray

    @classmethod
    def load(cls, run: Run) -> "RunFacts":
        """Read a run. Raises UserError if a file is damaged or the dataset is missing."""
        spec, recipe, dataset = run.spec(), run.recipe(), run.dataset()
        split = dataset.split(recipe.eval_fraction, recipe.seed)
        # arrays, because a list would take five times as much memory during the whole run
        return cls(run, spec, recipe, dataset, *(np.asarray(at, np.int64) for at in split))

    @property
    def places(self) -> dict[str, np.ndarray]:
        """The indices of both splits, by the names that the trainer gives them."""
        return {"train": self.train_at, "eval": self.held_out_at}

    @property
    def start(self) -> Path | None:
        """The folder with initial weights of another run; None if it starts from the base model."""
        return self.run.dir / START if self.spec["start"] else None

    @property
    def started_on(self) -> str:
        """The day the run was created (ISO): what templates that write a date are given."""
        return date.fromtimestamp(self.spec["created_at"]).isoformat()

    @property
    def is_older(self) -> bool:
        """Whether an earlier version began the run, which gave templates the rows as they were."""
        return self.spec["began_format"] < FORMAT_VERSION

    @property
    def revision(self) -> str | None:
        """The base model's commit on the Hub, as pinned at an earlier start of the run."""
        return self.spec["base"]["revision"]
