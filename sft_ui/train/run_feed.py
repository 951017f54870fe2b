"""What changed in a run since a viewer last asked: points, state, log; read once for all viewers.

Reads run folders and returns plain data; knows no components and draws nothing.
"""

import threading
import time
from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator
from math import isnan, nan
from pathlib import Path
from typing import Any

from sft_ui.evaluation.samples.timeline import Timeline
from trainer_backend.errors import UserError
from trainer_backend.runs import ACTIVE, LIVE, Run, open_run, read_event
from trainer_backend.runs.files import EVALUATIONS, EVENTS, LOG, NAME, STALLED, STATE

CURVES = ("loss", "learning_rate", "grad_norm", "tokens_per_second", "memory_gb")
WIDTH = len(CURVES)
MAX_FEEDS = 1_000  # fewer than the runs watched at once would read them anew at each look
MAX_POINTS = 10_000_000  # of all feeds but the newest: about 500 MB
MAX_POINTS_AT_ONCE = 2000
ADDED_POINTS = 200
LOG_CHUNK = 64_000
EVENTS_CHUNK = 2**20
PLACE_EVERY_S = 1.0  # finding the place in the queue looks at every run
SLOW_TO_READ = 2 * 2**20  # bytes of unread events that are better read in a thread
SHOWN = (
    *("state", "step", "total_steps", "epoch", "loss", "eval_loss", "learning_rate", "grad_norm"),
    *("tokens_per_second", "memory_gb", "eta_seconds", "elapsed_seconds", "progress", "error"),
    *("warnings", "paths", "skipped_steps"),
)


class Curve:
    """Points in the order of their steps: training points of CURVES, and evaluations."""

    def __init__(self) -> None:
        self._steps, self._values = array("q"), array("d")
        self._is_eval = bytearray()

    def __len__(self) -> int:
        return len(self._steps)

    def add(self, event: dict) -> None:
        """Add a “metrics” or “eval” event."""
        evaluated = event["type"] == "eval"
        names = ("eval_loss",) if evaluated else CURVES
        values = [_number(event.get(name)) for name in names]
        self._steps.append(event["step"])
        self._values.extend(values + [nan] * (WIDTH - len(values)))
        self._is_eval.append(evaluated)

    def rewind(self, step: int) -> None:
        """Drop the points after a step, which a resumed run repeats."""
        kept = bisect_right(self._steps, step)
        del self._steps[kept:], self._values[kept * WIDTH :], self._is_eval[kept:]

    def points(self, start: int, limit: int) -> list[list[float | None]]:
        """[step, *values] of the points from `start` on, thinned to about `limit`."""
        return [self._point(at) for at in self._thinned(start, limit)]

    def _point(self, at: int) -> list[float | None]:
        end = at * WIDTH + (1 if self._is_eval[at] else WIDTH)
        return [self._steps[at], *(_short(value) for value in self._values[at * WIDTH : end])]

    def _thinned(self, start: int, limit: int) -> list[int]:
        every = range(start, len(self))
        if len(every) <= limit:
            return list(every)
        evals = [at for at in every if self._is_eval[at]]
        train = [at for at in every if not self._is_eval[at]]
        for_evals = min(len(evals), limit // 4)
        return sorted(self._extremes(evals, for_evals) + self._extremes(train, limit - for_evals))

    def _extremes(self, places: list[int], limit: int) -> list[int]:
        """First, last, and the lowest and highest point of each of limit / 2 equal parts."""
        if len(places) <= limit:
            return places
        kept = {places[0], places[-1]}
        parts = limit // 2 - 1
        for part in range(parts):
            bucket = places[len(places) * part // parts : len(places) * (part + 1) // parts]
            known = [at for at in bucket if not isnan(self._values[at * WIDTH])]
            if known:
                kept.add(min(known, key=lambda at: self._values[at * WIDTH]))
                kept.add(max(known, key=lambda at: self._values[at * WIDTH]))
        return list(kept)


def _number(value: object) -> float:
    return value if isinstance(value, int | float) else nan


def _short(value: float) -> float | None:
    """The number with six digits, more than a screen can show; None for NaN."""
    return None if isnan(value) else float(f"{value:.6g}")


class RunFeed:
    """One run's curve and state in memory; a poll costs a few stat calls."""

    def __init__(self, run: Run):
        self.run = run
        recipe = run.recipe()
        # a run limited by max_steps has no target number of epochs
        self._num_epochs = recipe.num_train_epochs if recipe.max_steps < 0 else None
        self._checks_answers = recipe.answer_check_rows > 0
        self._offset, self._resumes = 0, 0
        self._curve, self._timeline = Curve(), Timeline(run)
        self._whole: tuple[int, list[list[float | None]]] = (0, [])
        self._state: dict[str, Any] = {}
        self._file_stamp, self._placed = "", float("-inf")
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        """Points in memory."""
        return len(self._curve)

    def is_slow(self) -> bool:
        """Whether the next answer takes long: many events are unread or being read."""
        path = self.run.dir / EVENTS
        unread = path.stat().st_size - self._offset if path.exists() else 0
        return self._lock.locked() or unread > SLOW_TO_READ

    def since(self, asked: dict, queue_position: Callable[[str], int | None]) -> dict[str, Any]:
        """Answer a poll {"rev", "seq", "stamp", "log_at", "samples_at"}: what is new of each.

        A `rev` other than the current one (the run was resumed) gets the whole curve.
        """
        with self._lock:
            return self._since(asked, queue_position)

    def _since(self, asked: dict, queue_position: Callable[[str], int | None]) -> dict[str, Any]:
        self._read_events()
        rev = f"{self.run.id}.{self._resumes}"
        seq = asked.get("seq") if asked.get("rev") == rev else 0
        seq = seq if isinstance(seq, int) and 0 <= seq <= len(self._curve) else 0
        points = self._curve.points(seq, MAX_POINTS_AT_ONCE) if seq else self._whole_curve()
        answer: dict[str, Any] = {"rev": rev, "seq": len(self._curve), "points": points}
        stamp = self._read_state(queue_position)
        if asked.get("stamp") != stamp or asked.get("rev") != rev:
            answer |= {"stamp": stamp, "state": self._state}
        if (
            self._state["state"] in ACTIVE
            and (asked_for := self.run.stopping_seconds()) is not None
        ):
            answer["stopping"] = round(asked_for, 1)
        answer |= self._timeline.since(asked.get("samples_at"))
        return answer | self._log_after(asked.get("log_at"))

    def _whole_curve(self) -> list[list[float | None]]:
        """All points, thinned; most of the answer is cached for other viewers."""
        at, kept = self._whole
        if not 0 <= len(self._curve) - at <= ADDED_POINTS:
            at, kept = len(self._curve), self._curve.points(0, MAX_POINTS_AT_ONCE - ADDED_POINTS)
            self._whole = at, kept
        return kept + self._curve.points(at, ADDED_POINTS)

    def _read_events(self) -> None:
        for event in self._new_events():
            if event["type"] == "resumed":
                self._curve.rewind(event["step"])
                self._resumes += 1
                self._whole = (0, [])
            elif event["type"] in ("metrics", "eval"):
                self._curve.add(event)

    def _new_events(self) -> Iterator[dict]:
        """Events written since the last call; an incomplete last line is left for the next."""
        path = self.run.dir / EVENTS
        if not path.is_file() or path.stat().st_size == self._offset:
            return
        with open(path, "rb") as file:
            file.seek(self._offset)
            while chunk := file.readlines(EVENTS_CHUNK):
                for line in chunk:
                    if not line.endswith(b"\n"):
                        return
                    self._offset += len(line)
                    if (event := _event(line)) is not None:
                        yield event

    def _read_state(self, queue_position: Callable[[str], int | None]) -> str:
        files = [self.run.dir / name for name in (STATE, NAME, STALLED, EVALUATIONS)]
        stamp = "-".join(str(file.stat().st_mtime_ns) for file in files if file.exists())
        if stamp != self._file_stamp:
            state = self.run.state()
            self._state = {key: state[key] for key in SHOWN if state.get(key) is not None}
            self._state |= {"name": self.run.name(), "num_train_epochs": self._num_epochs}
            if self._checks_answers and state.get("num_eval_rows"):
                self._state["answer_check"] = True
            if (kept := self.run.dir / EVALUATIONS).is_dir():
                self._state["evaluations"] = str(kept.stat().st_mtime_ns)
            if state["state"] in LIVE and (stalled := self.run.stalled()):
                self._state["no_progress"] = stalled
            self._file_stamp, self._placed = stamp, float("-inf")
        if self._state["state"] != "queued":
            return stamp
        now = time.monotonic()
        if now - self._placed > PLACE_EVERY_S:
            self._placed, position = now, queue_position(self.run.id)
            self._state = {**self._state, "queue_position": position}
        position = self._state.get("queue_position")
        return f"{stamp}-{position}"

    def _log_after(self, at: object) -> dict[str, Any]:
        """The log from a byte offset on; at most its last LOG_CHUNK bytes."""
        path = self.run.dir / LOG
        if not isinstance(at, int) or at < 0 or not path.is_file():
            return {}
        size = path.stat().st_size
        if size == at:
            return {}
        start = at if 0 < size - at <= LOG_CHUNK else max(0, size - LOG_CHUNK)
        with open(path, "rb") as file:
            file.seek(start)
            data = file.read(LOG_CHUNK)
        if self._state.get("state") in LIVE:
            data = data[: max(data.rfind(b"\n"), data.rfind(b"\r")) + 1]
        text = data.decode("utf-8", "replace")
        return {"log": text, "log_at": start + len(data), "log_fresh": start != at}


class RunFeeds:
    """The feeds of the most recently watched runs."""

    def __init__(self, home: Path):
        self._home = home
        self._feeds: OrderedDict[str, RunFeed] = OrderedDict()
        self._lock = threading.Lock()

    def is_slow(self, run_id: str) -> bool:
        """Whether the answer should be made in a thread (see `RunFeed.is_slow`)."""
        try:
            return self.of(run_id).is_slow()
        except (UserError, OSError):
            return False

    def of(self, run_id: str) -> RunFeed:
        """The feed of a run. Raises UserError when there is no such run."""
        run = open_run(self._home, run_id)
        with self._lock:
            if run.id not in self._feeds:
                self._make_room()
                self._feeds[run.id] = RunFeed(run)
            self._feeds.move_to_end(run.id)
            return self._feeds[run.id]

    def _make_room(self) -> None:
        """Forget the feeds that nobody has asked for longest."""
        points = sum(feed.size for feed in self._feeds.values())
        while self._feeds and (len(self._feeds) >= MAX_FEEDS or points > MAX_POINTS):
            points -= self._feeds.popitem(last=False)[1].size


def _event(line: bytes) -> dict | None:
    """The event of a line if a curve needs it; None for any other or a damaged line."""
    event = read_event(line)
    return event if event and event["type"] in ("metrics", "eval", "resumed") else None
