"""Where a run stands: state.json, or what its events tell when that file is damaged.

Who writes it is run_writer.py while a worker lives, and the scheduler after it.
"""

import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from .home import read_json
from .run_events import EVENTS, curve_rows, read_events
from .run_spec import read_spec

STATE = "state.json"
ACTIVE = ("preparing", "running", "saving")
OVER = ("finished", "failed", "paused", "stopped")
STATES = ("queued", *ACTIVE, *OVER)
SETTLED_S = 2.0
STATE_KEYS = (
    *("epoch", "loss", "eval_loss", "learning_rate", "grad_norm", "tokens_per_second", "memory_gb"),
    *("num_tokens", "eta_seconds", "elapsed_seconds", "progress", "started_at", "ended_at"),
    *("error", "answers", "precision", "mean_token_accuracy", "num_train_rows", "num_eval_rows"),
    *("skipped_steps", "result_step", "early_stopped"),
)


def remembered_spec(folder: Path) -> dict:
    """The spec of a run, read once. Raises UserError when it is damaged or of a newer format."""
    return {**_remembered(read_spec, folder / "spec.json")}


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
