"""Evaluates a run from Python. What is asked of the models, and how, is decided elsewhere."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainer_backend.data.store import StoredDataset, create_from_rows, resolve_data
from trainer_backend.downloads import Progress, silent
from trainer_backend.errors import UserError
from trainer_backend.evaluation.engine.evaluate import evaluate_run
from trainer_backend.evaluation.request import (
    Request,
    checkpoint_of,
    measure_names,
    row_count,
)
from trainer_backend.evaluation.results import Evaluation
from trainer_backend.home import open_home
from trainer_backend.runs import Run, open_run
from trainer_backend.runs.files import SPEC

Data = StoredDataset | str | Path | Sequence[Mapping[str, Any]]


def evaluate(  # noqa: PLR0913 - the options of the command
    run: Run | str | Path,
    dataset: Data | None = None,
    *,
    rows: int | None = None,
    checkpoint: int | str | None = None,
    metrics: str | Sequence[str] | None = None,
    home: str | Path | None = None,
    progress: Progress = silent,
) -> Evaluation:
    """Ask a run's base and tuned model, score the answers, and keep the result with the run.

    `run` is an id in `home` (SFT_STUDIO_HOME unless given), a folder or a Run; `dataset` a file, a
    sample, a dataset's id or rows, in place of its held-out rows; `checkpoint` a step, “best” or
    “last” (None: the run's result). Raises UserError for what is not there.
    """
    found = _as_run(run, home)
    step = checkpoint_of(checkpoint, "checkpoint")
    if step == "all":
        raise UserError("One call evaluates one checkpoint.", "checkpoint", "Give a step.")
    stored = None if dataset is None else _as_dataset(found.home, dataset)
    names = measure_names(metrics, "metrics")
    request = Request(stored, row_count(rows, "rows"), step, names)
    return next(request.evaluations(found, evaluate_run, progress))


def _as_run(run: Run | str | Path, home: str | Path | None) -> Run:
    if isinstance(run, Run):
        return run
    folder = Path(run).expanduser()
    if (folder / SPEC).exists():
        return Run(folder.resolve())
    return open_run(open_home(home), str(run))


def _as_dataset(home: Path, dataset: Data) -> StoredDataset:
    if isinstance(dataset, str | Path):
        return resolve_data(home, str(dataset))
    if isinstance(dataset, StoredDataset):
        return dataset
    return create_from_rows(home, [dict(row) for row in dataset], name="rows of a script")
