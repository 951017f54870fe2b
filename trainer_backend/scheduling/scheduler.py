"""The app's background thread: starts queued runs in order, enforces stops, settles dead runs.

The run folder is the only channel to a worker. Uses the monotonic clock.
"""

import logging
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from trainer_backend.errors import UserError
from trainer_backend.hardware import hardware
from trainer_backend.home import read_json, write_json
from trainer_backend.runs import ACTIVE, Run, cancel, enter, is_run, open_run, unfinished_runs
from trainer_backend.runs.files import INTERRUPTED
from trainer_backend.scheduling.launch import processes_here
from trainer_backend.scheduling.run_queue import (
    GRACE_S,
    interrupt,
    lingers,
    queue_again,
    resume_interrupted,
)
from trainer_backend.scheduling.watchdog import HangWatch
from trainer_backend.scheduling.worker_process import force_stop, settle, start_worker
from trainer_backend.sweeps import HalvingWatch

TICK_S = 0.5
FORCE_AFTER_S = 5.0
DAMAGED = (OSError, ValueError, TypeError, KeyError)  # a full disk, or a damaged file
logger = logging.getLogger(__name__)


class Scheduler:
    """Manages the runs of one home; a lock ensures that each home has only one scheduler."""

    def __init__(self, home: Path, make_room: Callable[[], None] = lambda: None):
        """`make_room` is called before a worker starts, to free device memory."""
        self.home, self._make_room = home, make_room
        self._workers: dict[str, subprocess.Popen[bytes]] = {}
        self._watch = HangWatch()
        self._devices = hardware().num_devices
        self._halving = HalvingWatch(home)
        self._lonely: dict[str, float] = {}  # since when an active run has no worker
        self._asked: dict[str, float] = {}  # when a stop was requested
        self._ending: dict[str, float] = {}  # since when a worker outlives its run
        self._lock = threading.Lock()
        self._wake, self._closing = threading.Event(), threading.Event()
        self._holder = FileLock(home / "scheduler.lock")
        self._thread = threading.Thread(target=self._loop, name="sft-scheduler", daemon=True)

    def start(self) -> None:
        """Lock the home and start the thread. Raises UserError if another app holds it."""
        try:
            self._holder.acquire(timeout=1)  # a command may hold it briefly
        except Timeout as error:
            holder: Any = read_json(self.home / "scheduler.json", {})
            raise UserError(
                "Another SFT Studio already uses this home folder.",
                f"{self.home} (process {holder.get('pid')} on {holder.get('host')})",
                "Open that one in the browser, or choose another folder with --home.",
                code="home_in_use",
            ) from error
        write_json(self.home / "scheduler.json", {"pid": os.getpid(), "host": socket.gethostname()})
        for path in (self.home / "runs").glob(".trash-*"):  # interrupted deletions
            shutil.rmtree(path, ignore_errors=True)
        for mark in (self.home / "runs").glob(f"run-*/{INTERRUPTED}"):
            resume_interrupted(Run(mark.parent))
        self._thread.start()

    def close(self) -> None:
        """Stop the thread and release the home. Workers continue."""
        self._closing.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)
        self._holder.release()

    def pause_all(self, seconds: float) -> None:
        """Save and end the runs of this machine, because it stops; the next start resumes them.

        Waits for at most `seconds`, and starts no more runs.
        """
        end = time.monotonic() + seconds
        with self._lock:
            self._closing.set()
            live = [run for run in unfinished_runs(self.home) if run.state()["state"] in ACTIVE]
            mine = [run for run in live if _host_of(run) == socket.gethostname()]
            for run in mine:
                interrupt(run)
        while any(run.state()["state"] in ACTIVE for run in mine) and time.monotonic() < end:
            time.sleep(TICK_S / 5)

    def wake(self) -> None:
        """Let the thread look for new runs now."""
        self._wake.set()

    def stop(self, run_id: str) -> None:
        """Cancel a queued run, or ask an active one to save and end; the second time, kill it."""
        run = open_run(self.home, run_id)
        with self._lock:
            state = run.state()["state"]
            if state == "queued":
                cancel(run.dir)
            elif state in ACTIVE:
                self._ask_to_stop(run)
        self._wake.set()

    def _ask_to_stop(self, run: Run) -> None:
        now = time.monotonic()
        if not run.stop_requested():
            run.request_stop()
            self._asked[run.id] = now
        elif now - self._asked.setdefault(run.id, now) >= FORCE_AFTER_S:  # not a double click
            force_stop(run)

    def end_now(self, run_id: str) -> None:
        """End an active run that was asked to stop, without waiting for it to save."""
        run = open_run(self.home, run_id)
        with self._lock:
            if run.state()["state"] in ACTIVE and run.stop_requested():
                force_stop(run)
        self._wake.set()

    def resume(self, run_id: str, changes: dict[str, Any] | None = None) -> None:
        """Queue a run that has ended again, with changed settings such as more epochs.

        Raises UserError for an active run, a finished one that is not extended, or a locked change.
        """
        run = open_run(self.home, run_id)
        with self._lock:
            queue_again(run, changes=changes)
        self._wake.set()

    def queue_position(self, run_id: str) -> int | None:
        """The run's position in the queue, from 1; None if it is not queued."""
        waiting = [run.id for run in self._queued()]
        return waiting.index(run_id) + 1 if run_id in waiting else None

    def _queued(self, live: list[Run] | None = None) -> list[Run]:
        """The runs to start, in order; of `live`, if the folders have been looked at already."""
        live = unfinished_runs(self.home) if live is None else live
        waiting = [(run.state(), run) for run in live]
        waiting = [pair for pair in waiting if pair[0]["state"] == "queued"]
        waiting = [pair for pair in waiting if not pair[0].get("foreground")]
        order = sorted(waiting, key=lambda pair: (pair[0].get("queued_at", 0.0), pair[1].id))
        return [run for _, run in order]

    def _loop(self) -> None:
        while not self._closing.is_set():
            with self._lock:
                try:
                    self.tick()
                except DAMAGED as error:  # a full disk or an unreachable network drive: try again
                    logger.warning("the scheduler cannot read the runs: %s", error)
            self._wake.wait(TICK_S)
            self._wake.clear()

    def tick(self) -> None:
        """One round: settle runs whose worker has ended, start queued runs on the free devices."""
        free = set(range(self._devices)) - self._held_after_the_end()
        live = unfinished_runs(self.home)  # once: every folder is looked at for it
        for run in live:
            if run.state()["state"] not in ACTIVE:
                continue
            try:
                free -= set(self._look_at(run))
            except DAMAGED as error:
                logger.warning("run %s cannot be read: %s", run.id, error)
                if run.id in self._workers and self._workers[run.id].poll() is None:
                    free.clear()  # it holds some devices, but which is unknown
        for run in self._halving.look():
            self._ask_to_stop(run)
        for run in self._queued(live):
            if run.stop_requested():  # from the command line
                cancel(run.dir)
                continue
            if lingers(run):
                self._hurry(run)
                break
            count = min(self._devices, processes_here(run) if self._devices > 1 else 1)
            if count > len(free):
                break  # keep the order: else a large run could wait for ever
            chosen = sorted(free)[:count]
            free -= set(chosen)
            self._begin(run, chosen)

    def _look_at(self, run: Run) -> list[int]:
        """Settle an active run whose worker has ended; returns the devices it holds."""
        if not self._still_working(run):
            self._watch.forget(run)
            return []
        if self._watch.look(run):
            force_stop(run)
        return self._taken_by(run)

    def _begin(self, run: Run, devices: list[int]) -> None:
        self._make_room()
        for table in (self._asked, self._ending, self._lonely):
            table.pop(run.id, None)
        try:
            self._workers[run.id] = start_worker(run, devices if self._devices > 1 else None)
        except UserError as error:  # this machine can no longer run the recipe
            enter(run.dir, "failed", error={**error.to_dict(), "user": True})

    def _held_after_the_end(self) -> set[int]:
        """Devices still held by workers that have finished but not exited."""
        held: set[int] = set()
        for run in [Run(self.home / "runs" / run_id) for run_id in self._workers]:
            if is_run(run.dir) and run.state()["state"] in ACTIVE:
                continue
            if self._workers[run.id].poll() is not None:
                del self._workers[run.id]
                continue
            held |= set(self._taken_by(run))
            self._hurry(run)
        return held

    def _hurry(self, run: Run) -> None:
        """Kill a worker that has not exited GRACE_S after its end state."""
        if self._seconds(self._ending, run) <= GRACE_S or force_stop(run):
            return
        if process := self._workers.get(run.id):  # its folder was deleted
            process.kill()

    def _seconds(self, since: dict[str, float], run: Run) -> float:
        """Seconds since the run was entered in a table of times, which this does when needed."""
        now = time.monotonic()
        return now - since.setdefault(run.id, now)

    def _taken_by(self, run: Run) -> list[int]:
        devices = run.worker().get("devices")
        return devices if isinstance(devices, list) else list(range(self._devices))

    def _still_working(self, run: Run) -> bool:
        process = self._workers.get(run.id)
        if process is not None:
            if process.poll() is None:
                return True
            settle(run, process.returncode)  # raises on a full disk: tried again
            del self._workers[run.id]
            return False
        if run.is_alive() or self._may_begin(run):
            return True
        settle(run)
        resume_interrupted(run)
        return False

    def _may_begin(self, run: Run) -> bool:
        """Whether a worker of another process is alive although its lock is not visible here."""
        if _host_of(run) == socket.gethostname():
            return lingers(run)
        if self._watch.beats(run):  # on another machine that shares the folder
            return True
        if run.state()["state"] != "preparing":
            return False
        return self._seconds(self._lonely, run) < GRACE_S


def _host_of(run: Run) -> str | None:
    return run.worker().get("host")
