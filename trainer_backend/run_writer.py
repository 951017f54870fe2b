"""What a worker writes into its run folder: events (append-only) and the state.

Reading is in runs.py.
"""

import json
import logging
import math
import os
import time
from pathlib import Path

from .home import write_json
from .runs import Run

STATE_EVERY_S = 0.5
logger = logging.getLogger(__name__)


class RunWriter:
    """Writes one run's events and state. Only the process that holds the run's lock may use it."""

    def __init__(self, run: Run, enabled: bool = True):
        self.run, self.enabled = run, enabled
        self._state = run.state()
        self._state["attempt"] = self._state.get("attempt", 0) + 1
        self._started, self._before = time.monotonic(), self._state.get("elapsed_seconds") or 0.0
        self._written = 0.0
        if enabled:
            _repair_tail(run.dir / "events.jsonl")

    def event(self, type: str, **facts) -> None:
        """Append one event: a single write, so that a crash tears at most the last line."""
        line = json.dumps(
            {"type": type, "t": round(time.time(), 3), **_finite(facts)}, ensure_ascii=False
        )
        if self.enabled:
            descriptor = os.open(
                self.run.dir / "events.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644
            )
            try:
                os.write(descriptor, line.encode() + b"\n")
            finally:
                os.close(descriptor)

    def update(self, *, now: bool = False, **facts) -> None:
        """Merge facts into the state file (written at most twice a second unless `now`)."""
        self._state.update(_finite(facts))
        self._state["elapsed_seconds"] = round(self._before + time.monotonic() - self._started, 1)
        if self.enabled and (now or time.monotonic() - self._written > STATE_EVERY_S):
            write_json(self.run.dir / "state.json", {**self._state, "updated_at": time.time()})
            self._written = time.monotonic()

    def enter(self, state: str, **facts) -> None:
        """Move the run to another state, at once and with an event."""
        logger.info("%s", state)
        self.event("state", state=state)
        self.update(now=True, state=state, **facts)

    def progress(self, what: str, done: float, total: float, unit: str) -> None:
        """Say how far a preparation step is."""
        facts = {"what": what, "done": done, "total": total, "unit": unit}
        if done == 0 or done >= total:
            logger.info("%s: %g of %g %s", what, done, total, unit)
        self.update(now=done == 0 or done >= total, progress=facts)

    def warn(self, text: str) -> None:
        """Add a warning; it stays in the run's list."""
        warnings = self._state.setdefault("warnings", [])
        if text not in warnings:
            warnings.append(text)
            logger.info("note: %s", text)
            self.event("warning", text=text)
            self.update(now=True)


def _finite(facts: dict) -> dict:
    """Strict JSON: a number that is not finite becomes null, with a flag that says so."""
    bad = [
        key for key, value in facts.items() if isinstance(value, float) and not math.isfinite(value)
    ]
    return {**facts, **dict.fromkeys(bad), **({"not_finite": bad} if bad else {})}


def _repair_tail(path: Path) -> None:
    """Cut off a last line that an earlier crash left without its end."""
    if path.exists():
        with open(path, "rb+") as file:
            data = file.read()
            file.truncate(data.rfind(b"\n") + 1)
