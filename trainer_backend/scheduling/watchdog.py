"""Looks at the pulse of workers and says when one makes no progress. It never ends a worker itself.

The pulse is heartbeat.py; stopping is the user's choice, carried out by scheduler.py.
"""

import json
import time
from dataclasses import dataclass

from trainer_backend.home import read_json, write_json
from trainer_backend.runs import Run
from trainer_backend.runs.files import HEARTBEAT, STALLED
from trainer_backend.runs.heartbeat import EVERY_S, LIMITS_S

FROZEN_AFTER_S = 5 * EVERY_S
SAY_EVERY_S = 5.0
AWAY_S = 30.0  # a shared folder shows a beat of another machine late


@dataclass
class Pulse:
    """What was seen of one worker, by this process's monotonic clock."""

    marks: int = -1
    beats: int = -1
    moved: float = 0.0
    beaten: float = 0.0
    stop_seen: float | None = None
    said: float = float("-inf")


class HangWatch:
    """Remembers the pulses of live runs between looks."""

    def __init__(self, clock=time.monotonic):
        self._clock, self._pulses = clock, {}

    def look(self, run: Run) -> bool:
        """Note whether the run moves; True when a stop it was asked for is overdue.

        Writes stalled.json while nothing has moved for longer than the phase's limit.
        """
        now, beat = self._clock(), _read(run)
        pulse = self._pulses.setdefault(run.id, Pulse(moved=now, beaten=now))
        if beat["marks"] != pulse.marks:
            pulse.marks, pulse.moved = beat["marks"], now - beat["idle_seconds"]
        if beat["beats"] != pulse.beats:
            pulse.beats, pulse.beaten = beat["beats"], now
        still, frozen = now - pulse.moved, now - pulse.beaten > FROZEN_AFTER_S
        limit = beat["limit_seconds"]
        self._say(run, pulse, still > limit, _facts(beat, still, frozen))
        if run.stop_requested() and pulse.stop_seen is None:
            pulse.stop_seen = now
        if not run.stop_requested():
            pulse.stop_seen = None
            return False
        return min(still, now - pulse.stop_seen) > limit

    def beats(self, run: Run) -> bool:
        """Whether a worker that is none of this machine's still beats; at first it is believed."""
        if not (run.dir / HEARTBEAT).exists():
            return False
        now, beat = self._clock(), _read(run)
        pulse = self._pulses.setdefault(run.id, Pulse(moved=now, beaten=now))
        if beat["beats"] != pulse.beats:
            pulse.beats, pulse.beaten = beat["beats"], now
        return now - pulse.beaten < AWAY_S

    def _say(self, run: Run, pulse: Pulse, stuck: bool, facts: dict) -> None:
        now = self._clock()
        if stuck and now - pulse.said >= SAY_EVERY_S:
            write_json(run.dir / STALLED, facts)
            pulse.said = now
        elif not stuck and pulse.said > float("-inf"):
            (run.dir / STALLED).unlink(missing_ok=True)
            pulse.said = float("-inf")

    def forget(self, run: Run) -> None:
        """The run is over."""
        self._pulses.pop(run.id, None)
        (run.dir / STALLED).unlink(missing_ok=True)


def _facts(beat: dict, still: float, frozen: bool) -> dict:
    return {
        "phase": beat["phase"],
        "seconds": round(still),
        "limit": round(beat["limit_seconds"]),
        "frozen": frozen,  # not even its pulse beats: stopped by the system, or stuck in a driver
    }


def _read(run: Run) -> dict:
    """The worker's last beat; before the first one it is loading."""
    loading = {"phase": "preparing", "marks": 0, "beats": 0, "idle_seconds": 0.0}
    loading["limit_seconds"] = LIMITS_S["preparing"]
    try:
        return {**loading, **read_json(run.dir / HEARTBEAT, {})}
    except (json.JSONDecodeError, OSError, TypeError):
        return loading
