"""The worker's heartbeat: a thread that reports that the process lives and since when it idles.

Uses the monotonic clock, so changing the system clock can neither cause nor hide a hang.
"""

import json
import os
import statistics
import threading
import time
from collections import deque
from pathlib import Path

from trainer_backend.runs.files import HEARTBEAT
from trainer_backend.runs.watched.worker_log import cap_log

EVERY_S = 2.0
LIMITS_S = {"preparing": 900.0, "saving": 600.0, "evaluating": 300.0, "running": 120.0}
STEPS_OF_PATIENCE = 20  # a step counts as stuck after so many median step times


class Heartbeat:
    """Writes heartbeat.json every two seconds until closed, and keeps worker.log small."""

    def __init__(self, folder: Path):
        self._folder, self._phase, self._marks, self._beats = folder, "preparing", 0, 0
        self._moved = self._stepped = time.monotonic()
        self._steps: deque[float] = deque(maxlen=64)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="heartbeat", daemon=True)

    def start(self) -> "Heartbeat":
        """Write the first beat and start the thread."""
        self._write()
        self._thread.start()
        return self

    def close(self) -> None:
        """Stop the thread and delete the file."""
        self._closing.set()
        self._thread.join(timeout=5)
        (self._folder / HEARTBEAT).unlink(missing_ok=True)

    def mark(self, phase: str | None = None) -> None:
        """Record progress (a step, a batch, a row), and the phase it belongs to."""
        self._phase = phase or self._phase
        self._marks += 1
        self._moved = time.monotonic()

    def step(self) -> None:
        """Record a finished optimizer step and its duration."""
        now = time.monotonic()
        if self._phase == "running":
            self._steps.append(now - self._stepped)
        self._stepped = now
        self.mark("running")

    def limit(self) -> float:
        """Seconds without progress after which the current phase counts as stuck."""
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
            # no fsync: a heartbeat need not survive a crash
            os.replace(part, self._folder / HEARTBEAT)
        except OSError:
            return  # a full disk must not end the thread; the next beat tries again
