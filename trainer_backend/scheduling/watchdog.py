"""Watchdog: reads the heartbeats of workers and reports one that makes no progress.

It never ends a worker: that is the user's decision.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from trainer_backend.home import read_json, write_json
from trainer_backend.runs import Run
from trainer_backend.runs.files import HEARTBEAT, STALLED
from trainer_backend.runs.watched.heartbeat import EVERY_S, LIMITS_S

FROZEN_AFTER_S = 5 * EVERY_S
REPORT_EVERY_S = 5.0
AWAY_S = 30.0  # a shared folder shows the beats of another machine with a delay


@dataclass
class Pulse:
    """The last heartbeat seen of one worker, by this process's monotonic clock."""

    marks: int = -1
    beats: int = -1
    moved: float = 0.0
    beaten: float = 0.0
    stop_seen: float | None = None
    reported: float = float("-inf")


class HangWatch:
    """Keeps the heartbeats of active runs between looks."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._pulses: dict[str, Pulse] = {}

    def look(self, run: Run) -> bool:
        """Check the run's progress; returns True if a requested stop is overdue.

        Writes stalled.json while there is no progress for longer than the phase's limit.
        """
        now, beat = self._clock(), _read(run)
        pulse = self._pulses.setdefault(run.id, Pulse(moved=now, beaten=now))
        if beat["marks"] != pulse.marks:
            pulse.marks, pulse.moved = beat["marks"], now - beat["idle_seconds"]
        if beat["beats"] != pulse.beats:
            pulse.beats, pulse.beaten = beat["beats"], now
        still, frozen = now - pulse.moved, now - pulse.beaten > FROZEN_AFTER_S
        limit = beat["limit_seconds"]
        self._report(run, pulse, still > limit, _facts(beat, still, frozen))
        if not run.stop_requested():
            pulse.stop_seen = None
            return False
        if pulse.stop_seen is None:
            pulse.stop_seen = now
        return min(still, now - pulse.stop_seen) > limit

    def beats(self, run: Run) -> bool:
        """Whether a worker of another machine still beats (True at first)."""
        if not (run.dir / HEARTBEAT).exists():
            return False
        now, beat = self._clock(), _read(run)
        pulse = self._pulses.setdefault(run.id, Pulse(moved=now, beaten=now))
        if beat["beats"] != pulse.beats:
            pulse.beats, pulse.beaten = beat["beats"], now
        return now - pulse.beaten < AWAY_S

    def _report(self, run: Run, pulse: Pulse, stuck: bool, facts: dict[str, Any]) -> None:
        now = self._clock()
        if stuck and now - pulse.reported >= REPORT_EVERY_S:
            write_json(run.dir / STALLED, facts)
            pulse.reported = now
        elif not stuck and pulse.reported > float("-inf"):
            (run.dir / STALLED).unlink(missing_ok=True)
            pulse.reported = float("-inf")

    def forget(self, run: Run) -> None:
        """Drop a run that has ended."""
        self._pulses.pop(run.id, None)
        (run.dir / STALLED).unlink(missing_ok=True)


def _facts(beat: dict[str, Any], still: float, frozen: bool) -> dict[str, Any]:
    return {
        "phase": beat["phase"],
        "seconds": round(still),
        "limit": round(beat["limit_seconds"]),
        "frozen": frozen,  # no heartbeat: suspended by the system, or stuck in a driver
    }


def _read(run: Run) -> dict[str, Any]:
    """The worker's last heartbeat, or that of a worker which is loading."""
    loading = {"phase": "preparing", "marks": 0, "beats": 0, "idle_seconds": 0.0}
    beat: Any = read_json(run.dir / HEARTBEAT, {})  # {} if damaged
    return {**loading, "limit_seconds": LIMITS_S["preparing"], **beat}
