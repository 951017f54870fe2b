"""One file from the network into a part-file that a later attempt continues (RFC 9110, Range).

A connection that is lost or silent is opened again; only a long silence gives up.
"""

import errno
import hashlib
import os
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import Timeout
from huggingface_hub import errors as hub_errors
from huggingface_hub.utils import WeakFileLock

from trainer_backend.disk import free_bytes
from trainer_backend.downloads.gauge import END_S, Gauge, Task
from trainer_backend.downloads.words import size_in_words
from trainer_backend.errors import UserError

AT_ONCE = 4  # files
READ_S = 10  # for an answer or the next bytes, then the connection is opened again
GIVE_UP_S = 120  # without a byte
GIVE_UP_AT_START_S = 20  # where not one byte has come yet
GIVE_UP_WAITING_S = 900  # for another process whose file does not grow
RETRY_S = (0.5, 1, 2, 4, 8)
BUSY = (408, 425, 429, 500, 502, 503, 504)
NETWORK = (hub_errors.HTTPError, OSError)
SHA256 = re.compile(r"[0-9a-f]{64}")


class Silence(OSError):
    """The server gave no data for `seconds`."""

    def __init__(self, seconds: float):
        super().__init__(errno.ETIMEDOUT, f"no data for {seconds:.0f} s")
        self.seconds = seconds


class Damaged(OSError):
    """A file arrived whole, but with another SHA-256 than announced."""


class Lost(Exception):
    """The connection failed; the cause is its `__cause__`."""


@dataclass(frozen=True)
class Answer:
    """An open answer: the bytes from position `start` on; `size` is that of the whole file."""

    start: int
    size: int | None
    chunks: Iterator[bytes]


Open = Callable[[int], AbstractContextManager[Answer]]  # from which position


@dataclass
class Transfer:
    """A file to fetch: it grows as `part` and becomes `target` when it is whole.

    `open_at` asks for the bytes from a position on. `lock` keeps two processes from writing the
    same part-file. With `sha256` the whole file is checked.
    """

    name: str
    part: Path
    target: Path
    open_at: Open
    size: int | None = None
    sha256: str | None = None
    lock: Path | None = None

    def have(self) -> int:
        """Bytes of it that are on the disk."""
        for path in (self.target, self.part):
            if path.exists():
                return path.stat().st_size
        return 0

    def run(self, gauge: Gauge) -> None:
        """Fetch what is missing. Raises what the network raises, Silence and Damaged."""
        if self.lock is None:
            return self._run(gauge)
        with waiting_lock(self.lock, gauge, self.have):
            self._run(gauge)

    def _run(self, gauge: Gauge) -> None:
        if not self.target.exists():
            self.part.parent.mkdir(parents=True, exist_ok=True)
            continued = self.part.exists()
            self._fetch(gauge)
            if self._is_damaged():
                self.part.unlink()
                if not continued:
                    raise Damaged(f"{self.name}: the SHA-256 differs")
                return self._run(gauge)  # an old part-file may be of something else
            os.replace(self.part, self.target)
        size = self.target.stat().st_size
        gauge.file(self.name, size, size)

    def _is_damaged(self) -> bool:
        if not self.sha256:
            return False
        with open(self.part, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() != self.sha256

    def _fetch(self, gauge: Gauge) -> None:
        """Open the connection again until the file is whole."""
        tries, began = 0, time.monotonic()
        while self.size is None or self.part_size() != self.size or not self.part.exists():
            before = self.part_size()
            try:
                return self._receive(gauge)
            except Lost as lost:
                if self.part_size() > before:
                    tries, began = 0, time.monotonic()
                wait = _wait_after(lost.__cause__, tries)
                quiet = time.monotonic() - began
                patience = GIVE_UP_S if gauge.has_data else GIVE_UP_AT_START_S
                if wait is None or quiet + wait > patience:
                    raise _last_word(lost.__cause__, quiet) from lost.__cause__
                gauge.note = _why(lost.__cause__, wait)
                gauge.pause(wait)
                tries += 1

    def part_size(self) -> int:
        """Bytes of the part-file."""
        return self.part.stat().st_size if self.part.exists() else 0

    def _receive(self, gauge: Gauge) -> None:
        """One connection: append what it gives."""
        have = self.part_size()
        if self.size is not None and have > self.size:  # of something else
            self.part.unlink()
            have = 0
        with closing(self._arriving(have)) as arriving:  # a stop hangs up at once
            start, size = next(arriving)
            self.size = self.size if self.size is not None else size
            with open(self.part, "ab") as out:
                if start != have:  # the server sends all of it again
                    out.truncate(0)
                done = start
                gauge.file(self.name, done, self.size)
                for chunk in arriving:
                    out.write(chunk)
                    done += len(chunk)
                    gauge.file(self.name, done, self.size)
        if self.size is not None and done != self.size:
            if done > self.size:
                self.part.unlink()
            raise Lost from OSError(f"Consistency check failed: {done} of {self.size} bytes")

    def _arriving(self, have: int) -> Generator[Any, None, None]:
        """First (start, size), then the chunks; failures of the network become Lost."""
        try:
            with self.open_at(have) as answer:
                yield (have if answer.start == have else 0), answer.size
                yield from answer.chunks
        except NETWORK as error:
            raise Lost from error


def _wait_after(error: BaseException | None, tries: int) -> float | None:
    """Seconds to wait before the next try; None: another try would not help."""
    answer = getattr(error, "response", None)
    status = getattr(answer, "status_code", None) or getattr(error, "code", None)
    pause = RETRY_S[min(tries, len(RETRY_S) - 1)]
    if status is None or not isinstance(status, int):
        return None if isinstance(error, hub_errors.OfflineModeIsEnabled) else pause
    if status not in BUSY:
        return None
    asked = str((getattr(answer, "headers", None) or {}).get("retry-after", ""))
    return max(pause, float(asked)) if asked.isdigit() else pause


def _why(error: BaseException | None, wait: float) -> str:
    answer = getattr(error, "response", None)
    status = getattr(answer, "status_code", None) or getattr(error, "code", None)
    again = f"trying again in {max(1, round(wait))} s"
    if status == 429:
        return f"the server asks to wait; {again}"
    return f"the server answers with error {status}; {again}" if status else ""


def _last_word(error: BaseException | None, quiet: float) -> BaseException:
    """The error to raise: silence, where there was nothing but silence."""
    assert error is not None  # Lost is always raised from the network's error
    timed_out = any("Timeout" in kind.__name__ for kind in type(error).__mro__)
    return Silence(quiet) if timed_out or isinstance(error, TimeoutError) else error


@contextmanager
def waiting_lock(path: Path, gauge: Gauge, have: Callable[[], int]) -> Iterator[None]:
    """Hold a lock file; while another process holds it, say so and follow its bytes.

    `have` counts the bytes on the disk. Raises UserError when they do not grow for a quarter of an
    hour.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    seen, since = have(), time.monotonic()
    while True:
        try:
            with WeakFileLock(path, timeout=0.3):
                gauge.note = ""
                yield
                return
        except Timeout:
            gauge.check()
        now = have()
        if now != seen:
            seen, since = now, time.monotonic()
        if time.monotonic() - since > GIVE_UP_WAITING_S:
            raise UserError(
                "Another process has been downloading this for long without progress.",
                gauge.what,
                "End that process, then start again; the part that is here is used.",
            )
        gauge.moved()
        gauge.note = "another process is downloading this; waiting for it"


def fetch_all(transfers: Sequence[Transfer], gauge: Gauge) -> None:
    """Fetch files, a few at a time. Raises the first error; the others then end too.

    Raises UserError before the first byte when the disk has no room for all of them.
    """
    for one in transfers:
        gauge.file(one.name, one.have(), one.size)
    _check_room(transfers, gauge.what)
    waiting, lock = deque(transfers), threading.Lock()

    def fetch() -> None:
        while True:
            with lock:
                if not waiting:
                    return
                one = waiting.popleft()
            one.run(gauge)

    tasks = [Task(fetch) for _ in range(min(AT_ONCE, len(transfers)))]
    try:
        _wait_for(tasks, gauge)
    finally:
        waiting.clear()
        if any(task.is_alive() for task in tasks):
            gauge.cancel()
            for task in tasks:
                task.join(END_S / len(tasks))


def _wait_for(tasks: Sequence[Task[None]], gauge: Gauge) -> None:
    """Wait until all have ended. Raises the first error, and Cancelled."""
    running = list(tasks)
    while running:
        running[0].join(0.05)
        for task in [one for one in running if not one.is_alive()]:
            task.result()
            running.remove(task)
        gauge.check()


def _check_room(transfers: Sequence[Transfer], what: str) -> None:
    missing: dict[Path, int] = {}
    for one in transfers:
        folder = next(path for path in one.part.parents if path.exists())
        missing[folder] = missing.get(folder, 0) + max(0, (one.size or 0) - one.have())
    for folder, size in missing.items():
        free = free_bytes(folder)
        if size > free:
            raise UserError(
                f"There is not enough disk space: {size_in_words(size)} are to be downloaded, "
                f"{size_in_words(free)} are free.",
                f"{what} into {folder}",
                "Free some space or set HF_HOME to a folder on a larger disk, then start again.",
                code="disk_full",
            )
