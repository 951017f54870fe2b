"""How far a download is, and its cancellation; the work runs in a thread, its owner watches.

The owner's thread reports the progress and hears a stop even while the network is silent.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from trainer_backend.downloads.words import bytes_in_words

T = TypeVar("T")
POLL_S = 0.25  # between two reports, and so between two looks at a stop request
END_S = 1.0  # that a cancelled thread is given to close its files
SPEED_OVER_S = 6.0
SILENT_S = 10.0  # without a byte, from which on it is said


class Progress(Protocol):
    """Is told how far a piece of work is; may raise to end it.

    `words` says the numbers for people where “done of total unit” does not: bytes and their speed.
    """

    def __call__(
        self, what: str, done: float, total: float, unit: str, words: str = ""
    ) -> None: ...


def silent(what: str, done: float, total: float, unit: str, words: str = "") -> None:
    """A progress callback that does nothing."""


class Cancelled(Exception):
    """Ends the threads of a cancelled download; never leaves `watched`."""


class Gauge:
    """The bytes of a download by file, in any thread; `cancel` ends the work at its next sign."""

    def __init__(self, what: str):
        self.what, self.note = what, ""
        self.has_data = False
        self._step = ""
        self._files: dict[str, tuple[int, int]] = {}  # done, total
        self._cancelled = threading.Event()
        self._moved = time.monotonic()
        self._seen: deque[tuple[float, int]] = deque()

    def file(self, name: str, done: int, total: int | None) -> None:
        """Set how many bytes of a file are here. Raises Cancelled after `cancel`."""
        self.check()
        if self._files.get(name, (0, 0))[0] != done:
            self.has_data = self.has_data or name in self._files
            self.moved()
        self._files[name] = (done, total or 0)

    def moved(self) -> None:
        """Note a sign of life."""
        self._moved = time.monotonic()
        self.note = ""

    def step(self, what: str, words: str) -> None:
        """Go on to work without bytes; `words` say how long it takes. Raises Cancelled."""
        self.check()
        self.what, self._step, self.note = what, words, ""

    def silence(self) -> float:
        """Seconds since the last byte."""
        return time.monotonic() - self._moved

    def check(self) -> None:
        """Raise Cancelled after `cancel`."""
        if self._cancelled.is_set():
            raise Cancelled

    def pause(self, seconds: float) -> None:
        """Wait; raises Cancelled as soon as `cancel` is called."""
        self._cancelled.wait(seconds)
        self.check()

    def cancel(self) -> None:
        """End the work."""
        self._cancelled.set()

    def report(self, progress: Progress) -> None:
        """Tell the bytes so far; only for the thread that watches."""
        if self._step:
            progress(self.what, 0, 1, "step", self._step)
            return
        files = list(self._files.values())
        done, total = sum(one for one, _ in files), sum(one for _, one in files)
        known = total if all(size for _, size in files) else 0
        progress(self.what, done, known, "bytes", self._words(done, known))

    def _words(self, done: int, total: int) -> str:
        said = bytes_in_words(done, total, self._speed(done))
        if self.note:
            return " · ".join(filter(None, [said, self.note]))
        if total and done >= total:
            return said
        if self.silence() >= SILENT_S:
            said = bytes_in_words(done, total)
            waiting = f"no data for {self.silence():.0f} s; trying again"
            return " · ".join(filter(None, [said, waiting]))
        return said or "connecting…"

    def _speed(self, done: int) -> float | None:
        """Bytes a second over the last seconds; None at the start."""
        now = time.monotonic()
        self._seen.append((now, done))
        while len(self._seen) > 2 and now - self._seen[1][0] >= SPEED_OVER_S:
            self._seen.popleft()
        began, before = self._seen[0]
        return (done - before) / (now - began) if now - began >= 1 and done > before else None


class Task(threading.Thread, Generic[T]):
    """Work in a daemon thread: one that hangs in the network does not keep the process alive."""

    def __init__(self, work: Callable[[], T]):
        super().__init__(name="download", daemon=True)
        self._work = work
        self._result: list[T] = []
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        """Do the work and keep its result or error."""
        try:
            self._result.append(self._work())
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
            self.error = error

    def result(self) -> T:
        """The result of the ended work; raises its error."""
        if self.error is not None:
            raise self.error
        return self._result[0]


def watched(gauge: Gauge, work: Callable[[], T], progress: Progress) -> T:
    """Do the work in a thread, and report its bytes until it ends; returns its result.

    Raises what the work raises. What `progress` raises (a stop) ends the work within a second or
    two, in the middle of a file too: the bytes so far are kept.
    """
    task = Task(work)
    try:
        gauge.report(progress)
        while task.is_alive():
            task.join(POLL_S)
            gauge.report(progress)
    finally:
        if task.is_alive():
            gauge.cancel()
            task.join(END_S)
    return task.result()
