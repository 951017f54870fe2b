"""The app's one background thread: starts queued runs in order and settles lost ones.

Training itself is in the worker process; the run folder is the only channel to it.
"""

import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout

from .errors import UserError
from .home import read_json, write_json
from .runs import ACTIVE, RESUMABLE, Run, list_runs, open_run
from .worker import force_stop, settle, start_worker

TICK_S = 0.5
GRACE_S = 20.0
FORCE_AFTER_S = 5.0


class Scheduler:
    """Drives the runs of one home. Only one scheduler may hold a home."""

    def __init__(self, home: Path, make_room: Callable[[], None] = lambda: None):
        """`make_room` is called before a worker starts, to free its device."""
        self.home, self._make_room = home, make_room
        self._workers: dict[str, subprocess.Popen] = {}
        self._lock = threading.Lock()
        self._wake, self._closing = threading.Event(), threading.Event()
        self._holder = FileLock(home / "scheduler.lock")
        self._thread = threading.Thread(target=self._loop, name="sft-scheduler", daemon=True)

    def start(self) -> None:
        """Take the home and start the thread. Raises UserError when another app holds the home."""
        try:
            self._holder.acquire(timeout=0)
        except Timeout as error:
            holder = read_json(self.home / "scheduler.json", {})
            raise UserError(
                "Another SFT Studio already uses this home folder.",
                f"{self.home} (process {holder.get('pid')} on {holder.get('host')})",
                "Open that one in the browser, or choose another folder with --home.",
            ) from error
        write_json(self.home / "scheduler.json", {"pid": os.getpid(), "host": socket.gethostname()})
        self._thread.start()

    def close(self) -> None:
        """Stop the thread and free the home. Workers go on."""
        self._closing.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)
        self._holder.release()

    def submit(self, run: Run) -> None:
        """Let the thread look at a new run now."""
        self._wake.set()

    def stop(self, run_id: str) -> None:
        """Cancel a queued run, or ask a live one to save and end; asked again, end it at once."""
        run = open_run(self.home, run_id)
        with self._lock:
            state = run.state()
            if state["state"] == "queued":
                write_json(run.dir / "state.json", {**state, "state": _ended(run)})
            elif state["state"] in ACTIVE:
                asked = run.dir / "stop"
                if asked.exists() and time.time() - asked.stat().st_mtime > FORCE_AFTER_S:
                    force_stop(run)
                elif not asked.exists():
                    run.request_stop()
        self._wake.set()

    def resume(self, run_id: str) -> None:
        """Queue a paused, stopped or failed run again. Raises UserError for any other."""
        run = open_run(self.home, run_id)
        with self._lock:
            queue_again(run)
        self._wake.set()

    def queue_position(self, run_id: str) -> int | None:
        """1 for the next run to start; None when the run does not wait."""
        waiting = [run.id for run in self._queued()]
        return waiting.index(run_id) + 1 if run_id in waiting else None

    def _queued(self) -> list[Run]:
        waiting = [(run.state(), run) for run in list_runs(self.home)]
        waiting = [(state, run) for state, run in waiting if state["state"] == "queued"]
        return [run for _, run in sorted(waiting, key=lambda pair: pair[0].get("queued_at", 0.0))]

    def _loop(self) -> None:
        while not self._closing.is_set():
            with self._lock:
                self.tick()
            self._wake.wait(TICK_S)
            self._wake.clear()

    def tick(self) -> None:
        """One look: settle runs whose worker is gone, start the next if the device is free."""
        busy = False
        for run in list_runs(self.home):
            state = run.state()
            if state["state"] in ACTIVE:
                busy = self._still_working(run, state) or busy
        waiting = self._queued()
        if waiting and not busy:
            self._make_room()
            self._workers[waiting[0].id] = start_worker(waiting[0])

    def _still_working(self, run: Run, state: dict) -> bool:
        process = self._workers.get(run.id)
        if process is not None:
            if process.poll() is None:
                return True
            del self._workers[run.id]
            settle(run, process.returncode)
            return False
        started_by_other = time.time() - state.get("updated_at", 0.0) < GRACE_S
        if run.is_alive() or started_by_other:
            return True
        settle(run)
        return False


def _ended(run: Run) -> str:
    return "paused" if run.checkpoints() else "stopped"


def queue_again(run: Run, foreground: bool = False) -> None:
    """Put a run that ended early back into the queue. Raises UserError for a run that cannot.

    With `foreground` the caller starts the worker itself and no scheduler may take the run.
    """
    state = run.state()
    if state["state"] not in RESUMABLE or run.is_alive():
        raise UserError(
            f"A run that is {state['state']} cannot be resumed.",
            run.name(),
            "Start a new run, or wait until this one is over.",
        )
    (run.dir / "stop").unlink(missing_ok=True)
    waiting = "preparing" if foreground else "queued"
    facts = {"state": waiting, "queued_at": time.time(), "error": None, "ended_at": None}
    facts["updated_at"] = time.time()
    write_json(run.dir / "state.json", {**state, **facts})
