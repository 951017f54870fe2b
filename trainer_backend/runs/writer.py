"""What a worker writes into its run folder: events (append-only) and the state.

Reading is in run_folder.py; the log a person reads is worker_log.py.
"""

import copy
import errno
import json
import logging
import math
import os
import time
from pathlib import Path

from trainer_backend.redact import redact_facts
from trainer_backend.runs.events import read_event
from trainer_backend.runs.files import EVENTS
from trainer_backend.runs.heartbeat import Heartbeat
from trainer_backend.runs.run import Run
from trainer_backend.runs.state import ACTIVE, OVER, entering, write_state
from trainer_backend.runs.webhook import send_notice

STATE_EVERY_S = 0.5
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
logger = logging.getLogger(__name__)


class RunWriter:
    """Writes one run's events and state. Only the process that holds the run's lock may use it."""

    def __init__(self, run: Run, enabled: bool = True):
        self.run, self.enabled = run, enabled
        self._path = run.dir / EVENTS
        self._state = copy.deepcopy(run.state())
        self._state["attempt"] = self._state.get("attempt", 0) + 1
        self._started, self._before = time.monotonic(), self._state.get("elapsed_seconds") or 0.0
        self._written = 0.0
        self._waiting: list[bytes] = []  # events a full disk did not take
        self.heart: Heartbeat | None = None
        if enabled and (damage := _repair(self._path)):
            self.event("repaired", **damage)

    def event(self, type: str, **facts) -> None:
        """Append one event, on disk before this returns; a full disk makes it wait, not fail."""
        clean = redact_facts(strict(facts))
        line = json.dumps({"type": type, "t": round(time.time(), 3), **clean}, ensure_ascii=False)
        if not self.enabled:
            return
        self._waiting.append(line.encode("utf-8", "replace") + b"\n")
        try:
            _append(self._path, b"".join(self._waiting))
            self._waiting.clear()
        except OSError as error:
            if error.errno not in DISK_FULL:
                raise
            logger.warning("the disk is full: %d events wait", len(self._waiting))

    def update(self, *, now: bool = False, **facts) -> None:
        """Merge facts into the state file (written at most twice a second unless `now`)."""
        self.mark()
        self._state.update(redact_facts(strict(facts)))
        self._state["elapsed_seconds"] = round(self._before + time.monotonic() - self._started, 1)
        if self.enabled and (now or time.monotonic() - self._written > STATE_EVERY_S):
            try:
                write_state(self.run.dir, self._state)
            except OSError as error:
                if error.errno not in DISK_FULL:
                    raise
                logger.warning("the disk is full: the state on it is an older one")
            self._written = time.monotonic()

    def enter(self, state: str, **facts) -> None:
        """Move the run to another state, at once and with an event.

        Raises IllegalTransition when the run cannot go there from the state this worker put it in:
        what others wrote meanwhile does not count, since only a worker that lives may write.
        """
        facts = entering(self._state["state"], state, **facts)
        logger.info("%s", state)
        self.mark(state)
        self.event("state", state=state)
        self.update(now=True, **facts)
        if self.enabled and state in OVER:
            send_notice(self.run)

    def has_ended(self) -> bool:
        """Whether this worker has said its last word: the run is over, or waits to go on."""
        return self._state["state"] not in ACTIVE

    def mark(self, phase: str | None = None) -> None:
        """Something moved: whoever watches for a hang begins to count anew."""
        if self.heart:
            self.heart.mark(phase)

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
            warnings.append(redact_facts(text))
            logger.info("note: %s", text)
            self.event("warning", text=text)
            self.update(now=True)


def strict(facts: dict) -> dict:
    """Strict JSON: a number that is not finite becomes null, with a flag that says so."""
    bad = [
        key for key, value in facts.items() if isinstance(value, float) and value != _sane(value)
    ]
    return {
        **{key: _sane(one) for key, one in facts.items()},
        **({"not_finite": bad} if bad else {}),
    }


def _sane(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _sane(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_sane(one) for one in value]
    return value


def _append(path: Path, data: bytes) -> None:
    """One write and a flush to the disk; what a full disk took only in part is taken back."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        before = os.fstat(descriptor).st_size
        try:
            written = os.write(descriptor, data)
            if written < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, before)
            raise
    finally:
        os.close(descriptor)


def _repair(path: Path) -> dict:
    """Cut off a last line that an earlier crash left without its end; count lines that are none.

    Lines of garbage stay where they are, since readers remember offsets; they are skipped.
    """
    if not path.exists():
        return {}
    with open(path, "rb+") as file:
        data = file.read()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            file.truncate(whole)
            os.fsync(file.fileno())
    lines = data[:whole].splitlines()
    noted = max((number for number, line in enumerate(lines) if b'"repaired"' in line), default=-1)
    garbage = sum(1 for line in lines[noted + 1 :] if read_event(line) is None)
    damage = {"cut_bytes": len(data) - whole, "skipped_lines": garbage}
    return damage if any(damage.values()) else {}
