"""What someone asks to be evaluated: rows, data, checkpoints, measures. Free of torch.

Every way to ask ends here: it is checked in words before any model is loaded.
"""

import difflib
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainer_backend.data.store import StoredDataset, open_dataset
from trainer_backend.downloads import Progress, silent
from trainer_backend.errors import UserError
from trainer_backend.evaluation.results import Evaluation
from trainer_backend.evaluation.shown import LABELS
from trainer_backend.runs import ACTIVE, Run, best_of

NAMES = tuple(LABELS)
WORDS = ("best", "last", "all")
OPTIONS = ("dataset_id", "rows", "checkpoint", "metrics")
GIVE_DATA = "Give rows of your own: --data FILE, or dataset_id in the API."
Evaluate = Callable[..., Evaluation]


@dataclass(frozen=True)
class Request:
    """What is asked for; None is the run's own choice.

    `dataset` replaces the run's held-out rows, `rows` is at most so many of them, `checkpoint` a
    step, “best”, “last” or “all”, `metrics` names of measures.
    """

    dataset: StoredDataset | None = None
    rows: int | None = None
    checkpoint: int | str | None = None
    metrics: tuple[str, ...] | None = None

    def evaluations(
        self, run: Run, evaluate: Evaluate, progress: Progress = silent
    ) -> Iterator[Evaluation]:
        """Evaluate a run as asked: one evaluation for each checkpoint, oldest first.

        Raises UserError before the first one if it cannot be done.
        """
        for step in self.check(run):
            yield evaluate(
                run,
                rows=self.rows,
                dataset=self.dataset.id if self.dataset else None,
                checkpoint=step,
                metrics=",".join(self.metrics) if self.metrics else None,
                progress=progress,
            )

    def check(self, run: Run) -> list[int]:
        """The steps of the checkpoints to evaluate. Raises UserError if it cannot be done."""
        steps = self.steps(run)
        if self.dataset is None:
            _check_held_out(run)
        elif not self.dataset.num_examples:
            raise UserError("These data have no rows.", self.dataset.name, GIVE_DATA)
        return steps

    def steps(self, run: Run) -> list[int]:
        """The steps meant, whatever rows there are. Raises UserError, also while it trains."""
        _check_idle(run)
        return steps_of(run, self.checkpoint)


def request_of(run: Run, values: Mapping[str, Any], where: str = "options_json") -> Request:
    """A request from {"dataset_id", "rows", "checkpoint", "metrics"}, all optional.

    Raises UserError for anything else.
    """
    unknown = [name for name in values if name not in OPTIONS]
    if unknown:
        what = f"Unknown option “{str(unknown[0])[:60]}”."
        raise UserError(what, where, f"Use {', '.join(OPTIONS)}.")
    dataset_id = values.get("dataset_id")
    return Request(
        open_dataset(run.home, str(dataset_id)) if dataset_id else None,
        row_count(values.get("rows"), f"{where}, rows"),
        checkpoint_of(values.get("checkpoint"), f"{where}, checkpoint"),
        measure_names(values.get("metrics"), f"{where}, metrics"),
    )


def row_count(value: Any, where: str) -> int | None:
    """A number of rows; None for none given. Raises UserError unless it is 1 or more."""
    if value is None or value == "":
        return None
    text = str(value).strip()
    if isinstance(value, bool) or not text.isdecimal() or not int(text):
        raise UserError(f"“{text[:40]}” is not a number of rows.", where, "Give 1 or more.")
    return int(text)


def checkpoint_of(value: Any, where: str) -> int | str | None:
    """A checkpoint as it was written: a step, or one of WORDS. Raises UserError."""
    if value is None or value == "":
        return None
    text = str(value).strip().lower()
    if text in WORDS:
        return text
    if isinstance(value, bool) or not text.isdecimal():
        raise UserError(
            f"“{text[:40]}” is no checkpoint.", where, f"Give a step, or {', '.join(WORDS)}."
        )
    return int(text)


def measure_names(value: Any, where: str) -> tuple[str, ...] | None:
    """Names of measures, a list or a text with commas; None for none given or “auto”.

    Raises UserError for a name that is not known, with the one that may be meant.
    """
    given = value.split(",") if isinstance(value, str) else value
    if given is not None and not isinstance(given, Sequence):
        raise UserError("This is no list of measures.", where, f"Use {', '.join(NAMES)}.")
    names = [str(one).strip().lower() for one in given or () if str(one).strip()]
    if not names or names == ["auto"]:
        return None
    for name in names:
        if name not in NAMES:
            near = difflib.get_close_matches(name, NAMES, 1)
            meant = f"Perhaps {near[0]} is meant. " if near else ""
            fix = f"{meant}Use {', '.join(NAMES)}."
            raise UserError(f"There is no measure “{name[:40]}”.", where, fix)
    return tuple(dict.fromkeys(names))


def steps_of(run: Run, checkpoint: int | str | None) -> list[int]:
    """The steps that a checkpoint in words means, oldest first; None is the run's result.

    Raises UserError for one that is not kept.
    """
    kept = run.checkpoints()
    result = run.result()
    if not kept or result is None:
        raise UserError(
            "This run has no checkpoint yet.",
            run.name(),
            "Wait for the first checkpoint, or choose another run.",
        )
    if checkpoint is None:
        return [result.step]
    if checkpoint == "all":
        return [one.step for one in kept]
    if checkpoint == "last":
        return [kept[-1].step]
    if checkpoint == "best":
        return [_best_step(run)]
    if all(one.step != checkpoint for one in kept):
        steps = ", ".join(str(one.step) for one in kept)
        raise UserError(
            f"There is no checkpoint {checkpoint}.",
            f"{run.name()}, kept: {steps}",
            "Choose one of these steps, or best, last or all.",
        )
    return [int(checkpoint)]


def _best_step(run: Run) -> int:
    best = best_of(run.checkpoints())
    if best is None:
        raise UserError(
            "No checkpoint of this run has an evaluation loss, so none is known to be the best.",
            run.name(),
            "Choose last, all, or a step.",
        )
    return best.step


def _check_idle(run: Run) -> None:
    """Raise UserError while the run trains on this machine: both would share its memory."""
    state = run.state()["state"]
    if state in ACTIVE and run.worker().get("host", socket.gethostname()) == socket.gethostname():
        raise UserError(
            "This run is still training on this machine. An evaluation beside it would slow both "
            "down, and on a GPU it could end the training for lack of memory.",
            run.name(),
            "Wait for its end, where it is evaluated by itself, or stop it first: its progress is "
            "saved.",
        )


def _check_held_out(run: Run) -> None:
    try:
        held_out = run.split()[1]
    except UserError as error:
        if (run.home / "datasets" / str(run.spec()["dataset"]["id"])).exists():
            raise
        name = run.spec()["dataset"]["name"]
        raise UserError(
            "The data of this run are no longer here, and its held-out rows with them.",
            f"{run.name()}, data {name}",
            GIVE_DATA,
        ) from error
    if not len(held_out):
        raise UserError("This run holds out no rows to evaluate on.", run.name(), GIVE_DATA)
