"""Where a run stands: its states, the moves between them, and state.json.

Whoever writes state.json does it with a function of this module, which refuses a move that NEXT
does not hold. While a worker lives, it alone writes; before and after that the app's scheduler or
a command does. A damaged state.json is made up for by what the events tell.
"""

import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from trainer_backend.home import read_json, write_json
from trainer_backend.runs.checkpoints import committed
from trainer_backend.runs.events import curve_rows, read_events
from trainer_backend.runs.files import CHECKPOINTS, EVENTS, SPEC, STATE, STOP
from trainer_backend.runs.spec import read_spec

ACTIVE = ("preparing", "running", "saving")  # a worker has the run
LIVE = ("queued", *ACTIVE)
RESUMABLE = ("paused", "stopped", "failed")
OVER = ("finished", *RESUMABLE)
STATES = (*LIVE, *OVER)
# Where a run may go from each state. A worker may take up any run, also one that a killed worker
# left in the middle, and may say twice what it does: no training ends over that. A run that did
# not finish may fail once more: its processes did not start.
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
SETTLED_S = 2.0
STATE_KEYS = (
    *("epoch", "loss", "eval_loss", "learning_rate", "grad_norm", "tokens_per_second", "memory_gb"),
    *("num_tokens", "eta_seconds", "elapsed_seconds", "progress", "started_at", "ended_at"),
    *("error", "answers", "precision", "mean_token_accuracy", "num_train_rows", "num_eval_rows"),
    *("skipped_steps", "result_step", "early_stopped"),
)


class IllegalTransition(ValueError):
    """A run cannot go from its state into the one asked for."""


def entering(before: str, state: str, **facts) -> dict:
    """The facts that change when a run moves from one state into another, `facts` among them.

    Raises IllegalTransition when it cannot.
    """
    if state not in NEXT[before]:
        raise IllegalTransition(f"A run that is {before} cannot become {state}.")
    nothing_goes_on = {"progress": None, "eta_seconds": None}
    if state in OVER:
        return {"ended_at": time.time(), **nothing_goes_on, **facts, "state": state}
    if state in ACTIVE and state != "preparing":
        return {**facts, "state": state}
    return {"error": None, "ended_at": None, **nothing_goes_on, **facts, "state": state}


def enter(folder: Path, state: str, **facts) -> None:
    """Move a run into a state. Raises IllegalTransition when it cannot go there from where it is.

    Only for a run no worker has: a worker knows its state better than the disk.
    """
    now = remembered_state(folder)
    write_state(folder, {**now, **entering(now["state"], state, **facts)})


def amend(folder: Path, **facts) -> None:
    """Change facts of a run that stays in its state."""
    write_state(folder, {**remembered_state(folder), **facts})


def write_state(folder: Path, state: dict) -> None:
    """Replace state.json, so that a reader sees the old state or the new one, never a part."""
    write_json(folder / STATE, {**state, "updated_at": time.time()})


def begin(folder: Path, *, foreground: bool = False) -> None:
    """Give a new run its first state; with `foreground` its caller starts the worker."""
    facts = {"queued_at": time.time(), "attempt": 0, "foreground": foreground}
    write_state(folder, {"state": _first_state(foreground), **facts})


def begin_again(folder: Path, *, foreground: bool = False, queued_at: float | None = None) -> None:
    """Let a run that is over wait for its turn once more, from `queued_at` or from now on."""
    facts = {"queued_at": queued_at or time.time(), "foreground": foreground}
    facts |= {"early_stopped": None, "result_step": None}
    enter(folder, _first_state(foreground), **facts)


def _first_state(foreground: bool) -> str:
    return "preparing" if foreground else "queued"


def cancel(folder: Path) -> None:
    """Take a run out of the queue; one that does not wait any more stays as it is."""
    if remembered_state(folder)["state"] == "queued":
        enter(folder, after_stop(folder), ended_at=None)
        (folder / STOP).unlink(missing_ok=True)


def after_stop(folder: Path) -> str:
    """What a run becomes that was asked to stop: “paused” when there is something to go on from."""
    return "paused" if committed(folder / CHECKPOINTS) else "stopped"


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a run, wholly made and not yet deleted."""
    return (folder / STATE).exists()


def remembered_spec(folder: Path) -> dict:
    """The spec of a run, read once. Raises UserError when it is damaged or of a newer format."""
    return {**_remembered(read_spec, folder / SPEC)}


def remembered_state(folder: Path) -> dict:
    """The state of a run, read again when it was replaced.

    Raises FileNotFoundError for a folder that is no run, or none yet.
    """
    path = folder / STATE
    if path.is_file() or not (folder / EVENTS).is_file():
        return {**_remembered(_read_state, path)}
    return _told_by_events(folder)


def _remembered(read: Callable[[Path], dict], path: Path) -> dict:
    """What a file holds, read again only after it was replaced.

    A file's time is coarse: what was replaced a moment ago may be replaced again without a sign.
    """
    try:
        found = path.stat()
    except OSError:
        return read(path)
    if abs(time.time() - found.st_mtime) < SETTLED_S:
        return read(path)
    return _kept(read, path, (found.st_mtime_ns, found.st_ino, found.st_size))


@lru_cache(maxsize=4096)
def _kept(read: Callable[[Path], dict], path: Path, signature: tuple) -> dict:
    return read(path)


def _read_state(path: Path) -> dict:
    try:
        state = read_json(path)
    except ValueError:
        return _told_by_events(path.parent)
    if state is None and not path.exists():
        raise FileNotFoundError(str(path))
    return state if _is_state(state) else _told_by_events(path.parent)


def _is_state(found: object) -> bool:
    return (
        isinstance(found, dict)
        and found.get("state") in STATES
        and isinstance(found.get("error") or {}, dict)
        and isinstance(found.get("warnings") or [], list)
    )


def _told_by_events(folder: Path) -> dict:
    """A state in which the run can be looked at, resumed and deleted; nothing learned is lost."""
    events = read_events(folder)[0]
    said = [event.get("state") for event in events if event["type"] == "state"]
    last = said[-1] if said and said[-1] in OVER else "stopped"
    state = {
        "state": last,
        "attempt": said.count("preparing"),
        "step": 0,
        "total_steps": 0,
        "error": None,
    }
    for row in curve_rows(events):
        state |= {name: row[name] for name in ("step", "loss", "eval_loss") if name in row}
    note = f"{STATE} of this run was damaged: what is shown here is told by its events."
    return {**state, "warnings": [note]}
