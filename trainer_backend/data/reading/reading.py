"""The app's side of reading data: each upload is read in a process of its own, and polled here.

What that process does is reading_process.py; the command line calls store.py directly.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from trainer_backend.data.formats import ColumnMapping
from trainer_backend.data.readers.options import ReadOptions
from trainer_backend.data.store import StoredDataset, label, open_dataset
from trainer_backend.errors import Problem, UserError
from trainer_backend.home import new_id, read_json, remove_old, write_json
from trainer_backend.processes import child_environment

MEMORY_LIMIT = 3 * 1024**3  # bytes it may map beyond its start; a million rows take half of it
MEMORY_SHARE = 0.5  # of the machine's memory, for files that need more than that
_CRASHES = {signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE}


@dataclass(frozen=True)
class Opened:
    """What the reader found the (first) file to be; nothing of one that it could not open."""

    kind: str = ""  # "csv", "json", "parquet", "arrow", "xlsx" or "text"
    sheets: list[str] = field(default_factory=list)  # of a workbook


class Reading:
    """An upload that is being read, or any other work on stored data that takes long.

    Every method may be called from any thread at any time; only `result` waits, and `opened` and
    `instead` when they are asked before it is done.
    """

    def __init__(self, home: Path, name: str, folder: Path, process: subprocess.Popen):
        self.home, self.name, self._folder, self._process = home, name, folder, process
        self._cancelled = False
        self._lock = threading.Lock()
        self._outcome: dict | None = None

    def progress(self) -> dict:
        """{"rows", "bytes", "total", "what"}: rows and bytes so far, and what is done now."""
        start = {"rows": 0, "bytes": 0, "total": 0, "what": "Starting"}
        return start | (read_json(self._folder / "progress.json") or {})

    def findings(self) -> list[Problem]:
        """What the rows read so far have shown; the finished dataset has all of it."""
        said = read_json(self._folder / "findings.json") or {"problems": []}
        return [Problem(**problem) for problem in said["problems"]]

    def preview(self) -> list[tuple[int, dict[str, str]]]:
        """The first rows as (number, {column: text}), like StoredDataset.page; [] before that."""
        said = read_json(self._folder / "findings.json") or {"rows": []}
        return [(number, cells) for number, cells in said["rows"]]

    @property
    def done(self) -> bool:
        """Whether `result` answers at once."""
        return self._process.poll() is not None

    def result(self, timeout: float | None = None) -> StoredDataset:
        """The stored dataset. Raises the UserError of the reading, or TimeoutError (it goes on)."""
        outcome = self._end(timeout)
        if "error" in outcome:
            raise UserError(**outcome["error"])
        return open_dataset(self.home, outcome["dataset_id"])

    def opened(self) -> Opened:
        """What the files were found to be."""
        return Opened(**self._end().get("opened") or {})

    def instead(self) -> list[tuple[int, dict[str, str]]]:
        """The first rows under what the error offers; [] without an offer. Raises UserError."""
        outcome = self._end().get("instead") or {"rows": []}
        if "error" in outcome:
            raise UserError(**outcome["error"])
        return [(number, cells) for number, cells in outcome["rows"]]

    def _end(self, timeout: float | None = None) -> dict:
        """What result.json said."""
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"“{self.name}” is still being read.") from None
        with self._lock:
            if self._outcome is None:
                self._outcome = self._settle()
            return self._outcome

    def cancel(self) -> None:
        """End the process and remove what it had built; a finished dataset stays."""
        self._cancelled = True
        self._process.kill()
        try:
            self.result()
        except UserError:
            pass  # that it was cancelled is known to who asked for it

    def _settle(self) -> dict:
        """Read the outcome, close the pipe and remove every file but the stored dataset."""
        outcome = read_json(self._folder / "result.json")
        if outcome is None:
            outcome = {"error": self._death().to_dict()}
        self._process.stdin.close()
        for left in (self.home / "datasets").glob(f".building-{self._process.pid}-*"):
            shutil.rmtree(left, ignore_errors=True)
        findings = self._folder / "findings.json"
        for path in self._folder.iterdir():
            if path != findings and path.name != "progress.json":
                path.unlink(missing_ok=True)
        return outcome

    def _death(self) -> UserError:
        if self._cancelled:
            return UserError("Reading was cancelled.", self.name, "Load the data again.")
        code, fix = -self._process.returncode, "Save the data as JSON Lines (.jsonl) or CSV."
        if code in _CRASHES:
            what = "The file made its reader crash; it is most likely damaged."
            return UserError(what, self.name, f"{fix} Or export it again.", code="damaged")
        if code == signal.SIGKILL:
            what = "Reading was ended by the system, most likely because memory ran out."
            return UserError(what, self.name, f"End other programs. {fix}", code="system_memory")
        what = "The process that reads the data ended unexpectedly."
        return UserError(what, self.name, f"Try again. If it happens again: {fix}", code="crashed")


def start_reading(
    home: Path,
    files: Path | Sequence[Path],
    *,
    name: str | None = None,
    mapping: ColumnMapping | None = None,
    options: ReadOptions | None = None,
    system_prompt: str = "",
) -> Reading:
    """Read files as create_dataset does, in a process that can neither slow nor end this one."""
    paths = [Path(files)] if isinstance(files, str | Path) else [Path(file) for file in files]
    arguments = {
        "files": [str(path) for path in paths],
        "name": name,
        "mapping": asdict(mapping) if mapping else None,
        "options": asdict(options or ReadOptions()),
        "system_prompt": system_prompt,
    }
    size = sum(path.stat().st_size for path in paths if path.is_file())
    name = label(name or paths[0].name)
    return start_work(home, "create_dataset", arguments, name, memory_limit(size))


def memory_limit(size: int) -> int:
    """Bytes for reading files of this size: a few numbers about each row are kept in memory."""
    try:
        machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError):  # not every system tells
        return MEMORY_LIMIT
    return max(MEMORY_LIMIT, min(MEMORY_LIMIT + size, int(MEMORY_SHARE * machine)))


def start_work(
    home: Path, work: str, arguments: dict, name: str, limit: int | None = None
) -> Reading:
    """Do one of reading_process.WORK on stored data; `arguments` are plain JSON values."""
    folder = home / "tmp" / new_id("reading")
    folder.mkdir(parents=True)
    remove_old(folder.parent, "reading-*")
    request = {"home": str(home), "work": work, "arguments": arguments, "name": name}
    write_json(folder / "request.json", request | {"memory_limit": limit or MEMORY_LIMIT})
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "trainer_backend.data.reading.process", str(folder)],
            stdin=subprocess.PIPE,  # it ends when this pipe does: never longer than the app
            stdout=log,
            stderr=subprocess.STDOUT,
            env=child_environment(OMP_NUM_THREADS="1", MALLOC_ARENA_MAX="2"),
            start_new_session=True,
        )
    return Reading(home, name, folder, process)
