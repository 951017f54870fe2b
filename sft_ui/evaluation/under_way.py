"""Evaluations started on the page: one a run, seen by every page, until its result is kept.

The model process asks the models; here it is watched, told in words, and stopped.
"""

import threading
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from sft_ui.context import Studio
from trainer_backend.downloads import time_in_words
from trainer_backend.errors import UserError

LEAST_SHARE = 0.03  # below it a guess of the time left would jump about


@dataclass
class Watch:
    """One evaluation: what it does now, and at the end its id, or the error it ended with."""

    what: str = "Loading the models"
    words: str = ""
    share: float | None = None
    began_at: float = field(default_factory=time.monotonic)  # of what it does now
    started_at: float = field(default_factory=time.monotonic)
    stopping: bool = False
    done: str = ""
    error: UserError | None = None
    is_over: bool = False

    def take(self, far: Mapping[str, Any]) -> None:
        """Take what the model process tells: {"what", "done", "total", "unit", "words"}."""
        what, done, total = str(far["what"]), far.get("done") or 0, far.get("total") or 0
        if what != self.what:
            self.what, self.began_at = what, time.monotonic()
        self.share = min(1.0, done / total) if total > 1 else None
        counted = f"{done:,.0f} of {total:,.0f} {far.get('unit') or ''}".strip()
        self.words = far.get("words") or (counted if total > 1 else "")

    def told(self) -> dict[str, Any]:
        """What a page shows: {"what", "words", "share", "left", "stopping", "done", "error"}."""
        words = f"{self.what}: {self.words}" if self.words else f"{self.what}…"
        return {
            "words": "Stopping after the answers that are being written…"
            if self.stopping
            else words,
            "share": self.share,
            "left": self._left(),
            "stopping": self.stopping,
            "over": self.is_over,
            "done": self.done,
            "error": self.error.to_dict() if self.error else None,
        }

    def _left(self) -> str:
        """How long what it does now may take still, from its speed so far."""
        if self.share is None or self.share < LEAST_SHARE or self.stopping:
            return ""
        passed = time.monotonic() - self.began_at
        return f"about {time_in_words(passed * (1 - self.share) / self.share)} left"


class UnderWay:
    """The evaluations that this app has started."""

    def __init__(self, studio: Studio):
        self._studio = studio
        self._watched: dict[str, Watch] = {}
        self._lock = threading.Lock()

    def start(self, run_id: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """Start one in the background. Raises UserError while one of this run is under way."""
        with self._lock:
            known = self._watched.get(run_id)
            if known and not known.is_over:
                fix = "Wait until it has ended, or stop it."
                raise UserError("This run is being evaluated.", known.what, fix)
            watch = self._watched[run_id] = Watch()
        arguments = (watch, run_id, dict(options))
        threading.Thread(target=self._follow, args=arguments, daemon=True).start()
        return watch.told()

    def stop(self, run_id: str) -> dict[str, Any] | None:
        """Ask the one of this run to end; nothing of it is kept."""
        if watch := self._watched.get(run_id):
            watch.stopping = not watch.is_over
        return self.of(run_id)

    def of(self, run_id: str) -> dict[str, Any] | None:
        """What is told of the one of this run, the last one too; None if there was none."""
        watch = self._watched.get(run_id)
        return watch.told() if watch else None

    def _follow(self, watch: Watch, run_id: str, options: dict[str, Any]) -> None:
        """Read the model process until the result is there; closing its stream stops it."""
        try:
            with closing(self._studio.model_process.evaluate(run_id, **options)) as parts:
                for part in parts:
                    if watch.stopping:
                        break
                    _take(watch, part)
        except UserError as error:
            watch.error = error
        finally:
            watch.stopping, watch.is_over = False, True


def _take(watch: Watch, part: Mapping[str, Any]) -> None:
    found = part.get("fetching") or part.get("progress")
    if found:
        watch.take(found)
    elif "evaluation" in part:
        watch.done = str(part["evaluation"]["id"])
