"""The worker's pulse: a thread that says it lives, and since when nothing has moved.

Who reads it and what follows is hang_watch.py. All times are of the monotonic clock: a system
clock that jumps makes nobody hang or wake.
"""

import json
import os
import statistics
import threading
import time
from collections import deque
from pathlib import Path

from trainer_backend.runs.files import HEARTBEAT
from trainer_backend.runs.worker_log import cap_log

EVERY_S = 2.0
LIMITS_S = {"preparing": 900.0, "saving": 600.0, "evaluating": 300.0, "running": 120.0}
STEPS_OF_PATIENCE = 20  # a step may take so many times the usual one


class Heartbeat:
    """Writes heartbeat.json every two seconds until closed, and keeps worker.log small."""

    def __init__(self, folder: Path):
        self._folder, self._phase, self._marks, self._beats = folder, "preparing", 0, 0
        self._moved = self._stepped = time.monotonic()
        self._steps: deque[float] = deque(maxlen=64)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="heartbeat", daemon=True)

    def start(self) -> "Heartbeat":
        """Write the first beat and go on in the background."""
        self._write()
        self._thread.start()
        return self

    def close(self) -> None:
        """End the thread; the file goes, since nothing beats any more."""
        self._closing.set()
        self._thread.join(timeout=5)
        (self._folder / HEARTBEAT).unlink(missing_ok=True)

    def mark(self, phase: str | None = None) -> None:
        """Something moved: a step, a batch, a row."""
        self._phase = phase or self._phase
        self._marks += 1
        self._moved = time.monotonic()

    def step(self) -> None:
        """A training step is done."""
        now = time.monotonic()
        if self._phase == "running":
            self._steps.append(now - self._stepped)
        self._stepped = now
        self.mark("running")

    def limit(self) -> float:
        """Seconds without a mark after which the present phase counts as stuck."""
        usual = statistics.median(self._steps) if self._steps else 0.0
        least = LIMITS_S.get(self._phase, LIMITS_S["preparing"])
        if self._phase == "running" and not self._steps:
            least = LIMITS_S["preparing"]  # the first step may compile and warm up
        by_steps = self._phase in ("running", "evaluating")
        return max(least, STEPS_OF_PATIENCE * usual) if by_steps else least

    def _loop(self) -> None:
        while not self._closing.wait(EVERY_S):
            self._write()
            cap_log(self._folder)

    def _write(self) -> None:
        self._beats += 1
        facts = {
            "pid": os.getpid(),
            "beats": self._beats,
            "marks": self._marks,
            "phase": self._phase,
            "idle_seconds": round(time.monotonic() - self._moved, 1),
            "limit_seconds": round(self.limit(), 1),
        }
        part = self._folder / f".{HEARTBEAT}"
        try:
            part.write_text(json.dumps(facts), encoding="utf-8")
            # no fsync: a beat is worth nothing after a crash
            os.replace(part, self._folder / HEARTBEAT)
        except OSError:
            return  # a full disk must not end the pulse; the next beat tries again
