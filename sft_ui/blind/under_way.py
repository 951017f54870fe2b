"""What goes on behind the blind tests of open pages: answers that are asked ahead, and judges.

A page may come and go; the work of a test is one, however many pages look at it.
"""

import threading
from dataclasses import dataclass, field
from typing import Any

from trainer_backend.comparison.blind import Answering, BlindTest
from trainer_backend.comparison.blind.judging import judge_test, open_pairs
from trainer_backend.comparison.judge import Asking, Judge
from trainer_backend.disk import for_people
from trainer_backend.errors import UserError
from trainer_backend.runs import Run
from trainer_backend.serving.client import ModelProcess

MOST_KEPT = 40  # tests whose work is remembered


@dataclass
class Judging:
    """A judge at work on a test."""

    asking: Asking
    total: int
    done: int = 0
    over: bool = False
    error: dict[str, Any] | None = None

    def state(self) -> dict[str, Any]:
        """How far it is, for the page."""
        stopping = self.asking.stop.is_set()
        facts = {"done": self.done, "total": self.total, "stopping": stopping}
        return {**facts, "host": self.asking.judge.host, "over": self.over, "error": self.error}


@dataclass
class UnderWay:
    """The work of all tests, by their ids."""

    client: ModelProcess
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _answering: dict[str, Answering] = field(default_factory=dict)
    _judging: dict[str, Judging] = field(default_factory=dict)

    def answering(self, run: Run, test: BlindTest) -> Answering:
        """What answers the questions of a test."""
        with self._lock:
            if test.id not in self._answering:
                _make_room(self._answering)
                self._answering[test.id] = Answering(run, test.id, self.client)
            return self._answering[test.id]

    def judging(self, test_id: str) -> dict[str, Any] | None:
        """How far the judge of a test is; None if none was asked since the app began."""
        found = self._judging.get(test_id)
        return found.state() if found else None

    def start_judge(self, run: Run, test_id: str, judge: Judge) -> None:
        """Let a judge vote in the background. Raises UserError while one is at work."""
        with self._lock:
            before = self._judging.get(test_id)
            if before and not before.over:
                raise UserError("A judge is at work.", before.asking.judge.host, "Stop it first.")
            _make_room(self._judging)
            work = Judging(Asking(judge), open_pairs(run, test_id, judge))
            self._judging[test_id] = work
        threading.Thread(target=_judge, args=(run, test_id, work), daemon=True).start()

    def stop_judge(self, test_id: str) -> None:
        """Stop the judge of a test; its verdicts so far stay."""
        if found := self._judging.get(test_id):
            found.asking.stop.set()


def _make_room(works: dict[str, Any]) -> None:
    """Forget the oldest work, so that a server that runs for months holds little."""
    while len(works) >= MOST_KEPT:
        oldest = works.pop(next(iter(works)))
        if isinstance(oldest, Answering):
            oldest.stop()
        else:
            oldest.asking.stop.set()


def _judge(run: Run, test_id: str, work: Judging) -> None:
    try:
        for done, _ in enumerate(judge_test(run, test_id, work.asking)):
            work.done = done
    except (UserError, OSError) as error:
        work.error = for_people(error).to_dict()
    finally:
        work.over = True
