"""Starts the process that reads an upload or changes a dataset, and polls its files.

The app's side: no file of a user is parsed here.
"""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from trainer_backend.data.formats import ColumnMapping
from trainer_backend.data.readers.options import ReadOptions
from trainer_backend.data.store import StoredDataset, label, open_dataset
from trainer_backend.errors import Problem, UserError
from trainer_backend.home import new_id, read_json, remove_old, write_json
from trainer_backend.processes import child_environment, end_signal, start_in_own_group

MEMORY_LIMIT = 3 * 1024**3  # bytes beyond its start; a million rows take half of it
MEMORY_FRACTION = 0.5  # of the machine's memory, at most, for larger files
_CRASHES = {"SIGSEGV", "SIGBUS", "SIGABRT", "SIGILL", "SIGFPE"}


@dataclass(frozen=True)
class Opened:
    """What the (first) file is; empty if it could not be opened."""

    kind: str = ""  # "csv", "json", "parquet", "arrow", "xlsx" or "text"
    sheets: list[str] = field(default_factory=list)  # of a workbook


class Reading:
    """A running process that reads an upload or changes a stored dataset.

    All methods may be called from any thread; `result`, `opened` and `instead` wait for its end.
    """

    def __init__(self, home: Path, name: str, folder: Path, process: subprocess.Popen[bytes]):
        self.home, self.name, self._folder, self._process = home, name, folder, process
        self._cancelled = False
        self._lock = threading.Lock()
        self._outcome: dict[str, Any] | None = None

    def progress(self) -> dict[str, Any]:
        """{"rows", "bytes", "total", "what"}: rows and bytes so far, all bytes, and the step."""
        found: Any = read_json(self._folder / "progress.json")
        return {"rows": 0, "bytes": 0, "total": 0, "what": "Starting", **(found or {})}

    def findings(self) -> list[Problem]:
        """The problems in the rows read so far; the finished dataset has all of them."""
        found: Any = read_json(self._folder / "findings.json")
        return [Problem(**problem) for problem in found["problems"]] if found else []

    def preview(self) -> list[tuple[int, dict[str, str]]]:
        """The first rows as (number, {column: text}), like StoredDataset.page; [] at the start."""
        found: Any = read_json(self._folder / "findings.json")
        return [(number, cells) for number, cells in found["rows"]] if found else []

    @property
    def done(self) -> bool:
        """Whether the process has ended."""
        return self._process.poll() is not None

    def result(self, timeout: float | None = None) -> StoredDataset:
        """The stored dataset, waiting up to `timeout` seconds for it (None: without limit).

        Raises the UserError of the process, or TimeoutError while it still runs.
        """
        outcome = self._end(timeout)
        if "error" in outcome:
            raise UserError(**outcome["error"])
        return open_dataset(self.home, outcome["dataset_id"])

    def opened(self) -> Opened:
        """The kind and the sheets of the file."""
        return Opened(**self._end().get("opened") or {})

    def instead(self) -> list[tuple[int, dict[str, str]]]:
        """The first rows as read with the options that the error offers; [] without an offer.

        Raises UserError if they cannot be read that way either.
        """
        outcome = self._end().get("instead") or {"rows": []}
        if "error" in outcome:
            raise UserError(**outcome["error"])
        return [(number, cells) for number, cells in outcome["rows"]]

    def _end(self, timeout: float | None = None) -> dict[str, Any]:
        """The content of result.json, once the process has ended."""
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"“{self.name}” is still being read.") from None
        with self._lock:
            if self._outcome is None:
                self._outcome = self._settle()
            return self._outcome

    def cancel(self) -> None:
        """Kill the process and delete its unfinished files; a finished dataset stays."""
        self._cancelled = True
        self._process.kill()
        try:
            self.result()
        except UserError:
            pass  # “Reading was cancelled.”

    def _settle(self) -> dict[str, Any]:
        """Read the outcome, close the pipe, and delete all files but those still polled."""
        outcome: Any = read_json(self._folder / "result.json")
        if outcome is None:
            outcome = {"error": self._death().to_dict()}
        if self._process.stdin:
            self._process.stdin.close()
        for left in (self.home / "datasets").glob(f".building-{self._process.pid}-*"):
            shutil.rmtree(left, ignore_errors=True)
        for path in self._folder.iterdir():
            if path.name not in ("findings.json", "progress.json"):
                path.unlink(missing_ok=True)
        return outcome

    def _death(self) -> UserError:
        if self._cancelled:
            return UserError("Reading was cancelled.", self.name, "Load the data again.")
        ended_by = end_signal(self._process.returncode)
        fix = "Save the data as JSON Lines (.jsonl) or CSV."
        if ended_by in _CRASHES:
            what = "Reading the file crashed; it is most likely damaged."
            return UserError(what, self.name, f"{fix} Or export it again.", code="damaged")
        if ended_by == "SIGKILL":
            what = "The system ended the reading, most likely because memory ran out."
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
    chosen: bool = False,
    system_prompt: str = "",
) -> Reading:
    """Read files as create_dataset does, in a separate process with a memory limit."""
    paths = [Path(files)] if isinstance(files, str | Path) else [Path(file) for file in files]
    arguments = {
        "files": [str(path) for path in paths],
        "name": name,
        "mapping": asdict(mapping) if mapping else None,
        "options": asdict(options or ReadOptions()),
        "chosen": chosen,
        "system_prompt": system_prompt,
    }
    size = sum(path.stat().st_size for path in paths if path.is_file())
    name = label(name or paths[0].name)
    return start_work(home, "create_dataset", arguments, name, memory_limit(size))


def memory_limit(size: int) -> int:
    """The limit for files of `size` bytes: a few numbers about each row are kept in memory."""
    try:
        machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError):  # not every system has these
        return MEMORY_LIMIT
    return max(MEMORY_LIMIT, min(MEMORY_LIMIT + size, int(MEMORY_FRACTION * machine)))


def start_work(
    home: Path, work: str, arguments: dict, name: str, limit: int | None = None
) -> Reading:
    """Start the work of that name in a new process; `arguments` are plain JSON values.

    `name` is what errors name as the place, `limit` the bytes of memory it may use.
    """
    folder = home / "tmp" / new_id("reading")
    folder.mkdir(parents=True)
    remove_old(folder.parent, "reading-*")
    request = {"home": str(home), "work": work, "arguments": arguments, "name": name}
    write_json(folder / "request.json", request | {"memory_limit": limit or MEMORY_LIMIT})
    with open(folder / "log", "wb") as log:
        process = start_in_own_group(
            [sys.executable, "-m", "trainer_backend.data.reading.process", str(folder)],
            stdin=subprocess.PIPE,  # the process ends when this pipe closes, with the app
            stdout=log,
            stderr=subprocess.STDOUT,
            env=child_environment(OMP_NUM_THREADS="1", MALLOC_ARENA_MAX="2"),
        )
    return Reading(home, name, folder, process)
