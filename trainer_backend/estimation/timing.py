"""How long the phases of a run took, and what was worked off in them; kept in its folder.

Written by the worker, read for later estimates. No estimate is made here.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import psutil

from trainer_backend.estimation.plan import Plan
from trainer_backend.estimation.shape import Shape
from trainer_backend.home import write_json
from trainer_backend.runs.files import TIMING

# in the order of a run; “fetching” (a download) is measured and left out of estimates. Before the
# last phase compared the models as it does now it was called “answering”
PHASES = (
    *("starting", "loading", "preparing", "trial", "training"),
    *("evaluating", "saving", "comparing"),
)
FETCHING = "fetching"
T = TypeVar("T", Shape, Plan)


@dataclass(frozen=True)
class Timing:
    """Seconds of each phase of a run on a machine, with the work that was done in them.

    `machine` is the key of the machine, `recipe` the settings without “auto”. `processor` are the
    seconds that all cores worked for it, which other programs on the machine do not lengthen.
    """

    machine: str
    recipe: dict[str, Any]
    shape: Shape
    plan: Plan
    seconds: dict[str, float]
    processor: dict[str, float] = field(default_factory=dict)


class Stopwatch:
    """Adds up the seconds of phases; a phase may interrupt another one."""

    def __init__(self, phase: str, began: float | None = None) -> None:
        """`began` is the time (as time.time()) at which the first phase began; None: now."""
        self.seconds: dict[str, float] = {}
        self.processor: dict[str, float] = {}
        self._phase, before = phase, 0.0 if began is None else max(0.0, time.time() - began)
        self._since, self._worked = time.monotonic() - before, 0.0

    @classmethod
    def of_process(cls, phase: str) -> "Stopwatch":
        """A stopwatch whose first phase began when this process was started."""
        return cls(phase, psutil.Process().create_time())

    def enter(self, phase: str) -> None:
        """End the present phase and begin another one."""
        now, worked, ending = time.monotonic(), time.process_time(), self._phase
        self.seconds[ending] = self.seconds.get(ending, 0.0) + now - self._since
        self.processor[ending] = self.processor.get(ending, 0.0) + worked - self._worked
        self._phase, self._since, self._worked = phase, now, worked

    @contextmanager
    def during(self, phase: str) -> Iterator[None]:
        """Count what happens inside the block to another phase."""
        before = self._phase
        self.enter(phase)
        try:
            yield
        finally:
            self.enter(before)


def write_timing(folder: Path, timing: Timing) -> None:
    """Write the timing of a run into its folder."""
    write_json(folder / TIMING, asdict(timing))


def read_timing(folder: Path) -> Timing | None:
    """The timing of a run; None if there is none or it cannot be used."""
    try:
        found = json.loads((folder / TIMING).read_text(encoding="utf-8"))
        return Timing(
            str(found["machine"]),
            dict(found["recipe"]),
            _filled(Shape, found["shape"]),
            _filled(Plan, found["plan"]),
            _numbers(found["seconds"]),
            _numbers(found.get("processor", {})),
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _numbers(found: dict[str, Any]) -> dict[str, float]:
    return {str(phase): float(value) for phase, value in found.items()}


def _filled(kind: type[T], values: dict[str, Any]) -> T:
    """A Shape or Plan from JSON; what a newer version added is left out.

    Raises TypeError or ValueError for one that is damaged.
    """
    known: dict[str, Any] = {f.name: values[f.name] for f in fields(kind) if f.name in values}
    if "linear" in known:
        known["linear"] = tuple((str(name), int(a), int(b)) for name, a, b in known["linear"])
    wrong = [k for k, v in known.items() if k != "linear" and not isinstance(v, int | float)]
    if wrong:
        raise ValueError(f"{wrong[0]} is no number")
    return kind(**known)
