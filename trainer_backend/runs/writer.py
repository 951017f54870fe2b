"""Writes a run's events (append-only) and state on behalf of its worker."""

import copy
import errno
import json
import logging
import math
import os
import time
from pathlib import Path
from typing import Any

from trainer_backend.redact import redact_facts
from trainer_backend.runs.events import read_event
from trainer_backend.runs.files import EVENTS, STATE
from trainer_backend.runs.run import Run
from trainer_backend.runs.state import ACTIVE, OVER, entering, write_state
from trainer_backend.runs.watched.heartbeat import Heartbeat
from trainer_backend.runs.webhook import send_notice

STATE_EVERY_S = 0.5
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
logger = logging.getLogger(__name__)


class RunWriter:
    """Writes one run's events and state; only for the process that holds the run's lock.

    With `enabled=False` (all training processes but the first) nothing is written.
    """

    def __init__(self, run: Run, enabled: bool = True):
        self.run, self.enabled = run, enabled
        self._path = run.dir / EVENTS
        self._state = copy.deepcopy(run.state())
        self._state["attempt"] = self._state.get("attempt", 0) + 1
        self._started, self._before = time.monotonic(), self._state.get("elapsed_seconds") or 0.0
        self._written = 0.0
        self._waiting: list[bytes] = []  # events that a full disk did not take
        self.heart: Heartbeat | None = None
        if enabled and (damage := _repair(self._path)):
            self.event("repaired", **damage)

    def event(self, type: str, **facts: Any) -> None:
        """Append one event and flush it to the disk; while the disk is full, events are kept."""
        if not self.enabled:
            return
        clean: Any = redact_facts(strict(facts))
        line = json.dumps({"type": type, "t": round(time.time(), 3), **clean}, ensure_ascii=False)
        self._waiting.append(line.encode("utf-8", "replace") + b"\n")
        try:
            _append(self._path, b"".join(self._waiting))
            self._waiting.clear()
        except OSError as error:
            if error.errno not in DISK_FULL:
                raise
            logger.warning("the disk is full: %d events are not written yet", len(self._waiting))

    def update(self, *, now: bool = False, **facts: Any) -> None:
        """Merge facts into the state file (written at most twice a second unless `now`)."""
        self.mark()
        clean: Any = redact_facts(strict(facts))
        self._state.update(clean)
        self._state["elapsed_seconds"] = round(self._before + time.monotonic() - self._started, 1)
        if self.enabled and (now or time.monotonic() - self._written > STATE_EVERY_S):
            try:
                write_state(self.run.dir, self._state)
            except OSError as error:
                if error.errno not in DISK_FULL:
                    raise
                logger.warning("the disk is full: %s is out of date", STATE)
            self._written = time.monotonic()

    def enter(self, state: str, **facts: Any) -> None:
        """Move the run to another state, written at once and recorded as an event.

        Raises IllegalTransition, judged by the state that this worker wrote last.
        """
        facts = entering(self._state["state"], state, **facts)
        logger.info("%s", state)
        self.mark(state)
        self.event("state", state=state)
        self.update(now=True, **facts)
        if self.enabled and state in OVER:
            send_notice(self.run)

    def has_ended(self) -> bool:
        """Whether this worker has written an end state (the run has ended or is queued again)."""
        return self._state["state"] not in ACTIVE

    def mark(self, phase: str | None = None) -> None:
        """Record progress for the watchdog."""
        if self.heart:
            self.heart.mark(phase)

    def progress(self, what: str, done: float, total: float, unit: str, words: str = "") -> None:
        """Record how much of a preparation step is done, in `unit`s; `words` say it for people.

        A `total` of 0 stands for not known. The log has the beginning and the end of a step.
        """
        facts = {"what": what, "done": done, "total": total, "unit": unit}
        before = self._state.get("progress") or {}
        ends = 0 < total <= done and (before.get("done"), before.get("total")) != (done, total)
        notable = ends or before.get("what") != what or (done == 0 and unit != "bytes")
        if notable:
            logger.info("%s: %s", what, words or f"{done:g} of {total:g} {unit}")
        self.update(now=notable, progress={**facts, "words": words} if words else facts)

    def warn(self, text: str) -> None:
        """Add a warning to the run's list, once."""
        warnings = self._state.setdefault("warnings", [])
        if text not in warnings:
            warnings.append(redact_facts(text))
            logger.info("note: %s", text)
            self.event("warning", text=text)
            self.update(now=True)


def strict(facts: dict[str, Any]) -> dict[str, Any]:
    """Strict JSON: a NaN or infinite value becomes null, and its key is listed in `not_finite`."""
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
    """Write and flush in one call; a write that a full disk cut short is undone."""
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


def _repair(path: Path) -> dict[str, int]:
    """Cut off an incomplete last line of an earlier crash; count damaged lines.

    Damaged lines stay, because readers remember offsets; they are skipped.
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
