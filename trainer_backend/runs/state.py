"""The state machine of a run and its file state.json, which only this module writes.

An active worker is the only writer; before and after it the scheduler or a command is. A damaged
file is rebuilt from events.jsonl.
"""

import os
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from trainer_backend.home import read_json, write_json
from trainer_backend.runs.checkpoints import committed
from trainer_backend.runs.events import curve_rows, read_events
from trainer_backend.runs.files import CHECKPOINTS, EVENTS, SPEC, STATE, STOP
from trainer_backend.runs.spec import read_spec

ACTIVE = ("preparing", "running", "saving")  # a worker holds the run
LIVE = ("queued", *ACTIVE)
RESUMABLE = ("paused", "stopped", "failed")
OVER = ("finished", *RESUMABLE)
STATES = (*LIVE, *OVER)
# The legal transitions. A worker may start on any run, also one that a killed worker left active,
# and may enter its state again. A run that has ended may still fail: its processes did not start.
NEXT = {
    "queued": ("preparing", *RESUMABLE),
    "preparing": ("preparing", "running", "queued", *RESUMABLE),
    "running": (*ACTIVE, "queued", *OVER),
    "saving": (*ACTIVE, "queued", *RESUMABLE),
    "paused": ("preparing", "queued", "failed"),
    "stopped": ("preparing", "queued", "failed"),
    "failed": ("preparing", "queued", "failed"),
    "finished": ("preparing", "queued"),
}
SETTLED_S = 2.0  # a younger file may be replaced without a change of its modification time
STATE_KEYS = (
    *("epoch", "loss", "eval_loss", "learning_rate", "grad_norm", "tokens_per_second", "memory_gb"),
    *("num_tokens", "eta_seconds", "elapsed_seconds", "progress", "started_at", "ended_at"),
    *("error", "answers", "precision", "mean_token_accuracy", "num_train_rows", "num_eval_rows"),
    *("skipped_steps", "result_step", "early_stopped", "content", "prompts", "paths"),
)


class IllegalTransition(ValueError):
    """A transition that NEXT does not allow."""


def entering(before: str, state: str, **facts: Any) -> dict[str, Any]:
    """The facts that a transition from `before` to `state` sets, including `facts`.

    Raises IllegalTransition.
    """
    if state not in NEXT[before]:
        raise IllegalTransition(f"A run that is {before} cannot become {state}.")
    idle = {"progress": None, "eta_seconds": None}
    if state in OVER:
        return {"ended_at": time.time(), **idle, **facts, "state": state}
    if state in ACTIVE and state != "preparing":
        return {**facts, "state": state}
    return {"error": None, "ended_at": None, **idle, **facts, "state": state}


def enter(folder: Path, state: str, **facts: Any) -> None:
    """Move a run to another state. Raises IllegalTransition.

    Only for a run without a worker: a worker does not read its state from the disk.
    """
    now = remembered_state(folder)
    write_state(folder, {**now, **entering(now["state"], state, **facts)})


def amend(folder: Path, **facts: Any) -> None:
    """Change facts without a transition."""
    write_state(folder, {**remembered_state(folder), **facts})


def write_state(folder: Path, state: dict[str, Any]) -> None:
    """Replace state.json atomically."""
    write_json(folder / STATE, {**state, "updated_at": time.time()})


def begin(folder: Path, *, foreground: bool = False) -> None:
    """Write the first state of a new run; with `foreground` the caller starts the worker."""
    facts = {"queued_at": time.time(), "attempt": 0, "foreground": foreground}
    write_state(folder, {"state": _first_state(foreground), **facts})


def begin_again(folder: Path, *, foreground: bool = False, queued_at: float | None = None) -> None:
    """Queue a run that has ended again, at the position of `queued_at` or as the last one."""
    facts = {"queued_at": queued_at or time.time(), "foreground": foreground}
    enter(folder, _first_state(foreground), early_stopped=None, result_step=None, **facts)


def _first_state(foreground: bool) -> str:
    return "preparing" if foreground else "queued"


def cancel(folder: Path) -> None:
    """Take a run out of the queue; does nothing if it is not queued."""
    if remembered_state(folder)["state"] == "queued":
        enter(folder, after_stop(folder), ended_at=None)
        (folder / STOP).unlink(missing_ok=True)


def after_stop(folder: Path) -> str:
    """The state after a stop: “paused” if there is a checkpoint to resume from, else “stopped”."""
    return "paused" if committed(folder / CHECKPOINTS) else "stopped"


def is_run(folder: Path) -> bool:
    """Whether a folder holds a run that was completely created and not yet deleted."""
    return (folder / STATE).exists()


def remembered_spec(folder: Path) -> dict[str, Any]:
    """The spec of a run, cached. Raises UserError if it is damaged or of a newer format."""
    return {**_remembered(read_spec, folder / SPEC)}


def remembered_state(folder: Path) -> dict[str, Any]:
    """The state of a run, cached until the file is replaced.

    Raises FileNotFoundError for a folder without a run.
    """
    path = folder / STATE
    if path.is_file() or not (folder / EVENTS).is_file():
        return {**_remembered(_read_state, path)}
    return _rebuilt(folder)


_ended: dict[str, tuple[int, int, int]] = {}  # state files that said so, as they were then


def has_ended(folder: str) -> bool:
    """Whether a run is over. Asked again while nothing changes, it costs one look at a file.

    Raises FileNotFoundError for a folder without a run.
    """
    path = f"{folder}/{STATE}"
    try:
        found = os.stat(path)
    except OSError:
        return remembered_state(Path(folder))["state"] not in LIVE
    signature = (found.st_mtime_ns, found.st_ino, found.st_size)
    if _ended.get(path) == signature:
        return True
    over = remembered_state(Path(folder))["state"] not in LIVE
    if over and time.time() - found.st_mtime >= SETTLED_S:
        _ended[path] = signature
    return over


def _remembered(read: Callable[[Path], dict[str, Any]], path: Path) -> dict[str, Any]:
    try:
        found = path.stat()
    except OSError:
        return read(path)
    if abs(time.time() - found.st_mtime) < SETTLED_S:
        return read(path)
    return _kept(read, path, (found.st_mtime_ns, found.st_ino, found.st_size))


# two entries a run: a list of more runs than fit would find none of them remembered the next time
@lru_cache(maxsize=2**16)
def _kept(
    read: Callable[[Path], dict[str, Any]], path: Path, signature: tuple[int, int, int]
) -> dict[str, Any]:
    return read(path)


def _read_state(path: Path) -> dict[str, Any]:
    try:
        state: Any = read_json(path)
    except ValueError:
        return _rebuilt(path.parent)
    if state is None and not path.exists():
        raise FileNotFoundError(str(path))
    return state if _is_state(state) else _rebuilt(path.parent)


def _is_state(found: object) -> bool:
    return (
        isinstance(found, dict)
        and found.get("state") in STATES
        and isinstance(found.get("error") or {}, dict)
        and isinstance(found.get("warnings") or [], list)
        and isinstance(found.get("paths") or [], list)
    )


def _rebuilt(folder: Path) -> dict[str, Any]:
    """The state according to events.jsonl, in which the run can be shown, resumed and deleted."""
    events = read_events(folder)[0]
    entered = [event.get("state") for event in events if event["type"] == "state"]
    state: dict[str, Any] = {
        "state": entered[-1] if entered and entered[-1] in OVER else "stopped",
        "attempt": entered.count("preparing"),
        "step": 0,
        "total_steps": 0,
        "error": None,
    }
    for row in curve_rows(events):
        state |= {name: row[name] for name in ("step", "loss", "eval_loss") if name in row}
    note = f"{STATE} of this run was damaged and has been rebuilt from {EVENTS}."
    return {**state, "warnings": [note]}
