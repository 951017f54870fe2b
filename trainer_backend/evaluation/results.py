"""The result of an evaluation, and where a run keeps its results. Free of torch.

Nothing is measured here.
"""

import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from trainer_backend.home import new_id, read_json, write_json
from trainer_backend.runs.files import EVALUATIONS
from trainer_backend.runs.run import Run

VERDICTS = ("better", "worse", "no clear difference")
LOSSES = ("loss", "perplexity")  # lower is better; every other measure runs from 0 to 1
HEAD = "head-"  # before the name of a file: the same evaluation without its examples


@dataclass(frozen=True)
class Metric:
    """One measure over all rows: the base model, the tuned one, and how sure the difference is.

    `interval` is the 95 % interval of tuned - base. `rows` is the number of rows it is over.
    """

    base: float
    tuned: float
    better: str  # “higher” or “lower”
    interval: tuple[float, float]
    rows: int


@dataclass(frozen=True)
class Asked:
    """One row, asked and answered; texts as a person reads them.

    `row` is the row's number in its file and `messages` all that was said before the answer.
    `scores` is {measure: {"base", "tuned"}}, `marks` what is said about an answer ("base" or
    "tuned"): “cut”, “images”, a reasoning.
    """

    row: int
    prompt: str
    expected: str
    base: str
    tuned: str
    scores: dict[str, dict[str, float]]
    messages: list[dict[str, Any]] = field(default_factory=list)
    tools: list[Any] = field(default_factory=list)
    marks: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """What base and tuned model did on some rows.

    `main` is the measure that the verdict follows, `sentence` says the result in words, and
    `warnings` what a reader must know first (got worse, learned its training rows by heart).
    `notes` say what was chosen, left out or cut. `harness` holds results of other programs by task.
    """

    run: str
    checkpoint: int
    rows: int
    metrics: dict[str, Metric]
    verdict: str
    main: str
    sentence: str
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    examples: list[Asked] = field(default_factory=list)
    dataset_id: str = ""
    dataset: str = ""  # its name
    held_out: bool = True  # the run's own held-out rows
    seconds: float = 0.0
    harness: dict[str, Any] = field(default_factory=dict)
    created_at: float = field(default_factory=time.time)
    id: str = field(default_factory=lambda: new_id("eval"))

    def to_dict(self, *, examples: bool = True) -> dict[str, Any]:
        """The evaluation as JSON; without `examples`, the head that lists show."""
        found = asdict(self)
        if not examples:
            del found["examples"]
        return found

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Evaluation":
        """An evaluation from JSON; what a newer version added is left out.

        Raises KeyError, TypeError or ValueError for one that is damaged.
        """
        known = {one.name: values[one.name] for one in fields(cls) if one.name in values}
        known["metrics"] = {
            name: Metric(
                float(one["base"]),
                float(one["tuned"]),
                str(one["better"]),
                (float(one["interval"][0]), float(one["interval"][1])),
                int(one["rows"]),
            )
            for name, one in dict(known["metrics"]).items()
        }
        names = {one.name for one in fields(Asked)}
        known["examples"] = [
            Asked(**{key: value for key, value in one.items() if key in names})
            for one in known.get("examples", [])
        ]
        return cls(**known)


def keep(run: Run, evaluation: Evaluation) -> None:
    """Write an evaluation into the run's folder; one with the same id is replaced."""
    folder = run.dir / EVALUATIONS
    folder.mkdir(exist_ok=True)
    write_json(folder / f"{evaluation.id}.json", evaluation.to_dict())
    write_json(folder / f"{HEAD}{evaluation.id}.json", evaluation.to_dict(examples=False))


def evaluations_of(run: Run) -> list[Evaluation]:
    """The evaluations of a run, newest first; damaged files are left out."""
    found = (_read(path) for path in (run.dir / EVALUATIONS).glob("eval-*.json"))
    return sorted(filter(None, found), key=lambda one: one.created_at, reverse=True)


def best_known(run: Run) -> Evaluation | None:
    """The evaluation that stands for a run: its newest one on its own held-out rows, or None."""
    return next((one for one in evaluations_of(run) if one.held_out), None)


def heads_of(run: Run) -> list[Evaluation]:
    """The evaluations of a run without their examples, newest first.

    For lists of many runs: a small file is read, and only when it has changed.
    """
    found = (_head(path, stamp) for path, stamp in _head_files(run.dir / EVALUATIONS))
    return sorted(filter(None, found), key=lambda one: one.created_at, reverse=True)


def best_head(run: Run) -> Evaluation | None:
    """`best_known` without its examples."""
    return next((one for one in heads_of(run) if one.held_out), None)


def whole(run: Run, head: Evaluation) -> Evaluation:
    """The evaluation of a head with its examples; the head itself if its file is damaged."""
    path = run.dir / EVALUATIONS / f"{head.id}.json"
    try:
        found = path.stat()
    except OSError:
        return head
    return _whole(str(path), (found.st_mtime_ns, found.st_ino, found.st_size)) or head


def _head_files(folder: Path) -> list[tuple[str, tuple[int, int, int]]]:
    """The file to read for the head of each evaluation, and its stamp."""
    try:
        with os.scandir(folder) as entries:
            files = {entry.name: entry.stat() for entry in entries if entry.name[0] != "."}
    except OSError:
        return []
    found = []
    for name, at in files.items():
        if not name.startswith("eval-") or not name.endswith(".json"):
            continue
        head = files.get(HEAD + name)  # none, or an older one: written by someone else, or a crash
        use, chosen = (HEAD + name, head) if head and head.st_mtime >= at.st_mtime else (name, at)
        stamp = (chosen.st_mtime_ns, chosen.st_ino, chosen.st_size)
        found.append((os.path.join(folder, use), stamp))
    return found


@lru_cache(maxsize=2**14)
def _head(path: str, stamp: tuple[int, int, int]) -> Evaluation | None:
    found = _read(path)
    return replace(found, examples=[]) if found else None


@lru_cache(maxsize=16)
def _whole(path: str, stamp: tuple[int, int, int]) -> Evaluation | None:
    return _read(path)


def _read(path: str | Path) -> Evaluation | None:
    """The evaluation in a file; None if it is damaged or gone."""
    try:
        values: Any = read_json(Path(path), {})
        return Evaluation.from_dict(values)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OSError):
        return None
