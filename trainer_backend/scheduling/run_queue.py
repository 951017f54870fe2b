"""Queueing of a single run: again after its end, out of the queue, settling a dead one.

Works without a running app; no thread and no order of runs here.
"""

import socket
import time
from typing import Any

from filelock import FileLock, Timeout

from trainer_backend.errors import UserError
from trainer_backend.home import write_atomic
from trainer_backend.processes import is_same_process
from trainer_backend.runs import ACTIVE, LIVE, RESUMABLE, Run, begin_again, cancel
from trainer_backend.runs.files import HEARTBEAT, INTERRUPTED, STATE, STOP, WORKER
from trainer_backend.scheduling.watchdog import AWAY_S
from trainer_backend.scheduling.worker_process import force_stop, settle

GRACE_S = 20.0  # seconds a worker has to start, or to exit after writing its end state
POLL_S = 0.1


def queue_again(
    run: Run,
    foreground: bool = False,
    changes: dict[str, Any] | None = None,
    queued_at: float | None = None,
) -> None:
    """Queue a run that has ended again. Raises UserError for one that cannot be resumed.

    A finished run needs `changes` that extend it. With `foreground` the caller starts the worker
    itself and no scheduler takes the run. `queued_at` is its position, else it is the last one.
    """
    state = run.state()["state"]
    longer = state == "finished" and changes
    if (state not in RESUMABLE and not longer) or run.is_alive():
        raise UserError(
            f"A run that is {state} cannot be resumed.",
            run.name(),
            "Give it more epochs or steps, or start a new run from its weights."
            if state == "finished"
            else "Start a new run, or wait until this one has ended.",
        )
    if changes:
        run.change_recipe(changes, "resumed")
    for name in (STOP, INTERRUPTED):
        (run.dir / name).unlink(missing_ok=True)
    if foreground:
        _wait_until_gone(run)
        (run.dir / WORKER).unlink(missing_ok=True)
    begin_again(run.dir, foreground=foreground, queued_at=queued_at)


def interrupt(run: Run) -> None:
    """Ask an active run to save and end because its machine stops; it may be resumed later."""
    write_atomic(run.dir / INTERRUPTED, "")
    run.request_stop()


def resume_interrupted(run: Run) -> None:
    """Queue a run again, at its old position, if it ended only because its machine stopped."""
    mark = run.dir / INTERRUPTED
    if not mark.exists():
        return
    before = run.state()
    if before["state"] in RESUMABLE and not run.is_alive():
        queue_again(run, queued_at=before.get("queued_at"))
    elif before["state"] not in ACTIVE:
        mark.unlink()


def lingers(run: Run) -> bool:
    """Whether the worker process started last still exists."""
    return is_same_process(run.worker())


def _wait_until_gone(run: Run) -> None:
    end = time.monotonic() + GRACE_S
    while lingers(run):
        if time.monotonic() > end:
            force_stop(run)
        time.sleep(POLL_S)


def settle_alone(run: Run) -> None:
    """Settle a run whose worker is dead, or cancel a queued one with a stop request.

    Does nothing while an app manages the run's home.
    """
    if run.state()["state"] not in LIVE:
        return
    holder = FileLock(run.home / "scheduler.lock")
    try:
        holder.acquire(timeout=0)
    except (Timeout, OSError):  # OSError: the home is read-only
        return
    try:
        state = run.state()["state"]
        if state == "queued" and run.stop_requested():
            cancel(run.dir)
        elif state in ACTIVE and not _may_live(run):
            settle(run)
    finally:
        holder.release()


def _may_live(run: Run) -> bool:
    if run.is_alive():
        return True
    started = run.worker()
    if started.get("host") == socket.gethostname():
        return is_same_process(started)
    return _quiet_for(run) < AWAY_S  # on another machine that shares the folder, or just starting


def _quiet_for(run: Run) -> float:
    """Seconds since the worker last wrote a file, by the clock of the file system."""
    probe = run.dir / ".clock"
    probe.touch()
    now = probe.stat().st_mtime
    probe.unlink()
    signs = [run.dir / name for name in (HEARTBEAT, STATE)]
    return now - max(sign.stat().st_mtime for sign in signs if sign.exists())
