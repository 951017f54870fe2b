"""An evaluation from end to end: base and tuned model on held-out rows, measured and kept."""

from trainer_backend.downloads import Progress, silent
from trainer_backend.evaluation.results import Evaluation
from trainer_backend.runs.run import Run


def evaluate_run(
    run: Run,
    *,
    rows: int | None = None,
    dataset: str | None = None,
    checkpoint: int | str | None = None,
    metrics: str | None = None,
    progress: Progress = silent,
) -> Evaluation:
    """Evaluate a run or one of its checkpoints, on its held-out rows or any stored dataset.

    `rows` are asked at most (None: as many as the run's settings say, or 40), `dataset` is the id
    of a stored one, `checkpoint` a step, “best” or “last” (None: the run's result), `metrics` names
    with commas, or “auto” (None: as the run's settings say). The result is kept with the run.
    Raises UserError where there is no checkpoint, no row, no dataset or no base model any more, and
    what `progress` raises, to stop it.
    """
    raise NotImplementedError
