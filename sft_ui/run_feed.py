"""What is new in a run since a viewer last asked: curve, state, log; read once for all viewers.

What the run folder holds is in trainer_backend/runs.py; how it is drawn is in static/live_chart.js.
"""

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from trainer_backend.runs import Run, open_run

MAX_FEEDS = 64
MAX_POINTS_AT_ONCE = 4000
LOG_CHUNK = 64_000
LIVE = ("queued", "preparing", "running", "saving")
CURVES = ("loss", "learning_rate", "grad_norm", "tokens_per_second", "memory_gb")
SHOWN = (
    *("state", "step", "total_steps", "epoch", "loss", "eval_loss", "learning_rate", "grad_norm"),
    *("tokens_per_second", "memory_gb", "eta_seconds", "elapsed_seconds", "progress", "error"),
    *("warnings", "answers", "skipped_steps"),
)


class RunFeed:
    """One run's curve and state in memory; every question costs a few stat calls."""

    def __init__(self, run: Run):
        self.run = run
        recipe = run.recipe()
        # a run that goes by steps has no number of epochs to reach
        self._num_epochs = recipe.num_train_epochs if recipe.max_steps < 0 else None
        self._offset, self._resumes = 0, 0
        self._points: list[list] = []
        self._state: dict = {}
        self._file_stamp = ""

    def since(self, asked: dict, queue_position: Callable[[str], int | None]) -> dict:
        """Answer a viewer: points after its `seq`, the state and the log where they changed."""
        self._read_events()
        rev = f"{self.run.id}.{self._resumes}"
        seq = asked.get("seq") if asked.get("rev") == rev else 0
        seq = seq if isinstance(seq, int) and 0 <= seq <= len(self._points) else 0
        answer = {"rev": rev, "seq": len(self._points), "points": thin(self._points[seq:])}
        stamp = self._read_state(queue_position)
        if asked.get("stamp") != stamp or asked.get("rev") != rev:
            answer |= {"stamp": stamp, "state": self._state}
        return answer | self._log_after(asked.get("log_at"))

    def _read_events(self) -> None:
        path = self.run.dir / "events.jsonl"
        if not path.exists() or path.stat().st_size == self._offset:
            return
        events, self._offset = self.run.events(self._offset)
        for event in events:
            if event["type"] == "resumed":
                self._points = [p for p in self._points if p[0] <= event.get("step", 0)]
                self._resumes += 1
            elif event["type"] == "metrics":
                self._points.append([event["step"], *(short(event.get(k)) for k in CURVES)])
            elif event["type"] == "eval":
                self._points.append([event["step"], short(event.get("eval_loss"))])

    def _read_state(self, queue_position: Callable[[str], int | None]) -> str:
        files = [self.run.dir / name for name in ("state.json", "name.txt", "stalled.json")]
        stamp = "-".join(str(file.stat().st_mtime_ns) for file in files if file.exists())
        if stamp != self._file_stamp:
            state = self.run.state()
            self._state = {key: state[key] for key in SHOWN if state.get(key) is not None}
            self._state |= {"name": self.run.name(), "num_train_epochs": self._num_epochs}
            if state["state"] in LIVE and (stalled := self.run.stalled()):
                self._state["no_progress"] = stalled
            self._file_stamp = stamp
        if self._state["state"] != "queued":
            return stamp
        position = queue_position(self.run.id)
        self._state = {**self._state, "queue_position": position}
        return f"{stamp}-{position}"

    def _log_after(self, at: object) -> dict:
        """The log from a byte position on; a viewer far behind gets the last part only."""
        path = self.run.dir / "worker.log"
        if not isinstance(at, int) or at < 0 or not path.exists():
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
    """The feeds of the runs that somebody watches."""

    def __init__(self, home: Path):
        self._home = home
        self._feeds: OrderedDict[str, RunFeed] = OrderedDict()

    def of(self, run_id: str) -> RunFeed:
        """The feed of a run. Raises UserError when there is no such run."""
        run = open_run(self._home, run_id)
        if run.id not in self._feeds:
            self._feeds[run.id] = RunFeed(run)
        self._feeds.move_to_end(run.id)
        while len(self._feeds) > MAX_FEEDS:
            self._feeds.popitem(last=False)
        return self._feeds[run.id]


def short(value: object) -> float | None:
    """A number with six digits, which is more than a screen can show."""
    return float(f"{value:.6g}") if isinstance(value, int | float) else None


def thin(points: list[list], limit: int = MAX_POINTS_AT_ONCE) -> list[list]:
    """At most about `limit` points: evaluations, and each bucket's lowest and highest loss."""
    if len(points) <= limit:
        return points
    size = -(-2 * len(points) // limit)
    kept = {0, len(points) - 1}
    for start in range(0, len(points), size):
        bucket = range(start, min(start + size, len(points)))
        kept.update(at for at in bucket if len(points[at]) == 2)
        losses = [(points[at][1], at) for at in bucket if len(points[at]) > 2]
        known = [pair for pair in losses if pair[0] is not None]
        if known:
            kept.update((min(known)[1], max(known)[1]))
    return [points[at] for at in sorted(kept)]
