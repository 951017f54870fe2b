"""The loss curves of a run for a comparison: read on where they were last read, and thinned."""

import math
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from trainer_backend.runs.files import EVENTS
from trainer_backend.runs.run import Run

CURVES = ("eval_loss", "loss")
MAX_POINTS = 1_000  # of a curve, in an answer to a script or a page
MAX_READERS = 24  # runs whose curves stay in memory

Points = list[tuple[int, float]]


class CurveReader:
    """The curves of one run in memory; of a step repeated after a resume, the last value."""

    def __init__(self, run: Run):
        self._run = run
        self._lock = threading.Lock()
        self._restart()

    def _restart(self) -> None:
        self._offset, self._file = 0, 0
        self._curves: dict[str, Points] = {name: [] for name in CURVES}

    def read(self) -> dict[str, Points]:
        """All points up to now, by curve."""
        with self._lock:
            try:
                found = (self._run.dir / EVENTS).stat()
            except OSError:
                self._restart()
                return {name: [] for name in CURVES}
            if found.st_ino != self._file or found.st_size < self._offset:
                self._restart()
                self._file = found.st_ino
            events, self._offset = self._run.events(self._offset)
            for event in events:
                self._take(event)
            return {name: list(points) for name, points in self._curves.items()}

    def _take(self, event: dict[str, Any]) -> None:
        if event["type"] == "resumed":
            for points in self._curves.values():
                while points and points[-1][0] > event["step"]:
                    points.pop()
        name = {"metrics": "loss", "eval": "eval_loss"}.get(event["type"], "")
        value = event.get(name)
        if name and isinstance(value, int | float) and math.isfinite(value):
            self._curves[name].append((event["step"], float(value)))


_readers: OrderedDict[str, CurveReader] = OrderedDict()
_guard = threading.Lock()


def curves_of(run: Run) -> dict[str, Points]:
    """The points of a run's training and evaluation loss, oldest first; only finite numbers."""
    key = str(run.dir)
    with _guard:
        reader = _readers.setdefault(key, CurveReader(run))
        _readers.move_to_end(key)
        while len(_readers) > MAX_READERS:
            _readers.popitem(last=False)
    return reader.read()


def thinned(points: Sequence[tuple[int, float]], limit: int = MAX_POINTS) -> Points:
    """At most `limit` points: first, last, and the lowest and highest of equal parts between."""
    if len(points) <= limit:
        return list(points)
    parts = max(1, (limit - 2) // 2)
    kept = {0, len(points) - 1}
    for part in range(parts):
        bucket = range(len(points) * part // parts, len(points) * (part + 1) // parts)
        kept.add(min(bucket, key=lambda at: points[at][1]))
        kept.add(max(bucket, key=lambda at: points[at][1]))
    return [points[at] for at in sorted(kept)]
