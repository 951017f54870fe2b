"""A sweep as it is kept in the home folder: its name, its settings, its runs.

What the runs achieved is read from them, not kept here.
"""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from trainer_backend.errors import UserError
from trainer_backend.home import check_id, new_id, read_json, write_json
from trainer_backend.runs import Run, is_run

FOLDER = "sweeps"


@dataclass(frozen=True)
class Planned:
    """A run of a sweep and the values it tries."""

    id: str
    values: dict[str, Any]


@dataclass(frozen=True)
class Sweep:
    """A group of runs of one dataset that differ in the values of a few settings.

    `tries` is {field: values}; `runs` are in the order of the queue.
    """

    name: str
    dataset_id: str
    tries: dict[str, list[Any]]
    runs: list[Planned] = field(default_factory=list)
    halving: bool = False
    notes: list[str] = field(default_factory=list)
    created_at: float = field(default_factory=time.time)
    id: str = field(default_factory=lambda: new_id("sweep"))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Sweep":
        """A sweep from JSON. Raises KeyError, TypeError or ValueError for a damaged one."""
        return cls(
            name=str(values["name"]),
            dataset_id=str(values["dataset_id"]),
            tries={str(key): list(one) for key, one in values["tries"].items()},
            runs=[Planned(str(one["id"]), dict(one["values"])) for one in values["runs"]],
            halving=bool(values.get("halving", False)),
            notes=[str(one) for one in values.get("notes", [])],
            created_at=float(values["created_at"]),
            id=str(values["id"]),
        )

    def runs_here(self, home: Path) -> list[Run]:
        """Its runs that have not been deleted."""
        found = [Run(home / "runs" / one.id) for one in self.runs]
        return [run for run in found if is_run(run.dir)]


def keep_sweep(home: Path, sweep: Sweep) -> None:
    """Write a sweep into the home folder; one with the same id is replaced."""
    (home / FOLDER).mkdir(exist_ok=True)
    write_json(home / FOLDER / f"{sweep.id}.json", sweep.to_dict())


def open_sweep(home: Path, sweep_id: str) -> Sweep:
    """The sweep with this id. Raises UserError if there is none."""
    found = _read(home / FOLDER / f"{check_id(sweep_id, 'sweep')}.json")
    if found is None:
        raise UserError("There is no such sweep.", f"Sweep “{sweep_id}”", "Choose one of the list.")
    return found


def list_sweeps(home: Path) -> list[Sweep]:
    """All sweeps, newest first; damaged files and those without a run left are left out."""
    found = [one for path in (home / FOLDER).glob("sweep-*.json") if (one := _read(path))]
    kept = [one for one in found if one.runs_here(home)]
    return sorted(kept, key=lambda one: one.created_at, reverse=True)


def group_of(run: Run) -> Sweep | None:
    """The sweep that a run belongs to, or None."""
    for path in (run.home / FOLDER).glob("sweep-*.json"):
        sweep = _read(path)
        if sweep and any(one.id == run.id for one in sweep.runs):
            return sweep
    return None


def _read(path: Path) -> Sweep | None:
    try:
        values: Any = read_json(path, {})
        return Sweep.from_dict(values)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
