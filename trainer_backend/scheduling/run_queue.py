"""Puts runs that are over back into the queue, takes waiting ones out, settles lost ones.

The app's thread that empties the queue is scheduler.py; commands of the terminal use this alone.
"""

import socket
import time

from filelock import FileLock, Timeout

from trainer_backend.errors import UserError
from trainer_backend.home import read_json, write_atomic
from trainer_backend.processes import is_same_process
from trainer_backend.runs import ACTIVE, LIVE, RESUMABLE, Run, begin_again, cancel
from trainer_backend.runs.files import GO_ON, HEARTBEAT, STATE, STOP, WORKER
from trainer_backend.scheduling.watchdog import AWAY_S
from trainer_backend.scheduling.worker_process import force_stop, settle

GRACE_S = 20.0  # what a worker gets to begin, or to be gone after its last word
POLL_S = 0.1


def queue_again(
    run: Run,
    foreground: bool = False,
    changes: dict | None = None,
    queued_at: float | None = None,
) -> None:
    """Put a run that is over back into the queue. Raises UserError for a run that cannot.

    A finished run goes on only with `changes` that make it longer. With `foreground` the caller
    starts the worker itself and no scheduler may take the run. `queued_at` is its place in the
    queue, else it is the last.
    """
    state = run.state()["state"]
    longer = state == "finished" and changes
    if (state not in RESUMABLE and not longer) or run.is_alive():
        raise UserError(
            f"A run that is {state} cannot be resumed.",
            run.name(),
            "Give it more epochs or steps, or start a new run from its weights."
            if state == "finished"
            else "Start a new run, or wait until this one is over.",
        )
    if changes:
        run.change_recipe(changes, "resumed")
    for name in (STOP, GO_ON):
        (run.dir / name).unlink(missing_ok=True)
    if foreground:
        _wait_until_gone(run)
        (run.dir / WORKER).unlink(missing_ok=True)
    begin_again(run.dir, foreground=foreground, queued_at=queued_at)


def interrupt(run: Run) -> None:
    """Ask a live run to save and end, because its machine stops; `go_on` queues it again."""
    write_atomic(run.dir / GO_ON, "")
    run.request_stop()


def go_on(run: Run) -> None:
    """Queue a run again, in its old place, that only a stop of its machine ended."""
    mark = run.dir / GO_ON
    if not mark.exists():
        return
    before = run.state()
    if before["state"] in RESUMABLE and not run.is_alive():
        queue_again(run, queued_at=before.get("queued_at"))
    elif before["state"] not in ACTIVE:
        mark.unlink()


def lingers(run: Run) -> bool:
    """Whether the process of an earlier start is still there, after its last word."""
    return is_same_process(read_json(run.dir / WORKER, {}))


def _wait_until_gone(run: Run) -> None:
    end = time.monotonic() + GRACE_S
    while lingers(run):
        if time.monotonic() > end:
            force_stop(run)
        time.sleep(POLL_S)


def settle_alone(run: Run) -> None:
    """Do for a run what the app would, unless an app looks after its home.

    A run whose worker is gone gets its end state; a waiting one that was asked to stop is taken
    out of the queue.
    """
    if run.state()["state"] not in LIVE:
        return
    holder = FileLock(run.home / "scheduler.lock")
    try:
        holder.acquire(timeout=0)
    except (Timeout, OSError):  # OSError: a home that may only be read
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
    started = read_json(run.dir / WORKER, {})
    if started.get("host") == socket.gethostname():
        return is_same_process(started)
    return _quiet_for(run) < AWAY_S  # on another machine that shares the folder, or just beginning


def _quiet_for(run: Run) -> float:
    """Seconds since the last sign of a worker, both times by the clock of the disk."""
    probe = run.dir / ".clock"
    probe.touch()
    now = probe.stat().st_mtime
    probe.unlink()
    signs = [run.dir / name for name in (HEARTBEAT, STATE)]
    return now - max(sign.stat().st_mtime for sign in signs if sign.exists())
